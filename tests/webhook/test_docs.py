"""The page and its schema are what the code does: every example fits, every setting is named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec

from hub import parse_settings
from hub.config.loader import load_text
from hub.plugin_host import PluginHost
from plugins.webhook import WebhookBackend
from plugins.webhook.messages import ANSWERS, EVENTS, OPERATIONS, schema
from plugins.webhook.settings import WebhookSettings
from tests.webhook.strict import DOCS, SCHEMA, SECRET, fits

PAGE = (DOCS / "webhook.md").read_text("utf-8")
_BLOCK = re.compile(r"^```json\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def examples() -> Iterator[tuple[str, Any]]:
    """Yield the name in the schema and the value of every example but the sketch."""
    heading = ""
    for line in re.split(r"(?=^### )", PAGE, flags=re.MULTILINE):
        if found := re.match(r"### ([\w.]+)", line):
            heading = found[1]
        for text in _BLOCK.findall(line):
            value = json.loads(text)
            if "..." in value.get("data", {}):
                continue
            yield value.get("type") or f"{heading} answer", value


def test_every_example_fits_the_schema_and_every_message_has_one() -> None:
    shown = Counter()  # type: Counter[str]
    for name, value in examples():
        fits(name, value)
        shown[name] += 1
    messages = {*OPERATIONS, *EVENTS, *(f"{name} answer" for name in ANSWERS)}
    assert set(shown) == messages
    assert shown["ticket.find answer"] == shown["entry.find answer"] == 2, "found and not found"


def test_the_schema_is_made_from_the_code() -> None:
    """``python -m plugins.webhook > docs/backends/webhook.schema.json``"""
    assert json.loads(msgspec.json.encode(schema())) == SCHEMA
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    printed = subprocess.run(
        [sys.executable, "-m", "plugins.webhook"],
        capture_output=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert printed.stdout == (DOCS / "webhook.schema.json").read_bytes()


def test_every_setting_is_described_on_the_page_and_in_the_code() -> None:
    for field in msgspec.structs.fields(WebhookSettings):
        assert f"| `{field.name}` |" in PAGE
    assert "description" in str(WebhookSettings.__annotations__["url"])


def test_the_configuration_on_the_page_is_one() -> None:
    (text,) = re.findall(r"^```toml\n(\[\[backends.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (backend,) = load_text(text, {"ERP_SECRET": SECRET}).backends
    settings = parse_settings(WebhookSettings, backend.settings, backend.name)
    assert settings.url == "https://erp.example.com/omniline/tickets"
    assert settings.mode == "answering"


def test_it_is_found_among_the_plugins() -> None:
    host = PluginHost()
    host.discover(entry_points=False)
    assert host.backends()["webhook"] is WebhookBackend


def test_the_receiver_starts_as_its_first_lines_say() -> None:
    """It needs aiohttp and nothing of ours: it is compiled and imported where we are not."""
    code = (
        "import runpy, sys\n"
        f"found = runpy.run_path({str(DOCS / 'webhook_receiver.py')!r})\n"
        f"found['application'](found['Receiver']({SECRET!r}))\n"
        "ours = [name for name in sys.modules if name.split('.')[0] in ('hub', 'normalizer')]\n"
        "sys.exit(repr(ours) if ours else 0)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
