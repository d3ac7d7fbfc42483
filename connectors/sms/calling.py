"""A call to a provider's JSON API: one attempt, a deadline, and failures told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from normalizer.outcomes import OutcomeUnknown, Temporary

DEADLINE_S = 15.0
MAX_ANSWER_BYTES = 1024 * 1024


async def post_json(
    http: aiohttp.ClientSession, url: str, *, headers: Mapping[str, str], body: bytes = b""
) -> tuple[int, dict[str, Any]]:
    """Return status and object of an answer, whatever the status; nothing is sent twice.

    Raises Temporary where the provider cannot have seen it, OutcomeUnknown where it may have.
    """
    host = urlsplit(url).hostname
    try:
        async with (
            asyncio.timeout(DEADLINE_S),
            http.post(
                URL(url, encoded=True), data=body, headers=dict(headers), allow_redirects=False
            ) as answer,
        ):
            said = b""
            async for chunk in answer.content.iter_chunked(64 * 1024):
                said += chunk
                if len(said) > MAX_ANSWER_BYTES:
                    raise OutcomeUnknown(f"{host} answers with more than an answer can be")
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Temporary(f"{host} cannot be reached: {type(error).__name__}") from error
    except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
        raise OutcomeUnknown(
            f"{host} was asked and gave no answer: {type(error).__name__}"
        ) from error
    try:
        decoded = msgspec.json.decode(said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OutcomeUnknown(
            f"{host} answered {answer.status} with something that is no JSON",
            code=str(answer.status),
        ) from error
    if not isinstance(decoded, dict):
        raise OutcomeUnknown(f"{host} answered {answer.status} with no object")
    return answer.status, decoded
