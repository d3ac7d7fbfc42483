"""A person's decision about a ticket in doubt: there it is, or make it again.

A ticket whose making had no answer, at a backend that cannot be asked, holds its lane: whatever
came after it would make a second one. Nobody but a person can look there.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import structlog
from msgspec.structs import replace

from hub.clock import Clock
from hub.documents import Conversation, Job, TicketMap
from hub.planning.rules import Refusal
from hub.planning.ticket_jobs import ticket_lane
from hub.store.interface import Store

log = structlog.get_logger(__name__)

TRIES = 5


class TicketStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How a conversation stands with one backend.

    ``state``: ``none`` (nothing was to be written yet), ``making``, ``linked``, or ``unknown``
    (nobody knows whether the last write was done; ``reason`` says why). ``waiting`` jobs stand
    behind the one at hand.
    """

    backend: str
    state: Literal["none", "making", "linked", "unknown"]
    ticket: str = ""
    number: str = ""
    url: str = ""
    reason: str = ""
    waiting: int = 0


class Settling:
    """Shows and settles doubts about tickets."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._jobs = store.table(Job)
        self._maps = store.table(TicketMap)
        self._clock = clock

    async def tickets(self, conversation: Conversation) -> list[TicketStanding]:
        """Return how the conversation stands with each of its backends."""
        maps = await self._maps.find({"conversation": conversation.id})
        known = {each.backend: each for each in maps}
        return [
            await self._standing(conversation, backend, known.get(backend))
            for backend in dict.fromkeys([*conversation.backends, *known])
        ]

    async def _standing(
        self, conversation: Conversation, backend: str, known: TicketMap | None
    ) -> TicketStanding:
        live = await self._live(conversation, backend)
        first = live[0] if live else None
        return TicketStanding(
            backend=backend,
            state=_state(first, known),
            ticket=known.ticket if known else "",
            number=known.number if known else "",
            url=known.url if known else "",
            reason=first.reason if first is not None else "",
            waiting=max(0, len(live) - 1),
        )

    async def settle(
        self,
        conversation: Conversation,
        backend: str,
        *,
        ticket: str = "",
        retry: bool = False,
        by: str,
    ) -> None:
        """Free what is in doubt: go on with ``ticket``, or (``retry``) do it again.

        Harmless when repeated. Raises Refusal(conflict) when nothing is in doubt.
        """
        if bool(ticket) == retry:
            raise Refusal("bad-request", "say either which ticket it is, or retry", 422)
        decided: dict[str, Any] = {"ticket": ticket} if ticket else {}
        for _ in range(TRIES):
            live = await self._live(conversation, backend)
            job = live[0] if live else None
            if ticket and await self._is_so(conversation, backend, job, ticket):
                return
            if job is None or job.state not in ("settling", "sending") or job.task != "append":
                raise Refusal(
                    "conflict",
                    f"nothing is in doubt between this conversation and {backend}: what was given"
                    " up is in the dead letters",
                )
            if job.state == "sending":
                raise Refusal("conflict", "it is being tried right now: look again in a minute")
            args = {name: value for name, value in job.args.items() if name != "ticket"}
            again = replace(
                job,
                state="ready",
                due_at=self._clock.now(),
                lease="",
                settle_until=None,
                reason="",
                args={**args, **decided, "round": int(args.get("round", 0)) + 1},
            )
            # A worker that looks it up at this moment finds that the job is not its own any more.
            expect = {"live": True, "state": "settling", "lease": job.lease or None}
            if await self._jobs.swap(again, expect):
                log.info(
                    "ticket_settled",
                    conversation=conversation.id,
                    backend=backend,
                    job=job.id,
                    retry=retry,
                    by=by,
                )
                return
        raise Refusal("conflict", "it is being looked up right now: try again")

    async def _is_so(
        self, conversation: Conversation, backend: str, job: Job | None, ticket: str
    ) -> bool:
        """Say whether just this was decided before."""
        if job is not None and job.state != "settling" and job.args.get("ticket") == ticket:
            return True
        if job is not None and job.state == "settling":
            return False
        where = {"conversation": conversation.id, "backend": backend, "ticket": ticket}
        return bool(await self._maps.find(where, limit=1))

    async def _live(self, conversation: Conversation, backend: str) -> list[Job]:
        """Return what is still to be done for this pair, oldest first."""
        return await self._jobs.find(
            {
                "lane": ticket_lane(conversation, backend),
                "live": True,
                "conversation": conversation.id,
                "backend": backend,
            },
            sort=[("position", 1)],
        )


def _state(
    first: Job | None, known: TicketMap | None
) -> Literal["none", "making", "linked", "unknown"]:
    if first is not None and first.state == "settling":
        return "unknown"
    if known is not None:
        return "linked"
    return "none" if first is None else "making"
