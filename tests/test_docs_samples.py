"""The code in the docs runs: a page that lies is worse than none.

Every block marked ```python in docs/*.md is compiled. Those of the connector guide whose first
line names a file are written to an empty folder and used as a newcomer would use them.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hub.config.loader import load_text

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "write-a-connector.md"
RUN_S = 100

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every block of code in a page."""
    text = page.read_text("utf-8")
    for found in _BLOCK.finditer(text):
        if found[1] == language:
            yield text.count("\n", 0, found.start()) + 2, found[2]


def files() -> dict[str, str]:
    """The files that the guide lets the reader write."""
    found = {}
    for language in ("python", "toml"):
        for _, text in blocks(GUIDE, language):
            if named := _FILE.match(text):
                found[named[1]] = text
    return found


def python_blocks() -> list[object]:
    pages = sorted((ROOT / "docs").glob("*.md"))
    return [
        pytest.param(text, page, line, id=f"{page.name}:{line}")
        for page in pages
        for line, text in blocks(page, "python")
    ]


@pytest.mark.parametrize(("text", "page", "line"), python_blocks())
def test_blocks_of_python_are_python(text: str, page: Path, line: int) -> None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compile(text, f"{page.name}, line {line}", "exec", flags=flags, dont_inherit=True)


def test_the_guide_names_its_files() -> None:
    assert set(files()) == {
        "omniline_pigeon/__init__.py",
        "tests/fake_pigeon.py",
        "tests/test_contract.py",
        "pyproject.toml",
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the reader has in front of them after the last step, the package installed."""
    folder = tmp_path_factory.mktemp("pigeon")
    for name, text in files().items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    package = tomllib.loads(files()["pyproject.toml"])["project"]
    info = folder / f"omniline_pigeon-{package['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package['name']}\nVersion: {package['version']}\n"
    )
    points = package["entry-points"]["omniline"]
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[omniline]\n{lines}")
    return folder


def run(
    project: Path, *command: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(project)])
    inherited = {name: os.environ[name] for name in os.environ if "PYTEST" not in name}
    return subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env={**inherited, "PYTHONPATH": path, **(env or {})},
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )


PYTEST = ("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")


def test_the_guides_connector_passes_the_contract(project: Path) -> None:
    """As the guide says: once to write the golden file, and from then on as it is."""
    first = run(project, *PYTEST, env={"OMNILINE_UPDATE_GOLDEN": "1"})
    assert first.returncode == 0, first.stdout + first.stderr
    golden = json.loads((project / "tests" / "golden" / "pigeon.json").read_text("utf-8"))
    assert golden["webhook"]["text 1 address 1"] == "pigeon:main:user:u-ann"
    again = run(project, *PYTEST)
    assert again.returncode == 0, again.stdout + again.stderr
    passed = re.search(r"(\d+) passed", again.stdout)
    assert passed is not None
    assert int(passed[1]) >= 30, again.stdout


def test_the_contract_finds_a_fault_in_the_guides_connector(project: Path) -> None:
    """The reader who forgets the window, and the one who compares nothing, are told so."""
    source = project / "omniline_pigeon" / "__init__.py"
    right = source.read_text("utf-8")
    try:
        for line, check in (
            ('raise Refused("stale")', "test_what_is_too_old_or_too_new_is_refused"),
            ('raise Refused("signature")', "test_what_was_altered_is_refused"),
        ):
            assert right.count(line) == 1
            source.write_text(right.replace(line, "pass"), "utf-8")
            told = run(project, *PYTEST, env={"OMNILINE_UPDATE_GOLDEN": "1"})
            assert told.returncode == 1
            assert f"::{check}" in told.stdout
    finally:
        source.write_text(right, "utf-8")


def test_the_guides_package_is_found_by_its_entry_point(project: Path) -> None:
    code = (
        "from hub.plugin_host import PluginHost\n"
        "host = PluginHost()\n"
        "host.discover(bundled=False)\n"
        "print(host.connectors()['pigeon'].__name__, host.connector_plugin('pigeon'))\n"
        "print([info.version for info in host.installed() if info.name == 'pigeon'])\n"
    )
    told = run(project, "-c", code)
    assert told.stdout.split() == ["PigeonConnector", "pigeon", "['1.0']"], told.stderr


def test_the_guides_account_can_be_configured(project: Path) -> None:
    (account,) = [text for _, text in blocks(GUIDE, "toml") if "[[accounts]]" in text]
    environ = {"PIGEON_SIGNING_SECRET": "a", "PIGEON_TOKEN": "b"}
    (found,) = load_text(account, environ).accounts
    code = (
        "import sys\n"
        "from hub import parse_settings\n"
        "from hub.config.loader import load_text\n"
        "from omniline_pigeon import PigeonConnector\n"
        f"(account,) = load_text({account!r}, {environ!r}).accounts\n"
        "settings = parse_settings(PigeonConnector.settings, account.settings, account.name)\n"
        "print(settings.api_url, len(settings.signing_secrets))\n"
    )
    told = run(project, "-c", code)
    assert (found.channel, found.key) == ("pigeon", "main")
    assert told.stdout.split() == ["https://api.pigeon.example", "1"], told.stderr
