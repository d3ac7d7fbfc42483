"""A signed query is good for one body: here, in another process, and while the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from connectors.weibo import WeiboConnector, admission
from hub import Refused, Request, StoreError, signed_once
from hub.testing import FakeServices
from hub.testing.clock import START, FakeClock
from tests.weibo.support import make_connector, push


async def admit(made: WeiboConnector, request: Request) -> None:
    await made.admit(made.verify(request))


def two_bodies(
    made: WeiboConnector, first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[Request, Request]:
    """Return two pushes with one query."""
    return push(made, first), push(made, second)


@pytest.mark.parametrize("other_process", [False, True])
async def test_a_repetition_passes_and_another_body_is_refused(other_process: bool) -> None:
    services = FakeServices()
    made = make_connector(services=services)
    genuine, forged = two_bodies(made, {"text": "hello"}, {"text": "forged"})
    await admit(made, genuine)
    there = make_connector(services=services) if other_process else made
    with pytest.raises(Refused, match="replayed"):
        await admit(there, forged)
    await admit(there, genuine)


async def test_of_two_at_once_one_wins() -> None:
    """Whichever process is first: the other body is refused in all of them."""
    services = FakeServices()
    processes = [make_connector(services=services) for _ in range(4)]
    genuine, forged = two_bodies(processes[0], {"text": "hello"}, {"text": "forged"})
    found = await asyncio.gather(
        *(admit(each, request) for each in processes for request in (genuine, forged)),
        return_exceptions=True,
    )
    assert [isinstance(each, Refused) for each in found] == [False, True] * 4


async def test_the_query_of_a_url_check_authenticates_no_push() -> None:
    made = make_connector()
    check = push(made, b"", method="GET", echostr="42")
    await admit(made, check)
    await admit(made, check)
    with pytest.raises(Refused, match="replayed"):
        await admit(made, push(made, {"text": "forged"}))


async def test_other_accounts_and_other_pairs_have_nothing_to_do_with_it() -> None:
    services = FakeServices()
    first, second = (make_connector(services=services, key=key) for key in ("main", "second"))
    await admit(first, push(first, {"text": "one"}))
    await admit(second, push(second, {"text": "two"}))
    await admit(first, push(first, {"text": "three"}, nonce="2"))
    later = START + timedelta(milliseconds=1)
    await admit(first, replace(push(first, {"text": "four"}, at=later), received_at=START))


async def test_a_pair_is_remembered_as_long_as_it_is_fresh() -> None:
    """Its time may lie ahead by the window, so it is twice the window."""
    services = FakeServices()
    made = make_connector(services=services)
    ahead = START + timedelta(seconds=590)
    genuine, forged = (push(made, {"text": text}, at=ahead) for text in ("hello", "forged"))
    await admit(made, replace(genuine, received_at=START))
    late = replace(forged, received_at=START + timedelta(seconds=1180))
    with pytest.raises(Refused, match="replayed"):
        await admit(made, late)
    (doc,) = await made.context.documents(admission.NonceDoc).find({})
    assert doc.expire_at > late.received_at


async def test_nothing_readable_is_kept_of_a_pair() -> None:
    services = FakeServices()
    made = make_connector(services=services)
    await admit(made, push(made, {"text": "hello"}))
    (doc,) = await made.context.documents(admission.NonceDoc).find({})
    assert "57155157" not in repr(doc)
    assert len(doc.id) == len(doc.used_for) == 64


@pytest.mark.parametrize("trouble", ["refused", "silent"])
async def test_while_the_database_is_away_each_process_knows_its_own(
    monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """The push is taken; nobody waits for the database again for a while, and then it is asked."""
    services = FakeServices()
    made, other = make_connector(services=services), make_connector(services=services)
    table = made.context.documents(admission.NonceDoc)
    asked = 0

    async def insert(self: object, docs: object) -> set[Any]:
        nonlocal asked
        asked += 1
        if trouble == "silent":
            await asyncio.Event().wait()
        raise StoreError("the database is away")

    monkeypatch.setattr(signed_once, "ASK_S", 0.05)
    with monkeypatch.context() as patched:
        patched.setattr(type(table), "insert", insert)
        genuine, forged = two_bodies(made, {"text": "hello"}, {"text": "forged"})
        await admit(made, genuine)
        await admit(made, push(made, {"text": "more"}, nonce="2"))
        assert asked == 1
        with pytest.raises(Refused, match="replayed"):
            await admit(made, forged)
        await admit(other, genuine)
    clock = services.clock
    assert isinstance(clock, FakeClock)
    clock.advance(signed_once.AWAY_S)
    await admit(made, push(made, {"text": "third"}, nonce="3"))
    assert len(await table.find({})) == 1


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_connector()
    monkeypatch.setattr(signed_once, "MOST_KEPT", 3)
    for number in range(6):
        await admit(made, push(made, {"text": "hello"}, nonce=str(number)))
    assert len(made._signed_once._seen) == 3
    after = START + timedelta(hours=1)
    await admit(made, push(made, {"text": "hello"}, nonce="late", at=after))
    assert len(made._signed_once._seen) == 1


async def test_an_insecure_account_without_a_secret_remembers_nothing() -> None:
    made = make_connector({"app_secrets": None, "path_secret": None})
    trial = WeiboConnector(replace(made.account, insecure=True), made.context)
    await admit(trial, push(trial, {"text": "hello"}, path=""))
    await admit(trial, push(trial, {"text": "another"}, path=""))
    assert not await trial.context.documents(admission.NonceDoc).find({})
