"""The held door: one TCP connection with a message a line. The vendor is made up::

> HELLO token after      "after" is the last seq that we have, or "end"
< OK 41                  or NO
< {"seq": 42, "id": "m42", "sender": "ann", "at": 1772442000000, "text": "..."}
< PING                   every few seconds, so that a dead connection is noticed
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

import msgspec

from hub import (
    Connector,
    Deliver,
    Incoming,
    Polled,
    Refused,
    Request,
    Secret,
    Verified,
    hookimpl,
)
from normalizer.addresses import Address
from normalizer.drafts import AnyDraft, Message
from normalizer.outcomes import Misconfigured, Temporary
from normalizer.parts import Text

omniline_api = 1

CONNECT_S = 5.0
SILENCE_S = 30.0  # three pings
LINE_BYTES = 256 * 1024


class HeldSettings(msgspec.Struct, frozen=True, kw_only=True):
    host: Annotated[str, msgspec.Meta(description="The vendor's host.")]
    port: Annotated[int, msgspec.Meta(description="The vendor's port.", ge=1, le=65535)]
    token: Annotated[Secret, msgspec.Meta(description="The token of this account.")]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the made-up vendor. ``at`` is Unix time in milliseconds."""

    seq: int
    id: str
    sender: str
    at: int
    text: str = ""


class SampleHeld(Connector[HeldSettings]):
    channel: ClassVar[str] = "sample_held"
    settings: ClassVar[type[msgspec.Struct]] = HeldSettings

    def verify(self, request: Request) -> Verified:
        raise Refused("no webhook", status=404)

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        return self.read(msgspec.json.decode(verified.payload, type=Line))

    def read(self, line: Line) -> Sequence[AnyDraft]:
        """Return what one line says. Pure."""
        address = Address(
            scheme=self.channel, account=self.account.key, kind="user", id=line.sender
        )
        at = datetime.fromtimestamp(line.at / 1000, UTC)
        return (Message(key=line.id, at=at, address=address, parts=(Text(text=line.text),)),)

    async def hold(self, cursor: str | None, deliver: Deliver) -> None:
        settings = self.account.settings
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(
                    settings.host, settings.port, limit=LINE_BYTES
                )
        except (OSError, TimeoutError) as error:
            raise Temporary(f"no connection to {settings.host}:{settings.port}") from error
        try:
            writer.write(f"HELLO {settings.token.reveal()} {cursor or 'end'}\n".encode())
            answer = await _line(reader)
            if not answer.startswith(b"OK "):
                raise Misconfigured("the vendor does not accept the token: look at `token`")
            # Kept before the first message: what comes after a cut at this point is new as well.
            await deliver((), answer[3:].decode())
            while True:
                raw = await _line(reader)
                if raw == b"PING":
                    continue
                line = msgspec.json.decode(raw, type=Line)
                await deliver([Incoming(drafts=self.read(line), raw=raw)], str(line.seq))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def skip(self, cursor: str) -> Polled:
        # The vendor counts without gaps, and hands out no line by itself.
        return Polled(items=(), cursor=str(int(cursor) + 1))


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(SILENCE_S):
            line = await reader.readline()
    except TimeoutError as error:
        raise Temporary(f"the vendor was silent for {SILENCE_S:.0f} s") from error
    except OSError as error:
        raise Temporary("the connection was lost") from error
    if not line.endswith(b"\n"):
        raise Temporary("the vendor closed the connection")
    return line.rstrip(b"\n")


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [SampleHeld]
