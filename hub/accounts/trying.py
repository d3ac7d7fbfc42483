"""Trying the credentials of an account or a backend now: whatever happens is a sentence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import msgspec
import structlog

from hub.backend_contract import TicketBackend
from hub.contract import Connector
from hub.doors import reason_of
from normalizer.outcomes import Failure

log = structlog.get_logger(__name__)

DEADLINE_S = 20.0  # of one account or backend; they are tried side by side


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What came of trying one account or backend; no problems means that all is well."""

    kind: str  # account or backend
    name: str
    problems: tuple[str, ...] = ()
    took_s: float = 0.0


def account_name(connector: Connector[Any]) -> str:
    return f"{connector.account.channel}:{connector.account.key}"


async def check_account(connector: Connector[Any], deadline_s: float = DEADLINE_S) -> Finding:
    """Try one account: its settings, then its credentials at the vendor."""
    finding = await _tried("account", account_name(connector), connector.check, deadline_s)
    lacking = tuple(connector.check_settings())
    return msgspec.structs.replace(finding, problems=(*lacking, *finding.problems))


async def check_backend(backend: TicketBackend, deadline_s: float = DEADLINE_S) -> Finding:
    return await _tried("backend", backend.name, backend.check, deadline_s)


async def _tried(
    kind: str, name: str, check: Callable[[], Awaitable[Sequence[str]]], deadline_s: float
) -> Finding:
    """Try one thing; whatever happens is a sentence in the end."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(deadline_s):
            problems = list(await check())
    except TimeoutError:
        problems = [
            f"no answer within {deadline_s:g} s: look at its address, and whether a firewall"
            " swallows the connection"
        ]
    except Failure as failure:
        problems = [failure.reason]
    except (OSError, aiohttp.ClientError) as error:
        problems = [
            f"it cannot be reached ({reason_of(error)}): look at its address and at the network"
        ]
    except Exception as error:
        log.exception("check_failed", kind=kind, name=name)
        problems = [
            f"its check ended with {reason_of(error)}: this is a fault of the plugin, tell its"
            " makers"
        ]
    return Finding(
        kind=kind, name=name, problems=tuple(problems), took_s=round(time.monotonic() - began, 3)
    )
