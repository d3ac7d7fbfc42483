"""Everything that comes in: 1 verify, 2 parse, 3 store in the inbox, 4 acknowledge.

Vendors' requests come through :meth:`Intake.webhook`; sockets, polls, held connections,
commands and outcomes through :meth:`Intake.take_in`. Both end in the inbox writer, which
returns when the item is durable. Nothing is acknowledged before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from hub.clock import Clock
from hub.contract import Answer, Connector, Refused, Request, Verified
from hub.documents import InboxItem
from hub.ids import SpaceKey, new_id
from hub.inbox_writer import InboxWriter, Overloaded
from hub.metrics import Metrics
from hub.planning.media import blobs_in
from hub.preparing import encode_drafts
from hub.steps import reached
from hub.store.interface import BlobStore, StoreError
from hub.strays import Strays
from normalizer.addresses import canonical
from normalizer.drafts import Amendment, AnyDraft, Command, Event, Message
from normalizer.keys import dedupe_key
from normalizer.parts import MEDIA_PARTS, Card
from normalizer.pipeline import StepContext, normalize
from normalizer.text import clean_line

log = structlog.get_logger(__name__)

RAW_INLINE_BYTES = 1024 * 1024  # a larger raw request goes to the blob store first
OFF_LOOP_BYTES = 64 * 1024  # larger bodies are parsed in a thread
OWN_DOORS = frozenset({"api", "worker", "timer", "import"})  # never held back by a switch
RELAYED = "x-omniline-relayed"  # another hub handed this request on
ALWAYS_KEPT = frozenset({"content-type", RELAYED})
NEVER_KEPT = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie"})


class RawRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request as it is kept for replay and diagnosis: no secrets, no cookies."""

    method: str
    path: str
    query_string: str = ""
    headers: Mapping[str, str] = {}
    body: bytes = b""
    payload: bytes = b""  # after decrypting, where that differs
    facts: Mapping[str, str] = {}


