"""``GET /events``: the same frames for clients whose socket does not get through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from connectors.site.assembly import Site
from connectors.site.audience import Audience
from connectors.site.errors import SiteError
from connectors.site.frames import Frame, Reset
from connectors.site.visitors import Session

MAX_WAIT_S = 25.0
_GATHER_S = 0.02  # what comes right behind the first event travels with it


class LongPoll:
    """One request that waits; it also hears what is pushed meanwhile (typing, counts)."""

    def __init__(self, site: Site, session: Session, audience: Audience, base: str) -> None:
        self._site = site
        self._session = session
        self._audience = audience
        self._renderer = site.renderer(session, audience, base)
        self._frames: list[Frame] = []
        self._ready = asyncio.Event()
        self._ended: SiteError | None = None
        self._position = 0
        self.visitor = session.id
        self.addresses = audience.ids

    async def run(self, cursor: str, wait_s: float) -> dict[str, Any]:
        """Return events and the cursor behind them, at once or when something happens."""
        site = self._site
        try:
            after = site.read_cursor(self._session, cursor) if cursor else None
        except ValueError as error:
            return await self._reset(str(error))
        if after is None:
            return self._told(await site.context.position())
        missed = await site.missed(self._renderer, self._audience, after)
        if missed is None:
            return await self._reset("too_much_missed")
        self._frames, self._position = missed
        if not self._frames and wait_s > 0:
            await self._wait(wait_s)
        if self._ended is not None:
            raise self._ended
        return self._told(self._position)

    async def _reset(self, reason: str) -> dict[str, Any]:
        position = await self._site.context.position()
        self._frames = [Reset(reason=reason, cursor=self._site.cursor(self._session, position))]
        return self._told(position)

    def _told(self, position: int) -> dict[str, Any]:
        return {
            "events": msgspec.to_builtins(self._frames),
            "cursor": self._site.cursor(self._session, position),
        }

    async def _wait(self, wait_s: float) -> None:
        follower = asyncio.create_task(self._follow(), name="site-long-poll")
        self._site.registry.add(self, socket=False)
        try:
            async with asyncio.timeout(wait_s):
                await self._ready.wait()
                await asyncio.sleep(_GATHER_S)
        except TimeoutError:
            return
        finally:
            self._site.registry.remove(self)
            follower.cancel()
            results = await asyncio.gather(follower, return_exceptions=True)
            if isinstance(results[0], Exception):
                raise results[0]

    async def _follow(self) -> None:
        changes = self._site.context.follow(self._audience.ids, self._position)
        try:
            async for seen in changes:
                if not self._audience.primary:
                    self._audience = await self._site.audiences.of(self._session)
                    self._renderer.see(self._audience)
                frames = await self._renderer.frames(seen)
                self._position = seen.position
                for frame in frames:
                    self.push(frame)
        finally:
            self._ready.set()
            if isinstance(changes, AsyncGenerator):
                await changes.aclose()

    # --- what the registry asks of a listener --------------------------------------------------

    def push(self, frame: Frame) -> None:
        self._frames.append(frame)
        self._ready.set()

    def end(self, error: SiteError) -> None:
        if error.code != "draining":  # a restart ends the wait, and the events are handed out
            self._ended = error
        self._ready.set()

    async def closed(self) -> None:
        """Long polls answer by themselves: nobody has to wait for them."""
