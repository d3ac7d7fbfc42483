"""A receiver that cannot be asked: keys are ids, and a doubt ends by its dedupe or by a person."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hub.store.memory import MemoryStore
from hub.testing import FakeClock, Fault
from hub.testing.backend_dispatch import DOUBTS
from hub.testing.backend_world import TicketWorld
from normalizer.outcomes import Unsupported
from normalizer.tickets import Change, Requester, Status, TicketRef
from plugins.webhook import WebhookBackend
from tests.webhook.strict import Strict
from tests.webhook.support import made
from tests.webhook.test_contract import ServerFaults
from tests.webhook.test_wire import ENTRY, NEW

PERSON = Requester(hub_id="cus_1", display_name="李雷")


@pytest.fixture
async def backend(strict: Strict, dedupes: bool) -> AsyncIterator[WebhookBackend]:
    backend = made(strict.url, mode="fire-and-forget", dedupes=dedupes)
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
def world(backend: WebhookBackend, strict: Strict) -> TicketWorld:
    clock = FakeClock()

    async def later(seconds: float) -> None:
        clock.advance(seconds)

    return TicketWorld(MemoryStore(clock=clock), clock, ServerFaults(backend, strict), later)


@pytest.mark.parametrize("dedupes", [True, False])
async def test_it_is_told_what_is_to_be_done_and_asked_nothing(
    backend: WebhookBackend, strict: Strict, dedupes: bool
) -> None:
    assert await backend.ensure_requester(PERSON) == "cus_1"
    ticket = await backend.create_ticket(NEW, "cus_1")
    assert ticket == TicketRef(id="cnv_1")
    assert await backend.append(ticket, ENTRY, reopen=True) == "ent_1"
    assert await backend.change(ticket, Change(status=Status.SOLVED)) == ticket
    assert await backend.read(ticket) == {}
    if dedupes:
        assert await backend.find_ticket("cnv_1", PERSON) is None
        assert await backend.find_entry(ticket, "ent_1") is None
    else:
        with pytest.raises(Unsupported, match="cannot be asked"):
            await backend.find_ticket("cnv_1", PERSON)
        with pytest.raises(Unsupported, match="cannot be asked"):
            await backend.find_entry(ticket, "ent_1")
    assert set(strict.counts) == {"ticket.create", "entry.append", "ticket.change"}


@pytest.mark.parametrize("dedupes", [True])
@pytest.mark.parametrize("call", ["create_ticket", "append"])
@pytest.mark.parametrize("fault", DOUBTS, ids=lambda fault: fault.name.lower())
async def test_what_is_in_doubt_is_sent_again_under_its_id_where_doubles_are_dropped(
    world: TicketWorld, strict: Strict, dedupes: bool, call: str, fault: Fault
) -> None:
    strict.plan(call, fault)
    await world.finish(await world.written(1, range(1, 4)))
    (ticket,) = strict.inner.tickets.values()
    seen = [each["text"] for each in ticket["entries"]]
    assert seen == [world.text(1, number) for number in range(1, 4)]
    assert len(strict.idents) == len(set(strict.idents)) + 1, "one write was sent twice"
    assert await world.letters() == []


@pytest.mark.parametrize("dedupes", [False])
@pytest.mark.parametrize("fault", DOUBTS, ids=lambda fault: fault.name.lower())
async def test_an_entry_in_doubt_is_never_sent_again_by_itself(
    world: TicketWorld, strict: Strict, dedupes: bool, fault: Fault
) -> None:
    strict.plan("append", fault)
    jobs = await world.written(1, range(1, 4))
    await world.finish(jobs)
    assert strict.counts == {"ticket.create": 1, "entry.append": 2}
    (letter,) = await world.letters()
    assert (letter.ref, letter.stage) == (jobs[1], "ticket:outcome_unknown")


@pytest.mark.parametrize("dedupes", [False])
@pytest.mark.parametrize("fault", DOUBTS, ids=lambda fault: fault.name.lower())
async def test_a_ticket_in_doubt_is_held_and_nothing_is_sent(
    world: TicketWorld, strict: Strict, dedupes: bool, fault: Fault
) -> None:
    strict.plan("create_ticket", fault)
    jobs = await world.written(1, range(1, 4))
    job = await world.held(jobs[0])
    assert job.live
    assert strict.counts == {"ticket.create": 1}
    assert await world.letters() == []
