"""Attachments: upload them before they are sent, and read what customers sent.

Nothing is believed of a file but its bytes: the type is sniffed, the name is made safe, and it
is handed out as a download that no browser interprets.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import msgspec
from aiohttp import web
from msgspec import Meta

from hub.api.access import PUBLIC
from hub.api.bodies import PATH_IDS, Input, answer, idempotency_key, path_id, read_json, read_query
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.people import People
from hub.api.uploads import Uploads
from hub.api.views import View
from hub.inbox_writer import Overloaded
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute
from hub.signed_links import link_signature, signed_link
from hub.web import read_body
from normalizer.media import UNKNOWN_MIME, file_name, mime_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hub.running import Running

MAX_BYTES = 25 * 1024 * 1024
AT_ONCE_BYTES = 8 * MAX_BYTES  # of all uploads that are being read together
LINK_MINUTES = 60
RAW = "raw"  # ``kind`` of vendors' requests, which are no attachments


class UploadQuery(Input, frozen=True, kw_only=True):
    name: Annotated[str, Meta(max_length=500, description="The file's name.")] = ""


class DownloadQuery(Input, frozen=True, kw_only=True):
    entry: (
        Annotated[
            str,
            Meta(
                pattern=PATH_IDS["entry"],
                description="The entry it belongs to: needed by keys that are limited to accounts.",
            ),
        ]
        | None
    ) = None


class SignedQuery(Input, frozen=True, kw_only=True):
    expires: Annotated[int, Meta(ge=0, le=2**53, description="Unix time, seconds.")]
    signature: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class LinkRequest(Input, frozen=True, kw_only=True):
    minutes: Annotated[int, Meta(ge=1, le=LINK_MINUTES)] = 15
    entry: Annotated[str, Meta(pattern=PATH_IDS["entry"])] | None = None


class AttachmentView(View, frozen=True, kw_only=True):
    """``size`` in bytes; ``mime`` is what the bytes are, not what was claimed."""

    id: str
    name: str
    mime: str
    size: int | None
    sha256: str


class SignedLink(View, frozen=True, kw_only=True):
    """``url`` needs no key until ``expires_at``."""

    url: str
    expires_at: datetime


class Attachments:
    def __init__(self, hub: Running, people: People, uploads: Uploads) -> None:
        self._hub = hub
        self._people = people
        self._blobs = hub.store.blobs
        self._uploads = uploads
        self._reading = 0

    def routes(self) -> list[PluginRoute]:
        upload = operation(
            "Upload an attachment",
            tag="attachments",
            answer=AttachmentView,
            status=201,
            query=UploadQuery,
            problems=(409, 413),
            once=True,
            description="The body is the file itself, at most 25 MB, whatever its Content-Type.",
        )
        upload["requestBody"] = {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        }
        return [
            PluginRoute(
                method="POST",
                path="/api/v1/attachments",
                handler=self.upload,
                scope="attachments:write",
                operation=upload,
            ),
            PluginRoute(
                method="GET",
                path="/api/v1/attachments/{attachment}",
                handler=self.download,
                scope="attachments:read",
                operation=_bytes("Download an attachment", DownloadQuery, ()),
            ),
            PluginRoute(
                method="POST",
                path="/api/v1/attachments/{attachment}/links",
                handler=self.link,
                scope="attachments:read",
                operation=operation(
                    "Make a link to an attachment that needs no key",
                    tag="attachments",
                    answer=SignedLink,
                    status=201,
                    body=LinkRequest,
                    body_required=False,
                    problems=(410,),
                    description="It is good for at most an hour.",
                ),
            ),
            PluginRoute(
                method="GET",
                path="/api/v1/attachments/{attachment}/signed",
                handler=self.signed,
                scope=PUBLIC,
                operation=_bytes("Download an attachment by its link", SignedQuery, (410,)),
            ),
        ]

    # --- up --------------------------------------------------------------------------------------

    async def upload(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        self._hub.overload.admit_write()
        query = read_query(request, UploadQuery)
        key = idempotency_key(request)
        with self._room(request.content_length):
            data = await self._read(request)
            blob, known = await self._uploads.keep(caller, key, data, query.name)
        view = _view(blob, known)
        return answer(view, 201, {"Location": f"/api/v1/attachments/{view.id}"})

    @contextmanager
    def _room(self, size: int | None) -> Iterator[None]:
        """Bound the memory of all uploads together; whoever finds no room comes again."""
        size = MAX_BYTES if size is None else min(size, MAX_BYTES)
        if self._reading + size > AT_ONCE_BYTES:
            raise Overloaded("too many uploads at once: try again in a few seconds")
        self._reading += size
        try:
            yield
        finally:
            self._reading -= size

    async def _read(self, request: web.Request) -> bytes:
        try:
            data = await read_body(request, MAX_BYTES)
        except web.HTTPRequestEntityTooLarge as error:
            raise Refusal(
                "too-large", f"an attachment has at most {MAX_BYTES} bytes", 413
            ) from error
        if not data:
            raise Refusal("bad-request", "the body is the file itself, and it is empty", 422)
        return data

    # --- down ------------------------------------------------------------------------------------

    async def download(self, request: web.Request) -> web.StreamResponse:
        ident = path_id(request, "attachment")
        query = read_query(request, DownloadQuery)
        metadata = await self._permitted(request["api_key"], ident, query.entry)
        return await self._send(request, ident, metadata)

    async def link(self, request: web.Request) -> web.Response:
        ident = path_id(request, "attachment")
        wanted = await read_json(request, LinkRequest, optional=True)
        await self._permitted(request["api_key"], ident, wanted.entry)
        expires_at = (self._hub.clock.now() + timedelta(minutes=wanted.minutes)).replace(
            microsecond=0
        )
        url = signed_link(self._hub.web.public_url, self._hub.key, ident, expires_at)
        return answer(SignedLink(url=url, expires_at=expires_at), 201)

    async def signed(self, request: web.Request) -> web.StreamResponse:
        ident = path_id(request, "attachment")
        query = read_query(request, SignedQuery)
        signature = link_signature(self._hub.key, ident, query.expires)
        if not hmac.compare_digest(query.signature, signature):
            raise Refusal("not-found", "this link is not one of ours", 404)
        if query.expires <= self._hub.clock.now().timestamp():
            raise Refusal("cursor-expired", "this link has expired: ask for a new one", 410)
        return await self._send(request, ident, await self._metadata(ident))

    async def _metadata(self, ident: str) -> Mapping[str, Any]:
        metadata = await self._blobs.metadata(ident)
        if metadata is None or metadata.get("kind") == RAW:
            raise Refusal("not-found", f"there is no attachment {ident}", 404)
        return metadata

    async def _permitted(
        self, caller: ApiKey, ident: str, entry_id: str | None
    ) -> Mapping[str, Any]:
        """Return what is known of an attachment that the caller may read."""
        metadata = await self._metadata(ident)
        if not caller.limited or metadata.get("by") == caller.id:
            return metadata
        if entry_id is None:
            raise Refusal("not-found", "name the entry that this attachment belongs to", 404)
        entry = await self._people.entry(caller, entry_id)
        if ident not in _blobs_of(msgspec.to_builtins(entry.parts)):
            raise Refusal("not-found", "this entry has no such attachment", 404)
        return metadata

    async def _send(
        self, request: web.Request, ident: str, metadata: Mapping[str, Any]
    ) -> web.StreamResponse:
        name = file_name(str(metadata.get("name") or ident))
        response = web.StreamResponse(
            headers={
                "Content-Type": mime_type(str(metadata.get("mime") or UNKNOWN_MIME)),
                "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
                "Content-Security-Policy": "sandbox; default-src 'none'",
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "private, no-store",
            }
        )
        if isinstance(metadata.get("size"), int):
            response.content_length = metadata["size"]
        chunks: AsyncIterator[bytes] = self._blobs.stream(ident)
        await response.prepare(request)
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
        return response


def _bytes(summary: str, query: type[msgspec.Struct], problems: tuple[int, ...]) -> dict[str, Any]:
    told = operation(summary, tag="attachments", query=query, problems=(*problems, 410))
    told["responses"]["200"]["content"] = {"*/*": {"schema": {}}}
    return told


def _view(blob: str, metadata: Mapping[str, Any]) -> AttachmentView:
    return AttachmentView(
        id=blob,
        name=str(metadata.get("name", "")),
        mime=str(metadata.get("mime", "")),
        size=metadata.get("size"),
        sha256=str(metadata.get("sha256", "")),
    )


def _blobs_of(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        mine = {value["blob"]} if isinstance(value.get("blob"), str) else set()
        return mine.union(*map(_blobs_of, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_blobs_of, value))
    return set()
