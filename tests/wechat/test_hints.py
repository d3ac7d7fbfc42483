"""Typing is shown to a follower, not more often than it takes, and costs no place in a window."""

from __future__ import annotations

import pytest

from hub.testing import FakeClock
from normalizer.outcomes import Unreachable
from tests.wechat.fake_wechat import OPENID
from tests.wechat.support import ADDRESS, at_work, connector


async def test_typing_is_told_once_in_a_while_and_taken_back_where_it_shows() -> None:
    async with at_work() as (ours, vendor, services):
        clock = services.clock
        assert isinstance(clock, FakeClock)
        await ours.show_typing(ADDRESS, False)  # nothing shows
        for _ in range(5):
            await ours.show_typing(ADDRESS, True)
        clock.advance(11)
        await ours.show_typing(ADDRESS, True)
        assert vendor.commands == ["Typing", "Typing"]
        await ours.show_typing(f"{ADDRESS}2", True)
        await ours.show_typing(ADDRESS, False)
        await ours.show_typing(ADDRESS, False)
        assert vendor.commands == ["Typing", "Typing", "Typing", "CancelTyping"]
        clock.advance(16)
        await ours.show_typing(f"{ADDRESS}2", False)  # it went out by itself
        assert len(vendor.commands) == 4
        assert not vendor.windows, "no place of a window was taken"


async def test_a_closed_window_is_a_failure_like_any_other() -> None:
    async with at_work() as (ours, vendor, _):
        vendor.closed.add(OPENID)
        with pytest.raises(Unreachable):
            await ours.show_typing(ADDRESS, True)


def test_an_account_that_may_not_answer_shows_no_typing() -> None:
    assert connector().capabilities.typing
    assert not connector(rights="passive").capabilities.typing
