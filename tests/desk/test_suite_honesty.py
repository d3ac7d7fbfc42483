"""The contract suite finds broken backends: each one here breaks one rule, and a test says so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from hub.testing.backend_contract import HOSTILE_TEXTS
from hub.testing.services import FakeServices
from normalizer.outcomes import Failure
from normalizer.tickets import (
    BackendCapabilities,
    Change,
    Lookup,
    NewTicket,
    Page,
    Requester,
    Status,
    TicketEntry,
    TicketRef,
)
from plugins import desk as desk_plugin
from plugins.desk.backend import DeskBackend
from plugins.desk.settings import DeskSettings
from tests.desk.support import Http
from tests.desk.test_contract import TestDesk as DeskContract

_fresh = itertools.count()


class LosesTicketKeys(DeskBackend):
    async def create_ticket(self, new: NewTicket, requester: str) -> TicketRef:
        return await super().create_ticket(replace(new, key=f"lost{next(_fresh)}"), requester)


class LosesEntryKeys(DeskBackend):
    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        lost = replace(entry, key=f"lost{next(_fresh)}")
        return await super().append(ticket, lost, reopen=reopen)


class ClaimsTooMuch(DeskBackend):
    """Says that it takes a requester without e-mail, and does not."""

    async def ensure_requester(self, requester: Requester) -> str:
        if not requester.emails:
            raise Failure("no e-mail address")
        return await super().ensure_requester(requester)


class OneRequesterForAll(DeskBackend):
    async def ensure_requester(self, requester: Requester) -> str:
        return "everybody"


class NeverReopens(DeskBackend):
    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        return await super().append(ticket, entry, reopen=False)


class AlwaysReopens(DeskBackend):
    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        return await super().append(ticket, entry, reopen=True)


class PublishesNotes(DeskBackend):
    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        return await super().append(ticket, replace(entry, internal=False), reopen=reopen)


class CutsTexts(DeskBackend):
    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        cut = replace(entry, text=entry.text[:50_000])
        return await super().append(ticket, cut, reopen=reopen)


class CleansTexts(DeskBackend):
    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        cleaned = replace(entry, text=entry.text.encode("ascii", "ignore").decode())
        return await super().append(ticket, cleaned, reopen=reopen)


class Reorders(DeskBackend):
    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        held = self.__dict__.pop("held", None)
        if held is None:
            self.__dict__["held"] = entry
            return self.desk.ids.entry(ticket.id, entry.key)
        ident = await super().append(ticket, entry, reopen=reopen)
        await super().append(ticket, held, reopen=reopen)
        return ident


class ChangesAlways(DeskBackend):
    async def change(self, ticket: TicketRef, change: Change) -> TicketRef:
        ref = await super().change(ticket, change)
        return replace(ref, version=str(next(_fresh)))


class ForgetsTags(DeskBackend):
    async def change(self, ticket: TicketRef, change: Change) -> TicketRef:
        return await super().change(ticket, replace(change, add_tags=(), remove_tags=()))


class MakesUpTickets(DeskBackend):
    async def read(self, ticket: TicketRef) -> Any:
        try:
            return await super().read(ticket)
        except Failure:
            return {"status": "new", "raw_status": "new"}


class PollsFromTheBeginning(DeskBackend):
    async def poll(self, cursor: str | None) -> Page:
        return await super().poll(cursor or "0")


class LosesEvents(DeskBackend):
    async def poll(self, cursor: str | None) -> Page:
        page = await super().poll(cursor)
        return replace(page, events=page.events[1:])


class DoublesEvents(DeskBackend):
    """The same thing comes under another id each time."""

    async def poll(self, cursor: str | None) -> Page:
        page = await super().poll(cursor)
        again = [replace(event, dedupe_id=f"{next(_fresh)}") for event in page.events]
        return replace(page, events=[*page.events, *again])


class TellsEverythingAsOurs(DeskBackend):
    async def poll(self, cursor: str | None) -> Page:
        page = await super().poll(cursor)
        return replace(page, events=[replace(event, by_us=True) for event in page.events])


class EchoesAsAgents(DeskBackend):
    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        added = await self.desk.add(ticket.id, self.desk.new_entry(ticket.id, entry))
        return added.entry.id


class ReportsProblems(DeskBackend):
    async def check(self) -> Sequence[str]:
        return ["the token is wrong"]


class LagsUndeclared(DeskBackend):
    capabilities: ClassVar[BackendCapabilities] = replace(
        DeskBackend.capabilities, ticket_lookup=Lookup.EVENTUAL
    )


BROKEN = [
    (LosesTicketKeys, "test_a_ticket_is_found_by_its_key_and_only_by_it"),
    (LosesTicketKeys, "test_the_same_key_twice_is_one_ticket_or_the_lowest_of_them"),
    (LosesTicketKeys, "test_the_same_key_from_many_at_once_is_one_ticket"),
    (LosesTicketKeys, "test_a_ticket_whose_answer_was_lost_is_found_with_its_first_entry"),
    (LosesEntryKeys, "test_an_entry_is_found_by_its_key_and_only_on_its_ticket"),
    (LosesEntryKeys, "test_the_same_entry_twice_is_one_entry_where_that_is_enforced"),
    (LosesEntryKeys, "test_an_entry_whose_answer_was_lost_is_found_and_there_once"),
    (ClaimsTooMuch, "test_a_requester_without_an_email_address_is_taken_or_refused_as_declared"),
    (OneRequesterForAll, "test_the_same_requester_is_not_made_twice"),
    (AlwaysReopens, "test_an_entry_that_is_not_to_reopen_leaves_the_status"),
    (PublishesNotes, "test_what_is_internal_is_shown_as_internal_and_the_rest_as_public"),
    (CutsTexts, "test_the_longest_text_arrives_whole_and_a_longer_one_is_never_cut_silently"),
    (Reorders, "test_entries_are_shown_in_order_with_their_text"),
    (Reorders, "test_many_requesters_messages_side_by_side_keep_their_order"),
    (ChangesAlways, "test_a_change_does_what_it_names_and_twice_is_once"),
    (ForgetsTags, "test_a_change_does_what_it_names_and_twice_is_once"),
    (MakesUpTickets, "test_a_ticket_that_is_not_there_is_gone"),
    (PollsFromTheBeginning, "test_polling_starts_at_now"),
    (LosesEvents, "test_a_cursor_resumes_without_loss_or_doubling"),
    (LosesEvents, "test_nothing_is_lost_while_many_agents_write_and_the_hub_polls"),
    (DoublesEvents, "test_a_cursor_resumes_without_loss_or_doubling"),
    (TellsEverythingAsOurs, "test_what_agents_write_is_told_as_theirs_and_as_public_or_internal"),
    (EchoesAsAgents, "test_our_own_entries_are_never_told_as_an_agents"),
    (ReportsProblems, "test_a_backend_that_is_set_up_rightly_reports_no_problem"),
    (LagsUndeclared, "test_a_settling_time_is_declared_where_look_ups_lag"),
]


@pytest.fixture
def store() -> None:
    """One store is enough here: it is the suite that is tested."""


@pytest.fixture
async def services() -> FakeServices:
    services = FakeServices()
    await desk_plugin.plugin_started(services.context("desk"))
    return services


async def fails(suite: DeskContract, test: str, backend: DeskBackend, **arguments: Any) -> bool:
    """Say whether a test of the suite fails for a backend."""
    call = getattr(suite, test)
    if "requester" in call.__annotations__:
        arguments["requester"] = suite.person(backend, 1)
    try:
        async with asyncio.timeout(20):
            await call(backend=backend, **arguments)
    except (AssertionError, ValueError, Failure, pytest.fail.Exception):
        return True
    return False


@pytest.mark.parametrize(
    ("broken", "test"), BROKEN, ids=lambda value: getattr(value, "__name__", value)
)
async def test_a_broken_backend_fails_the_test_of_its_rule(
    broken: type[DeskBackend], test: str, services: FakeServices, http: Http
) -> None:
    suite = DeskContract()
    suite.http = http
    backend = broken("counter", DeskSettings(), services.context("desk"))
    assert await fails(suite, test, backend)
    sound = DeskBackend("sound", DeskSettings(), services.context("desk"))
    assert not await fails(suite, test, sound)


async def test_a_backend_that_never_reopens_or_cleans_texts_fails(
    services: FakeServices, http: Http
) -> None:
    """The parametrised tests find their breaches as well."""
    suite = DeskContract()
    suite.http = http
    cases: list[tuple[type[DeskBackend], str, dict[str, Any]]] = [
        (
            NeverReopens,
            "test_a_customers_message_opens_the_ticket_again",
            {"status": Status.SOLVED},
        ),
        (CleansTexts, "test_texts_arrive_as_they_were_written", {"text": HOSTILE_TEXTS[0]}),
    ]
    for number, (broken, test, arguments) in enumerate(cases):
        backend = broken(f"broken{number}", DeskSettings(), services.context("desk"))
        assert await fails(suite, test, backend, **arguments)
        sound = DeskBackend(f"sound{number}", DeskSettings(), services.context("desk"))
        assert not await fails(suite, test, sound, **arguments)
