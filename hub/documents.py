"""Every document that is kept, one struct a collection, in the order of the data flow.

Structs are immutable; a changed document is a new one. ``sealed`` names the fields that are
encrypted under ``encrypt = "addresses"``. ``indexes`` is what the store makes at start; the
queries that use them are in the modules that ask. All times are UTC, in milliseconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import msgspec

from normalizer.drafts import DeliveryState, Evidence, Profile
from normalizer.model import Direction, Role, Trust
from normalizer.parts import AnyPart


class Index(msgspec.Struct, frozen=True):
    """One index: (field, 1 or -1) pairs, optionally unique, partial or expiring."""

    fields: tuple[tuple[str, int], ...]
    unique: bool = False
    only_where: dict[str, Any] | None = None
    expires: bool = False  # a TTL index: the field holds the moment of death


class Doc(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,  # the router keeps tens of thousands, none of which can be part of a cycle
    rename={"id": "_id"},
):
    """Base of all documents. The store writes ``schema`` beside the fields as ``v``."""

    collection: ClassVar[str] = ""
    schema: ClassVar[int] = 1
    indexes: ClassVar[tuple[Index, ...]] = ()
    sealed: ClassVar[tuple[str, ...]] = ()

    id: str


# --- coming in -------------------------------------------------------------------------------


class InboxItem(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """Something that arrived, as it was acknowledged. ``drafts`` and ``raw`` are JSON bytes."""

    collection: ClassVar[str] = "inbox"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("open", 1), ("_id", 1)), only_where={"open": True}),
        Index((("channel", 1), ("account", 1)), only_where={"held": True}),
        Index((("imported", 1),), only_where={"imported": {"$exists": True}}),
    )  # ids sort by time: old items are trimmed by them (hub/housekeeping.py), without an index
    sealed: ClassVar[tuple[str, ...]] = ("drafts", "raw", "failed")

    channel: str
    account: str
    received_at: datetime
    door: str  # webhook, socket, poll, api, backend, worker, timer, import
    drafts: bytes = b""
    raw: bytes = b""
    raw_blob: str | None = None  # where a raw request over 1 MiB is kept
    addresses: tuple[str, ...] = ()  # adr_ of everybody it names, so that erasing finds it
    operation: str | None = None  # who waits for the result
    failed: str | None = None  # why parse failed; such an item becomes a dead letter
    open: bool = False  # not routed yet
    held: bool = False  # the account is switched to store-only: not routed until it is on again
    imported: str = ""  # imp_ of the import it came by: it is history
    routed_at: datetime | None = None
    expire_at: datetime | None = None


# --- the timeline ----------------------------------------------------------------------------


class Fold(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which amendment won an aspect of an entry: terminal first, then seq, then time, then id."""

    rank: int
    seq: int
    at: datetime
    position: int


class EntrySender(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    role: Role = Role.CUSTOMER
    name: str = ""
    address: str | None = None  # adr_ when somebody other than the address speaks
    ref: str = ""


class Delivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an entry of ours is, and why."""

    state: DeliveryState
    code: str = ""
    reason: str = ""
    at: datetime | None = None


class Entry(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One line of a timeline. It belongs to an address and never moves."""

    collection: ClassVar[str] = "entries"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("address", 1), ("at", -1), ("position", -1))),
        Index((("thread", 1), ("seq", 1)), only_where={"seq": {"$gt": 0}}),
        Index((("imported", 1),), only_where={"imported": {"$exists": True}}),
    )
    sealed: ClassVar[tuple[str, ...]] = ("sender", "echo")

    address: str
    position: int
    at: datetime
    received_at: datetime
    channel: str
    account: str
    kind: str = "message"  # message, event, note
    direction: Direction = Direction.IN
    sender: EntrySender = EntrySender()
    parts: tuple[AnyPart, ...] = ()
    subject: str = ""
    event: str = ""
    data: dict[str, Any] = {}
    thread: str | None = None
    seq: int = 0  # place in the thread where the channel counts, else 0
    conversation: str | None = None
    reply_to: str | None = None
    automatic: bool = False
    public: bool = False
    historical: bool = False
    imported: str = ""  # imp_ of the import that can take it back; "" once it is live
    vendor_at: datetime | None = None  # the vendor's clock, where it was out of range
    source: str = ""  # in_ of the item it came from
    client_id: str = ""  # the sender's own id, echoed to its other tabs
    echo: bytes = b""  # a draft that may be this answer's echo, until its outcome tells
    # Folded state: what amendments made of it.
    delivery: Delivery | None = None
    seen: Delivery | None = None  # what our side did with an incoming message (delivered, read)
    rev: int = 0
    recalled: bool = False
    folds: dict[str, Fold] = {}
    erased: bool = False


class AmendmentDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One later change of an entry, kept for ever beside it. ``target`` may not be there yet."""

    collection: ClassVar[str] = "amendments"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("target", 1), ("position", 1))),
        Index((("target", 1),), only_where={"waiting": True}),
    )
    sealed: ClassVar[tuple[str, ...]] = ("by",)

    target: str  # ent_..., or the alias that will lead to it
    kind: str
    position: int
    at: datetime
    seq: int = 0
    data: dict[str, Any] = {}
    waiting: bool = False
    by: EntrySender | None = None


class Alias(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """From a vendor's id (hashed with channel and account) to the entry."""

    collection: ClassVar[str] = "aliases"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("imported", 1),), only_where={"imported": {"$exists": True}}),
    )

    entry: str
    round: int = 0  # the redrive that the vendor's id is from, see hub/planning/folding.py
    imported: str = ""  # imp_ of the import that made it


# --- who ---------------------------------------------------------------------------------------


class AddressDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A place where somebody is reached. Never deleted; erasing takes the readable text away."""

    collection: ClassVar[str] = "addresses"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("customer", 1),)),
        Index((("imports", 1),), only_where={"imports": {"$exists": True}}),
    )
    sealed: ClassVar[tuple[str, ...]] = ("address", "profile")

    scheme: str
    address: str = ""  # canonical text
    channel: str = ""  # the account through which it was seen last, where a reply goes
    account: str = ""
    home: str | None = None  # the customer it was born with
    customer: str | None = None  # the customer it belongs to now: follows from the links
    profile: Profile | None = None
    thread: str | None = None  # the default thread
    created_at: datetime | None = None
    private: bool = False  # holds a customer's notes; nobody is reached here
    erased: bool = False
    erased_up_to: datetime | None = None  # what was received before is erased too
    # What was sent here and came back for good, and since when nothing is sent here any more:
    # hub/planning/returns.py.
    returned: int = 0
    gone_at: datetime | None = None
    # When windows were opened and closed last; only where a channel declares some, see
    # hub/planning/windows.py for the names.
    opened: dict[str, datetime] = {}
    closed: dict[str, datetime] = {}
    profile_asked_at: datetime | None = None  # when the vendor was asked who this is
    imports: tuple[str, ...] = ()  # imp_ of the imports that alone know it; () once it is live


class Thread(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A named thread of an address (a mail thread, a second chat). The default one has no row.

    Several rows may lead to one thread: its names, and its labels, which keep no ``key``.
    """

    collection: ClassVar[str] = "threads"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("address", 1),)),
        Index((("imports", 1),), only_where={"imports": {"$exists": True}}),
    )

    address: str
    thread: str  # thr_...
    key: str = ""
    imports: tuple[str, ...] = ()  # imp_ of the imports that alone know it; () once it is live
    seen_at: datetime | None = None  # of a label: its last use, within a day
    borrowed: bool = False  # an import's way into a thread: goes with it, whoever else is in there


