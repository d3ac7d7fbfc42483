"""The desk's refusals as RFC 9457 problem documents, of the same types as the rest of the API."""

from __future__ import annotations

from typing import Any

from aiohttp import web

TYPES = "https://omniline.dev/problems/"
TITLES = {
    "bad-request": "The request is not valid",
    "forbidden": "This key may not do that",
    "not-found": "There is no such thing",
    "conflict": "Somebody else changed it",
    "idempotency-conflict": "This Idempotency-Key was used for something else",
    "erased": "This was erased",
    "cursor-invalid": "This cursor is not ours",
    "too-large": "Too large",
    "unsupported-media-type": "Not in this format",
}


class Refuse(Exception):
    """Ends a request with a problem document. ``detail`` says what to do."""

    def __init__(self, kind: str, detail: str, status: int, **more: Any) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.status = status
        self.more = more

    def response(self) -> web.Response:
        body = {
            "type": TYPES + self.kind,
            "title": TITLES[self.kind],
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        return web.json_response(body, status=self.status, content_type="application/problem+json")
