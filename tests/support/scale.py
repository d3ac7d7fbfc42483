"""How much a test does: reduced in CI, in full for ``make soak``."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

FULL = os.environ.get("OMNILINE_SCALE") == "full"


def scaled(reduced: T, full: T) -> T:
    """Return the count for this run."""
    return full if FULL else reduced