class Customer(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A set of addresses. Everything but the profile follows from addresses and links."""

    collection: ClassVar[str] = "customers"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("seen_at", -1), ("_id", -1))),
        Index((("alias_of", 1),)),
        Index((("imports", 1),), only_where={"imports": {"$exists": True}}),
    )
    sealed: ClassVar[tuple[str, ...]] = ("name", "profile")

    name: str = ""
    profile: Profile | None = None
    addresses: tuple[str, ...] = ()
    private: str = ""  # adr_ of its private address
    alias_of: str | None = None
    open: tuple[str, ...] = ()  # open conversations, newest last, at most 50
    last_closed: tuple[str, ...] = ()  # conversations that may reopen, newest last
    created_at: datetime
    seen_at: datetime  # last activity, at a granularity of one hour
    erased: bool = False
    imports: tuple[str, ...] = ()  # imp_ of the imports that alone know it; () once it is live


class Link(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A decision that changed who is who: an address linked, or a customer merged.

    Decisions are replayed in ``order``; undoing one takes it out of the replay, so undo works
    in any order and is exact.
    """

    collection: ClassVar[str] = "links"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("members", 1),)), Index((("joins", 1),)))

    kind: str  # link or merge
    subject: str  # the address that is linked, or the customer that is merged away
    into: str  # the customer that gets it
    former: str | None = None  # the customer that had it
    members: tuple[str, ...]  # all ids it touches
    # By which a component finds it: the members, and the customer that the address was born
    # with. Undoing what came before this decision may make that one who had the address.
    joins: tuple[str, ...]
    order: int
    trust: Trust
    evidence: Evidence
    actor: str
    at: datetime
    undone_at: datetime | None = None
    undone_by: str = ""


class IdentityCode(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A one-time code that was made for a customer. The id is the HMAC of the code."""

    collection: ClassVar[str] = "identity_codes"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("customer", 1), ("issued_at", -1))),
        Index((("expire_at", 1),), expires=True),
    )

    customer: str
    address: str = ""  # adr_ that it was made for: whose customer it is when the code is told
    channel: str = ""  # where it has to be told; "" = anywhere
    issued_at: datetime
    expires_at: datetime
    actor: str = ""
    tries: int = 0  # told where it does not count
    used_at: datetime | None = None
    used_by: str = ""  # adr_
    expire_at: datetime | None = None  # of this document


class CodeTries(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """What was told in vain in this period, by an address or in the whole space."""

    collection: ClassVar[str] = "identity_code_tries"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("expire_at", 1),), expires=True),)

    since: datetime
    wrong: int = 0
    issued: int = 0
    open_until: datetime | None = None  # of the space: no code is open from then on
    expire_at: datetime | None = None


class TicketLink(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A ticket that a conversation has at a backend, as its outcomes told."""

    backend: str
    id: str
    number: str = ""
    url: str = ""
    status: str = ""
    raw_status: str = ""


class Conversation(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """What a helpdesk works on. It follows the address of its first entry (``root``)."""

    collection: ClassVar[str] = "conversations"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("state", 1), ("active_at", -1), ("_id", -1))),
        Index((("customer", 1), ("_id", -1))),
        Index((("root", 1),)),
    )

    customer: str
    root: str  # adr_ of the first entry
    last_address: str = ""  # adr_ through which the customer spoke last, if not the root
    policy: str  # customer, thread or channel
    lane: str = ""  # what the policy keys on: "", a thread, a channel
    state: str  # open or closed
    opened_at: datetime
    active_at: datetime  # last message, at a granularity of one minute
    closed_at: datetime | None = None
    closed_by: str = ""  # reason: solved, silence, joined, agent
    final: bool = False  # does not reopen: joined away, erased, split off and closed
    joined_into: str | None = None
    backends: tuple[str, ...] = ()  # which ticket backends it goes to, decided when it opened
    queue: str = ""
    tickets: tuple[TicketLink, ...] = ()
    merged_tickets: tuple[str, ...] = ()  # "backend|id" of those that went into others
    assignee: str = ""
    tags: tuple[str, ...] = ()
    priority: str = "normal"
    snoozed_until: datetime | None = None
    subject: str = ""


# --- going out ---------------------------------------------------------------------------------


