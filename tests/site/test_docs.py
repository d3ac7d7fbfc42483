"""The channel's page tells the truth: its settings load, its snippets log in, its table is ours."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.site.errors import CODES
from connectors.site.settings import IdentityKey, SiteSettings
from connectors.site.tokens import Claims, read_identity
from hub import Secret, parse_settings
from hub.config.loader import load_text
from tests.site.space import Running

PAGE = (Path(__file__).parents[2] / "docs" / "channels" / "site.md").read_text("utf-8")
KEY = "documentation-secret-of-32-bytes!!"


def block(language: str, holding: str) -> str:
    """Return the page's block of a language that holds some words."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (found,) = [each for each in blocks if holding in each]
    return str(found)


def claims_of(token: str) -> Claims:
    keys = (IdentityKey(kid="k1", alg="HS256", key=Secret(KEY)),)
    return read_identity(token, keys, "shop", datetime.now(UTC))


def test_the_settings_of_the_page_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, with their secrets in the environment."""
    monkeypatch.setenv("SITE_IDENTITY_KEY", KEY)
    monkeypatch.setenv("SITE_SERVER_KEY", "server")
    config = load_text("[hub]\n" + block("toml", "[[accounts]]"))
    (account,) = config.accounts
    made = parse_settings(SiteSettings, account.settings, account.name)
    assert made.identity_keys[0].kid == "k1"


def test_the_python_snippet_makes_a_token_that_logs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as it stands on the page."""
    monkeypatch.setenv("SITE_IDENTITY_KEY", KEY)
    names: dict[str, Any] = {}
    exec(compile(block("python", "omniline_token"), "site.md", "exec"), names)
    claims = claims_of(names["omniline_token"]("10086", "李雷"))
    assert (claims.sub, claims.name) == ("10086", "李雷")


def test_the_node_snippet_makes_a_token_that_logs_in() -> None:
    """Run as it stands on the page, where there is a Node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("NOT TESTED: the snippet for Node, because there is no node on the PATH")
    code = block("js", "omnilineToken") + "\nconsole.log(omnilineToken(10086, '李雷'));"
    done = subprocess.run(
        [node, "-e", code],
        env={"SITE_IDENTITY_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    claims = claims_of(done.stdout.strip())
    assert (claims.sub, claims.name) == ("10086", "李雷")


def test_the_error_table_is_the_codes() -> None:
    """Every code with its HTTP status and its close code, and no other."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d*) ?\|", PAGE, re.MULTILINE)
    told = {code: (int(http), int(close or 0)) for code, http, close in rows}
    assert told == {code: (each.http, each.close) for code, each in CODES.items()}


async def test_every_path_is_on_the_page(running: Running) -> None:
    """A path that is not written down is one that nobody finds."""
    for route in running.connector.routes():
        path = re.sub(r"\{(\w+):[^}]*\}+\}", r"{\1}", route.path)
        last = "/" + path.rstrip("/").rpartition("/")[2]
        assert path in PAGE or last in PAGE or path.startswith("/files"), path
