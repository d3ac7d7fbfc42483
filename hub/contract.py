"""What a connector is: the classes that channel plugins build on, and nothing behind them.

One class per channel; the hub makes one object per configured account. The four doors:

========================  =======================================================================
door                      what the connector writes
========================  =======================================================================
webhook                   ``verify`` and ``parse``; ``answer`` where the vendor wants words back
poll                      ``poll(cursor)``, asked every ``poll_every_s`` seconds
held connection           ``hold(cursor, deliver)``, runs as long as the connection does
hint, then pull           ``hint(verified)`` in a webhook wakes ``poll`` at once
========================  =======================================================================

All end in the hub's intake: what it returns from is stored durably. Cursors are stored after
that, never before.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec

from normalizer.capabilities import Capabilities
from normalizer.drafts import AnyDraft, Profile
from normalizer.outcomes import Accepted, Unsupported
from normalizer.parts import AnyPart, Media

if TYPE_CHECKING:
    from aiohttp import web

    from hub.clock import Clock
    from hub.plugin_context import ConnectorContext

S = TypeVar("S", bound=msgspec.Struct)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor's request, as bytes. Header names are in lower case.

    ``url`` is the public URL as the vendor called it, built from the hub's ``public_url`` and
    the raw path and query, because some vendors sign it.
    """

    method: str
    url: str
    path: str = ""  # behind the account, "" or "/sub/path"
    query_string: str = ""
    headers: Mapping[str, str] = {}
    body: bytes = b""
    remote: str = ""
    received_at: datetime

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated name the last."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    def form(self) -> list[tuple[str, str]]:
        """The form in the body, in order, blanks kept. Raises ``ValueError`` if it is none."""
        return parse_qsl(self.body.decode(), keep_blank_values=True, max_num_fields=1000)

    def verified(self, payload: bytes | None = None, **facts: str) -> Verified:
        """Say that this request is the vendor's; ``payload`` is the body after decrypting."""
        return Verified(
            request=self, payload=self.body if payload is None else payload, facts=facts
        )


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A request that ``verify`` believed. ``parse`` accepts nothing else."""

    request: Request
    payload: bytes
    facts: Mapping[str, str] = {}


class Refused(Exception):
    """The request is not the vendor's, or cannot be read before it is believed.

    ``reason`` is for our log and metrics; the caller is told the status only, so that every
    failed check looks the same from outside.
    """

    def __init__(self, reason: str, *, status: int = 403) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the vendor is told after the commit."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = {}


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to take in: its drafts, and the raw bytes they were made of."""

    drafts: Sequence[AnyDraft]
    raw: bytes = b""
    failed: str = ""  # why it could not be read: it becomes a dead letter, and the door goes on


class Polled(msgspec.Struct, frozen=True, kw_only=True):
    """What a poll brought; ``cursor`` is stored once the items are durable."""

    items: Sequence[Incoming]
    cursor: str
    more: bool = False  # ask again at once


Deliver = Callable[[Sequence[Incoming], str], Awaitable[None]]
"""Hand over items and the cursor behind them; returns when both are stored."""


