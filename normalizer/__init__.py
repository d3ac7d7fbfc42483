"""The message model and the pure functions that bring every channel to it.

Nothing here does I/O, reads a clock or imports another package of the hub.
Read in this order: :mod:`addresses`, :mod:`parts`, :mod:`drafts`, :mod:`keys`,
:mod:`capabilities`, :mod:`outcomes`, :mod:`tickets`, then :mod:`pipeline`, which
ties the steps together.
"""
