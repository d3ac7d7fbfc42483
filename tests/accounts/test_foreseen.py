"""What a connector sees coming is on its account before it happens, and is logged once."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from hub import Account
from hub.accounts import States
from hub.accounts.foreseen import ForeseenWatch
from hub.metrics import Metrics
from hub.testing import FakeClock, FakeServices
from hub.testing.samples.webhook import SampleWebhook, Settings


class Worried(SampleWebhook):
    said: Sequence[str] = ()
    broken = False

    def warnings(self) -> Sequence[str]:
        if self.broken:
            raise RuntimeError("no idea")
        return self.said


def worried(key: str) -> Worried:
    account = Account(channel="sample", key=key, label="", settings=Settings())
    return Worried(account, FakeServices().connector_context("sample", key))


def test_warnings_make_an_account_degraded_until_they_are_over() -> None:
    states = States(FakeClock(), Metrics())
    states.add("account", "sample:main", state="ok")
    main = worried("main")
    watch = ForeseenWatch([main], states)
    shown = states.get("account", "sample:main")
    assert shown is not None
    with structlog.testing.capture_logs() as logged:
        watch.look()
        assert shown.state == "ok"
        main.said = ("the token ends", "so does the certificate")
        for _ in range(3):
            watch.look()
        assert (shown.state, shown.reason) == (
            "degraded",
            "the token ends; so does the certificate",
        )
        main.said = ()
        watch.look()
        assert (shown.state, shown.reason) == ("ok", "")
    assert [each["event"] for each in logged] == ["account_warns"]


def test_what_is_worse_stays_in_front() -> None:
    states = States(FakeClock(), Metrics())
    states.add("account", "sample:main", state="ok")
    main = worried("main")
    main.said = ("the token ends",)
    states.set("account", "sample:main", "misconfigured", "it has ended", aspect="sending")
    ForeseenWatch([main], states).look()
    shown = states.get("account", "sample:main")
    assert shown is not None
    assert (shown.state, shown.reason) == ("misconfigured", "it has ended")


def test_one_connector_that_fails_hides_no_others() -> None:
    states = States(FakeClock(), Metrics())
    first, second = worried("first"), worried("second")
    for each in (first, second):
        states.add("account", f"sample:{each.account.key}", state="ok")
    first.broken, second.said = True, ("the token ends",)
    with structlog.testing.capture_logs() as logged:
        ForeseenWatch([first, second], states).look()
    assert [each["event"] for each in logged] == ["account_warnings_failed", "account_warns"]
    shown = states.get("account", "sample:second")
    assert shown is not None
    assert shown.state == "degraded"
