"""Tickets: from conversations to ticket backends, and from their events back to commands.

contracts/tickets_model.md sections 7 and 8 are the rules: our key goes with every write, what
is in doubt is looked up, entries of one ticket go strictly in order (the lane sees to that).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from msgspec.structs import replace

from hub.backend_contract import TicketBackend
from hub.documents import AddressDoc, Conversation, Customer, Entry, Job, TicketLink, TicketMap
from hub.ids import SpaceKey
from hub.inbox_writer import Overloaded
from hub.jobs import Obsolete, Paused, Result, to_result
from hub.media.ticket_note import files_note
from hub.planning.identity import ERASED
from hub.plugin_host import PluginHost
from hub.retry import MISCONFIGURED_S
from hub.store.interface import Store, StoreError
from normalizer.addresses import parse_address
from normalizer.drafts import Actor, Command
from normalizer.model import Direction, Role
from normalizer.outcomes import (
    Failure,
    Gone,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
from normalizer.parts import plain_text
from normalizer.tickets import (
    BackendEvent,
    Change,
    NewTicket,
    Priority,
    Requester,
    Status,
    TicketEntry,
    TicketRef,
)

log = structlog.get_logger(__name__)

REQUESTER_LOCK_S = 30.0
SUBJECT_CHARS = 80
MAX_REPLACED = 20  # tickets that one outcome names as merged into its own


class Dispatcher:
    """Runs ``ticket`` jobs."""

    def __init__(
        self,
        store: Store,
        backends: Mapping[str, TicketBackend],
        host: PluginHost,
        key: SpaceKey,
        *,
        owner: str,
        timeline_url: str = "",
        files_url: str = "",
    ) -> None:
        self._store = store
        self._backends = backends
        self._host = host
        self._key = key
        self._owner = owner
        self._timeline_url = timeline_url
        self._files_url = files_url
        self._maps = store.table(TicketMap)

    # --- jobs ----------------------------------------------------------------------------------

    async def run(self, job: Job) -> Result | None:
        backend = self._backend(job)
        with _nothing_sent_yet():
            known = await self._maps.get(self._map_id(job))
        if job.task == "change":
            return await self._change(backend, job, known)
        with _nothing_sent_yet():
            entry, wakes = await self._entry(backend, job)
        if "ticket" in job.args and job.task == "append":
            return await self._named(backend, job, known, entry)
        if known is None:
            return await self._create(backend, job, entry)
        return await self._append(backend, job, known, entry, wakes)

    async def look_up(self, job: Job) -> Result | None:
        """Adopt what an attempt in doubt left at the backend.

        Where the backend cannot be asked, an entry steps aside as unknown; a ticket in doubt
        waits for a person (hub/settling.py), because what comes after it would make another.
        """
        try:
            return await self._look_up(job)
        except RateLimited as limited:
            raise Paused(limited.reason, limited.retry_after) from limited
        except Misconfigured as error:
            raise Paused(error.reason, MISCONFIGURED_S) from error

    async def _look_up(self, job: Job) -> Result | None:
        backend = self._backend(job)
        if job.task == "change":
            return None  # a change reads before it writes: doing it again is safe
        known = await self._maps.get(self._map_id(job))
        entry, _ = await self._entry(backend, job)
        if known is not None:
            try:
                found = await backend.find_entry(_ref(known), entry.key)
            except Gone as gone:
                if gone.successor is None:  # a follow-up ticket may be what is in doubt
                    _, requester = await self._people(job)
                    await backend.find_ticket(_follow_up(known), requester)
                return None  # the next attempt goes on with what came after it, and looks there
            except Unsupported as error:
                raise Unreachable(f"nobody can say whether it is there: {error.reason}") from error
            return None if found is None else await self._linked(backend, known)
        conversation, requester = await self._people(job)
        ticket = await backend.find_ticket(conversation.id, requester)
        if ticket is None:
            return None
        requester_id = await self._ensure_requester(backend, requester)
        saved = await self._adopt(backend, job, conversation.id, ticket, requester_id, entry)
        return await self._linked(backend, saved)

    def settle_s(self, job: Job) -> float:
        backend = self._backends.get(job.backend)
        if backend is None or job.task == "change":
            return 0.0
        return backend.capabilities.settle_seconds

    def failed(self, job: Job, failure: Failure) -> Result | None:
        return None

    def holds_lane(self, job: Job) -> bool:
        return job.task == "append"  # a create in doubt may be this one: nothing may pass it

    async def address_of(self, job: Job) -> tuple[str, str]:
        return "hub", job.backend

    # --- the backend's calls -------------------------------------------------------------------

    async def _create(self, backend: TicketBackend, job: Job, entry: TicketEntry) -> Result | None:
        if job.task != "append":
            return None  # there is no ticket that a failed answer could reopen
        with _nothing_sent_yet():
            conversation, requester = await self._people(job)
        if job.attempts > 1:
            with suppress(Unsupported):  # nothing is in doubt here: that is settled before
                adopted = await self._look_up(job)
                if adopted is not None:
                    return adopted
        requester_id = await self._ensure_requester(backend, requester)
        ticket = await backend.create_ticket(
            _new_ticket(conversation.id, conversation, requester, entry), requester_id
        )
        saved = await self._remember(job, conversation.id, ticket, requester_id)
        return await self._written(backend, saved)

    async def _append(
        self, backend: TicketBackend, job: Job, known: TicketMap, entry: TicketEntry, wakes: bool
    ) -> Result | None:
        try:
            again = "round" in job.args  # a person had it done again: it may be there
            if not again or not await _is_there(backend, _ref(known), entry.key):
                await backend.append(_ref(known), entry, reopen=wakes)
        except Gone as gone:
            moved = await self._succeed(backend, job, known, gone, entry)
            return await self._written(backend, moved)
        return await self._written(backend, known) if wakes else None

    async def _succeed(
        self, backend: TicketBackend, job: Job, known: TicketMap, gone: Gone, entry: TicketEntry
    ) -> TicketMap:
        """The ticket is gone: go on with its successor, or open a follow-up ticket."""
        if gone.successor is not None:
            moved = _moved(known, gone.successor)
            await self._maps.put([moved])  # before the call: what is in doubt is looked up there
            if not await _is_there(backend, _ref(moved), entry.key):
                await backend.append(_ref(moved), entry, reopen=True)
            return moved
        conversation, requester = await self._people(job)
        followups = known.followups + 1
        key = _follow_up(known)
        ticket = None
        with suppress(Unsupported):  # nothing is in doubt here: that is settled before
            ticket = await backend.find_ticket(key, requester)
        if ticket is not None:
            return await self._adopt(
                backend, job, key, ticket, known.requester, entry, followups=followups
            )
        ticket = await backend.create_ticket(
            _new_ticket(key, conversation, requester, entry), known.requester
        )
        return await self._remember(job, key, ticket, known.requester, followups)

    async def _adopt(
        self,
        backend: TicketBackend,
        job: Job,
        key: str,
        ticket: TicketRef,
        requester: str,
        entry: TicketEntry,
        *,
        followups: int = 0,
    ) -> TicketMap:
        """Go on with a ticket that an earlier attempt made, and see that the entry is on it."""
        saved = await self._remember(job, key, ticket, requester, followups)
        if await backend.find_entry(ticket, entry.key) is None:
            await backend.append(ticket, entry, reopen=False)
        return saved

    async def _named(
        self, backend: TicketBackend, job: Job, known: TicketMap | None, entry: TicketEntry
    ) -> Result:
        """A person said which ticket an attempt in doubt has made: go on with that one."""
        ticket = TicketRef(id=job.args["ticket"])
        try:
            there = await backend.find_entry(ticket, entry.key) is not None
        except Unsupported:
            there = True  # it was made with its first entry, and nobody can look
        except Gone as gone:
            raise Rejected(f"the ticket {ticket.id}, which a person named, is gone") from gone
        conversation, requester = await self._people(job)
        if known is None:
            requester_id = await self._ensure_requester(backend, requester)
            saved = await self._remember(job, conversation.id, ticket, requester_id)
        elif known.ticket == ticket.id:
            saved = known
        else:
            key, followups = _follow_up(known), known.followups + 1
            saved = await self._remember(job, key, ticket, known.requester, followups)
        if not there:
            await backend.append(ticket, entry, reopen=False)
        return await self._written(backend, saved)

    async def _change(
        self, backend: TicketBackend, job: Job, known: TicketMap | None
    ) -> Result | None:
        if known is None:  # the lane is in order: making it was given up before
            raise Rejected("there is no ticket to change: it could not be made")
        wanted = job.args
        change = Change(
            status=Status(wanted["status"]) if "status" in wanted else None,
            priority=Priority(wanted["priority"]) if "priority" in wanted else None,
            assignee=wanted.get("assignee"),
            add_tags=tuple(wanted.get("add_tags", ())),
            remove_tags=tuple(wanted.get("remove_tags", ())),
        )
        try:
            ref = await backend.change(_ref(known), change)
        except Gone:
            return None
        await self._maps.put([replace(known, version=ref.version)])
        return await self._linked(backend, known)

    async def _ensure_requester(self, backend: TicketBackend, requester: Requester) -> str:
        """One at a time for each backend and customer, so that no backend makes twins."""
        lane = f"requester:{backend.name}:{requester.hub_id}"
        leases = await self._store.lanes.claim([lane], self._owner, REQUESTER_LOCK_S)
        if not leases:
            raise Temporary("another ticket of this customer is being made")
        try:
            return await backend.ensure_requester(requester)
        finally:
            await self._store.lanes.release(leases[0])

    # --- what it is made of --------------------------------------------------------------------

    def _backend(self, job: Job) -> TicketBackend:
        backend = self._backends.get(job.backend)
        if backend is None:
            raise Paused(f"the backend {job.backend} is not configured here", 60.0)
        return backend

    def _map_id(self, job: Job) -> str:
        return self._key.hashed("tmp", f"{job.backend}|{job.conversation}")

    async def _remember(
        self, job: Job, key: str, ticket: TicketRef, requester: str, followups: int = 0
    ) -> TicketMap:
        saved = TicketMap(
            id=self._map_id(job),
            backend=job.backend,
            conversation=job.conversation or "",
            key=key,
            requester=requester,
            ticket=ticket.id,
            number=ticket.number,
            url=ticket.url,
            version=ticket.version,
            followups=followups,
        )
        await self._maps.put([saved])
        return saved

    async def _written(self, backend: TicketBackend, known: TicketMap) -> Result:
        """Return what the ticket is like now. The write behind us must not be repeated."""
        try:
            return await self._linked(backend, known)
        except Failure as failure:
            raise OutcomeUnknown(
                f"it was written, but not read back: {failure.reason}"
            ) from failure

    async def _linked(self, backend: TicketBackend, known: TicketMap) -> Result:
        now = await backend.read(_ref(known))
        if not now.get("status"):  # it cannot be asked: what was told last still holds
            now = await self._told_last(known)
        link = TicketLink(
            backend=known.backend,
            id=known.ticket,
            number=known.number,
            url=known.url,
            status=str(now.get("status", "")),
            raw_status=str(now.get("raw_status", "")),
        )
        merged = {"replaces": list(known.replaces)} if known.replaces else {}
        return {"ticket": to_result(link), **merged}

    async def _told_last(self, known: TicketMap) -> Mapping[str, str]:
        conversation = await self._store.table(Conversation).get(known.conversation)
        for link in conversation.tickets if conversation is not None else ():
            if (link.backend, link.id) == (known.backend, known.ticket):
                return {"status": link.status, "raw_status": link.raw_status}
        return {}

    async def _people(self, job: Job) -> tuple[Conversation, Requester]:
        conversation = await self._store.table(Conversation).get(job.conversation)
        if conversation is None:
            raise Obsolete("the conversation was erased")
        customers = self._store.table(Customer)
        customer = await customers.get(conversation.customer)
        if customer is None or customer.erased:
            raise Obsolete("the customer was erased")
        addresses = await self._store.table(AddressDoc).get_many(customer.addresses)
        return conversation, _requester(customer, list(addresses.values()), self._timeline_url)

    async def _entry(self, backend: TicketBackend, job: Job) -> tuple[TicketEntry, bool]:
        """Return what is written on the ticket, and whether it wakes the ticket up."""
        if job.task == "refused_answer":
            conversation = await self._store.table(Conversation).get(job.conversation)
            if conversation is None or conversation.closed_by == ERASED:
                raise Obsolete("the customer was erased")
            note = TicketEntry(
                key=job.id,
                author="system",
                channel="hub",
                occurred_at=job.due_at,
                internal=True,
                text=f"This answer was not sent: {job.args['reason']}\n\n{job.args['text']}",
            )
            return _cut(note, backend.capabilities.max_entry_chars), True
        entry = await self._store.table(Entry).get(job.entry)
        if entry is None or entry.erased:
            raise Obsolete("the entry was erased")
        if job.task == "media":
            told = files_note(entry, job.id, job.due_at, self._files_url)
            return _cut(told, backend.capabilities.max_entry_chars), False
        made = _ticket_entry(entry)
        if job.task == "failed_answer":
            made = replace(
                made,
                key=job.id,  # not the entry's: it may fail again after a redrive
                author="system",
                internal=True,
                text=f"This answer is {job.args.get('state')}: {job.args.get('reason')}\n\n"
                f"{made.text}",
            )
        made = _cut(made, backend.capabilities.max_entry_chars)
        wakes = job.task == "failed_answer" or (made.author == "customer" and not entry.automatic)
        for answer in await self._host.ask("render_for_ticket", entry=made, backend=backend.name):
            if isinstance(answer.value, TicketEntry):
                return answer.value, wakes
        return made, wakes


@contextmanager
def _nothing_sent_yet() -> Iterator[None]:
    """Around what is read before the first call: the database's trouble leaves no doubt."""
    try:
        yield
    except StoreError as error:
        raise Temporary(str(error)) from error


