"""How much a test does: reduced in CI, in full for ``make soak``."""

from __future__ import annotations

import os
from typing import TypeVar

import pytest

T = TypeVar("T")

FULL = os.environ.get("OMNILINE_SCALE") == "full"


def scaled(reduced: T, full: T) -> T:
    """Return the count for this run."""
    return full if FULL else reduced


def full_only(test: T) -> T:
    """Leave a test to ``make soak``: what it holds is held in CI by a cheaper one as well."""
    marks = (pytest.mark.soak, pytest.mark.skipif(not FULL, reason="at full counts only"))
    for mark in marks:
        test = mark(test)
    return test
