"""What every ticket backend has to do, as tests: subclass, say how to get one, run pytest.

::

    class TestMyHelpdesk(TicketBackendContract):
        @pytest.fixture
        async def backend(self, my_fake_server):
            backend = MyBackend("help", MySettings(url=my_fake_server.url), context)
            await backend.start()
            yield backend
            await backend.stop()

        async def entries_of(self, backend, ticket): ...      # what an agent would see
        async def tickets_with(self, backend, key): ...       # all tickets that carry a key
        async def agent_writes(self, backend, ticket, text, *, internal=False): ...
        async def agent_sets_status(self, backend, ticket, status): ...

The four methods play the helpdesk's agent; they speak to your fake server, never to the
backend under test. ``lose_answer`` and ``settle`` can be overridden where your server can lose
an answer by itself or has an index that lags. A fake server has to check what it is sent
(signature, required fields, limits), else these tests prove little.

:mod:`hub.testing.backend_dispatch` adds what becomes of the backend within the hub when its
server misbehaves: give it the server's own faults by ``outside``, and MongoDB by ``hub_store``.
A backend that has no ``poll`` and sends webhooks gives what its server sent by ``callbacks``.

The rules behind each test are those of the ticket model: keys make retries safe, what is in
doubt can be looked up, entries keep their order, and events are told by ``poll`` without loss.
Tests that ask for what ``capabilities`` deny are skipped and say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, TypeVar

import pytest
from msgspec.structs import replace

from hub.backend_contract import TicketBackend
from hub.contract import Refused
from hub.testing.backend_dispatch import DispatchChecks
from normalizer.outcomes import Failure, Gone, OutcomeUnknown, Rejected
from normalizer.tickets import (
    BackendEvent,
    Change,
    Lookup,
    NewTicket,
    Priority,
    Requester,
    Status,
    TicketEntry,
    TicketRef,
)

T = TypeVar("T")
BEGINNING = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
OPEN = frozenset({Status.NEW, Status.OPEN})
HOSTILE_TEXTS = (
    "您好，我的订单还没到。",
    "👩🏽‍💻 says 🎉",
    "e\u0301 is not é",
    "<b>not bold</b> & &amp; stay",
    "first line\nsecond line\n\n  indented",
    "{{ticket.id}} #{article.body} %s \\n",
)


class TicketBackendContract(DispatchChecks):
    """Tests that every backend passes. Fixtures and methods without a body are yours to fill."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.asyncio]

    lanes: int = 10
    """How many tickets are written to side by side where order is proved."""
    messages: int = 50
    """How many messages each of them gets."""
    assignee: str = ""
    """An agent the backend knows, to be assigned to; empty where the test cannot have one."""
    unknown_ticket: TicketRef = TicketRef(id="999999999")
    """A well-formed reference to a ticket that was never there."""

    @pytest.fixture
    def backend(self) -> TicketBackend:
        raise NotImplementedError("give this test class a fixture `backend`: one that is started")

    @pytest.fixture
    def requester(self, backend: TicketBackend) -> Requester:
        return self.person(backend, 1)

    # --- what a subclass fills in ----------------------------------------------------------------

    async def entries_of(self, backend: TicketBackend, ticket: TicketRef) -> Sequence[TicketEntry]:
        """Return what an agent sees on the ticket, oldest first: text, internal, author."""
        raise NotImplementedError("say how to read a ticket's entries as an agent would")

    async def tickets_with(self, backend: TicketBackend, key: str) -> Sequence[TicketRef]:
        """Return all tickets that carry a key of the hub's, doubles included, lowest first."""
        raise NotImplementedError("say how to find all tickets that carry a key")

    async def agent_writes(
        self, backend: TicketBackend, ticket: TicketRef, text: str, *, internal: bool = False
    ) -> None:
        """Let an agent write a public answer or an internal note."""
        raise NotImplementedError("say how an agent writes on a ticket")

    async def agent_sets_status(
        self, backend: TicketBackend, ticket: TicketRef, status: Status
    ) -> None:
        """Let an agent set the status."""
        raise NotImplementedError("say how an agent sets a ticket's status")

    async def callbacks(self, backend: TicketBackend) -> Sequence[tuple[Mapping[str, str], bytes]]:
        """Return the webhooks that your server sent so far, oldest first: headers and body."""
        raise NotImplementedError("say what webhooks the server has sent")

    async def lose_answer(self, backend: TicketBackend, call: Callable[[], Awaitable[T]]) -> T:
        """Carry the call out at the server and let its answer get lost.

        It raises what the backend makes of that: :class:`OutcomeUnknown`. As it stands here the
        answer is thrown away; better, let your fake server act and then cut the connection.
        """
        await call()
        raise OutcomeUnknown("the answer was lost")

    async def settle(self, backend: TicketBackend) -> None:
        """Let the server's index or event queue catch up; nothing where reads are fresh."""

    # --- helpers ---------------------------------------------------------------------------------

    def person(self, backend: TicketBackend, number: int) -> Requester:
        """Return one of many requesters; with an e-mail address only where one is needed."""
        emails = (f"customer{number}@example.com",)
        return Requester(
            hub_id=f"cus_{number:026d}",
            display_name=f"李雷 {number}",
            emails=emails if backend.capabilities.requester_needs_email else (),
        )

    def entry(
        self, number: int, text: str = "", *, author: str = "customer", internal: bool = False
    ) -> TicketEntry:
        """Return one of many entries of the hub's."""
        return TicketEntry(
            key=f"ent_{number:026d}",
            author=author,
            channel="wechat",
            occurred_at=BEGINNING + timedelta(seconds=number),
            text=text or f"message {number}",
            internal=internal,
            author_name="韩梅梅",
        )

    def new(self, requester: Requester, number: int = 1, text: str = "") -> NewTicket:
        """Return one of many tickets to be made."""
        return NewTicket(
            key=f"cnv_{number:026d}",
            requester=requester,
            subject=f"Where is my parcel {number}?",
            first=self.entry(number * 100_000, text),
        )

    async def made(
        self, backend: TicketBackend, requester: Requester, number: int = 1
    ) -> TicketRef:
        """Make a ticket as the hub does."""
        ident = await backend.ensure_requester(requester)
        ticket = await backend.create_ticket(self.new(requester, number), ident)
        await self.settle(backend)
        return ticket

    async def texts(self, backend: TicketBackend, ticket: TicketRef) -> list[str]:
        return [entry.text for entry in await self.entries_of(backend, ticket)]

    async def drained(
        self, backend: TicketBackend, cursor: str | None
    ) -> tuple[list[BackendEvent], str]:
        """Return each event behind the cursor once, and the cursor behind them all."""
        await self.settle(backend)
        events: dict[str, BackendEvent] = {}
        if not _polls(backend):
            sent = await self.callbacks(backend)
            now = backend.context.clock.now()
            for headers, body in sent[len(sent) if cursor is None else int(cursor) :]:
                for event in backend.parse_webhook(headers, body, now):
                    events.setdefault(event.dedupe_id, event)
            return list(events.values()), str(len(sent))
        while True:
            page = await backend.poll(cursor)
            for event in page.events:
                events.setdefault(event.dedupe_id, event)
            cursor = page.cursor
            if not page.more:
                return list(events.values()), cursor

    async def start_of_poll(self, backend: TicketBackend) -> str:
        _, cursor = await self.drained(backend, None)
        return cursor

    # --- readiness -------------------------------------------------------------------------------

    async def test_a_backend_that_is_set_up_rightly_reports_no_problem(
        self, backend: TicketBackend
    ) -> None:
        assert list(await backend.check()) == []

    async def test_a_settling_time_is_declared_where_look_ups_lag(
        self, backend: TicketBackend
    ) -> None:
        can = backend.capabilities
        lags = Lookup.EVENTUAL in (can.ticket_lookup, can.entry_lookup)
        assert lags == (can.settle_seconds > 0)
        assert can.max_entry_chars > 0

    # --- requesters ------------------------------------------------------------------------------

    async def test_the_same_requester_is_not_made_twice(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        first = await backend.ensure_requester(requester)
        await self.settle(backend)
        assert await backend.ensure_requester(requester) == first
        assert await backend.ensure_requester(self.person(backend, 2)) != first

    async def test_a_requester_without_an_email_address_is_taken_or_refused_as_declared(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        nameless = replace(requester, emails=(), phones=())
        if backend.capabilities.requester_needs_email:
            with pytest.raises(Rejected):
                await backend.ensure_requester(nameless)
        else:
            ticket = await self.made(backend, nameless)
            assert await self.texts(backend, ticket) == ["message 100000"]

    # --- making tickets --------------------------------------------------------------------------

    async def test_a_ticket_is_found_by_its_key_and_only_by_it(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        new = self.new(requester)
        assert await backend.find_ticket(new.key, requester) is None
        ticket = await self.made(backend, requester)
        found = await backend.find_ticket(new.key, requester)
        assert found is not None
        assert found.id == ticket.id
        assert await backend.find_ticket(self.new(requester, 2).key, requester) is None

    async def test_two_keys_of_one_requester_are_two_tickets(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        one = await self.made(backend, requester, 1)
        two = await self.made(backend, requester, 2)
        assert one.id != two.id
        assert await self.texts(backend, two) == ["message 200000"]

    async def test_the_same_key_twice_is_one_ticket_or_the_lowest_of_them(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        """ENFORCED is honest: the backend itself makes no second one."""
        refs = [await self.made(backend, requester) for _ in range(2)]
        if backend.capabilities.ticket_lookup is Lookup.ENFORCED:
            assert refs[0].id == refs[1].id
            assert await self.texts(backend, refs[0]) == ["message 100000"]
        found = await backend.find_ticket(self.new(requester).key, requester)
        assert found is not None
        assert found.id == min((ref.id for ref in refs), key=lambda ident: (len(ident), ident))

    async def test_the_same_key_from_many_at_once_is_one_ticket(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        if backend.capabilities.ticket_lookup is not Lookup.ENFORCED:
            pytest.skip("this backend does not enforce keys; the hub keeps writers apart")
        ident = await backend.ensure_requester(requester)
        new = self.new(requester)
        refs = await asyncio.gather(*(backend.create_ticket(new, ident) for _ in range(8)))
        assert len({ref.id for ref in refs}) == 1
        assert await self.texts(backend, refs[0]) == ["message 100000"]

    async def test_a_ticket_whose_answer_was_lost_is_found_with_its_first_entry(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        """The key is written with the ticket: what is in doubt can be looked up and adopted."""
        ident = await backend.ensure_requester(requester)
        new = self.new(requester)
        with pytest.raises(OutcomeUnknown):
            await self.lose_answer(backend, lambda: backend.create_ticket(new, ident))
        await self.settle(backend)
        found = await backend.find_ticket(new.key, requester)
        assert found is not None
        assert await backend.find_entry(found, new.first.key) is not None
        assert await self.texts(backend, found) == [new.first.text]

    async def test_a_new_ticket_can_be_read(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        seen = await backend.read(await self.made(backend, requester))
        assert Status(seen["status"]) in OPEN
        assert seen["raw_status"]
        assert Priority(seen["priority"]) is Priority.NORMAL
        assert not seen["assignee"]
        assert not set(seen["tags"]) & {"alpha", "beta"}

    # --- entries ---------------------------------------------------------------------------------

    async def test_entries_are_shown_in_order_with_their_text(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        ticket = await self.made(backend, requester)
        for number in range(1, 4):
            await backend.append(ticket, self.entry(number), reopen=False)
        await self.settle(backend)
        expected = ["message 100000", "message 1", "message 2", "message 3"]
        assert await self.texts(backend, ticket) == expected

    async def test_an_entry_is_found_by_its_key_and_only_on_its_ticket(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        ticket = await self.made(backend, requester, 1)
        other = await self.made(backend, requester, 2)
        entry = self.entry(7)
        assert await backend.find_entry(ticket, entry.key) is None
        ident = await backend.append(ticket, entry, reopen=False)
        await self.settle(backend)
        assert await backend.find_entry(ticket, entry.key) == ident
        assert await backend.find_entry(other, entry.key) is None

    async def test_the_same_entry_twice_is_one_entry_where_that_is_enforced(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        if backend.capabilities.entry_lookup is not Lookup.ENFORCED:
            pytest.skip("this backend does not enforce entry keys; the hub looks them up")
        ticket = await self.made(backend, requester)
        entry = self.entry(7)
        idents = await asyncio.gather(
            *(backend.append(ticket, entry, reopen=False) for _ in range(8))
        )
        assert len(set(idents)) == 1
        assert await self.texts(backend, ticket) == ["message 100000", "message 7"]

    async def test_an_entry_whose_answer_was_lost_is_found_and_there_once(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        ticket = await self.made(backend, requester)
        entry = self.entry(7)
        with pytest.raises(OutcomeUnknown):
            await self.lose_answer(backend, lambda: backend.append(ticket, entry, reopen=True))
        await self.settle(backend)
        assert await backend.find_entry(ticket, entry.key) is not None
        assert await self.texts(backend, ticket) == ["message 100000", "message 7"]

    async def test_many_requesters_messages_side_by_side_keep_their_order(
        self, backend: TicketBackend
    ) -> None:
        async def lane(number: int) -> tuple[list[str], list[str]]:
            requester = self.person(backend, number)
            ticket = await self.made(backend, requester, number)
            sent = []
            for count in range(self.messages):
                entry = self.entry(number * 1000 + count)
                await backend.append(ticket, entry, reopen=True)
                sent.append(entry.text)
            await self.settle(backend)
            return sent, (await self.texts(backend, ticket))[1:]

        for sent, seen in await asyncio.gather(*map(lane, range(1, self.lanes + 1))):
            assert seen == sent

    async def test_what_is_internal_is_shown_as_internal_and_the_rest_as_public(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        ticket = await self.made(backend, requester)
        note = self.entry(1, "do not tell", author="agent", internal=True)
        if not backend.capabilities.internal_entries:
            with pytest.raises(Failure):
                await backend.append(ticket, note, reopen=False)
            return
        await backend.append(ticket, note, reopen=False)
        await backend.append(ticket, self.entry(2, "do tell", author="agent"), reopen=False)
        await self.settle(backend)
        seen = {entry.text: entry.internal for entry in await self.entries_of(backend, ticket)}
        assert seen == {"message 100000": False, "do not tell": True, "do tell": False}

    async def test_a_customers_entry_is_shown_as_the_customers_where_declared(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        if not backend.capabilities.customer_authorship:
            pytest.skip("this backend shows every entry as the integration's own")
        ticket = await self.made(backend, requester)
        await backend.append(ticket, self.entry(1, "mine"), reopen=False)
        await backend.append(ticket, self.entry(2, "ours", author="agent"), reopen=False)
        await self.settle(backend)
        seen = {entry.text: entry.author for entry in await self.entries_of(backend, ticket)}
        assert seen["mine"] == "customer"
        assert seen["ours"] != "customer"

    @pytest.mark.parametrize("text", HOSTILE_TEXTS)
    async def test_texts_arrive_as_they_were_written(
        self, backend: TicketBackend, requester: Requester, text: str
    ) -> None:
        ticket = await self.made(backend, requester)
        await backend.append(ticket, self.entry(1, text), reopen=False)
        await self.settle(backend)
        assert (await self.texts(backend, ticket))[-1] == text

    async def test_the_longest_text_arrives_whole_and_a_longer_one_is_never_cut_silently(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        ticket = await self.made(backend, requester)
        longest = "长" * backend.capabilities.max_entry_chars
        await backend.append(ticket, self.entry(1, longest), reopen=False)
        await self.settle(backend)
        assert (await self.texts(backend, ticket))[-1] == longest
        try:
            await backend.append(ticket, self.entry(2, longest + "啊"), reopen=False)
        except Rejected:
            assert (await self.texts(backend, ticket))[-1] == longest
        else:
            await self.settle(backend)
            assert (await self.texts(backend, ticket))[-1] == longest + "啊"

    # --- status and the rest ---------------------------------------------------------------------

    @pytest.mark.parametrize("status", [Status.WAITING, Status.HOLD, Status.SOLVED, Status.CLOSED])
    async def test_a_customers_message_opens_the_ticket_again(
        self, backend: TicketBackend, requester: Requester, status: Status
    ) -> None:
        ticket = await self.made(backend, requester)
        await backend.change(ticket, Change(status=status))
        assert Status((await backend.read(ticket))["status"]) not in OPEN
        if status is Status.CLOSED and backend.capabilities.closed_is_final:
            with pytest.raises(Gone):
                await backend.append(ticket, self.entry(1), reopen=True)
            return
        await backend.append(ticket, self.entry(1), reopen=True)
        await self.settle(backend)
        assert Status((await backend.read(ticket))["status"]) in OPEN

    async def test_an_entry_that_is_not_to_reopen_leaves_the_status(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        ticket = await self.made(backend, requester)
        await backend.change(ticket, Change(status=Status.SOLVED))
        before = (await backend.read(ticket))["raw_status"]
        await backend.append(ticket, self.entry(1, author="agent"), reopen=False)
        await self.settle(backend)
        assert (await backend.read(ticket))["raw_status"] == before

    async def test_a_change_does_what_it_names_and_twice_is_once(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        ticket = await self.made(backend, requester)
        await backend.change(ticket, Change(add_tags=("alpha", "beta")))
        change = Change(
            status=Status.SOLVED,
            priority=Priority.HIGH,
            add_tags=("gamma",),
            remove_tags=("alpha",),
        )
        first = await backend.change(ticket, change)
        await self.settle(backend)
        seen = dict(await backend.read(ticket))
        assert Status(seen["status"]) is Status.SOLVED
        assert Priority(seen["priority"]) is Priority.HIGH
        assert {"beta", "gamma"} <= set(seen["tags"])
        assert "alpha" not in seen["tags"]
        second = await backend.change(ticket, change)
        assert (second.id, second.version) == (first.id, first.version)
        assert dict(await backend.read(ticket)) == seen

    async def test_a_change_leaves_what_it_does_not_name(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        ticket = await self.made(backend, requester)
        await backend.change(ticket, Change(priority=Priority.LOW, add_tags=("alpha",)))
        before = dict(await backend.read(ticket))
        await backend.change(ticket, Change(status=Status.WAITING))
        after = dict(await backend.read(ticket))
        for name in ("priority", "assignee", "tags"):
            assert after[name] == before[name]

    async def test_an_assignee_is_set_and_taken_away(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        if not self.assignee:
            pytest.skip("this test class names no assignee")
        ticket = await self.made(backend, requester)
        await backend.change(ticket, Change(assignee=self.assignee))
        assert (await backend.read(ticket))["assignee"] == self.assignee
        await backend.change(ticket, Change(assignee=""))
        assert not (await backend.read(ticket))["assignee"]

    async def test_a_ticket_that_is_not_there_is_gone(self, backend: TicketBackend) -> None:
        with pytest.raises(Gone):
            await backend.append(self.unknown_ticket, self.entry(1), reopen=True)
        with pytest.raises(Gone):
            await backend.change(self.unknown_ticket, Change(status=Status.SOLVED))
        with pytest.raises(Gone):
            await backend.read(self.unknown_ticket)

    # --- events ----------------------------------------------------------------------------------

    async def test_polling_starts_at_now(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        ticket = await self.made(backend, requester)
        await self.agent_writes(backend, ticket, "before")
        await self.settle(backend)
        events, cursor = await self.drained(backend, None)
        assert events == []
        assert cursor
        await self.agent_writes(backend, ticket, "after")
        events, _ = await self.drained(backend, cursor)
        assert "after" in _told_texts(events)
        assert "before" not in _told_texts(events)

    async def test_what_agents_write_is_told_as_theirs_and_as_public_or_internal(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        ticket = await self.made(backend, requester)
        cursor = await self.start_of_poll(backend)
        await self.agent_writes(backend, ticket, "it is on its way")
        if backend.capabilities.internal_entries:
            await self.agent_writes(backend, ticket, "it is lost", internal=True)
        events, _ = await self.drained(backend, cursor)
        told = {event.entry.text: event for event in events if event.entry is not None}
        answer = told["it is on its way"]
        assert answer.kind == "entry"
        assert answer.ticket_id == ticket.id
        assert not answer.by_us
        assert answer.entry is not None
        assert answer.entry.author == "agent"
        assert not answer.entry.internal
        if backend.capabilities.internal_entries:
            note = told["it is lost"].entry
            assert note is not None
            assert note.internal

    async def test_our_own_entries_are_never_told_as_an_agents(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        """Echo control: what the hub wrote comes back marked, or not at all."""
        cursor = await self.start_of_poll(backend)
        ticket = await self.made(backend, requester)
        await backend.append(ticket, self.entry(1, "ours", author="agent"), reopen=False)
        await self.agent_writes(backend, ticket, "theirs")
        events, _ = await self.drained(backend, cursor)
        by_us = {event.entry.text: event.by_us for event in events if event.entry is not None}
        assert by_us.pop("theirs") is False
        assert all(by_us.values())

    async def test_a_cursor_resumes_without_loss_or_doubling(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        ticket = await self.made(backend, requester)
        start = await self.start_of_poll(backend)
        await self.agent_writes(backend, ticket, "one")
        await self.agent_writes(backend, ticket, "two")
        first, middle = await self.drained(backend, start)
        await self.agent_writes(backend, ticket, "three")
        second, end = await self.drained(backend, middle)
        nothing, _ = await self.drained(backend, end)
        again, _ = await self.drained(backend, start)
        fresh = [event for event in second if event.dedupe_id not in _ids(first)]
        assert _told_texts(first) == ["one", "two"]
        assert _told_texts(fresh) == ["three"]
        assert _ids(nothing) <= _ids(first) | _ids(second)
        assert _ids(again) == _ids(first) | _ids(second)

    async def test_a_status_that_an_agent_set_is_told(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        ticket = await self.made(backend, requester)
        cursor = await self.start_of_poll(backend)
        await self.agent_sets_status(backend, ticket, Status.SOLVED)
        events, _ = await self.drained(backend, cursor)
        [event] = [event for event in events if event.kind in ("status", "changed")]
        assert event.ticket_id == ticket.id
        assert not event.by_us
        seen = await backend.read(ticket)
        if event.kind == "status":
            assert (event.data["value"], event.data["raw"]) == (
                seen["status"],
                seen["raw_status"],
            )
        assert Status(seen["status"]) is Status.SOLVED

    async def test_nothing_is_lost_while_many_agents_write_and_the_hub_polls(
        self, backend: TicketBackend
    ) -> None:
        tickets = [
            await self.made(backend, self.person(backend, number), number) for number in range(1, 6)
        ]
        cursor = await self.start_of_poll(backend)
        events: dict[str, BackendEvent] = {}

        async def agent(number: int, ticket: TicketRef) -> None:
            for count in range(8):
                await self.agent_writes(backend, ticket, f"{number}/{count}")

        writing = asyncio.gather(*(agent(n, ticket) for n, ticket in enumerate(tickets)))
        finished = False
        while not finished:
            finished = writing.done()  # asked before the poll, so that the last one sees all
            page, cursor = await self.drained(backend, cursor)
            events |= {event.dedupe_id: event for event in page}
            await asyncio.sleep(0)
        await writing
        for number in range(len(tickets)):
            told = [text for text in _told_texts(events.values()) if text.startswith(f"{number}/")]
            assert told == [f"{number}/{count}" for count in range(8)]

    async def test_a_webhook_that_nobody_signed_is_refused(self, backend: TicketBackend) -> None:
        if backend.capabilities.webhooks and not backend.capabilities.webhook_signed:
            pytest.skip("this backend's webhooks are not signed; they are hints to poll")
        with pytest.raises(Refused):
            backend.parse_webhook({"content-type": "application/json"}, b"{}", BEGINNING)

    async def test_what_was_altered_forged_or_is_old_is_refused(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        sent = await self._signed_callbacks(backend, requester)
        headers, body = sent[-1]
        now = backend.context.clock.now()
        assert backend.parse_webhook(headers, body, now)
        changed = body.replace(b"on its way", b"on my  way")
        assert changed != body
        forged: list[tuple[Mapping[str, str], bytes]] = [
            (headers, changed),
            (headers, body + b" "),
            (headers, b""),
            *(({**headers, name: value[:-2] + "AA"}, body) for name, value in headers.items()),
        ]
        outcomes = [_heard(backend, *each, now) for each in forged]
        true = backend.parse_webhook(headers, body, now)
        for (_, payload), told in zip(forged, outcomes, strict=True):
            assert told is None or payload == body, "an altered body was believed"
            assert told in (None, true), "what is signed was changed"
        assert outcomes.count(None) >= 4, "an altered signature was believed"
        later = now + timedelta(days=1)
        assert _heard(backend, headers, body, later) is None, "an old one was believed"
        earlier = now - timedelta(days=1)
        assert _heard(backend, headers, body, earlier) is None, "one of tomorrow was believed"

    async def test_a_webhook_that_is_repeated_or_reordered_has_the_same_ids(
        self, backend: TicketBackend, requester: Requester
    ) -> None:
        sent = await self._signed_callbacks(backend, requester)
        now = backend.context.clock.now()
        told = [[e.dedupe_id for e in backend.parse_webhook(*each, now)] for each in sent]
        again = [[e.dedupe_id for e in backend.parse_webhook(*each, now)] for each in sent[::-1]]
        assert again[::-1] == told
        idents = [ident for idents in told for ident in idents]
        assert len(set(idents)) == len(idents), "two different events have one id"

    async def _signed_callbacks(
        self, backend: TicketBackend, requester: Requester
    ) -> Sequence[tuple[Mapping[str, str], bytes]]:
        can = backend.capabilities
        if not can.webhooks or not can.webhook_signed:
            pytest.skip("this backend's server signs no webhooks")
        ticket = await self.made(backend, requester)
        await self.agent_sets_status(backend, ticket, Status.WAITING)
        await self.agent_writes(backend, ticket, "it is packed")
        await self.agent_writes(backend, ticket, "it is on its way")
        await self.settle(backend)
        sent = await self.callbacks(backend)
        assert len(sent) >= 3
        return sent


def _heard(
    backend: TicketBackend, headers: Mapping[str, str], body: bytes, now: datetime
) -> Sequence[BackendEvent] | None:
    """Return what a webhook says; None when it was refused."""
    try:
        return backend.parse_webhook(headers, body, now)
    except Refused:
        return None


def _polls(backend: TicketBackend) -> bool:
    return type(backend).poll is not TicketBackend.poll


def _told_texts(events: Iterable[BackendEvent]) -> list[str]:
    """Return what agents wrote, in the order in which it was told."""
    return [event.entry.text for event in events if event.entry is not None and not event.by_us]


def _ids(events: Iterable[BackendEvent]) -> set[str]:
    return {event.dedupe_id for event in events}