class Job(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One call to the outside, made by the router, owned by the workers."""

    collection: ClassVar[str] = "jobs"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("lane", 1), ("position", 1)), only_where={"live": True}),
        Index((("kind", 1), ("due_at", 1)), only_where={"live": True}),
        Index((("expire_at", 1),), expires=True),
    )
    sealed: ClassVar[tuple[str, ...]] = ("outcome", "reason")  # vendors name people in them

    lane: str
    kind: str  # send, ticket, erase, import, media, media_import, profile, relay
    position: int
    due_at: datetime
    live: bool = False  # still to be done
    state: str  # ready, sending, settling, outcome, done, dead
    entry: str | None = None
    conversation: str | None = None
    customer: str | None = None
    account: str = ""  # channel:account that a send leaves by
    backend: str = ""
    task: str = ""  # what to do, where the kind has several
    args: dict[str, Any] = {}
    attempts: int = 0
    lease: str = ""  # the token of the lane's lease under which it is being sent
    outcome: dict[str, Any] = {}  # kept here until its item is committed
    reason: str = ""
    failing_since: datetime | None = None  # temporary failures in a row: when to give up
    settle_until: datetime | None = None
    expire_at: datetime | None = None


class Reservation(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One place of a window or a quota, taken by a send. The workers' own ledger.

    The id is the counter and the number of the place, so that no two sends ever have the same
    one and none has a place beyond the last.
    """

    collection: ClassVar[str] = "reservations"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("counter", 1), ("place", 1))),
        Index((("holder", 1),)),
        Index((("expire_at", 1),), expires=True),
    )

    counter: str
    place: int
    holder: str  # the job, and its round where it was redriven
    expire_at: datetime


class TicketMap(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """Which ticket a conversation has at a backend: the workers' own record of it."""

    collection: ClassVar[str] = "ticket_maps"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("backend", 1), ("ticket", 1))),)

    backend: str
    conversation: str
    key: str  # what the ticket carries: the conversation, ".2" behind it for a follow-up
    requester: str
    ticket: str
    number: str = ""
    url: str = ""
    version: str = ""
    followups: int = 0
    replaces: tuple[str, ...] = ()  # tickets that were merged into this one


class DeadLetter(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """What could not be done, kept whole with its reason until a person decides."""

    collection: ClassVar[str] = "dead_letters"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("state", 1), ("_id", -1))),
        Index(
            (("account", 1), ("day", 1)),
        ),
        Index((("ref", 1),)),
    )
    sealed: ClassVar[tuple[str, ...]] = ("item", "reason")

    kind: str  # inbox, parse, job
    reason: str
    stage: str
    channel: str = ""
    account: str = ""
    ref: str = ""  # in_ or job_
    item: bytes = b""
    at: datetime
    day: str = ""
    state: str  # open, redriven or settled
    attempts: int = 1


# --- writing to people who did not ask -----------------------------------------------------------


class Consent(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """What an address said last about a purpose. The id is the HMAC of both.

    An erasure leaves what was withdrawn, without its evidence: it goes on to hold.
    """

    collection: ClassVar[str] = "consents"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("address", 1),)),)
    sealed: ClassVar[tuple[str, ...]] = ("evidence",)

    address: str
    purpose: str  # "*" is all of them
    state: str  # granted, withdrawn, unknown
    at: datetime  # when it was said
    source: str = ""  # where: a web form, a shop's system, chat:main
    evidence: Evidence | None = None
    actor: str = ""  # who told the hub


class ConsentChange(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One line of the ledger: appended, never changed; only an erasure takes it away."""

    collection: ClassVar[str] = "consent_changes"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("address", 1), ("position", -1))),)
    sealed: ClassVar[tuple[str, ...]] = ("evidence",)

    address: str
    purpose: str
    state: str
    at: datetime
    recorded_at: datetime
    position: int
    item: str = ""  # in_ that it came in
    source: str = ""
    evidence: Evidence | None = None
    actor: str = ""


class Notice(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """What a notification may do, fixed when it was asked for. The id is its entry's.

    Frequency caps count them; the worker reads its own just before it sends.
    """

    collection: ClassVar[str] = "notices"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("address", 1), ("purpose", 1), ("due_at", 1))),
        Index((("expire_at", 1),), expires=True),
    )

    address: str
    purpose: str
    due_at: datetime  # not before
    position: int
    needs_grant: bool = False
    expires_at: datetime | None = None  # of no use to the customer from then on
    quiet_hours: str = "none"
    time_zone: str = ""
    cancelled_at: datetime | None = None
    expire_at: datetime | None = None  # of this document


class FeedRow(Doc, frozen=True, kw_only=True, omit_defaults=True):
    """A reference to what changed; rendered on reading. The id is the position."""

    collection: ClassVar[str] = "feed"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("customer", 1), ("_id", 1))),
        Index((("address", 1), ("_id", 1)), only_where={"followed": True}),
    )  # old rows are trimmed from its start (hub/housekeeping.py): that needs no index

    id: int = msgspec.field(name="_id")  # type: ignore[assignment]
    type: str
    at: datetime
    recorded_at: datetime
    customer: str | None = None
    conversation: str | None = None
    address: str | None = None
    ref: str = ""
    rev: int = 0
    channel: str = ""
    account: str = ""
    cause: str = ""  # in_ of the item
    data: dict[str, Any] = {}
    followed: bool = False  # on a channel whose people follow their own addresses' rows
    expire_at: datetime | None = None


class Operation(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """The result of a command, for whoever waits for it. Written in the router's transaction."""

    collection: ClassVar[str] = "operations"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("expire_at", 1),), expires=True),)

    name: str
    state: str  # done or refused
    at: datetime
    digest: str = ""  # of the request, so that a repeated key with other content is seen
    result: dict[str, Any] = {}
    error: str = ""  # a type of hub/api/problems.py
    detail: str = ""
    status: int = 200
    expire_at: datetime | None = None