def _new_ticket(
    key: str, conversation: Conversation, requester: Requester, entry: TicketEntry
) -> NewTicket:
    return NewTicket(
        key=key,
        requester=requester,
        subject=_subject(conversation, entry),
        first=entry,
        queue=conversation.queue,
        priority=Priority(conversation.priority),
        tags=conversation.tags,
    )


def _cut(entry: TicketEntry, limit: int) -> TicketEntry:
    return entry if len(entry.text) <= limit else replace(entry, text=entry.text[: limit - 1] + "…")


async def _is_there(backend: TicketBackend, ticket: TicketRef, key: str) -> bool:
    """Say whether an entry is there; where nobody can say, that it is not."""
    try:
        return await backend.find_entry(ticket, key) is not None
    except Unsupported:
        return False


def _follow_up(known: TicketMap) -> str:
    """Return the key of the ticket that comes after this one."""
    return f"{known.conversation}.{known.followups + 2}"


def _moved(known: TicketMap, successor: str) -> TicketMap:
    """Return the map after its ticket was merged into another one."""
    replaces = [each for each in (*known.replaces, known.ticket) if each != successor]
    return replace(
        known,
        ticket=successor,
        number="",
        url="",
        version="",
        replaces=tuple(replaces[-MAX_REPLACED:]),
    )


