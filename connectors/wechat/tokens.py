"""The access token: one for each account, shared by all processes, fetched by one of them.

It is kept, sealed, in the account's state, which changes by compare-and-swap only. Whoever fetches
a new one holds a lease there meanwhile; everybody else waits for what that brings. WeChat renews
by itself: ``stable_token`` gives the same token to all who ask until five minutes before its end.

A token that WeChat refuses is dropped only if it still is the one that is kept: of fifty calls
that were refused with it, in any number of processes, one fetches and the others find the new one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from connectors.wechat.errors import ANOTHER_SYSTEM
from connectors.wechat.token_state import NEVER, Kept, Token, TokenState
from hub import ConnectorContext
from normalizer.outcomes import Failure, Misconfigured, Temporary

RENEW_AT = 0.8  # of its life
LEASE = timedelta(seconds=25)  # longer than two fetches take
WAIT_S = 20.0  # for another process' fetch; the flight goes on when its callers have gone
CALLER_WAITS_S = 7.0  # a worker has 15 s for an attempt, and has to send within them as well
LOOK_EVERY_S = 0.05
CONTESTED = 3  # refusals of a token that should have held ...
CONTESTED_WITHIN = timedelta(minutes=10)  # ... in which time
FORCE_EVERY = timedelta(minutes=75)  # the vendor allows 20 forced renewals a day


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What WeChat, or a token server, gave."""

    token: str
    expires_in: float  # seconds

    def __repr__(self) -> str:
        return "Fetched(***)"


Fetch = Callable[[bool], Awaitable[Fetched]]
"""Ask for a token; True = force a new one."""


class Tokens:
    """One for each account and process."""

    def __init__(self, context: ConnectorContext, fetch: Fetch, *, may_force: bool) -> None:
        self._context = context
        self._fetch = fetch
        self._may_force = may_force
        self._state = TokenState(context)
        self._owner = os.urandom(12).hex()
        self._held: Token | None = None
        self._flight: asyncio.Task[Token] | None = None

    async def current(self) -> str:
        """Return a token that should hold. Raises a Failure when there is none to be had."""
        return (await self.held()).value

    async def held(self) -> Token:
        """The same, with its times."""
        held = self._held
        if held is not None and self._now() < held.renew_at:
            return held
        return await self._flown("")

    async def replaced(self, refused: str) -> str:
        """Return another token than the one that WeChat refused.

        Raises Misconfigured where this happens so often that somebody else must be behind it.
        """
        if self._held is not None and self._held.value == refused:
            self._held = None
        token = await self._flown(refused)
        if await self.contested():
            raise Misconfigured(ANOTHER_SYSTEM, code="token_contested")
        return token.value

    async def contested(self) -> bool:
        """Whether tokens were refused three times in the last ten minutes, in any process."""
        kept, _ = await self._state.load()
        return len(self._recent(kept)) >= CONTESTED

    async def close(self) -> None:
        if self._flight is not None and not self._flight.done():
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    # --- one flight in this process --------------------------------------------------------------

    async def _flown(self, refused: str) -> Token:
        """Return a token other than ``refused``, from a flight that is under way or a new one."""
        while True:
            joined = self._flight is not None and not self._flight.done()
            if not joined:
                self._flight = asyncio.create_task(self._obtained(refused))
                self._flight.add_done_callback(_looked_at)
            assert self._flight is not None
            try:
                async with asyncio.timeout(CALLER_WAITS_S):
                    token = await asyncio.shield(self._flight)
            except TimeoutError:
                raise Temporary("the access token is not there in time") from None
            if token.value != refused or not joined:
                return token

    # --- one flight among all processes ----------------------------------------------------------

    async def _obtained(self, refused: str) -> Token:
        loop = asyncio.get_running_loop()
        ends = loop.time() + WAIT_S
        while True:
            kept, rev = await self._state.load()
            now = self._now()
            token = self._state.opened(kept)
            if token is not None and token.value == refused:
                token = None
            if token is not None and now < token.renew_at:
                self._held = token
                return token
            still_good = token is not None and now < token.expires_at
            if kept.until > now and kept.owner != self._owner:
                if token is not None and still_good:
                    return token  # somebody is renewing it; this one holds meanwhile
                if loop.time() > ends:
                    raise Temporary("another process of the hub is fetching the access token")
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            leased = self._leased(kept, refused, now)
            if not await self._state.store(leased, rev):
                continue
            try:
                fetched = await self._fetched(leased, rev + 1, refused)
            except Failure as failure:
                if token is None or not still_good:
                    raise
                self._context.log.warning("token_not_renewed", reason=failure.reason)
                return token
            if fetched is not None:
                self._held = fetched
                return fetched

    def _leased(self, kept: Kept, refused: str, now: datetime) -> Kept:
        """Return the state with our lease; a token that was refused goes, and is counted."""
        held = self._state.opened(kept)
        dropped = held is not None and held.value == refused
        told = self._recent(kept)
        if held is not None and dropped and now < held.expires_at:
            told = [*told, now]
        return replace(
            kept,
            sealed="" if dropped else kept.sealed,
            owner=self._owner,
            until=now + LEASE,
            refused=told[-CONTESTED:],
        )

    async def _fetched(self, leased: Kept, rev: int, refused: str) -> Token | None:
        """Fetch and keep a token; None if our lease ran out and somebody else kept one."""
        free = replace(leased, owner="", until=NEVER)
        forced_at = leased.forced_at
        try:
            got = await self._fetch(False)
            now = self._now()
            if got.token == refused and self._may_force and now - forced_at > FORCE_EVERY:
                forced_at = now
                got = await self._fetch(True)
        except BaseException:
            await self._state.store(free, rev)
            raise
        if got.token == refused:
            await self._state.store(replace(free, forced_at=forced_at), rev)
            raise Misconfigured(
                "WeChat refuses the very token that is handed out for this account: make a new"
                " AppSecret in the console, or look at token_server",
                code="token_refused",
            )
        now = self._now()
        life = timedelta(seconds=got.expires_in)
        token = Token(value=got.token, renew_at=now + life * RENEW_AT, expires_at=now + life)
        kept = replace(
            free,
            sealed=self._state.sealed(got.token),
            renew_at=token.renew_at,
            expires_at=token.expires_at,
            forced_at=forced_at,
        )
        return token if await self._state.store(kept, rev) else None

    def _recent(self, kept: Kept) -> list[datetime]:
        since = self._now() - CONTESTED_WITHIN
        return [at for at in kept.refused if at > since]

    def _now(self) -> datetime:
        return self._context.clock.now()


def _looked_at(flight: asyncio.Task[Token]) -> None:
    """Take note of a flight's error, so that one that nobody waits for any more is no surprise."""
    if not flight.cancelled():
        flight.exception()
