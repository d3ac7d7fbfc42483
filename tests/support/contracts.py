"""The contract tests of all connectors: what says how to make one, and which there are."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hub import Connector
from hub.channel_matrix import bundled_connectors
from hub.testing import ConnectorContract
from hub.testing.samples.form import SampleForm
from hub.testing.samples.webhook import SampleWebhook

TESTS = Path(__file__).parents[1]


def webhook_connectors() -> dict[str, type[Connector[Any]]]:
    """Return every bundled connector that gives samples, and two made-up ones."""
    found = {"sample": SampleWebhook, "sample_form": SampleForm, **bundled_connectors()}
    return {name: kind for name, kind in found.items() if kind.samples is not Connector.samples}


def contracts_of(kind: type[Connector[Any]]) -> list[ConnectorContract]:
    """Return the contract tests of a connector, which know its settings: one for each scheme."""
    return [each() for each in _contracts() if each.connector is kind]


@cache
def _contracts() -> list[type[ConnectorContract]]:
    for path in sorted(TESTS.rglob("test_*.py")):
        if "ConnectorContract" in path.read_text("utf-8"):
            importlib.import_module(".".join(path.relative_to(TESTS.parent).with_suffix("").parts))
    return list(_below(ConnectorContract))


def _below(contract: type[ConnectorContract]) -> Iterator[type[ConnectorContract]]:
    for each in contract.__subclasses__():
        if each.__name__.startswith("Test") and hasattr(each, "connector"):
            yield each
        yield from _below(each)
