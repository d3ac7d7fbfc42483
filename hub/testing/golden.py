"""Golden files: what is hashed into ids, one line each, kept beside a connector's tests."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

UPDATE = "OMNILINE_UPDATE_GOLDEN"


def check_golden(path: Path, section: str, lines: Mapping[str, str]) -> None:
    """Compare ``lines`` (what it is: its text) with a section of a golden file of JSON.

    Raises AssertionError that names every line that differs. With ``OMNILINE_UPDATE_GOLDEN=1``
    the section is written anew instead: do so for lines that are new, and for others together
    with the migration of what was stored under them.
    """
    sections: dict[str, dict[str, str]] = {}
    if path.exists():
        sections = json.loads(path.read_text("utf-8"))
    if os.environ.get(UPDATE) == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        sections[section] = dict(lines)
        path.write_text(json.dumps(sections, ensure_ascii=False, indent=1) + "\n", "utf-8")
        return
    held = sections.get(section, {})
    changed = [
        f"  {name}\n    was {text!r}\n    is  {lines.get(name)!r}"
        for name, text in held.items()
        if lines.get(name) != text
    ]
    new = [f"  {name}: {text!r}" for name, text in lines.items() if name not in held]
    told = []
    if changed:
        told += [f"{path}: changing a line needs a migration, because ids are made of it:"]
        told += changed
    if new:
        told += [f"{path} lacks lines. Look at them, then run once with {UPDATE}=1:", *new]
    if told:
        raise AssertionError("\n".join(told))
