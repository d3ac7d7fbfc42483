"""The story of one message: every place it went through, with times and reasons.

It is put together from what is stored anyway: the inbox item, the entry and what changed it,
jobs, dead letters, rows of the feed. Ids of ``in_ ent_ job_ evt_`` all lead to the same story.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from hub.accounts import Switches
from hub.documents import (
    AddressDoc,
    AmendmentDoc,
    Conversation,
    DeadLetter,
    Entry,
    FeedRow,
    InboxItem,
    Job,
    Operation,
)
from hub.ids import SpaceKey, event_id, event_position
from hub.intake import RawRequest
from hub.planning.commands import command_entry_id, operation_id
from hub.preparing import decode_drafts
from hub.store.interface import Store
from normalizer.drafts import Command, Event, Message, Outcome
from normalizer.keys import dedupe_key
from normalizer.parts import plain_text
from normalizer.pipeline import StepContext, normalize

FEED_ROWS = 200
AMENDMENTS = 200
_LAST = datetime.max.replace(tzinfo=UTC)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. ``what`` is the stage; ``details`` is for people."""

    at: datetime | None
    what: str
    id: str
    details: str = ""


async def tell_story(store: Store, key: SpaceKey, ident: str, *, region: str = "CN") -> list[Line]:
    """Return everything known of a message, oldest first; empty when nothing is.

    ``region`` is the hub's ``default_region``: ids follow from normalized addresses.
    """
    items, entries = await _Finder(store, key, region).find(ident)
    story = _Story(store, key)
    for item in items:
        await story.tell_item(item)
    for entry in entries:
        await story.tell_entry(entry)
    if ident.startswith("job_"):
        await story.tell_jobs([ident])
    await story.tell_dead_letters()
    return sorted(story.lines, key=lambda line: line.at or _LAST)


# --- which items and entries an id is about ------------------------------------------------------


class _Finder:
    def __init__(self, store: Store, key: SpaceKey, region: str) -> None:
        self._store = store
        self._key = key
        self._region = region

    async def find(self, ident: str) -> tuple[list[InboxItem], list[Entry]]:
        match ident.partition("_")[0]:
            case "in":
                return await self._from_item(ident)
            case "ent":
                return await self._from_entry(ident)
            case "job":
                return await self._from_job(ident)
            case "evt":
                return await self._from_event(ident)
        return [], []

    async def _from_item(self, ident: str) -> tuple[list[InboxItem], list[Entry]]:
        item = await self._store.table(InboxItem).get(ident)
        if item is None:
            return [], []
        entries = await self._store.table(Entry).get_many(self._entries_of(item))
        return [item], list(entries.values())

    def _entries_of(self, item: InboxItem) -> Iterable[str]:
        """Yield the ids of the entries that the item made or is about."""
        context = StepContext(channel=item.channel, default_region=self._region)
        for draft in decode_drafts(item.drafts):
            match draft:
                case Message() | Event():
                    clean = normalize(draft, context)
                    yield self._key.hashed("ent", dedupe_key(item.channel, item.account, clean))
                case Command():
                    yield command_entry_id(self._key, draft.key)
                case Outcome() if draft.entry is not None:
                    yield draft.entry

    async def _from_entry(self, ident: str) -> tuple[list[InboxItem], list[Entry]]:
        entry = await self._store.table(Entry).get(ident)
        if entry is None:
            return [], []
        item = await self._store.table(InboxItem).get(entry.source) if entry.source else None
        return [item] if item is not None else [], [entry]

    async def _from_job(self, ident: str) -> tuple[list[InboxItem], list[Entry]]:
        job = await self._store.table(Job).get(ident)
        return ([], []) if job is None or job.entry is None else await self._from_entry(job.entry)

    async def _from_event(self, ident: str) -> tuple[list[InboxItem], list[Entry]]:
        try:
            _, position = event_position(ident)
        except ValueError:
            return [], []
        row = await self._store.table(FeedRow).get(position) if position < 2**63 else None
        if row is None:
            return [], []
        if row.ref.startswith("ent_"):
            return await self._from_entry(row.ref)
        return await self._from_item(row.cause) if row.cause else ([], [])


# --- telling -------------------------------------------------------------------------------------


