"""Hold branch coverage to its bars: run by ``make test`` after the tests.

90 % for what decides about people's messages, 80 % elsewhere.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

import coverage

ROOT = Path(__file__).resolve().parent.parent
STRICT = (
    "normalizer/",
    "hub/router.py",
    "hub/planning/",
    "hub/store/",
)
STRICT_BAR = 90.0
BAR = 80.0


def measured() -> dict[str, tuple[int, int]]:
    """Return (covered, all) of lines and branches for each file."""
    data = coverage.Coverage(data_file=str(ROOT / ".coverage"), config_file=str(ROOT / "setup.cfg"))
    data.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        data.json_report(outfile=str(report), ignore_errors=True)
        files = json.loads(report.read_text())["files"]
    result = {}
    for name, file in files.items():
        summary = file["summary"]
        covered = summary["covered_lines"] + summary.get("covered_branches", 0)
        result[name] = (covered, summary["num_statements"] + summary.get("num_branches", 0))
    return result


def share(files: dict[str, tuple[int, int]]) -> float:
    covered, total = (sum(column) for column in zip(*files.values(), strict=True))
    return 100.0 * covered / total if total else 100.0


def main() -> int:
    files = measured()
    strict = {name: value for name, value in files.items() if name.startswith(STRICT)}
    others = {name: value for name, value in files.items() if name not in strict}
    out = io.StringIO()
    failed = False
    for title, group, bar in (
        ("normalizer, router, planners, store", strict, STRICT_BAR),
        ("everything else", others, BAR),
    ):
        reached = share(group) if group else 0.0
        failed |= reached < bar
        out.write(f"branch coverage of {title}: {reached:.1f} % (bar {bar:.0f} %)\n")
    sys.stdout.write(out.getvalue())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
