"""What is read without a session: the widget's settings and script, files by link, a demo page."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

import msgspec
from aiohttp import web

from connectors.site.assembly import Site
from connectors.site.rest.wire import Routes, json_response


class Public:
    """``/config``, ``/widget.js``, ``/files``, and ``/demo`` where it is switched on."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> Routes:
        routes: Routes = [
            ("GET", "/config", self._config),
            ("GET", "/widget.js", self._widget),
            ("GET", "/files/{entry}/{index:[0-9]{1,4}}", self._file),
        ]
        if self._site.settings.demo_page:
            routes.append(("GET", "/demo", self._demo))
        return routes

    async def _config(self, request: web.Request) -> web.StreamResponse:
        settings = self._site.settings
        told = {
            "site": self._site.key,
            "enabled": settings.enabled,
            "theme": msgspec.to_builtins(settings.theme),
            "features": {
                "uploads": True,
                "inbox": bool(settings.identity_keys or settings.user_hash_secret),
                "recall": settings.visitor_recall_s > 0,
                "edit": settings.visitor_edit_s > 0,
            },
            "limits": self._site.limits_told(),
            "availability": {"state": settings.availability, "next_open": settings.next_open},
            "locales": ["zh-CN", "en"],
            "consent": {"version": settings.consent_version, "text": settings.consent_text},
            "heartbeat_s": settings.heartbeat_s,
        }
        response = json_response(told)
        response.headers["Cache-Control"] = "public, max-age=60"
        # It holds nothing of anybody, and a page that is not listed should learn why.
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    async def _widget(self, request: web.Request) -> web.StreamResponse:
        script = asset("widget.js")
        etag = hashlib.sha256(script).hexdigest()[:32]
        headers = {
            "Content-Type": "text/javascript; charset=utf-8",
            "Cache-Control": "public, max-age=300",
            "ETag": f'"{etag}"',
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
        if any(each.value == etag for each in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=script, headers=headers)

    async def _demo(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=asset("demo.html"), content_type="text/html", charset="utf-8")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return await self._site.uploads.serve(request)


@cache
def asset(name: str) -> bytes:
    return resources.files("connectors.site").joinpath(name).read_bytes()
