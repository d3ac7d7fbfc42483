"""Files that a visitor sends: announced, put, and asked after."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from connectors.site.assembly import Site
from connectors.site.frames import MAX_FRAME_BYTES, decode_body
from connectors.site.rest.callers import Callers
from connectors.site.rest.wire import Routes, json_response
from connectors.site.uploads import NewUpload, UploadDoc, read_capped


class Files:
    """``/uploads``."""

    def __init__(self, site: Site, callers: Callers) -> None:
        self._site = site
        self._callers = callers

    def routes(self) -> Routes:
        return [
            ("POST", "/uploads", self._upload),
            ("GET", "/uploads/{id}", self._upload_state),
            ("PUT", "/uploads/{id}", self._upload_bytes),
        ]

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        site, session = self._site, await self._callers.session(request)
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES), NewUpload)
        if asked.conversation_id:
            audience = await site.audiences.of(session)
            await site.audiences.with_thread(session, audience, asked.conversation_id)
        doc, query = await site.uploads.begin(session, asked)
        told = {
            **upload_out(doc),
            "put_url": f"{self._callers.base(request)}/uploads/{doc.id}?{query}",
            "headers": {},
            "expires_in_s": 600,
        }
        return json_response(told, status=201)

    async def _upload_bytes(self, request: web.Request) -> web.StreamResponse:
        exp, sig = request.query.get("exp", ""), request.query.get("sig", "")
        doc = await self._site.uploads.receive(request.match_info["id"], exp, sig, request)
        return json_response(upload_out(doc))

    async def _upload_state(self, request: web.Request) -> web.StreamResponse:
        session = await self._callers.session(request)
        doc = await self._site.uploads.state(session, request.match_info["id"])
        return json_response(upload_out(doc))


def upload_out(doc: UploadDoc) -> dict[str, Any]:
    told: dict[str, Any] = {
        "upload_id": doc.id,
        "state": doc.state,
        "kind": doc.kind,
        "mime": doc.mime,
        "bytes": doc.size,
        "name": doc.name,
        "reason": doc.reason,
    }
    return {name: value for name, value in told.items() if value != ""}
