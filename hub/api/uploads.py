"""What callers uploaded, and how it becomes part of a message.

A picture is stored as it may leave: without metadata, upright (:mod:`hub.media.outgoing`). What
a release before this one stored is made so when it is named.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from hub.api.keys import ApiKey
from hub.api.operations import command_key
from hub.documents import Doc, Index
from hub.inbox_writer import Overloaded
from hub.media.keeping import cleaned_copy, copy_for
from hub.media.outgoing import Outgoing, OutgoingFiles, is_picture
from hub.media.sniffing import sniff
from hub.planning.commands import operation_id
from hub.planning.rules import Refusal
from hub.store.interface import StoreError
from hub.strays import UNNAMED_FOR, Strays, delete_blobs
from normalizer.media import file_name
from normalizer.outcomes import Rejected, Temporary

if TYPE_CHECKING:
    from hub.running import Running

ATTACHMENT = "attachment"  # ``kind`` in the metadata of what was uploaded through the API
UPLOADS_KEPT = timedelta(days=7)


class UploadDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """What an Idempotency-Key uploaded, so that a repetition is answered alike."""

    collection: ClassVar[str] = "uploads"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("expire_at", 1),), expires=True),)

    digest: str
    blob: str
    expire_at: datetime


class Uploads:
    """The uploads of a hub's callers."""

    def __init__(self, hub: Running) -> None:
        self._key = hub.key
        self._clock = hub.clock
        self._store = hub.store
        self._blobs = hub.store.blobs
        self._uploads = hub.store.table(UploadDoc)
        kept = timedelta(days=hub.settings.media.unnamed_days)
        self._strays = Strays(hub.store, hub.clock, unnamed_for=kept or UNNAMED_FOR)
        self._outgoing = OutgoingFiles.for_hub(hub.settings.media, hub.settings.data_dir)

    async def keep(
        self, caller: ApiKey, key: str, data: bytes, name: str
    ) -> tuple[str, Mapping[str, Any]]:
        """Store a file once for the caller's key; return the blob and what is known of it.

        Raises Refusal for a picture that cannot be freed of its metadata (422) and for a key
        that was used for another file (409), Overloaded while no picture can be opened.
        """
        sha256, mime = await asyncio.to_thread(_looked_at, data)
        ident = self._key.hashed("upl", f"{caller.id}|{key}")
        digest = f"{sha256}|{name}"
        before = await self._uploads.get(ident)
        if before is None:
            blob, known = await self._stored(caller, data, mime, file_name(name) if name else "")
            expire_at = self._clock.now() + UPLOADS_KEPT
            mine = UploadDoc(id=ident, digest=digest, blob=blob, expire_at=expire_at)
            if not await self._uploads.insert([mine]):
                return blob, known
            await delete_blobs(self._store, [blob])  # another connection was faster
            before = await self._uploads.get(ident)
        if before is None or before.digest != digest:
            raise Refusal(
                "idempotency-conflict", "this Idempotency-Key was used for another upload", 409
            )
        metadata = await self._blobs.metadata(before.blob)
        if metadata is None:
            raise Refusal("idempotency-conflict", "what this key uploaded was erased since", 409)
        return before.blob, metadata

    async def _stored(
        self, caller: ApiKey, data: bytes, mime: str, name: str, *, blob: str | None = None
    ) -> tuple[str, Mapping[str, Any]]:
        try:
            async with self._outgoing.ready(data, mime, name) as file:
                known = _known(file, caller.id)
                return await self._strays.put(file.data, metadata=known, blob=blob), known
        except Rejected as refused:
            raise Refusal("bad-request", refused.reason, 422) from refused
        except Temporary as failed:
            raise Overloaded(f"{failed.reason}: try again in a few seconds") from failed

    async def named(self, caller: ApiKey, blob: str, key: str) -> tuple[str, Mapping[str, Any]]:
        """Return the blob that a message names for an upload, and what is known of it.

        ``key`` is the request's Idempotency-Key. The first message owns the upload, and others
        get copies: erasing one customer must not take another's file away.
        Raises Refusal(422) for what is not there, not the caller's, or cannot be made ready.
        """
        known = await self._blobs.metadata(blob)
        foreign = known is None or known.get("kind") != ATTACHMENT
        if known is None or foreign or (caller.limited and known.get("by") != caller.id):
            raise _missing(blob)
        ready = blob
        if "checked" not in known:
            ready, known = await self._made_ready(caller, blob, known)
        owner = self._owner(caller, key)
        taken = await self._strays.take(ready, owner)
        if taken == "other":
            ready = await self._copied(ready, known, owner)
        if taken == "gone" or await self._blobs.metadata(ready) is None:
            raise _missing(blob)
        return ready, known

    def _owner(self, caller: ApiKey, key: str) -> str:
        """Return the operation of the request, by which the sweep knows what became of it."""
        return operation_id(self._key, command_key(caller, key))

    async def _copied(self, blob: str, known: Mapping[str, Any], owner: str) -> str:
        copy = copy_for(blob, owner)
        if await self._blobs.metadata(copy) is None:
            try:
                await self._strays.put(self._blobs.stream(blob), metadata=known, blob=copy)
            except StoreError:
                if await self._blobs.metadata(copy) is None:
                    raise
        await self._strays.take(copy, owner)
        return copy

    async def not_named(self, caller: ApiKey, blobs: Iterable[str], key: str) -> None:
        """Say that the request under ``key`` was refused for good: others may name its files."""
        for blob in blobs:
            await self._strays.give_back(blob, self._owner(caller, key))

    async def _made_ready(
        self, caller: ApiKey, blob: str, known: Mapping[str, Any]
    ) -> tuple[str, Mapping[str, Any]]:
        """Free a picture that an earlier release stored of its metadata."""
        mime = str(known.get("mime") or "")
        if not mime.startswith(("image/", "video/")):  # a HEIC picture may pass for a video
            return blob, known
        data = await self._blobs.read(blob)
        if not is_picture(data, mime):
            return blob, known
        copy = cleaned_copy(blob)
        made = await self._blobs.metadata(copy)
        if made is not None:
            return copy, made
        try:
            return await self._stored(caller, data, mime, str(known.get("name") or ""), blob=copy)
        except StoreError:
            made = await self._blobs.metadata(copy)
            if made is None:
                raise
            return copy, made  # another request was faster


def _missing(blob: str) -> Refusal:
    return Refusal("bad-request", f"there is no attachment {blob}: upload it first", 422)


def _known(file: Outgoing, by: str) -> dict[str, Any]:
    known = {
        "kind": ATTACHMENT,
        "by": by,
        "name": file.name,
        "mime": file.mime,
        "size": file.size,
        "sha256": file.sha256,
        "checked": file.checked,
    }
    return known if file.width is None else known | {"width": file.width, "height": file.height}


def _looked_at(data: bytes) -> tuple[str, str]:
    """Return the SHA-256 (hex) and the type that the bytes themselves tell."""
    return hashlib.sha256(data).hexdigest(), sniff(data)
