"""What a connector makes of a vendor's request: a closed set of drafts.

A draft carries no id and no position; the hub gives those. ``key`` is the connector's
own dedupe key for the thing (contracts/ says which per channel). The hub adds channel,
account and canonical sender to it, so that no connector can forget them.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from normalizer.addresses import Address
from normalizer.model import Direction, Model, Role, Trust
from normalizer.parts import AnyPart


class Scope(StrEnum):
    """Within what a dedupe key is unique. Wider than ``sender`` only on purpose."""

    SENDER = "sender"
    ACCOUNT = "account"
    CHANNEL = "channel"  # one mail in two boxes is one entry


class Draft(Model, tag_field="draft", frozen=True, kw_only=True):
    """Base of all drafts. ``at`` is the vendor's time, None when it gives none."""

    key: str
    scope: Scope = Scope.SENDER
    at: datetime | None = None


class Profile(Model, frozen=True, kw_only=True):
    """What is known of a person, and how sure the source is."""

    name: str = ""
    locale: str = ""
    avatar: str = ""
    mailbox: str = ""
    phone: str = ""
    trust: Trust = Trust.CLAIMED
    attributes: dict[str, str] = {}


class Sender(Model, frozen=True, kw_only=True):
    """Who speaks, when that is not simply the customer at the draft's address."""

    role: Role = Role.CUSTOMER
    name: str = ""
    address: Address | None = None
    ref: str = ""  # an agent's id


class Target(Model, frozen=True, kw_only=True):
    """The entry that an amendment or a receipt is about: one of the three ways to name it."""

    entry: str | None = None  # ent_...
    vendor_id: str | None = None  # resolved through the aliases of this account
    up_to_seq: int | None = None  # every entry of the thread up to here (cumulative receipts)
    thread: str | None = None  # thr_..., with up_to_seq


class ThreadLabel(Model, frozen=True, kw_only=True):
    """What threads of one address are known by beside their name: a subject, a vendor's id.

    A message's labels lead to its thread from then on. ``joins``: this message goes into the
    thread that the label leads to, if that was used within ``days`` (None: however long ago).
    """

    name: str
    joins: bool = True
    days: int | None = None


class Message(Draft, tag="message", frozen=True, kw_only=True):
    """Something said. ``address`` is the customer's, whichever way the message goes."""

    address: Address
    parts: tuple[AnyPart, ...]
    direction: Direction = Direction.IN
    sender: Sender | None = None
    thread: str = ""  # the connector's own thread key; "" = the address's only thread
    subject: str = ""
    reply_to: str | None = None  # vendor id or entry id of what is answered
    vendor_ids: tuple[str, ...] = ()  # under which receipts and answers will name it
    automatic: bool = False  # an auto-reply, a bulk mail: no ticket reopens, no clock starts
    public: bool = False  # a comment or mention that the world can read
    profile: Profile | None = None
    event: str = ""  # a message that also is an event: voicemail, menu.option
    data: dict[str, Any] = {}
    new_thread: bool = False  # start a thread of its own even though `thread` is empty
    sent_key: str = ""  # of what our side sent: the `Outgoing.key` that the vendor gives back
    # Where `thread` names none that this address has: vendor ids of what may be answered, best
    # first, then labels. They lead to threads of the same address only.
    continues: tuple[str, ...] = ()
    labels: tuple[ThreadLabel, ...] = ()


class Event(Draft, tag="event", frozen=True, kw_only=True):
    """Something that happened and is worth a line in the timeline: followed, called, scanned."""

    address: Address
    name: str  # area.verb, e.g. contact.followed
    data: dict[str, Any] = {}
    text: str = ""
    thread: str = ""
    vendor_ids: tuple[str, ...] = ()
    profile: Profile | None = None


class AmendmentKind(StrEnum):
    EDIT = "edit"  # data.parts
    RECALL = "recall"
    # data.step; data.event = what the feed is told (call.answered); data.final = terminal;
    # data.text = a line for people; data.parts = parts of an event entry; data.transcript
    CALL = "call"
    MEDIA = "media"  # data.index, data.media
    MOVE = "move"  # data.conversation: made by a split only
    STATE = "state"  # delivery state: made from receipts and outcomes only


class Amendment(Draft, tag="amendment", frozen=True, kw_only=True):
    """A later change of an entry. ``seq`` is the vendor's own order where it gives one."""

    target: Target
    kind: AmendmentKind
    address: Address | None = None
    data: dict[str, Any] = {}
    seq: int | None = None
    by: Sender | None = None


class DeliveryState(StrEnum):
    """Where an entry on its way out is. ``received`` is the state of what came in."""

    RECEIVED = "received"
    QUEUED = "queued"
    SENDING = "sending"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Receipt(Draft, tag="receipt", frozen=True, kw_only=True):
    """The vendor's or the reader's word on a message of ours, or (site) on one of theirs."""

    target: Target
    state: DeliveryState
    address: Address | None = None
    by: Role = Role.CUSTOMER
    code: str = ""
    reason: str = ""
    permanent: bool = False
    gone: bool = False  # there is no such address: see Capabilities.returns
    seq: int | None = None


class Evidence(Model, frozen=True, kw_only=True):
    """Why two addresses are held to be one person's; kept with the link for ever."""

    kind: str  # identity_token, code, agent, ...
    ref: str = ""  # jti, job id, ...
    note: str = ""


class Identity(Draft, tag="identity", frozen=True, kw_only=True):
    """``address`` belongs to the same person as ``same_as``. Attested evidence links by itself."""

    address: Address
    same_as: Address
    trust: Trust
    evidence: Evidence
    profile: Profile | None = None
    role_event: str = ""  # name of the event entry that tells the story, e.g. contact.identified


class Actor(Model, frozen=True, kw_only=True):
    """Who gave a command: an API key, an agent, a ticket backend, the hub itself."""

    kind: str
    id: str = ""
    name: str = ""


class Command(Draft, tag="command", frozen=True, kw_only=True):
    """Somebody wants something: reply, link, close, erase ... (hub/planning/commands/)."""

    name: str
    actor: Actor
    args: dict[str, Any] = {}


class Outcome(Draft, tag="outcome", frozen=True, kw_only=True):
    """What became of a job, told by the worker that ran it."""

    job: str
    kind: str  # send, ticket, media
    entry: str | None = None
    conversation: str | None = None
    backend: str = ""
    result: dict[str, Any] = {}


AnyDraft: TypeAlias = Message | Event | Amendment | Receipt | Identity | Command | Outcome
EntryDraft: TypeAlias = Message | Event
