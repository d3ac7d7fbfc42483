"""Files that visitors send, and the links by which files are fetched.

``POST /uploads`` names a file and answers with a signed link; ``PUT`` to it brings the bytes,
which are looked at before anybody sees them; a message then names the upload. From there it is
the hub's: scanned, and a picture shown to agents as a copy without metadata. Downloads are links
of ten minutes, bound to the thread.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime, timedelta
from typing import Annotated, ClassVar
from urllib.parse import quote

import msgspec
import structlog
from aiohttp import web
from msgspec import Meta
from msgspec.structs import replace

from connectors.site import ranges
from connectors.site.errors import SiteError
from connectors.site.limits import Limiter
from connectors.site.settings import Limits
from connectors.site.sniffing import INLINE, declared_kind, max_bytes, sniff
from connectors.site.tokens import LINK_LIFE, check_link, sign_link, uuid7
from connectors.site.visitors import Session, Visitors
from hub import ConnectorContext, Doc, Index
from normalizer.media import file_name
from normalizer.parts import AnyPart, Audio, Card, File, Image, Media, MediaState, Video

log = structlog.get_logger(__name__)

UNUSED_FOR = timedelta(hours=24)  # an upload that no message named is thrown away
USED_FOR = timedelta(days=30)  # the row; the bytes belong to the message by then
_OFF_LOOP_BYTES = 256 * 1024
_MEDIA_PARTS: dict[str, type[Image | Audio | Video | File]] = {
    "image": Image,
    "audio": Audio,
    "video": Video,
    "file": File,
}


class UploadDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One file on its way. ``owner`` is the address (``adr_``) that may send it."""

    collection: ClassVar[str] = "x_site_uploads"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("owner", 1), ("day", 1))),
        Index((("used", 1), ("made_at", 1))),
        Index((("expire_at", 1),), expires=True),
    )
    sealed: ClassVar[tuple[str, ...]] = ("name",)

    account: str
    owner: str
    day: str
    name: str
    kind: str
    size: int  # declared first, real once the bytes are there
    sha256: str = ""
    state: str  # waiting, ready or rejected; always there, because changes expect it
    reason: str = ""
    mime: str = ""
    blob: str = ""
    width: int | None = None
    height: int | None = None
    used: bool = msgspec.field(default_factory=bool)  # a factory: the index needs the field
    used_by: str = ""  # the message that named it: its bytes are that message's
    made_at: datetime
    expire_at: datetime


