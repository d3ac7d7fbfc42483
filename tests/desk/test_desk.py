"""What the desk promises beyond the contract: crashes, numbers, the log, erasing, sealing.

A crash is an exception out of the store at one step; afterwards another backend goes on over the
same store, as the next process would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hub import ConfigError, RawTable, parse_settings
from hub.store.codec import Codec, FieldCipher
from hub.store.memory import MemoryStore
from hub.testing.services import FakeServices
from normalizer.outcomes import Gone, Rejected
from normalizer.tickets import Change, Status
from plugins import desk as desk_plugin
from plugins.desk.backend import DeskBackend
from plugins.desk.desk import Desk
from plugins.desk.documents import DeskEntry, DeskEvent, DeskTicket
from plugins.desk.event_log import EventLog
from plugins.desk.settings import DeskSettings
from tests.desk.support import AT, ROOT, Http, entry, open_ticket, requester, told


class Crash(Exception):
    """The process ended here."""


def successor(services: FakeServices) -> DeskBackend:
    """Return the same backend in another process."""
    return DeskBackend(
        "counter", DeskSettings(queues=("support", "billing")), services.context("desk")
    )


async def texts(backend: DeskBackend, ticket: str) -> list[str]:
    await backend.desk.ticket(ticket)
    found = await backend.desk.entries(ticket, before=1_000, limit=1_000)
    assert [one.order for one in found] == list(range(1, len(found) + 1))
    return [one.text for one in found]


async def drained(backend: DeskBackend, cursor: str) -> list[Any]:
    events: list[Any] = []
    while True:
        page = await backend.poll(cursor)
        events += page.events
        if not page.more:
            return events
        cursor = page.cursor


# --- crashes -----------------------------------------------------------------------------------


async def _crash(*_: Any, **__: Any) -> Any:
    raise Crash


def _before_entries(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk._entries, "insert", _crash)


def _before_log(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.log, "append", _crash)


def _before_clearing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    swap = desk._tickets.swap

    async def crash_when_cleared(doc: DeskTicket, expect: Any) -> bool:
        if not doc.pending:
            raise Crash
        return await swap(doc, expect)

    monkeypatch.setattr(desk, "_tickets", _With(desk._tickets, swap=crash_when_cleared))


class _With:
    """An object with some of its methods replaced."""

    def __init__(self, whole: Any, **methods: Any) -> None:
        self._whole = whole
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


Stop = Callable[[Desk, pytest.MonkeyPatch], None]
STOPS = pytest.mark.parametrize("stop", [_before_entries, _before_log, _before_clearing])


def _isolated(desk: Desk, services: FakeServices) -> None:
    """Give the desk tables of its own, so that a stopped one does not stop its successor."""
    desk._entries = _With(services.store.table(DeskEntry))


@STOPS
async def test_an_answer_is_told_once_when_the_process_ends_at_any_step(
    stop: Stop, backend: DeskBackend, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its ticket is written an answer is neither lost nor doubled."""
    ticket = await open_ticket(backend)
    _isolated(backend.desk, services)
    stop(backend.desk, monkeypatch)
    answer = backend.desk.new_entry(ticket.id, entry("k1", "on its way", author="agent"))
    with pytest.raises(Crash):
        await backend.desk.add(ticket.id, answer)
    after = successor(services)
    events = await drained(after, "0")
    assert [event.entry.text for event in events] == ["on its way"]
    added = await after.desk.add(ticket.id, answer)
    assert added.events == ()
    assert await texts(after, ticket.id) == ["Where is it?", "on its way"]
    assert len(await drained(after, "0")) == 1


