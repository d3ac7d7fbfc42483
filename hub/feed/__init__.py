"""The unified feed: every committed change, for every kind of reader.

:mod:`tail` reads new rows once for a process; the other modules turn rows into events and
serve them.
"""