def _ref(known: TicketMap) -> TicketRef:
    return TicketRef(id=known.ticket, number=known.number, url=known.url, version=known.version)


def _subject(conversation: Conversation, entry: TicketEntry) -> str:
    text = conversation.subject or " ".join(entry.text.split()) or f"{entry.channel} message"
    return text if len(text) <= SUBJECT_CHARS else text[: SUBJECT_CHARS - 1] + "…"


def _ticket_entry(entry: Entry) -> TicketEntry:
    internal = entry.direction is Direction.INTERNAL
    author = "customer" if entry.direction is Direction.IN else "agent"
    if entry.sender.role in (Role.SYSTEM, Role.BOT):
        author = "system"
    return TicketEntry(
        key=entry.id,
        author=author,
        channel=entry.channel,
        occurred_at=entry.at,
        text=plain_text(entry.parts),
        internal=internal,
        author_name=entry.sender.name,
    )


def _requester(customer: Customer, addresses: list[AddressDoc], timeline_url: str) -> Requester:
    """Only addresses the channel itself proved are given away; profiles are not."""
    emails, phones, names = [], [], []
    for doc in addresses:
        if doc.private or not doc.address:
            continue
        address = parse_address(doc.address)
        if address.scheme == "mail":
            emails.append(address.id)
        elif address.scheme == "tel":
            phones.append(address.id)
        if doc.profile is not None and doc.profile.name:
            names.append(doc.profile.name)
    name = customer.name or (names[0] if names else f"Customer {customer.id[-6:]}")
    return Requester(
        hub_id=customer.id,
        display_name=name,
        emails=tuple(emails),
        phones=tuple(phones),
        timeline_url=f"{timeline_url}{customer.id}" if timeline_url else "",
    )


