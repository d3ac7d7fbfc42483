"""Windows: what opens and closes them, in any order, and what they allow when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from msgspec.structs import replace

from hub.documents import AddressDoc, InboxItem
from hub.ids import new_id
from hub.outbound.ledger import Ledger
from hub.outbound.limits import limits_of
from hub.outbound.quotas import counters, period
from hub.outbound.windows import Open, open_windows, passes_closed
from hub.planning import windows
from normalizer.capabilities import Capabilities, Quota, Window
from normalizer.drafts import Event, Message
from normalizer.model import Direction
from normalizer.parts import Text
from tests.planners import harness
from tests.planners.harness import START, PlannerHarness, said, somebody

LONG = Window(
    name="message",
    opens_on=frozenset({"message"}),
    seconds=48 * 3600,
    sends=5,
    closes_on=frozenset({"contact.unfollowed"}),
)
SHORT = Window(name="click", opens_on=frozenset({"menu.clicked"}), seconds=60, sends=3)
CHAT = Capabilities(sends=frozenset({"text"}), windows=(LONG, SHORT))


@pytest.fixture(autouse=True)
def _chat_has_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(harness.CHANNELS, "chat", CHAT)


async def li(hub: PlannerHarness) -> AddressDoc:
    (found,) = [each for each in await hub.all(AddressDoc) if each.scheme in ("chat", "mail")]
    return found


def names_open(doc: AddressDoc, now: datetime) -> list[str]:
    return [each.window.name for each in open_windows(CHAT, doc, "chat", "main", now)]


async def test_a_message_opens_its_window_for_its_time_and_no_longer() -> None:
    hub = await PlannerHarness().open()
    await hub.give(said("li", "m1", at=START))
    doc = await li(hub)
    assert names_open(doc, START) == ["message"]
    assert names_open(doc, START + timedelta(hours=48, milliseconds=-1)) == ["message"]
    assert names_open(doc, START + timedelta(hours=48)) == []


async def test_what_ends_first_is_used_first() -> None:
    hub = await PlannerHarness().open()
    await hub.give(said("li", "m1", at=START))
    await hub.give(Event(key="e1", at=START, address=somebody("li"), name="menu.clicked"))
    assert names_open(await li(hub), START) == ["click", "message"]


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_the_order_of_arrival_does_not_matter(order: tuple[int, ...]) -> None:
    """Spoke, unfollowed, spoke an hour before: the unfollowing stands."""
    hub = await PlannerHarness().open()
    things: list[Message | Event] = [
        said("li", "m1", at=START - timedelta(hours=1)),
        said("li", "m2", at=START - timedelta(hours=2)),
        Event(key="e1", at=START, address=somebody("li"), name="contact.unfollowed"),
    ]
    for place in order:
        await hub.give(things[place])
    assert names_open(await li(hub), START) == []
    hub.later(minutes=1)
    await hub.give(said("li", "m3", at=hub.now))
    assert names_open(await li(hub), hub.now) == ["message"]


async def test_each_opening_counts_anew() -> None:
    hub = await PlannerHarness().open()
    await hub.give(said("li", "m1", at=START))
    (first,) = open_windows(CHAT, await li(hub), "chat", "main", START)
    hub.later(hours=1)
    await hub.give(said("li", "m2", at=hub.now))
    (second,) = open_windows(CHAT, await li(hub), "chat", "main", hub.now)
    assert first.counter is not None
    assert second.counter is not None
    assert (first.counter.places, second.counter.places) == (5, 5)
    assert first.counter.id != second.counter.id


async def test_imported_history_and_our_own_words_open_nothing() -> None:
    hub = await PlannerHarness().open()
    old = InboxItem(
        id=new_id("in"),
        channel="chat",
        account="main",
        received_at=START,
        door="import",
        imported="imp_1",
    )
    await hub._plan(old, (said("li", "m1", at=START),))
    hub._routed.append(old.id)
    await hub.flush()
    ours = Message(
        key="m2",
        at=START,
        address=somebody("li"),
        parts=(Text(text="we"),),
        direction=Direction.OUT,
    )
    await hub.give(ours)
    assert (await li(hub)).opened == {}


async def test_a_channel_without_windows_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = await PlannerHarness().open()
    await hub.give(said("li", "m1", channel="mail"), channel="mail")
    assert (await li(hub)).opened == {}


async def test_two_accounts_that_share_an_address_have_windows_of_their_own() -> None:
    hub = await PlannerHarness().open()
    await hub.give(said("li", "m1", at=START), account="a.b")
    doc = await li(hub)
    assert open_windows(CHAT, doc, "chat", "a.b", START)
    assert not open_windows(CHAT, doc, "chat", "other", START)


MENTION = Window(
    name="mention",
    opens_on=frozenset({"public_message"}),
    closes_on=frozenset({"contact.unfollowed"}),
    seconds=48 * 3600,
    sends=1,
    adds_up=True,
)
PUBLIC = Capabilities(sends=frozenset({"text"}), windows=(LONG, MENTION))


def mentions_open(doc: AddressDoc, now: datetime) -> list[Open]:
    return open_windows(PUBLIC, doc, "chat", "main", now)


async def test_a_public_message_opens_no_window_of_private_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(harness.CHANNELS, "chat", PUBLIC)
    hub = await PlannerHarness().open()
    await hub.give(said("li", "m1", at=START, public=True))
    assert [each.window.name for each in mentions_open(await li(hub), START)] == ["mention"]
    await hub.give(said("li", "m2", at=START))
    found = mentions_open(await li(hub), START)
    assert [each.window.name for each in found] == ["mention", "message"]


async def test_openings_that_add_up_have_a_place_and_an_end_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two mentions of one second, told twice, and a third: three places, the oldest first."""
    monkeypatch.setitem(harness.CHANNELS, "chat", PUBLIC)
    hub = await PlannerHarness().open()
    for key in ("m1", "m2", "m1", "m2"):
        await hub.give(said("li", key, at=START, public=True))
    later = hub.later(hours=47)
    await hub.give(said("li", "m3", at=later, public=True))
    found = mentions_open(await li(hub), later)
    assert [each.until - START for each in found] == [
        timedelta(hours=each) for each in (48, 48, 95)
    ]
    counters = [each.counter for each in found]
    assert len({each.id for each in counters if each is not None}) == 3
    assert [each.places for each in counters if each is not None] == [1, 1, 1]
    assert len(mentions_open(await li(hub), START + timedelta(hours=48))) == 1