class _Story:
    def __init__(self, store: Store, key: SpaceKey) -> None:
        self._store = store
        self._key = key
        self._told_jobs: set[str] = set()
        self._refs: set[str] = set()
        self.lines: list[Line] = []

    def _tell(self, at: datetime | None, what: str, ident: str, details: str = "") -> None:
        self.lines.append(Line(at=at, what=what, id=ident, details=details))

    async def tell_item(self, item: InboxItem) -> None:
        self._refs.add(item.id)
        self._tell(item.received_at, "received", item.id, f"by {item.door} on {_place(item)}")
        if item.door == "webhook":
            self._tell(item.received_at, "verified", item.id, _request(item))
        if item.failed is not None:
            self._tell(item.received_at, "not parsed", item.id, item.failed)
        elif drafts := decode_drafts(item.drafts):
            kinds = ", ".join(str(draft.__struct_config__.tag) for draft in drafts)
            self._tell(item.received_at, "parsed", item.id, kinds)
            for draft in drafts:
                if isinstance(draft, Command):
                    await self._tell_operation(draft)
        if item.routed_at is not None:
            self._tell(item.routed_at, "routed", item.id)
        else:
            self._tell(None, "waits for the router", item.id)

    async def _tell_operation(self, draft: Command) -> None:
        ident = operation_id(self._key, draft.key)
        done = await self._store.table(Operation).get(ident)
        if done is not None:
            why = f": {done.error}, {done.detail}" if done.error else ""
            self._tell(done.at, f"command {draft.name}", ident, f"{done.state}{why}")

    async def tell_entry(self, entry: Entry) -> None:
        if entry.erased:
            self._tell(entry.received_at, "erased", entry.id, "only the id is kept")
            return
        parts = ", ".join(str(part.__struct_config__.tag) for part in entry.parts)
        said = f"{len(plain_text(entry.parts))} characters"
        self._tell(
            entry.received_at,
            "entry",
            entry.id,
            f"{entry.kind} {entry.direction} at {entry.address}, position {entry.position};"
            f" {parts or entry.event or 'nothing'}, {said}",
        )
        if entry.conversation is not None:
            self._tell(entry.received_at, "conversation", entry.conversation)
        await self._tell_amendments(entry)
        await self._tell_feed(entry)
        await self.tell_jobs(await self._jobs_of(entry))

    async def _tell_amendments(self, entry: Entry) -> None:
        found = await self._store.table(AmendmentDoc).find(
            {"target": entry.id}, sort=[("position", 1)], limit=AMENDMENTS
        )
        for amendment in found:
            words = [str(amendment.data[name]) for name in _TOLD if amendment.data.get(name)]
            self._tell(amendment.at, f"amended: {amendment.kind}", amendment.id, ", ".join(words))

    async def _tell_feed(self, entry: Entry) -> None:
        address = await self._store.table(AddressDoc).get(entry.address)
        if address is None or address.customer is None:
            return
        generation, _ = await self._store.router.position()
        rows = await self._store.table(FeedRow).find(
            {"customer": address.customer, "_id": {"$gte": entry.position}, "ref": entry.id},
            sort=[("_id", 1)],
            limit=FEED_ROWS,
        )
        for row in rows:
            self._tell(row.recorded_at, f"feed: {row.type}", event_id(generation, int(row.id)))

    async def _jobs_of(self, entry: Entry) -> list[str]:
        """Return the ids that the entry's jobs have, whether or not they were made."""
        names = [f"{entry.id}|send"]
        if entry.conversation is not None:
            held = await self._store.table(Conversation).get(entry.conversation)
            for backend in held.backends if held is not None else ():
                after_a_split = f"{entry.id}|ticket|{backend}|{entry.conversation}"
                names += [f"{entry.id}|ticket|{backend}|", after_a_split]
        return [self._key.hashed("job", name) for name in names]

    async def tell_jobs(self, idents: Iterable[str]) -> None:
        wanted = [ident for ident in idents if ident not in self._told_jobs]
        for job in (await self._store.table(Job).get_many(wanted)).values():
            self._told_jobs.add(job.id)
            self._refs.add(job.id)
            what = f"ticket at {job.backend}" if job.backend else job.kind
            done = {name: job.outcome[name] for name in _TOLD if job.outcome.get(name)}
            details = [f"{job.state} after {job.attempts} attempt(s)", job.reason]
            waits = job.live and (job.kind, job.state) == ("send", "ready")
            if waits and await self._is_off(job.account):
                details.append(f"sending is switched off for {job.account}")
            details += [f"{name} {value}" for name, value in done.items()]
            self._tell(job.due_at, what, job.id, ", ".join(each for each in details if each))

    async def _is_off(self, account: str) -> bool:
        """Whether a person stopped what leaves by an account: then no worker looks at the job."""
        switches = Switches(self._store, {})
        await switches.refresh()
        return bool(account) and not switches.outbound_on(*account.split(":", 1))

    async def tell_dead_letters(self) -> None:
        if not self._refs:
            return
        found = await self._store.table(DeadLetter).find(
            {"state": {"$in": ["open", "redriven", "settled"]}, "ref": {"$in": sorted(self._refs)}}
        )
        for letter in found:
            self._tell(
                letter.at,
                "dead letter",
                letter.id,
                f"{letter.stage}, {letter.state}: {letter.reason}",
            )


_TOLD = ("state", "code", "reason", "ticket", "number", "url", "step", "conversation")


def _place(item: InboxItem) -> str:
    return f"{item.channel}:{item.account}" if item.account else item.channel


def _request(item: InboxItem) -> str:
    """Say what the request was, without what it said."""
    if not item.raw:
        return "the request was too large to stand here, or is not kept any more"
    raw = msgspec.msgpack.decode(item.raw, type=RawRequest)
    facts = ", ".join(f"{name} {value}" for name, value in raw.facts.items())
    return f"{raw.method} {raw.path or '/'}, {len(raw.body)} bytes{'; ' if facts else ''}{facts}"
