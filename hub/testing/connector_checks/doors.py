"""Polls and held connections, tried on a fake vendor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import pytest

from hub.contract import Connector, Incoming
from hub.testing.connector_checks.drafts import check_draft, check_storable, golden_lines
from hub.testing.connector_checks.subject import ACCOUNT, Subject
from hub.testing.fake_vendor import Mood
from normalizer.drafts import AnyDraft, Message
from normalizer.keys import dedupe_key
from normalizer.outcomes import Failure
from normalizer.parts import plain_text

MANY = 120  # more than one page
MOST_PAGES = 1000


class PollChecks(Subject):
    """``poll(cursor)``: nothing old, nothing lost, nothing doubled."""

    def _needs_poll(self) -> None:
        if not self.connector.polls():
            pytest.skip("exempt: it does not poll")
        if "poll" in self.exempt:
            pytest.skip(self.reason("poll"))

    async def test_a_new_account_polls_from_its_present_end(self) -> None:
        """None brings nothing old, and a cursor behind which everything is new."""
        self._needs_poll()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            for text in ("old 1", "old 2"):
                await vendor.says(text)
            first = await connector.poll(None)
            assert not first.items, "an account starts at its present end: history is imported"
            assert first.cursor, "poll(None) has to return the cursor of the present end"
            await vendor.says("new")
            drafts, _ = await _all(connector, first.cursor)
            assert _texts(drafts) == ["new"]

    async def test_a_poll_brings_everything_once_and_in_order(self) -> None:
        self._needs_poll()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            start = (await connector.poll(None)).cursor
            expected = [f"text {number}" for number in range(MANY)]
            for text in expected:
                await vendor.says(text)
            drafts, end = await _all(connector, start)
            assert _texts(drafts) == expected
            for draft in drafts:
                check_draft(type(connector), draft)
            check_storable(connector.channel, drafts)
            quiet = await connector.poll(end)
            assert not quiet.items, "behind the last cursor there is nothing"
            await vendor.says("one more")
            assert _texts((await _all(connector, quiet.cursor))[0]) == ["one more"]

    async def test_a_cursor_that_is_asked_again_brings_the_same_keys(self) -> None:
        """The hub stores a cursor after the items; in between it may have died."""
        self._needs_poll()
        async with self.vendor() as vendor:
            async with self.at_work(vendor) as connector:
                start = (await connector.poll(None)).cursor
                for number in range(5):
                    await vendor.says(f"text {number}")
                first, _ = await _all(connector, start)
            async with self.at_work(vendor) as another:
                again, _ = await _all(another, start)
            assert _keys(again) == _keys(first)
            assert len(set(_keys(first))) == 5

    async def test_polled_items_keep_their_raw_bytes(self) -> None:
        self._needs_poll()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            start = (await connector.poll(None)).cursor
            await vendor.says("你好")
            for item in (await connector.poll(start)).items:
                assert item.raw, "Incoming(raw=...) is what a failed message is repaired from"

    async def test_a_poll_of_a_vendor_in_trouble_raises_and_says_why(self) -> None:
        self._needs_poll()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            start = (await connector.poll(None)).cursor
            await vendor.says("kept")
            for mood in sorted(vendor.moods - {Mood.WELL}):
                vendor.mood = mood
                with pytest.raises(Failure) as caught:
                    await connector.poll(start)
                assert caught.value.reason.strip(), f"the failure says nothing ({mood})"
                with self.nothing_leaks(connector) as told:
                    told.append(str(caught.value))
            vendor.mood = Mood.WELL
            assert _texts((await _all(connector, start))[0]) == ["kept"]

    async def test_keys_and_addresses_of_polled_items_are_frozen(self) -> None:
        self._needs_poll()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            start = (await connector.poll(None)).cursor
            await vendor.says("first")
            await vendor.says("second", who="bob")
            drafts, _ = await _all(connector, start)
        self.freeze_lines("poll", golden_lines(self.connector.channel, "polled", drafts))


class HoldChecks(Subject):
    """``hold(cursor, deliver)``: in order, resumed, and never ahead of what is stored."""

    patience_s: ClassVar[float] = 10.0  # how long something may take to come

    def _needs_hold(self) -> None:
        if not self.connector.holds():
            pytest.skip("exempt: it holds no connection")

    async def test_a_new_account_holds_from_its_present_end(self) -> None:
        """The cursor of the present end is delivered at once, before there is any item."""
        self._needs_hold()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            await vendor.says("old")
            async with self._held(connector, None) as first:
                await first.until(lambda: first.cursor is not None, "the present end's cursor")
                assert not first.drafts, "an account starts at its present end"
                await vendor.hang_up()
                await first.ended()
            await vendor.says("while nobody listened")
            async with self._held(connector, first.cursor) as second:
                await second.until(lambda: len(second.drafts) == 1, "what came meanwhile")
            assert _texts(second.drafts) == ["while nobody listened"]

    async def test_a_held_connection_delivers_in_order_and_resumes(self) -> None:
        self._needs_hold()
        expected = [f"text {number}" for number in range(20)]
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            async with self._held(connector, None) as first:
                await first.until(lambda: first.cursor is not None, "the connection")
                for text in expected[:10]:
                    await vendor.says(text)
                await first.until(lambda: len(first.drafts) == 10, "ten messages")
                await vendor.hang_up()
                await first.ended()
            for text in expected[10:15]:
                await vendor.says(text)
            async with self._held(connector, first.cursor) as second:
                for text in expected[15:]:
                    await vendor.says(text)
                await second.until(lambda: len(second.drafts) >= 10, "the other ten")
            drafts = [*first.drafts, *second.drafts]
            assert _texts(drafts) == expected
            for draft in drafts:
                check_draft(type(connector), draft)
            check_storable(connector.channel, drafts)

    async def test_nothing_is_delivered_while_a_delivery_is_under_way(self) -> None:
        """Else a later cursor could be stored before an earlier item is durable."""
        self._needs_hold()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            async with self._held(connector, None) as held:
                await held.until(lambda: held.cursor is not None, "the connection")
                held.gate.clear()
                for number in range(5):
                    await vendor.says(f"text {number}")
                await held.until(lambda: held.under_way > 0, "a delivery")
                await vendor.says("one more")
                assert held.most_under_way == 1
                held.gate.set()
                await held.until(lambda: len(held.drafts) == 6, "all six")
            assert held.most_under_way == 1

    async def test_a_delivery_that_fails_ends_the_connection(self) -> None:
        """What was not stored comes again behind the last cursor that was."""
        self._needs_hold()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            async with self._held(connector, None) as first:
                await first.until(lambda: first.cursor is not None, "the connection")
                first.broken = True
                for number in range(3):
                    await vendor.says(f"text {number}")
                await first.ended()
                assert first.failures == 1, "it went on after a delivery that failed"
            async with self._held(connector, first.cursor) as second:
                await second.until(lambda: len(second.drafts) == 3, "all three")

    async def test_a_held_connection_ends_when_it_is_told_to(self) -> None:
        self._needs_hold()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            async with self._held(connector, None) as held:
                await held.until(lambda: held.cursor is not None, "the connection")

    async def test_a_vendor_in_trouble_ends_the_connection_with_a_reason(self) -> None:
        self._needs_hold()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            for mood in sorted(vendor.moods - {Mood.WELL}):
                vendor.mood = mood
                async with self._held(connector, None) as held:
                    error = await held.ended()
                assert isinstance(error, Failure), f"{mood}: it ended with {error!r}"
                assert error.reason.strip()

    async def test_keys_and_addresses_of_held_items_are_frozen(self) -> None:
        self._needs_hold()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            async with self._held(connector, None) as held:
                await held.until(lambda: held.cursor is not None, "the connection")
                await vendor.says("first")
                await vendor.says("second", who="bob")
                await held.until(lambda: len(held.drafts) == 2, "two messages")
        self.freeze_lines("held", golden_lines(self.connector.channel, "held", held.drafts))

    @contextlib.asynccontextmanager
    async def _held(self, connector: Connector[Any], cursor: str | None) -> AsyncIterator[_Held]:
        held = _Held(connector, cursor, self.patience_s)
        try:
            yield held
        finally:
            held.task.cancel()
            done, _ = await asyncio.wait({held.task}, timeout=self.patience_s)
            assert done, "hold() does not end when it is cancelled"
            if not held.task.cancelled():
                held.task.exception()


class _Held:
    """A hold under way, and what it has delivered."""

    def __init__(self, connector: Connector[Any], cursor: str | None, patience_s: float) -> None:
        self.drafts: list[AnyDraft] = []
        self.cursor: str | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False
        self.failures = 0
        self.under_way = 0
        self.most_under_way = 0
        self._patience_s = patience_s
        self._changed = asyncio.Condition()
        self.task = asyncio.ensure_future(connector.hold(cursor, self.deliver))

    async def deliver(self, items: Sequence[Incoming], cursor: str) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self._tell()
        try:
            await self.gate.wait()
            if self.broken:
                self.failures += 1
                raise OSError("this test says that nothing can be stored")
            self.drafts += [draft for item in items for draft in item.drafts]
            self.cursor = cursor
        finally:
            self.under_way -= 1
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, holds: Any, what: str) -> None:
        """Wait for a condition. Fails when it does not come true, or the connection ends."""

        async def come_true() -> None:
            async with self._changed:
                await self._changed.wait_for(holds)

        waiting = asyncio.ensure_future(come_true())
        done, _ = await asyncio.wait(
            {waiting, self.task}, timeout=self._patience_s, return_when=asyncio.FIRST_COMPLETED
        )
        if waiting in done:
            return
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if self.task in done:
            pytest.fail(f"hold() ended while {what} was waited for: {self.task.exception()!r}")
        pytest.fail(f"{what} did not come within {self._patience_s:.0f} s")

    async def ended(self) -> BaseException | None:
        """Wait until hold returned or raised; return what it raised."""
        done, _ = await asyncio.wait({self.task}, timeout=self._patience_s)
        assert done, "hold() goes on although its connection is lost"
        return self.task.exception()


async def _all(connector: Connector[Any], cursor: str) -> tuple[list[AnyDraft], str]:
    """Poll until there is no more; return the drafts and the last cursor."""
    drafts: list[AnyDraft] = []
    for _ in range(MOST_PAGES):
        polled = await connector.poll(cursor)
        drafts += [draft for item in polled.items for draft in item.drafts]
        assert not polled.more or polled.cursor != cursor, (
            "more=True with the same cursor is a loop"
        )
        cursor = polled.cursor
        if not polled.more:
            return drafts, cursor
    pytest.fail(f"{MOST_PAGES} pages, and still more")


def _texts(drafts: Sequence[AnyDraft]) -> list[str]:
    return [plain_text(draft.parts) for draft in drafts if isinstance(draft, Message)]


def _keys(drafts: Sequence[AnyDraft]) -> list[str]:
    return [dedupe_key("any", ACCOUNT, draft) for draft in drafts]