# --- what backends say ---------------------------------------------------------------------------


async def commands_of(store: Store, backend: str, event: BackendEvent) -> Command | None:
    """Turn a backend's event into the command it stands for; None when it concerns nobody.

    Raises Overloaded while a ticket of this backend is being made, because it may be this one.
    """
    known = await store.table(TicketMap).find({"backend": backend, "ticket": event.ticket_id})
    if not known:
        making = await store.table(Job).count(
            {
                "kind": "ticket",
                "backend": backend,
                "live": True,
                "state": {"$in": ["sending", "settling"]},
            },
            limit=1,
        )
        if making:
            # It may be the ticket that is being made right now: the event has to come again.
            raise Overloaded(f"the ticket {event.ticket_id} may not be known yet")
        log.info("ticket_not_ours", backend=backend, ticket=event.ticket_id, kind=event.kind)
        return None
    name, args = _command(backend, event, _own_of(known).conversation)
    if not name:
        return None
    return Command(
        key=f"{backend}|{event.dedupe_id}",
        at=event.at,
        name=name,
        actor=Actor(kind="backend", id=backend),
        args=args,
    )


def _own_of(known: Sequence[TicketMap]) -> TicketMap:
    """Return whose ticket it is, of all that were merged into it: the one it was made for.

    Whoever answers in it reads that customer's name above it. Of several strangers that were
    merged into a ticket that the hub did not make, the newest conversation.
    """
    return max(known, key=lambda each: (not each.replaces, each.conversation))