@STOPS
async def test_an_entry_of_the_hub_is_there_once_when_the_process_ends_at_any_step(
    stop: Stop, backend: DeskBackend, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = await open_ticket(backend)
    await backend.change(ticket, Change(status=Status.SOLVED))
    _isolated(backend.desk, services)
    stop(backend.desk, monkeypatch)
    with pytest.raises(Crash):
        await backend.append(ticket, entry("ent_2", "still not here"), reopen=True)
    after = successor(services)
    assert await after.find_entry(ticket, "ent_2") is not None
    await after.append(ticket, entry("ent_2", "still not here"), reopen=True)
    assert await texts(after, ticket.id) == ["Where is it?", "still not here"]
    assert (await after.read(ticket))["status"] == "open"


async def test_a_ticket_is_whole_when_the_process_ends_after_its_first_write(
    backend: DeskBackend, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    _isolated(backend.desk, services)
    _before_entries(backend.desk, monkeypatch)
    with pytest.raises(Crash):
        await open_ticket(backend)
    after = successor(services)
    found = await after.find_ticket("cnv_1", requester())
    assert found is not None
    assert await after.find_entry(found, "ent_1") is not None
    assert (await open_ticket(after)).number == found.number


# --- the log and the numbers -------------------------------------------------------------------


def _line(number: int) -> DeskEvent:
    return DeskEvent(
        id=f"e{number}",
        backend="counter",
        position=0,
        event=f"e{number}",
        ticket="tkt",
        kind="status",
        at=AT,
    )


async def test_positions_have_no_gap_and_an_event_is_logged_once_by_many_writers(
    services: FakeServices,
) -> None:
    """Two processes log the same thirty events at once, as when both finish a change."""
    logs = [EventLog(services.context("desk")) for _ in range(2)]
    await asyncio.gather(*(log.append(_line(number)) for log in logs for number in range(30)))
    lines = await logs[0].after("counter", 0, 100)
    assert [line.position for line in lines] == list(range(1, 31))
    assert sorted(line.event for line in lines) == sorted(f"e{number}" for number in range(30))


async def test_a_long_log_is_told_page_by_page(
    backend: DeskBackend, services: FakeServices
) -> None:
    ticket = await open_ticket(backend)
    for number in range(130):
        await backend.desk.add(
            ticket.id, backend.desk.new_entry(ticket.id, entry(f"k{number}", str(number)))
        )
    first = await backend.poll("0")
    second = await backend.poll(first.cursor)
    assert (len(first.events), first.more, len(second.events), second.more) == (
        100,
        True,
        30,
        False,
    )
    assert (await backend.poll(second.cursor)).cursor == second.cursor


async def test_backends_have_logs_of_their_own(services: FakeServices) -> None:
    one, two = (
        DeskBackend(name, DeskSettings(), services.context("desk")) for name in ("one", "two")
    )
    ticket = await open_ticket(one)
    same_key = await open_ticket(two)
    await one.change(ticket, Change(status=Status.SOLVED))
    assert ticket.id != same_key.id
    assert [event.ticket_id for event in await drained(one, "0")] == [ticket.id]
    assert await drained(two, "0") == []


async def test_numbers_count_up_and_are_given_once(services: FakeServices) -> None:
    """Ten tickets made at once by two processes have ten numbers."""
    desks = [DeskBackend("counter", DeskSettings(), services.context("desk")) for _ in range(2)]
    made = await asyncio.gather(*(open_ticket(desks[n % 2], n) for n in range(10)))
    assert sorted(ref.number for ref in made) == [f"D-{1001 + n}" for n in range(10)]


async def test_a_cursor_that_is_none_of_the_desks_is_refused(backend: DeskBackend) -> None:
    with pytest.raises(Rejected, match="cursor"):
        await backend.poll("yesterday")


# --- queues and settings -----------------------------------------------------------------------


async def test_a_ticket_goes_to_its_queue_or_to_the_default_one(backend: DeskBackend) -> None:
    sorted_in = await open_ticket(backend, 1, queue="billing")
    unsorted = await open_ticket(backend, 2)
    assert (await backend.desk.ticket(sorted_in.id)).queue == "billing"
    assert (await backend.desk.ticket(unsorted.id)).queue == "support"


async def test_a_queue_that_is_not_configured_is_refused_with_those_that_are(
    backend: DeskBackend,
) -> None:
    with pytest.raises(Rejected, match="support, billing"):
        await open_ticket(backend, queue="biling")
    assert await backend.find_ticket("cnv_1", requester()) is None


def test_a_default_queue_has_to_be_one_of_the_queues() -> None:
    table = {"queues": ["a", "b"], "default_queue": "c"}
    with pytest.raises(ConfigError, match="default_queue"):
        parse_settings(DeskSettings, RawTable.of(table))
    settings = parse_settings(DeskSettings, RawTable.of(table | {"default_queue": "b"}))
    assert settings.first_queue == "b"
    assert parse_settings(DeskSettings, RawTable.of({})).first_queue == "support"


# --- erasing -----------------------------------------------------------------------------------


async def _stored_text(services: FakeServices) -> str:
    """Return everything the desk keeps, as one text."""
    tables = [services.store.table(kind) for kind in (DeskTicket, DeskEntry, DeskEvent)]
    return "".join([repr(await table.find({})) for table in tables])


async def test_erasing_leaves_the_shell_and_nothing_readable(
    backend: DeskBackend, services: FakeServices, http: Http
) -> None:
    """Others' tickets stay as they are; what comes late for the erased one finds it gone."""
    ticket = await open_ticket(
        backend, 1, subject="secret subject", tags=("secret tag",), first=entry("e", "secret text")
    )
    other = await open_ticket(backend, 2)
    path = f"{ROOT}/tickets/{ticket.id}"
    answer = {"text": "secret answer", "agent_name": "secret name"}
    await told(await http.post(f"{path}/answers", json=answer), 201)
    await told(await http.patch(path, json={"add_tags": ["secret too"], "status": "solved"}), 200)
    for _ in range(2):
        await desk_plugin.customer_erased(backend.context, [], ["cnv_1"])
        kept = await _stored_text(services)
        assert "secret" not in kept
        assert "Parcel 2" in kept
    shell = (await told(await http.get(path), 200))["ticket"]
    assert (shell["number"], shell["status"], shell["erased"]) == (ticket.number, "solved", True)
    assert shell["requester"] == {"id": "cus_1", "name": ""}
    with pytest.raises(Gone):
        await backend.append(ticket, entry("late", "secret again"), reopen=True)
    assert (await told(await http.post(f"{path}/answers", json=answer), 409))["type"].endswith(
        "/erased"
    )
    assert (await open_ticket(backend, 1, subject="secret subject")).id == ticket.id
    assert await drained(backend, "0") == []
    assert "secret" not in await _stored_text(services)
    assert await texts(backend, other.id) == ["Where is it?"]


async def test_erasing_finds_follow_up_tickets_and_requesters(backend: DeskBackend) -> None:
    follow_up = await open_ticket(backend, 1, key="cnv_1.2")
    of_address = await open_ticket(backend, 2, requester=requester("adr_2"))
    await desk_plugin.customer_erased(backend.context, ["adr_2"], ["cnv_1"])
    for ref in (follow_up, of_address):
        assert (await backend.desk.ticket(ref.id)).erased


async def test_erasing_that_was_interrupted_is_finished_by_repeating_it(
    backend: DeskBackend, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_ticket(backend, first=entry("e", "secret text"))
    desk = backend.desk
    _isolated(desk, services)
    monkeypatch.setattr(desk._entries, "put", _crash)
    with pytest.raises(Crash):
        await desk.erase([], ["cnv_1"])
    assert "secret" in await _stored_text(services)
    await successor(services).desk.erase([], ["cnv_1"])
    assert "secret" not in await _stored_text(services)


# --- sealing -----------------------------------------------------------------------------------


async def test_names_are_sealed_where_the_space_encrypts() -> None:
    """A ticket is written and finished through the cipher, and its name is nowhere in clear."""
    codec = Codec(FieldCipher({"k1": bytes(32)}, "k1"))
    store = MemoryStore(codec)
    services = FakeServices(store=store)
    backend = DeskBackend("counter", DeskSettings(), services.context("desk"))
    ticket = await open_ticket(
        backend,
        requester=requester(name="secret name"),
        first=entry("e", author_name="secret name"),
    )
    found = await backend.desk.ticket(ticket.id)
    assert found.requester_name == "secret name"
    [first] = await backend.desk.entries(ticket.id, before=10, limit=10)
    pending = DeskTicket(**{name: getattr(found, name) for name in found.__struct_fields__})
    assert first.author_name == "secret name"
    for doc in (pending, first):
        assert "secret" not in repr(codec.encode(doc))
