"""Where access tokens come from: WeChat's ``stable_token``, or another system's token server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from connectors.wechat import errors
from connectors.wechat.api import TIMEOUT, read_bounded, refuse_status
from connectors.wechat.settings import WechatSettings
from connectors.wechat.tokens import Fetched
from hub import ConnectorContext
from normalizer.outcomes import Misconfigured, Temporary

LEAST_LIFE_S, LONGEST_LIFE_S = 30.0, 7200.0
MAX_TOKEN_CHARS = 4096


class TokenSource:
    """Asks for a token. Raises a Failure, in which no secret stands."""

    def __init__(self, settings: WechatSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context

    async def fetch(self, force: bool) -> Fetched:
        """Return a token; ``force`` makes WeChat issue a new one (20 a day, 30 s apart)."""
        if self._settings.token_server:
            return await self._of_server(self._settings.token_server)
        return await self._of_wechat(force)

    async def _of_wechat(self, force: bool) -> Fetched:
        secret = self._settings.app_secret
        if secret is None:
            raise Misconfigured("app_secret is not set: without it nothing can be sent or fetched")
        body = {
            "grant_type": "client_credential",
            "appid": self._settings.appid,
            "secret": secret.reveal(),
            "force_refresh": force,
        }
        url = f"{self._settings.api_url.rstrip('/')}/cgi-bin/stable_token"
        said = await self._ask("POST", url, data=msgspec.json.encode(body))
        number = said.get("errcode", 0)
        if number:
            words = str(said.get("errmsg", "")).replace(secret.reveal(), "***")
            self._context.log.warning("token_refused", errcode=number, rid=errors.rid(words))
            if number == 40001:
                raise Misconfigured(
                    "WeChat refuses app_secret: look at it in the console, and whether it was"
                    " made anew",
                    code="40001",
                )
            raise errors.failure(
                number if isinstance(number, int) else 0, words, self._context.clock.now()
            )
        return _fetched(said, "WeChat")

    async def _of_server(self, url: str) -> Fetched:
        auth = self._settings.token_server_auth
        headers = {"Authorization": auth.reveal()} if auth is not None else {}
        return _fetched(await self._ask("GET", url, headers=headers), "token_server")

    async def _ask(
        self, method: str, url: str, *, data: bytes | None = None, headers: Any = None
    ) -> Mapping[str, Any]:
        sent = {**(headers or {}), **({"Content-Type": "application/json"} if data else {})}
        try:
            async with self._context.http.request(
                method, url, data=data, headers=sent, timeout=TIMEOUT, allow_redirects=False
            ) as response:
                self._refuse_status(response)
                said = msgspec.json.decode(await read_bounded(response))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            said = None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Temporary(f"no access token can be had: {type(error).__name__}") from None
        if not isinstance(said, dict):
            raise Temporary("no access token can be had: the answer is no JSON object")
        return said

    def _refuse_status(self, response: aiohttp.ClientResponse) -> None:
        if self._settings.token_server:
            look_at = "token_server and token_server_auth"
            refuse_status(response, Temporary, whose="token_server", look_at=look_at)
        refuse_status(response, Temporary)


def _fetched(said: Mapping[str, Any], whose: str) -> Fetched:
    token, life = said.get("access_token"), said.get("expires_in")
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN_CHARS or not token.isascii():
        raise Temporary(f"{whose} answered without an access_token")
    if not isinstance(life, int | float) or isinstance(life, bool) or not life > 0:
        raise Temporary(f"{whose} answered without expires_in")
    return Fetched(token=token, expires_in=min(max(float(life), LEAST_LIFE_S), LONGEST_LIFE_S))