class Intake:
    """The one place where things come in."""

    def __init__(
        self,
        writer: InboxWriter,
        blobs: BlobStore,
        key: SpaceKey,
        clock: Clock,
        metrics: Metrics,
        inbound: Callable[[str, str], str] = lambda channel, account: "on",
        default_region: str = "CN",
        relayed: Collection[str] = (),
        strays: Strays | None = None,
    ) -> None:
        self._strays = strays  # without them blobs are stored and named without a trace
        self._relayed = frozenset(relayed)  # accounts whose pushes go to other systems as well
        self._writer = writer
        self._blobs = blobs
        self._key = key
        self._clock = clock
        self._metrics = metrics
        self._inbound = inbound
        self._default_region = default_region
        self.hinted: Callable[[Connector[Any]], None] = lambda connector: None
        self.heard: Callable[[str], None] = lambda name: None  # channel:account brought something

    async def webhook(self, connector: Connector[Any], request: Request) -> Answer:
        """Take a vendor's request in and return what the vendor is told.

        Raises Overloaded when nothing could be stored: the vendor has to come again.
        """
        account = connector.account
        try:
            verified = connector.verify(request)
            await connector.admit(verified)
        except Refused as refused:
            self._metrics.refused.labels(account.channel, account.key, refused.reason).inc()
            log.info(
                "request_refused",
                channel=account.channel,
                account=account.key,
                reason=refused.reason,
            )
            return connector.refusal(refused)
        reached("intake.1")
        drafts, failed = await self._parse(connector, verified)
        reached("intake.2")
        if drafts or failed is not None or self._is_relayed(connector, request):
            await self._store(
                channel=account.channel,
                account=account.key,
                door="webhook",
                drafts=drafts,
                raw=_raw(connector, verified),
                failed=failed,
            )
            self.heard(f"{account.channel}:{account.key}")
        reached("intake.3")
        if connector.hint(verified) is not None:
            self.hinted(connector)
        answer = connector.answer(verified, drafts, self._clock)
        reached("intake.4")
        return answer

    def _is_relayed(self, connector: Connector[Any], request: Request) -> bool:
        """Whether somebody else gets this push, too, even if it says nothing to us."""
        account = f"{connector.account.channel}:{connector.account.key}"
        return account in self._relayed and request.method not in ("GET", "HEAD")

    async def take_in(
        self,
        channel: str,
        account: str,
        drafts: Sequence[AnyDraft],
        *,
        door: str,
        raw: bytes = b"",
        failed: str | None = None,
        operation: str | None = None,
        may_spool: bool = True,
        imported: str = "",
    ) -> str:
        """Store drafts durably and return their inbox id; ``failed`` says why there are none.

        ``imported`` names the import whose history they are.
        Raises Overloaded when that is not possible now, ValueError for a draft without a key
        or with a broken address.
        """
        for draft in drafts:
            dedupe_key(channel, account, draft)
        return await self._store(
            channel=channel,
            account=account,
            door=door,
            drafts=drafts,
            raw=raw,
            failed=failed,
            operation=operation,
            may_spool=may_spool,
            imported=imported,
        )

    async def _parse(
        self, connector: Connector[Any], verified: Verified
    ) -> tuple[Sequence[AnyDraft], str | None]:
        """Return (drafts, None), or ((), why): what was believed is kept whatever it says."""
        account = connector.account
        try:
            if len(verified.payload) > OFF_LOOP_BYTES:
                drafts = await asyncio.to_thread(connector.parse, verified)
            else:
                drafts = connector.parse(verified)
            for draft in drafts:
                dedupe_key(account.channel, account.key, draft)
        except Exception as error:  # noqa: BLE001 - a vendor's surprise is kept, not refused
            reason = f"{type(error).__name__}: {error}"
            log.warning(
                "request_not_parsed",
                channel=account.channel,
                account=account.key,
                reason=type(error).__name__,
            )
            self._metrics.unparsed.labels(account.channel, account.key).inc()
            return (), clean_line(reason)
        return drafts, None

    async def _store(
        self,
        *,
        channel: str,
        account: str,
        door: str,
        drafts: Sequence[AnyDraft],
        raw: bytes = b"",
        failed: str | None = None,
        operation: str | None = None,
        may_spool: bool = True,
        imported: str = "",
    ) -> str:
        ident = new_id("in")
        blob = None
        whole = raw
        if len(raw) > RAW_INLINE_BYTES:
            raw, blob = await self._to_blob(ident, raw)
        await self._name_blobs(drafts)
        held = door not in OWN_DOORS and self._inbound(channel, account) == "store-only"
        item = InboxItem(
            id=ident,
            channel=channel,
            account=account,
            received_at=self._clock.now(),
            door=door,
            drafts=self._encoded(channel, account, drafts),
            raw=raw,
            raw_blob=blob,
            addresses=self._addresses(drafts),
            operation=operation,
            failed=failed,
            open=not held,
            held=held,
            imported=imported,
        )
        await self._writer.put(item, may_spool=may_spool, whole=whole if blob else b"")
        self._metrics.received.labels(channel, account, door).inc()
        return ident

    async def _to_blob(self, ident: str, raw: bytes) -> tuple[bytes, str | None]:
        """Put a large raw request into the blob store; without it the item carries it itself."""
        try:
            if self._strays is not None:
                return b"", await self._strays.put_raw(raw, item=ident)
            metadata = {"item": ident, "kind": "raw"}
            return b"", await self._blobs.put(raw, metadata=metadata, sealed=True)
        except StoreError as error:
            log.info("raw_kept_inline", item=ident, reason=str(error))
            return raw, None

    async def _name_blobs(self, drafts: Sequence[AnyDraft]) -> None:
        """Say that these drafts name blobs, before they are durable anywhere, the spool too."""
        if self._strays is None or not (blobs := _blobs_of(drafts)):
            return
        try:
            await self._strays.named(blobs)
        except StoreError as error:
            raise Overloaded(
                "the database, which has the files of this message, cannot be reached:"
                " try again in a few seconds"
            ) from error

    def _encoded(self, channel: str, account: str, drafts: Sequence[AnyDraft]) -> bytes:
        """Return drafts as the inbox holds them; what cannot be encoded is normalized before."""
        try:
            return encode_drafts(drafts)
        except UnicodeEncodeError:  # lone surrogates, from a vendor's broken text
            context = StepContext(
                channel=channel, account=account, default_region=self._default_region
            )
            return encode_drafts([normalize(draft, context) for draft in drafts])

    def _addresses(self, drafts: Sequence[AnyDraft]) -> tuple[str, ...]:
        found = []
        for draft in drafts:
            address = getattr(draft, "address", None)
            if address is not None:
                found.append(self._key.hashed("adr", canonical(address)))
        return tuple(found)


def _blobs_of(drafts: Sequence[AnyDraft]) -> list[str]:
    """Return the blobs that these name before they are in an entry; nearly always none."""
    found: list[str] = []
    for draft in drafts:
        if isinstance(draft, Message):
            for part in draft.parts:
                if isinstance(part, MEDIA_PARTS) or (isinstance(part, Card) and part.image):
                    found += blobs_in(msgspec.to_builtins(part))
            if draft.data:
                found += blobs_in(draft.data)
        elif isinstance(draft, Amendment | Event):
            found += blobs_in(draft.data)
        elif isinstance(draft, Command):
            found += blobs_in(draft.args)
    return found


def _raw(connector: Connector[Any], verified: Verified) -> bytes:
    request = verified.request
    keep = (connector.allowed_headers | ALWAYS_KEPT) - NEVER_KEPT
    return msgspec.msgpack.encode(
        RawRequest(
            method=request.method,
            path=request.path,
            query_string=request.query_string,
            headers={name: value for name, value in request.headers.items() if name in keep},
            body=request.body,
            payload=b"" if verified.payload is request.body else verified.payload,
            facts=verified.facts,
        )
    )
