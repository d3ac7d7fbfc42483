"""Customers' files: fetched from WeChat, which keeps them three days.

``media/get`` answers with the bytes, with an error in JSON (and status 200), or for a video with
JSON that holds an address, from which a second call fetches it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from connectors.wechat import errors
from connectors.wechat.api import Api, Refusal
from connectors.wechat.settings import WechatSettings
from connectors.wechat.tokens import Tokens
from hub import ConnectorContext, Fetched
from normalizer.outcomes import Rejected, Temporary
from normalizer.parts import Media

MAX_JSON_BYTES = 64 * 1024
_WORDS = frozenset({"application/json", "text/plain", "text/json", "text/javascript"})


class MediaDoor:
    def __init__(
        self, settings: WechatSettings, context: ConnectorContext, tokens: Tokens, api: Api
    ) -> None:
        self._settings = settings
        self._context = context
        self._tokens = tokens
        self._api = api

    async def fetch(self, media: Media) -> Fetched:
        """Begin to fetch a file. Raises Gone for 40007, Rejected for a foreign host."""
        ref = media.vendor_ref or ""
        if not ref:
            raise Rejected("the message did not say which file it is")
        if ref.startswith(("http://", "https://")):
            return await self._from(ref)
        token = await self._tokens.current()
        try:
            return await self._got(ref, token)
        except Refusal as refusal:
            if refusal.number not in errors.TOKEN_REFUSED:
                raise self._api.failure(refusal) from None
        token = await self._tokens.replaced(token)
        try:
            return await self._got(ref, token)
        except Refusal as refusal:
            raise self._api.failure(refusal) from None

    async def _got(self, ref: str, token: str) -> Fetched:
        base = self._settings.api_url.rstrip("/")
        query = f"access_token={quote(token, safe='')}&media_id={quote(ref, safe='')}"
        fetched = await self._context.fetch(
            f"{base}/cgi-bin/media/get?{query}", hosts=[urlsplit(base).netloc]
        )
        if fetched.mime not in _WORDS:
            return fetched
        said = await _words(fetched)
        number = said.get("errcode", 0)
        if number:
            words = str(said.get("errmsg", "")).replace(token, "***")
            self._context.log.info(
                "wechat_refused", path="/cgi-bin/media/get", errcode=number, rid=errors.rid(words)
            )
            raise Refusal(number if isinstance(number, int) else 0, words)
        url = said.get("video_url") or said.get("down_url")
        if not isinstance(url, str) or not url:
            raise Temporary("WeChat answered with neither a file nor an error")
        return await self._from(url)

    async def _from(self, url: str) -> Fetched:
        """Fetch from an address that a push or an answer named: from WeChat's hosts only."""
        return await self._context.fetch(url, hosts=self._settings.media_hosts)


async def _words(fetched: Fetched) -> dict[str, Any]:
    body = bytearray()
    stream: AsyncIterator[bytes] = fetched.stream
    async for chunk in stream:
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise Temporary("WeChat answered with words that are too long")
    try:
        said = msgspec.json.decode(bytes(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Temporary("WeChat answered with neither a file nor an error") from None
    if not isinstance(said, dict):
        raise Temporary("WeChat answered with neither a file nor an error")
    return said
