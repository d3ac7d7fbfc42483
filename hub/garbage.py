"""How Python's garbage collector is set for a process that serves for months.

Most of what the hub makes dies by its reference count; the collector is needed for the few
cycles of exceptions and tasks. With Python's defaults it walked through everything that lives
ten times a second under load, and everybody waited for 50 ms and more each time.
"""

from __future__ import annotations

import gc

YOUNG = 10_000  # allocations, less what was freed, between two looks at the youngest
MIDDLE = 20
OLD = 50


def settle() -> None:
    """Take what the start has made out of the collector's sight; then look rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
