"""Golden files: what is hashed into ids, one line each. Changing a line needs a migration."""

from __future__ import annotations

import json
from pathlib import Path

_FOLDER = Path(__file__).parent / "golden"


def golden(name: str) -> dict[str, str]:
    """Return the frozen texts of ``golden/<name>.json`` by the name of their case."""
    texts: dict[str, str] = json.loads((_FOLDER / f"{name}.json").read_text("utf-8"))
    return texts