def _command(backend: str, event: BackendEvent, conversation: str) -> tuple[str, dict[str, Any]]:
    if event.kind == "entry" and event.entry is not None:
        if event.by_us:
            return "", {}
        said = {
            "conversation": conversation,
            "backend": backend,
            "agent": str(event.data.get("agent", "")),
            "agent_name": event.entry.author_name,
        }
        # Only what an agent wrote for the customer goes out, and only if nobody else sent it.
        if event.entry.internal or event.entry.author != "agent":
            return "note", {**said, "text": event.entry.text}
        if event.already_sent:
            return "sent_elsewhere", {**said, "text": event.entry.text}
        return "reply", {**said, "parts": [{"type": "text", "text": event.entry.text}]}
    if event.kind == "merged" and not event.data.get("value"):
        return "", {}  # into what is seen when the next entry is written
    if event.kind in ("status", "assignee", "priority", "tags", "merged") and not event.by_us:
        return "ticket_event", {
            "conversation": conversation,
            "backend": backend,
            "ticket": event.ticket_id,
            "kind": event.kind,
            "value": str(event.data.get("value", "")),
            "raw": str(event.data.get("raw", "")),
            "tags": list(event.data.get("tags", ())),
        }
    return "", {}


async def follow(store: Store, backend: str, event: BackendEvent) -> None:
    """Let a merged ticket's successor stand for its conversation, once the merge is durable."""
    successor = str(event.data.get("value", "")) if event.kind == "merged" else ""
    if not successor:
        return
    maps = store.table(TicketMap)
    for known in await maps.find({"backend": backend, "ticket": event.ticket_id}):
        moved = _moved(known, successor)
        await maps.swap(moved, {"ticket": known.ticket})