class Account(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """One configured account of a channel. ``key`` never changes; ``label`` may."""

    channel: str
    key: str
    label: str
    settings: S
    insecure: bool = False


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The customer's message that is answered: what a channel needs to thread the answer."""

    entry: str
    at: datetime
    subject: str = ""
    data: Mapping[str, Any] = {}  # what the connector itself put into the message's draft


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A text that the vendor approved beforehand; ``params`` are the names of its blanks."""

    name: str
    language: str = ""
    params: tuple[str, ...] = ()
    preview: str = ""  # with ``{name}`` where a blank is


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A message to send. ``key`` is the same on every attempt of this message.

    With ``template`` the vendor fills in ``params``; ``parts`` then show what it will say.
    ``automatic`` says that no person wrote it: channels that know loops mark it so.
    """

    entry: str
    key: str
    address: str  # canonical text
    parts: tuple[AnyPart, ...]
    thread: str = ""
    subject: str = ""
    reply_to: str | None = None
    event: str = ""
    data: Mapping[str, Any] = {}
    sender_name: str = ""
    attempt: int = 1
    template: str = ""
    language: str = ""  # of the template, as the vendor names it
    params: Mapping[str, str] = {}
    answers: Answered | None = None
    automatic: bool = False


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is being fetched: its bytes as they come, and what the vendor says of it."""

    stream: AsyncIterator[bytes]
    mime: str = ""
    name: str = ""
    size: int | None = None  # bytes


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the vendor would send it now, and how many drafts it makes."""

    name: str
    request: Request
    drafts: int = 1
    signed_headers: tuple[str, ...] = ()  # headers without which it must be refused
    signed_query: tuple[str, ...] = ()
    signs_body: bool = True


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A path of the connector's own, below its mount point and account."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]


class Connector(abc.ABC, Generic[S]):
    """One account of one channel. Subclass it, set the class variables, fill in the methods."""

    channel: ClassVar[str]
    settings: ClassVar[type[msgspec.Struct]]
    # What any account of the channel can do. An account that can less sets its own in __init__.
    capabilities: ClassVar[Capabilities] = Capabilities()
    mount: ClassVar[str] = "in"  # "in": /in/{channel}/{account}; else /{mount}/{account}
    max_body_bytes: ClassVar[int] = 1024 * 1024
    poll_every_s: ClassVar[float] = 60.0
    allowed_headers: ClassVar[frozenset[str]] = frozenset({"content-type", "user-agent"})

    def __init__(self, account: Account[S], context: ConnectorContext) -> None:
        self.account = account
        self.context = context

    @abc.abstractmethod
    def verify(self, request: Request) -> Verified:
        """Return ``request.verified(...)`` or raise :class:`Refused`. Pure, constant-time.

        The account must refuse to start without a secret; see :meth:`check_settings`.
        """

    @abc.abstractmethod
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        """Return what the request says. Pure. Unknown things become ``Unsupported`` parts.

        Whatever it raises makes the item a dead letter that can be replayed; the vendor is
        told that all is well, because it was the vendor.
        """

    async def admit(self, verified: Verified) -> None:
        """Raise :class:`Refused` for a request that was believed and must not count all the same.

        Called after ``verify``, before anything is stored. Where a scheme does not sign the body,
        this is the place to remember what was signed (``context.documents``, which all processes
        share). It is in the vendor's way: be quick, and let through what nobody can decide now.
        """

    def answer(self, verified: Verified, drafts: Sequence[AnyDraft], clock: Clock) -> Answer:
        """Return what the vendor is told after the commit. Pure."""
        return Answer()

    def refusal(self, refused: Refused) -> Answer:
        """Return what a caller is told whom ``verify`` did not believe."""
        return Answer(status=refused.status)

    def check_settings(self) -> Sequence[str]:
        """Return what is missing for a secure start, in plain words; empty when all is there."""
        return ()

    async def send(self, message: Outgoing) -> Accepted:
        """Send one message, once, or raise one of normalizer.outcomes' failures."""
        raise Unsupported(f"the channel {self.channel} cannot send")

    def sends_needed(self, message: Outgoing) -> int:
        """Return how many sends of a window or a quota this message takes. Pure; never raises.

        More than 1 where ``send`` makes several messages of it: a long text, a text and a file.
        """
        return 1

    async def find_sent(self, message: Outgoing) -> Accepted | None:
        """Look up whether a send in doubt arrived. Raise ``Unsupported`` where nobody can say."""
        raise Unsupported(f"the channel {self.channel} cannot look up what was sent")

    async def templates(self) -> Sequence[Template]:
        """Return the templates that can be sent now, as the vendor lists them."""
        return ()

    async def show_typing(self, address: str, on: bool) -> None:
        """Show somebody at a canonical address that they are being written to, or no longer are.

        For vendors that have a call for it; declare ``typing`` as well. A hint: it may be lost, it
        comes again while an agent goes on typing, and it is given up after some seconds. Raises
        the failures of normalizer.outcomes, which are logged and change nothing. A channel with
        connections of its own hears the same by ``context.on_signal("typing", ...)``.
        """
        raise Unsupported(f"the channel {self.channel} shows no typing")

    async def fetch_media(self, media: Media, address: str) -> Fetched:
        """Begin to fetch a file that is still at the vendor; ``media.vendor_ref`` names it.

        Raises ``Gone`` when the vendor no longer has it, ``Rejected`` when it never will give
        it, and the failures of normalizer.outcomes that are worth another try.
        """
        raise Unsupported(f"the channel {self.channel} fetches no files")

    async def fetch_profile(self, address: str) -> Profile | None:
        """Return what the vendor tells about somebody; None when it tells nothing.

        Asked when somebody is new, when they follow (``contact.followed``), and when an event
        ``profile.changed`` says so, at most once a day for an address, and no message waits for
        it. Raises the failures of normalizer.outcomes.
        """
        raise Unsupported(f"the channel {self.channel} tells no profiles")

    async def history(self, since: datetime, cursor: str | None) -> Polled:
        """Return a page of old messages from ``since`` on, oldest first, for an import.

        With None it begins at ``since``; the cursor of the last page is handed in again after
        an interruption. It moves no cursor of the account's doors.
        """
        raise Unsupported(f"the channel {self.channel} has no history to import")

    async def read_history(self, raw: bytes, folder: str) -> Incoming:
        """Return what one old message says that was kept as a file.

        It is asked for by an import, and for a dead letter that a poll or a held connection
        brought (its ``Incoming.raw``) and somebody redrives.

        ``raw`` is the message as the archive holds it; ``folder`` is "sent" where our side's
        own messages lay, else "". Make the keys and addresses that the account's door makes:
        what came by it is known then. ``Incoming.failed`` says why nothing can be made of it;
        without it and without drafts it is the hub's own, and known.
        Bytes of attachments go into ``context.blobs``, of which a dry run keeps nothing.
        """
        raise Unsupported(f"the channel {self.channel} reads no archives")

    async def poll(self, cursor: str | None) -> Polled:
        """Return what is new behind ``cursor``; with None start at the present end."""
        raise NotImplementedError(f"{self.channel} has no poll")

    async def skip(self, cursor: str) -> Polled:
        """Pass the one thing that a poll or a held connection is stuck on, because a person said.

        Return that thing's raw bytes as the only item, if they can be had, and the cursor behind
        it; the hub makes a dead letter of it. Nothing else may be passed, and nothing is parsed:
        parsing it may be what fails.
        """
        raise Unsupported(f"the channel {self.channel} cannot skip")

    def hint(self, verified: Verified) -> str | None:
        """Return a reason if this request says that there is something to poll for."""
        return None

    async def hold(self, cursor: str | None, deliver: Deliver) -> None:
        """Keep a connection and deliver what comes; return or raise when it is lost."""
        raise NotImplementedError(f"{self.channel} holds no connection")

    def routes(self) -> Sequence[Route]:
        """Return paths of the connector's own (sockets, uploads, REST)."""
        return ()

    def samples(self, clock: Clock) -> Sequence[Sample]:
        """Return correctly signed requests, for the contract suite and ``omniline simulate``.

        Handshakes are samples too: a GET with its query, and ``drafts=0``. A scheme that covers
        the URL signs ``context.public_url`` with the sample's path and query behind it, and puts
        the whole into ``Request.url``.
        """
        return ()

    async def simulate(self, sample: str = "") -> Mapping[str, str]:
        """Let samples arrive as customers send them, where no vendor calls a webhook.

        For ``omniline simulate``; with ``sample`` only that one. Returns what was done, by the
        sample's name. Raises the failures of normalizer.outcomes.
        """
        return {}

    async def check(self) -> Sequence[str]:
        """Try the credentials now; return problems in plain words with their remedy."""
        return ()

    def warnings(self) -> Sequence[str]:
        """Return what will stop working unless somebody acts, with the remedy: a token's end.

        Asked every minute. The account is shown as degraded with these words, and they are logged
        when they change: so no countdown in them. It asks nobody; the time is the context's.
        """
        return ()

    async def start(self) -> None:
        """Called once before the doors open."""

    async def drain(self) -> None:
        """Called when the doors begin to shut, while connections are still open."""

    async def stop(self) -> None:
        """Called once after the doors are shut."""

    @classmethod
    def polls(cls) -> bool:
        return cls.poll is not Connector.poll

    @classmethod
    def holds(cls) -> bool:
        return cls.hold is not Connector.hold

    @classmethod
    def skips(cls) -> bool:
        return cls.skip is not Connector.skip

    @classmethod
    def fetches_media(cls) -> bool:
        return cls.fetch_media is not Connector.fetch_media

    @classmethod
    def fetches_profiles(cls) -> bool:
        return cls.fetch_profile is not Connector.fetch_profile

    @classmethod
    def tells_typing(cls) -> bool:
        return cls.show_typing is not Connector.show_typing

    @classmethod
    def has_history(cls) -> bool:
        return cls.history is not Connector.history

    @classmethod
    def reads_history(cls) -> bool:
        return cls.read_history is not Connector.read_history
