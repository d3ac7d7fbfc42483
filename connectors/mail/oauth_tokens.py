"""The OAuth access token: one for each account, shared by all processes, renewed by one of them.

It is kept, sealed, in the account's state. Who renews it holds a lease there meanwhile, and
everybody else uses the old one, or waits. It is renewed when a quarter of its life is left (15
minutes at most), and once when a server refuses a login with it. A refresh token that comes with
it is kept as well, and used from then on. After a failure nobody asks again before its time; an
old token that still holds is used meanwhile, and ``warning`` says so.

What cannot be helped: a process that dies between a provider's answer and the database, where the
provider takes each refresh token once only. Then consent has to be given again.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

from msgspec.structs import replace

from connectors.mail import token_endpoint
from connectors.mail.oauth_settings import OAuth
from connectors.mail.oauth_state import NEVER, Kept, OAuthState, Token
from connectors.mail.token_endpoint import Granted
from hub import ConnectorContext
from normalizer.outcomes import Failure, Misconfigured, RateLimited, Temporary, Verdict

MARGIN, LONGEST_MARGIN = 0.25, timedelta(minutes=15)
YOUNG = timedelta(minutes=1)  # a token that is refused so soon did not end: another won't help
LEASE = timedelta(seconds=25)  # longer than a fetch takes
WAIT_S = 20.0  # for another process' fetch; the flight goes on when its callers have gone
CALLER_WAITS_S = 7.0  # a worker has 15 s for an attempt, and has to send within them as well
CLOSE_S = 5.0
LOOK_EVERY_S = 0.05
RENEWS_EVERY_S = 60.0
AGAIN_FIRST_S = {Verdict.MISCONFIGURED: 60.0, Verdict.TEMPORARY: 2.0, Verdict.RATE_LIMITED: 2.0}
AGAIN_LONGEST_S = 15 * 60.0
TOLD_AFTER = 3  # failures in a row that may pass by themselves

Change = Callable[[Kept], Kept | None]


class OAuthTokens:
    """One for each account and process."""

    def __init__(self, context: ConnectorContext, oauth: OAuth, *, sends: bool) -> None:
        self._context = context
        self._oauth = oauth
        self._scope = oauth.scope_for(sends=sends)
        self._state = OAuthState(context, oauth, self._scope)
        self._owner = os.urandom(12).hex()
        self._held: Token | None = None
        self._unkept: tuple[Granted, Token, str] | None = None
        self._flight: asyncio.Task[Token] | None = None
        self._trouble = ""

    async def current(self) -> str:
        """Return a token that should hold. Raises a Failure when there is none to be had."""
        held = self._held
        if held is not None and self._now() < held.renew_at and self._unkept is None:
            return held.value
        return (await self._flown()).value

    async def other_than(self, refused: str) -> str | None:
        """Return another token than one that a mail server refused.

        None when the refused one is so young that it cannot have ended: then it lacks rights.
        """
        if self._held is not None and self._held.value == refused:
            self._held = None
        token = await self._flown(refused=refused)
        return token.value if token.value != refused else None

    async def renew(self) -> None:
        """Renew now, whatever is kept, but for a token of the last minute. Raises a Failure."""
        await self._flown(force=True)

    def warning(self) -> str:
        """Return what an operator should know while everything still works, "" if nothing."""
        if self._unkept is not None:
            return (
                "the provider gave a new refresh token, and the database does not take it: do not"
                " stop the hub before it does, or consent may have to be given again"
            )
        if not self._trouble:
            return ""
        held, holds = self._held, "there is none"  # a connection may outlive it
        if held is not None and self._now() < held.expires_at:
            holds = f"the present one ends at {held.expires_at:%Y-%m-%d %H:%M} UTC"
        return f"the access token cannot be renewed, and {holds}: {self._trouble}"

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Renew before the end while a connection is held, which may outlive its token."""
        renewing = asyncio.ensure_future(self._keep_fresh())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def close(self) -> None:
        """Let a renewal under way end: what it brings must not be lost."""
        if self._flight is not None and not self._flight.done():
            await asyncio.wait({self._flight}, timeout=CLOSE_S)
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)
        if self._unkept is not None:
            with suppress(Temporary):  # said already, and there is nobody left to try again
                await self._keep(*self._unkept)

    async def _keep_fresh(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(RENEWS_EVERY_S * random.uniform(0.5, 1.0))
            try:
                await self.current()
            except Failure as failure:
                if failure.reason != told:
                    self._context.log.warning("oauth_token_missing", reason=failure.reason)
                told = failure.reason
            else:
                told = ""

    # --- one flight in this process ---------------------------------------------------------------

    async def _flown(self, *, refused: str = "", force: bool = False) -> Token:
        """Return what a flight brings: one that is under way, or a new one."""
        while True:
            joined = self._flight is not None and not self._flight.done()
            if not joined:
                self._flight = asyncio.create_task(self._obtained(refused, force))
                self._flight.add_done_callback(_looked_at)
            assert self._flight is not None
            try:
                async with asyncio.timeout(CALLER_WAITS_S):
                    token = await asyncio.shield(self._flight)
            except TimeoutError:
                raise Temporary("the access token is not there in time") from None
            if not joined or (token.value != refused and not force):
                return token

    # --- one flight among all processes -----------------------------------------------------------

    async def _obtained(self, refused: str, force: bool) -> Token:
        held = self._held
        try:
            token = await self._found(refused, force)
        except Failure:
            # The database may be away; what this process holds still holds.
            if force or held is None or held.value == refused or self._now() >= held.expires_at:
                raise
            token = held
        self._held = token if token.value != refused else None
        return token

    async def _found(self, refused: str, force: bool) -> Token:
        loop = asyncio.get_running_loop()
        ends = loop.time() + WAIT_S
        if self._unkept is not None:
            await self._keep(*self._unkept)
        while True:
            kept, now = await self._state.load(), self._now()
            token = self._state.access(kept)
            self._heard(kept)
            if token is not None and now >= token.expires_at:
                token = None
            if token is not None and now - token.got_at < YOUNG and (refused or force):
                return token
            good = token if token is not None and token.value != refused else None
            if good is not None and not force and now < good.renew_at:
                return good
            if not force and self._must_wait(kept, now):
                if good is not None:
                    return good
                raise _remembered(kept, now)
            if kept.until > now and kept.owner != self._owner:
                if good is not None and not force:
                    return good  # somebody is renewing it; this one holds meanwhile
                if loop.time() > ends:
                    raise Temporary("another process of the hub is fetching the access token")
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            leased = await self._state.change(self._lease(kept))
            if leased is None:
                continue  # somebody was quicker
            try:
                return await self._renewed(leased)
            except Failure as failure:
                if good is None or force:
                    raise
                self._context.log.warning("oauth_token_not_renewed", reason=failure.reason)
                return good

    def _lease(self, seen: Kept) -> Change:
        def change(kept: Kept) -> Kept | None:
            # Somebody else may have begun, renewed or failed since it was looked at.
            for name in ("owner", "until", "got_at", "try_at"):
                if getattr(kept, name) != getattr(seen, name):
                    return None
            return replace(kept, owner=self._owner, until=self._now() + LEASE)

        return change

    async def _renewed(self, leased: Kept) -> Token:
        """Fetch a token and keep it, and say so to the others if that does not work."""
        configured = self._oauth.refresh_token
        used = self._state.refresh(leased) or (configured.reveal() if configured else "")
        try:
            granted = await token_endpoint.ask(
                self._context.http, self._oauth, refresh_token=used, scope=self._scope
            )
        except Failure as error:
            failure = error  # which Python forgets behind this block
            told = await self._state.change(lambda kept: self._failed(kept, failure))
            if told is not None:
                self._heard(told)
            raise
        except BaseException:
            await self._state.change(self._freed)
            raise
        now, life = self._now(), timedelta(seconds=granted.expires_in)
        token = Token(
            value=granted.access,
            got_at=now,
            renew_at=now + life - min(life * MARGIN, LONGEST_MARGIN),
            expires_at=now + life,
        )
        if granted.refresh == used:
            granted = replace(granted, refresh="")
        try:
            await self._keep(granted, token, leased.refresh)
        except Temporary as failure:
            # The refresh token may be the only one that still holds: it is tried again.
            self._unkept = (granted, token, leased.refresh)
            self._context.log.error("oauth_token_not_kept", reason=failure.reason)
        return token

    async def _keep(self, granted: Granted, token: Token, before: str) -> None:
        """Store what was fetched. ``before`` is the sealed refresh token it was fetched with."""

        def change(kept: Kept) -> Kept | None:
            if kept.refresh != before or kept.got_at > token.got_at:
                return None  # our lease ran out, and what somebody else brought since is newer
            fresh = self._state.with_token(kept, token)
            if granted.refresh:
                fresh = replace(fresh, refresh=self._state.sealed(granted.refresh))
            fresh = replace(fresh, failed="", failed_with="", verdict="", tries=0, try_at=NEVER)
            return self._freed(fresh) or fresh

        await self._state.change(change)
        self._unkept = None
        self._trouble = ""

    def _freed(self, kept: Kept) -> Kept | None:
        return replace(kept, owner="", until=NEVER) if kept.owner == self._owner else None

    def _failed(self, kept: Kept, failure: Failure) -> Kept | None:
        if kept.owner != self._owner:
            return None  # our lease ran out
        tries = kept.tries + 1 if kept.failed_with == self._state.asked else 1
        wait_s = min(AGAIN_FIRST_S[failure.verdict] * 2.0 ** min(tries - 1, 10), AGAIN_LONGEST_S)
        if isinstance(failure, RateLimited):
            wait_s = max(wait_s, failure.retry_after)
        told = replace(
            kept,
            failed=failure.reason,
            failed_with=self._state.asked,
            verdict=failure.verdict,
            tries=tries,
            try_at=self._now() + timedelta(seconds=wait_s),
        )
        return self._freed(told)

    def _heard(self, kept: Kept) -> None:
        """Note what any process found out last."""
        lasting = kept.verdict == Verdict.MISCONFIGURED or kept.tries >= TOLD_AFTER
        ours = kept.failed_with == self._state.asked
        self._trouble = kept.failed if ours and lasting else ""

    def _must_wait(self, kept: Kept, now: datetime) -> bool:
        return kept.failed_with == self._state.asked and now < kept.try_at

    def _now(self) -> datetime:
        return self._context.clock.now()


def _remembered(kept: Kept, now: datetime) -> Failure:
    """Return the failure that some process met, while it is too early to ask again."""
    if kept.verdict == Verdict.MISCONFIGURED:
        return Misconfigured(kept.failed)
    if kept.verdict == Verdict.RATE_LIMITED:
        return RateLimited(kept.failed, retry_after=(kept.try_at - now).total_seconds())
    return Temporary(kept.failed)


def _looked_at(flight: asyncio.Task[Token]) -> None:
    """Take note of a flight's error, so that one that nobody waits for any more is no surprise."""
    if not flight.cancelled():
        flight.exception()