# --- old conversations -------------------------------------------------------------------------


class ImportFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Something that could not be read: where it stands, and what to do. Never its content."""

    place: str
    reason: str


class ImportCounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an import has met so far. ``seen`` = ``taken`` + ``known`` + ``failed``.

    ``by`` counts what was taken: ``kind:message.in``, ``account:mail:support``,
    ``month:2024-03`` (of the message's own time, UTC).
    """

    seen: int = 0
    taken: int = 0
    known: int = 0
    failed: int = 0
    by: dict[str, int] = {}
    failures: tuple[ImportFailure, ...] = ()  # the first ones


class ImportRun(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One import of old conversations, written by the process that runs it and nobody else."""

    collection: ClassVar[str] = "imports"

    source: str  # mbox, history, jsonl or csv
    settings: dict[str, Any] = {}  # of the source: file, account, since, columns ...
    account: str = ""  # channel:account; "" when each row names its own
    state: str  # running, paused, done or failed
    reason: str = ""
    counts: ImportCounts = ImportCounts()
    cursor: str | None = None  # the source's own; everything before it is in the inbox
    actor: str = ""
    started_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None


class ImportRollback(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """That an import is being taken back, or was; under its id, written by the router."""

    collection: ClassVar[str] = "import_rollbacks"

    state: str  # running or done
    actor: str = ""
    asked_at: datetime
    done_at: datetime | None = None
    entries: int = 0
    addresses: int = 0
    customers: int = 0


# --- housekeeping ------------------------------------------------------------------------------


class State(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A small value with compare-and-swap: cursors, tokens, switches, leases."""

    collection: ClassVar[str] = "state"

    value: dict[str, Any] = {}
    rev: int = 0


class StrayBlob(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A blob that may be left behind; see hub/strays.py. The id is the blob's.

    ``state``: "unnamed"; "owned" by the operation ``owner``; "with" the inbox item ``item`` or
    the blob ``source``, which it must not outlive; "doomed" is being taken away and can not be
    named.
    ``due_at`` is when the sweep looks at it; never, once an operation that names it was done.
    """

    collection: ClassVar[str] = "strays"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("due_at", 1),), only_where={"due_at": {"$exists": True}}),
    )

    state: str
    owner: str = ""
    item: str = ""
    source: str = ""
    due_at: datetime | None = None


class Removed(Doc, frozen=True, kw_only=True):
    """Among the changes of a commit: the document ``id`` of this collection goes."""

    of: str


CORE: tuple[type[Doc], ...] = (
    InboxItem,
    Entry,
    AmendmentDoc,
    Alias,
    AddressDoc,
    Thread,
    Customer,
    Link,
    IdentityCode,
    CodeTries,
    Conversation,
    Job,
    Reservation,
    TicketMap,
    DeadLetter,
    Consent,
    ConsentChange,
    Notice,
    FeedRow,
    Operation,
    ImportRun,
    ImportRollback,
    State,
    StrayBlob,
)
