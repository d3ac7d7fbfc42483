"""What the configuration names becomes connectors and backends, or problems that name its lines.

Real: the configuration's reader, the plugin host and two plugins. Faked: the hub's services.
"""

from __future__ import annotations

from structlog.testing import capture_logs

from hub.accounts import States
from hub.config import Config, Problem
from hub.config.loader import load_text
from hub.configured import make_backends, make_connectors
from hub.metrics import Metrics
from hub.plugin_host import PluginHost
from hub.testing.clock import FakeClock
from hub.testing.services import FakeServices

BAD = """
[[accounts]]
channel = "pigeons"
key = "roof"

[[accounts]]
channel = "sample"
key = "typo"
secret = ["not what the key is called"]

[[accounts]]
channel = "sample"
key = "open"

[[backends]]
type = "pinboard"
name = "wall"

[[backends]]
type = "desk"
name = "desk"
queues = []
"""
GOOD = """
[[accounts]]
channel = "sample"
key = "main"
label = "Shop"
secrets = ["0123456789abcdef"]

[[accounts]]
channel = "sample"
key = "trial"
insecure = true

[[backends]]
type = "desk"
name = "desk"
"""


def host(config: Config) -> PluginHost:
    found = PluginHost.for_config(config)
    found.discover(["hub.testing.samples.webhook"], entry_points=False)
    return found


def line(problem: Problem) -> str:
    """Return the line of the file that a problem names."""
    return "" if problem.line is None else BAD.splitlines()[problem.line - 1]


def test_all_that_cannot_be_made_is_told_at_once_each_with_its_line() -> None:
    config = load_text(BAD, {})
    states = States(FakeClock(), Metrics())
    connectors, of_accounts = make_connectors(config, host(config), FakeServices(), states)
    backends, of_backends = make_backends(config, host(config), FakeServices(), states)
    problems = [*of_accounts, *of_backends]
    assert [line(each) for each in problems] == [
        'channel = "pigeons"',
        'secret = ["not what the key is called"]',
        'channel = "sample"',
        'type = "pinboard"',
        "queues = []",
    ]
    unknown, *_, pinboard, _ = problems
    assert "pigeons" in unknown.what
    assert "sample" in unknown.remedy
    assert "pinboard" in pinboard.what
    assert "desk" in pinboard.remedy
    assert all(each.what and each.key for each in problems)
    assert list(connectors) == [("sample", "open")], "it was made to be asked what it lacks"
    assert backends == {}


def test_what_is_in_order_is_made_and_has_a_state_and_what_is_insecure_warns() -> None:
    config = load_text(GOOD, {})
    states = States(FakeClock(), Metrics())
    with capture_logs() as logs:
        connectors, of_accounts = make_connectors(config, host(config), FakeServices(), states)
        backends, of_backends = make_backends(config, host(config), FakeServices(), states)
    assert [*of_accounts, *of_backends] == []
    assert list(connectors) == [("sample", "main"), ("sample", "trial")]
    assert connectors["sample", "main"].account.label == "Shop"
    assert list(backends) == ["desk"]
    assert [(each.kind, each.name, each.state) for each in states.all()] == [
        ("account", "sample:main", "ok"),
        ("account", "sample:trial", "ok"),
        ("backend", "desk", "ok"),
    ]
    (warned,) = [each for each in logs if each["event"] == "account_insecure"]
    assert warned["account"] == "sample:trial"
