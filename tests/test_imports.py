"""The project's own rules about who may import whom, read from the source of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("hub", "connectors", "normalizer", "plugins")
FOLDERS = {*PACKAGES, "docs", "tests"}
# A channel's folder has the channel's name, and nobody imports it by that name alone.
LIKE_THE_STANDARD_LIBRARY = {"connectors/site"}


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def is_test(path: Path) -> bool:
    return "tests" in path.parts or path.name == "conftest.py" or path.name.startswith("test_")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything that a module imports, by whatever spelling.

    ``from hub import hookimpl`` is ``hub:hookimpl``: the name behind the colon may be a module.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield node.lineno, alias.name
            case ast.ImportFrom():
                base = package[: len(package) - node.level + 1] if node.level else []
                origin = ".".join([*base, *([node.module] if node.module else [])])
                for alias in node.names:
                    yield node.lineno, f"{origin}:{alias.name}"
            case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]):
                called = getattr(function, "attr", getattr(function, "id", ""))
                if called in ("import_module", "__import__", "run_module"):
                    yield node.lineno, name


def top(name: str) -> str:
    return name.partition(":")[0].partition(".")[0]


def complaint(module: str, name: str, *, test: bool) -> str | None:
    """Say what is wrong with ``module`` importing ``name``, or None."""
    mine, theirs = top(module), top(name)
    if theirs not in (*PACKAGES, "tests"):
        return None
    if theirs == "tests":
        return None if test else "what is shipped does not import the tests"
    if mine == "normalizer":
        return None if theirs == "normalizer" else "the normalizer imports nothing of ours"
    if mine == "hub":
        return None if theirs in ("hub", "normalizer") else "the hub names no connector or plugin"
    if theirs == "normalizer":
        return None
    if theirs == "hub":
        origin, _, what = name.partition(":")
        if origin == "hub" and what not in ("", "*", "testing") and not is_module(f"hub.{what}"):
            return None
        if origin.startswith("hub.testing") or (origin, what) == ("hub", "testing"):
            return None if test else "hub.testing is for tests"
        return "only `from hub import ...` is public"
    own = ".".join(module.split(".")[:2])
    inside = name.replace(":", ".")
    if inside == own or inside.startswith(f"{own}."):
        return None
    if mine == "connectors" and inside.startswith("connectors._"):
        return None  # what one vendor's channels share: docs/decisions/0015
    return "a plugin imports no other plugin"


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_import_only_what_their_package_may(package: str) -> None:
    wrong = []
    for path in sources(package):
        module = module_name(path)
        found = imports(path.read_text("utf-8"), module, is_package=path.name == "__init__.py")
        for line, name in found:
            if problem := complaint(module, name, test=is_test(path)):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}: {problem}")
    assert not wrong, "\n".join(wrong)


def test_the_rules_read_the_packages_that_are_there() -> None:
    assert {path.parent.name for path in sources("hub", "normalizer")} >= {"hub", "normalizer"}


@pytest.mark.parametrize(
    ("module", "source", "allowed"),
    [
        ("normalizer.text", "import re", True),
        ("normalizer.text", "from normalizer.parts import Text", True),
        ("normalizer.text", "from .parts import Text", True),
        ("normalizer.text", "from hub import hookimpl", False),
        ("normalizer.text", "def f():\n    import hub", False),
        ("normalizer.text", "from ..hub import x", False),
        ("hub.app", "from hub.store import x", True),
        ("hub.app", "import connectors.wechat", False),
        ("hub.app", "from connectors import wechat", False),
        ("hub.app", "from plugins.zammad import Backend", False),
        ("hub.app", "import importlib\nimportlib.import_module('connectors.wechat')", False),
        ("hub.app", "__import__('plugins')", False),
        ("hub.app", "if TYPE_CHECKING:\n    from plugins import x", False),
        ("hub.app", "from tests.support import x", False),
        ("connectors.wechat.parse", "from hub import Connector, hookimpl", True),
        ("connectors.wechat.parse", "from normalizer.drafts import Message", True),
        ("connectors.wechat.parse", "from connectors.wechat.crypto import x", True),
        ("connectors.wechat.parse", "from .crypto import x", True),
        ("connectors.wechat.parse", "from . import crypto", True),
        ("connectors.wechat.parse", "import wechatpy", True),
        ("connectors.wechat.parse", "import hub", False),
        ("connectors.wechat.parse", "from hub import *", False),
        ("connectors.wechat.parse", "from hub import ids", False),
        ("connectors.wechat.parse", "from hub.ids import SpaceKey", False),
        ("connectors.wechat.parse", "from hub.testing import samples", False),
        ("connectors.wechat.parse", "from hub import testing", False),
        ("connectors.wechat.parse", "from connectors.sms import x", False),
        ("connectors.wechat.parse", "from connectors import sms", False),
        ("connectors.wechat.parse", "from connectors.wechat2 import x", False),
        ("connectors.wechat.parse", "from ..sms import x", False),
        ("connectors.wechat.parse", "from plugins.zammad import x", False),
        ("connectors.sms.provider", "from connectors._twilio import codes", True),
        ("connectors.sms.provider", "from connectors import _twilio", True),
        ("connectors.sms.provider", "from connectors.ivr import menus", False),
        ("connectors._twilio.rest", "from connectors.sms import segments", False),
        ("plugins.zammad", "from connectors._twilio import codes", False),
        ("hub.app", "from connectors._twilio import codes", False),
        ("plugins.zammad", "from hub import TicketBackend", True),
        ("plugins.zammad", "from connectors.wechat import x", False),
        ("connectors.wechat.tests.test_parse", "from hub.testing.contract import x", True),
        ("connectors.wechat.tests.test_parse", "from hub.ids import x", False),
        ("connectors.wechat.tests.test_parse", "from tests.support import x", True),
    ],
)
def test_the_rules_find_every_spelling(module: str, source: str, allowed: bool) -> None:
    test = ".tests." in module
    problems = [complaint(module, name, test=test) for _, name in imports(source, module)]
    assert problems
    assert all(problem is None for problem in problems) is allowed


def test_no_module_has_the_name_of_one_of_the_standard_librarys() -> None:
    """`email` or `queue` in a folder that ends up on the path would shadow the real one."""
    shadows = [
        str(entry.relative_to(ROOT).with_suffix(""))
        for package in PACKAGES
        for entry in (ROOT / package).rglob("*")
        if (entry.suffix == ".py" or (entry.is_dir() and (entry / "__init__.py").exists()))
        and not entry.name.startswith("__")
        and entry.stem in sys.stdlib_module_names
    ]
    assert sorted(set(shadows) - LIKE_THE_STANDARD_LIBRARY) == []


def test_there_are_no_top_level_folders_but_the_designs() -> None:
    folders = {name.split("/")[0] for name in _project_files() if "/" in name}
    assert {name for name in folders if not name.startswith(".")} <= FOLDERS


def test_no_module_lies_beside_the_packages() -> None:
    loose = [name for name in _project_files() if "/" not in name and name.endswith(".py")]
    assert loose == []


def _project_files() -> list[str]:
    """Return what belongs to the project: in a checkout all that git does not ignore."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        output = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
        return output.stdout.splitlines()
    skipped = ("build", "dist", "data", "demo-data")
    return [
        str(path.relative_to(ROOT))
        for entry in ROOT.iterdir()
        if entry.name not in skipped and entry.suffix != ".egg-info" and entry.name[0] != "."
        for path in ([entry] if entry.is_file() else entry.rglob("*"))
        if path.is_file()
    ]
