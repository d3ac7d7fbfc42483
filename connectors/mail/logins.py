"""What an account logs in with, on both sides: a password, or an access token as it is just now.

A token that a server refuses is replaced once, and the login tried once more. A password is not:
the same one again only locks the account.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from connectors.mail.oauth_tokens import OAuthTokens
from connectors.mail.outcomes import LoginBrake, LoginRefused
from connectors.mail.settings import MailSettings
from hub import ConnectorContext, Secret
from normalizer.outcomes import Misconfigured

T = TypeVar("T")


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """A name with a password, or with an access token for XOAUTH2."""

    user: str
    password: Secret | None = None
    token: Secret | None = None


class Logins:
    """One for each account and process."""

    def __init__(self, settings: MailSettings, context: ConnectorContext) -> None:
        self._user = settings.login
        self._password = settings.password
        self._token = settings.access_token
        self._log = context.log
        self._unreadable = ""
        self._oauth: OAuthTokens | None = None
        if settings.oauth is not None:
            sends = bool(settings.smtp_host)
            self._oauth = OAuthTokens(context, settings.oauth, sends=sends)

    async def log_in(self, brake: LoginBrake, attempt: Callable[[Login], Awaitable[T]]) -> T:
        """Return what ``attempt`` makes of the login. Raises what keeps it from being made.

        LoginRefused is what a server says of a login; with another token it is tried again.
        """
        login = await self._login()
        brake.check(login)
        try:
            done = await attempt(login)
        except LoginRefused as refused:
            try:
                other = await self._other_than(login)
            except BaseException:
                brake.refused(refused, login)
                raise
            if other is None:
                brake.refused(refused, login)
                raise
            try:
                done = await attempt(other)
            except LoginRefused as again:
                brake.refused(again, other)
                raise
        brake.worked()
        return done

    async def renew(self) -> None:
        """Fetch an access token now, for ``omniline check``. Raises what keeps it from coming."""
        if self._oauth is not None:
            await self._oauth.renew()

    def warning(self) -> str:
        """Return what will end unless somebody acts, "" if nothing."""
        return self._unreadable or (self._oauth.warning() if self._oauth is not None else "")

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Renew what ends while a connection is held."""
        if self._oauth is None:
            yield
            return
        async with self._oauth.kept_fresh():
            yield

    async def close(self) -> None:
        if self._oauth is not None:
            await self._oauth.close()

    # -------------------------------------------------------------------------------------------

    async def _login(self) -> Login:
        if self._oauth is not None:
            return Login(user=self._user, token=Secret(await self._oauth.current()))
        if self._token is not None:
            await self._look_at_file()
            return Login(user=self._user, token=self._token)
        if self._password is None:
            raise Misconfigured("a login needs a password, an access_token or oauth")
        return Login(user=self._user, password=self._password)

    async def _other_than(self, refused: Login) -> Login | None:
        """Return a login that the server has not refused yet, None if there is none."""
        if refused.token is None:
            return None
        if self._oauth is not None:
            token = await self._oauth.other_than(refused.token.reveal())
            return Login(user=self._user, token=Secret(token)) if token is not None else None
        await self._look_at_file()
        known = self._token is None or self._token == refused.token
        return None if known else Login(user=self._user, token=self._token)

    async def _look_at_file(self) -> None:
        """Take the token as its file holds it now; the last good one while that cannot be read."""
        if self._token is None:
            return
        try:
            self._token = await asyncio.to_thread(self._token.reread)
        except ValueError as error:
            said = f"{error}: the access token read before is used, until it ends"
            if said != self._unreadable:
                self._log.warning("access_token_unreadable", reason=str(error))
            self._unreadable = said
        else:
            self._unreadable = ""