class NewUpload(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of a file before it sends it."""

    name: Annotated[str, Meta(max_length=1000)]
    mime: Annotated[str, Meta(max_length=200)]
    bytes: Annotated[int, Meta(ge=1)]
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-fA-F]{64})?\Z")] = ""
    conversation_id: Annotated[str, Meta(max_length=128)] = ""


class Uploads:
    """The uploads of one site account."""

    def __init__(
        self,
        account: str,
        context: ConnectorContext,
        limits: Limits,
        limiter: Limiter,
        visitors: Visitors,
    ) -> None:
        self._account = account
        self._context = context
        self._clock = context.clock
        self._limits = limits
        self._limiter = limiter
        self._visitors = visitors
        self._secret = context.secret("links")
        self._table = context.documents(UploadDoc)

    # --- coming in -----------------------------------------------------------------------------

    async def begin(self, session: Session, asked: NewUpload) -> tuple[UploadDoc, str]:
        """Return the upload and the query of its link. Raises :class:`SiteError`."""
        self._limiter.take(session.id, "upload")
        kind = declared_kind(asked.mime)
        largest = max_bytes(kind, self._limits)
        if asked.bytes > largest:
            raise SiteError("too_large", f"this kind of file may have {largest} bytes")
        owner, now = self._owner(session), self._clock.now()
        await self._check_day(session, owner, asked.bytes, now)
        doc = UploadDoc(
            id="upl_" + uuid7(now).replace("-", ""),
            account=self._account,
            owner=owner,
            day=f"{now:%Y-%m-%d}",
            name=file_name(asked.name),
            kind=kind,
            state="waiting",
            size=asked.bytes,
            sha256=asked.sha256.lower(),
            made_at=now,
            expire_at=now + USED_FOR,
        )
        await self._table.insert([doc])
        return doc, sign_link(self._secret, now, "put", doc.id)

    async def _check_day(self, session: Session, owner: str, size: int, now: datetime) -> None:
        today = await self._table.find({"owner": owner, "day": f"{now:%Y-%m-%d}"})
        used = sum(doc.size for doc in today if doc.state != "rejected")
        allowed = self._limits.upload_bytes_per_day
        if not session.verified:
            allowed //= 2
        if used + size > allowed:
            midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
            raise SiteError(
                "rate_limited",
                "no more files today",
                retry_after_s=(midnight - now).total_seconds(),
            )

    def _owner(self, session: Session) -> str:
        return self._context.address_id(self._visitors.speaks_as(session.access))

    async def receive(self, ident: str, exp: str, sig: str, request: web.Request) -> UploadDoc:
        """Take the bytes of an upload; look at them; keep them. Raises :class:`SiteError`."""
        if not check_link(self._secret, self._clock.now(), exp, sig, "put", ident):
            raise SiteError("upload_expired", "the link is over: begin the upload again")
        doc = await self._table.get(ident)
        if doc is None or doc.state == "rejected":
            raise SiteError("upload_expired", "begin the upload again")
        if doc.state == "ready":
            return doc  # a repeat of what arrived before
        data = await read_capped(request, doc.size)
        try:
            kept = await self._looked_at(doc, data)
        except SiteError as error:
            await self._table.swap(
                replace(doc, state="rejected", reason=error.message), {"state": "waiting"}
            )
            raise
        if not await self._table.swap(kept, {"state": "waiting"}):
            await self._context.blobs.delete(kept.blob)
        return await self._table.get(ident) or kept

    async def _looked_at(self, doc: UploadDoc, data: bytes) -> UploadDoc:
        sha256 = hashlib.sha256(data).hexdigest()
        if not data or (doc.sha256 and doc.sha256 != sha256):
            raise SiteError("upload_rejected", "the bytes are not those that were announced")
        if len(data) > _OFF_LOOP_BYTES:
            found = await asyncio.to_thread(sniff, data, self._limits)
        else:
            found = sniff(data, self._limits)
        if len(data) > max_bytes(found.kind, self._limits):
            raise SiteError("too_large", "the file is too large for what it is")
        blob = await self._context.store_file(
            data, {"channel": "site", "account": self._account, "mime": found.mime}
        )
        return replace(
            doc,
            state="ready",
            kind=found.kind,
            mime=found.mime,
            size=len(data),
            sha256=sha256,
            blob=blob,
            width=found.width,
            height=found.height,
        )

    async def state(self, session: Session, ident: str) -> UploadDoc:
        doc = await self._table.get(ident)
        if doc is None or doc.owner != self._owner(session):
            raise SiteError("upload_expired", "there is no such upload")
        return doc

    # --- in messages ---------------------------------------------------------------------------

    async def resolved(
        self, session: Session, parts: tuple[AnyPart, ...], message: str
    ) -> tuple[AnyPart, ...]:
        """Return the parts with the media of the uploads they name. Raises :class:`SiteError`.

        ``message`` is the id that the client gave the message. Its files are pending: the hub
        looks at them before agents see them.
        """
        done: list[AnyPart] = []
        for part in parts:
            if isinstance(part, Image | Audio | Video | File):
                part = await self._resolved(session, part, message)
            done.append(part)
        return tuple(done)

    async def _resolved(
        self, session: Session, part: Image | Audio | Video | File, message: str
    ) -> AnyPart:
        doc = await self._table.get(part.media.vendor_ref or "")
        if doc is None or not self._may_use(session, doc):
            raise SiteError("upload_rejected", "there is no such upload of yours")
        if doc.state == "rejected":
            raise SiteError("upload_rejected", doc.reason)
        if doc.state == "waiting":
            if doc.made_at + LINK_LIFE < self._clock.now():
                raise SiteError("upload_expired", "begin the upload again")
            raise SiteError("upload_rejected", "the bytes of this upload have not arrived")
        media = Media(
            mime=doc.mime,
            size=doc.size,
            name=doc.name,
            blob=await self._blob_for(doc, message),
            sha256=doc.sha256,
            width=doc.width,
            height=doc.height,
            state=MediaState.PENDING,
        )
        # The part is what the bytes are, whatever the client called it.
        return _MEDIA_PARTS[doc.kind](media=media)

    async def _blob_for(self, doc: UploadDoc, message: str) -> str:
        """Return the blob that ``message`` may name: one message's bytes are no other's."""
        if not doc.used:
            mine = replace(doc, used=True, used_by=message)
            if await self._table.swap(mine, {"state": "ready", "used": False}):
                return doc.blob
            doc = await self._table.get(doc.id) or replace(doc, state="rejected")
        if doc.state != "ready":
            raise SiteError("upload_expired", "begin the upload again")
        if doc.used_by == message:
            return doc.blob
        metadata = await self._context.blobs.metadata(doc.blob)
        if metadata is None:  # the hub made its own copy of it, and has taken it away
            raise SiteError("upload_expired", "this file was sent before: begin the upload again")
        return await self._context.store_file(self._context.blobs.stream(doc.blob), metadata)

    def _may_use(self, session: Session, doc: UploadDoc) -> bool:
        visitor = self._context.address_id(self._visitors.visitor_address(session.id))
        return doc.owner in (self._owner(session), visitor)

    async def sweep(self) -> int:
        """Throw away what was never named by a message; return how many there were."""
        old = await self._table.find(
            {"used": False, "made_at": {"$lt": self._clock.now() - UNUSED_FOR}},
            sort=[("made_at", 1)],
            limit=500,
        )
        gone = 0
        for doc in old:
            if doc.account == self._account and await self._withdrawn(doc):
                if doc.blob:
                    await self._context.blobs.delete(doc.blob)
                gone += await self._table.delete({"_id": doc.id, "used": False})
        return gone

    async def _withdrawn(self, doc: UploadDoc) -> bool:
        """Make an upload one that no message can name any more; False if one did just now."""
        if doc.state == "rejected":
            return True
        over = replace(doc, state="rejected", reason="it was not sent for a day: begin it again")
        return await self._table.swap(over, {"state": doc.state, "used": False})

    # --- going out -----------------------------------------------------------------------------

    def link(self, base: str, thread: str, entry: str, index: int) -> str:
        """Return the address of an entry's file, good for ten minutes."""
        query = sign_link(self._secret, self._clock.now(), "get", thread, entry, index)
        return f"{base}/files/{entry}/{index}?{query}"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer ``GET /files/{entry}/{index}``."""
        ident, index = request.match_info["entry"], request.match_info["index"]
        exp, sig = request.query.get("exp", ""), request.query.get("sig", "")
        entry = await self._context.entry(ident)
        thread = entry.thread if entry else ""
        if not check_link(self._secret, self._clock.now(), exp, sig, "get", thread, ident, index):
            raise SiteError("upload_expired", "the link is over: fetch the message again")
        shown = entry.parts[int(index) : int(index) + 1] if entry and not entry.erased else ()
        media = media_of(shown[0]) if shown else None
        if media is None or media.blob is None:
            raise SiteError("conversation_not_found", "the file is gone")
        return await self._stream(request, media)

    async def _stream(self, request: web.Request, media: Media) -> web.StreamResponse:
        inline = media.mime in INLINE
        name = media.name or "file"
        try:
            part = ranges.wanted(request, media.size) if media.size else None
        except ranges.NothingThere:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{media.size}"})
        response = web.StreamResponse(
            status=206 if part else 200,
            headers={
                "Content-Type": media.mime if inline else "application/octet-stream",
                "Content-Disposition": f"{'inline' if inline else 'attachment'};"
                f" filename*=UTF-8''{quote(name, safe='')}",
                "X-Content-Type-Options": "nosniff",
                "Content-Security-Policy": "default-src 'none'; sandbox",
                "Cross-Origin-Resource-Policy": "cross-origin",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "private, max-age=600",
            },
        )
        assert media.blob is not None
        chunks = self._context.blobs.stream(media.blob)
        if media.size is not None:
            response.headers["Accept-Ranges"] = "bytes"
            response.content_length = media.size
        if part is not None:
            start, stop = part
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{media.size}"
            response.content_length = stop - start
            chunks = ranges.within(chunks, start, stop)
        await response.prepare(request)
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
        return response


def media_of(part: AnyPart) -> Media | None:
    if isinstance(part, Image | Audio | Video | File):
        return part.media
    return part.image if isinstance(part, Card) else None


async def read_capped(request: web.Request, limit: int) -> bytes:
    """Read a body of at most ``limit`` bytes. Raises :class:`SiteError` (too_large)."""
    if request.content_length is not None and request.content_length > limit:
        raise SiteError("too_large", f"at most {limit} bytes")
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise SiteError("too_large", f"at most {limit} bytes")
    return bytes(body)