async def test_openings_that_are_over_are_forgotten_and_the_rest_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(harness.CHANNELS, "chat", PUBLIC)
    monkeypatch.setattr(windows, "MOST_OPENINGS", 3)
    hub = await PlannerHarness().open()
    for number in range(5):
        await hub.give(said("li", f"m{number}", at=hub.now, public=True))
        hub.later(minutes=1)
    assert len((await li(hub)).opened) == 3
    hub.later(hours=49)
    await hub.give(said("li", "last", at=hub.now, public=True))
    assert len((await li(hub)).opened) == 1


async def test_what_ends_a_window_ends_all_its_openings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(harness.CHANNELS, "chat", PUBLIC)
    hub = await PlannerHarness().open()
    for number in range(2):
        await hub.give(said("li", f"m{number}", at=START, public=True))
    await hub.give(Event(key="e1", at=START, address=somebody("li"), name="contact.unfollowed"))
    assert mentions_open(await li(hub), START) == []
    hub.later(minutes=1)
    await hub.give(said("li", "again", at=hub.now, public=True))
    assert len(mentions_open(await li(hub), hub.now)) == 1


async def test_an_agent_is_told_what_all_openings_together_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(harness.CHANNELS, "chat", PUBLIC)
    hub = await PlannerHarness().open()
    for number in range(2):
        await hub.give(said("li", f"m{number}", at=hub.now, public=True))
        hub.later(minutes=1)
    doc = replace(await li(hub), channel="chat", account="main")
    counter = mentions_open(doc, hub.now)[0].counter
    assert counter is not None
    await Ledger(hub.store).take("job_1", counter)
    (private, mention), _ = await limits_of(hub.store, PUBLIC, doc, hub.now)
    assert (private.open, private.sends, private.sends_left) == (False, 5, 0)
    assert (mention.open, mention.sends, mention.sends_left) == (True, 2, 1)
    assert mention.open_until == START + timedelta(hours=48, minutes=1)


def test_templates_pass_only_where_the_channel_says_so() -> None:
    passing = Capabilities(windows=(Window(name="w", opens_on=frozenset(), seconds=1),))
    assert not passes_closed(passing, template=True)
    open_to = Window(name="w", opens_on=frozenset(), seconds=1, templates_pass=True)
    assert passes_closed(Capabilities(windows=(open_to,)), template=True)
    assert not passes_closed(Capabilities(windows=(open_to,)), template=False)


def moment(year: int, month: int, day: int, hour: int, minute: int, second: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


@pytest.mark.parametrize(
    ("quota", "now", "starts"),
    [
        ({"period_s": 60}, (2026, 3, 2, 9, 0, 59), (2026, 3, 2, 9, 0)),
        ({"period_s": 86400}, (2026, 3, 2, 23, 59), (2026, 3, 2, 0, 0)),
        ({"period_s": 86400, "offset_s": -28800}, (2026, 3, 2, 15, 59), (2026, 3, 1, 16, 0)),
        ({"period_s": 86400, "offset_s": -28800}, (2026, 3, 2, 16, 0), (2026, 3, 2, 16, 0)),
    ],
    ids=["a minute", "a day", "a day in China", "the next day in China"],
)
def test_periods_begin_where_the_quota_says(
    quota: dict[str, Any], now: tuple[int, ...], starts: tuple[int, ...]
) -> None:
    made = Quota(name="q", sends=1, **quota)
    at = moment(*now)
    began, ends = period(made, at)
    assert began == moment(*starts)
    assert ends - began == timedelta(seconds=made.period_s)
    assert began <= at < ends


def test_a_quota_counts_by_account_or_by_address() -> None:
    can = Capabilities(
        quotas=(
            Quota(name="day", sends=9, period_s=86400),
            Quota(name="each", sends=2, period_s=60, per="address"),
        )
    )
    first = [each.counter.id for each in counters(can, "chat", "main", "adr_1", START)]
    second = [each.counter.id for each in counters(can, "chat", "main", "adr_2", START)]
    assert first[0] == second[0]
    assert first[1] != second[1]
