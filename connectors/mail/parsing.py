"""Reading mails in a process of its own, which can be killed when a mail hangs or kills it.

One child process for an account, started with the first mail and ended when none came for a
while. Mails go to it one at a time. A mail that takes too long, or takes the child down, is
tried once more with a child that has seen nothing else; then :class:`ParseError` says so.
The child ends itself when its parent is gone, when a mail takes twice the time allowed, and
when it needs more memory than any mail does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress

import msgspec
import structlog

from connectors.mail import parse_child
from connectors.mail.reading import ReadMail

log = structlog.get_logger(__name__)

START_S = 30.0  # a Python and its imports, on a busy machine
IDLE_S = 300.0
TRIES = 2
CHILD = "connectors.mail.parse_child"


class ParseError(Exception):
    """The mail could not be read; the text says why, without a word of the mail itself."""


class Parser:
    """Reads mails one after the other, off the event loop."""

    def __init__(self, within_s: float, *, child: str = CHILD) -> None:
        self._within_s = within_s
        self._module = child
        self._child: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    async def read(self, task: parse_child.Task) -> ReadMail:
        """Read a mail, or the head of one that is too large. Raises ParseError."""
        frame = msgspec.msgpack.encode(task)
        async with self._lock:
            self._stay()
            try:
                answer = None
                for _ in range(TRIES):
                    if answer is None:
                        answer = await self._tried(frame)
            finally:
                self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._rest)
        if answer is None:
            raise ParseError(
                f"reading the mail took longer than {self._within_s:.0f} s, or it took more memory"
                " than there is, or brought the reading process down"
            )
        done = msgspec.msgpack.decode(answer, type=parse_child.Done)
        if done.mail is None:
            raise ParseError(f"the mail cannot be read: {done.error}")
        return done.mail

    async def close(self) -> None:
        async with self._lock:
            self._stay()
            await self._end()
        if self._ending is not None:
            await self._ending

    # --- one at a time -------------------------------------------------------------------------

    async def _tried(self, frame: bytes) -> bytes | None:
        """Return the child's answer, or None when it had to be ended."""
        try:
            child = await self._started()
            assert child.stdin is not None
            assert child.stdout is not None
            async with asyncio.timeout(self._within_s):
                child.stdin.write(len(frame).to_bytes(8, "big") + frame)
                await child.stdin.drain()
                size = int.from_bytes(await child.stdout.readexactly(8), "big")
                return await child.stdout.readexactly(size)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            log.warning("mail_parser_ended", reason=type(error).__name__)
            await self._end()
            return None
        except BaseException:
            await self._end()  # its answer would be taken for the next mail's
            raise

    # --- the child -----------------------------------------------------------------------------

    async def _started(self) -> asyncio.subprocess.Process:
        if self._child is None or self._child.returncode is not None:
            await self._end()
            limit_s = max(1, round(2 * self._within_s))
            async with asyncio.timeout(START_S):
                self._child = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-c",
                    f"from {self._module} import main; main({limit_s}, {os.getpid()})",
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )
                assert self._child.stdout is not None
                await self._child.stdout.readexactly(len(parse_child.READY))
        return self._child

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with suppress(ProcessLookupError):
            child.kill()
        assert child.stdin is not None
        child.stdin.close()
        await child.wait()
        with suppress(OSError):
            await child.stdin.wait_closed()

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _rest(self) -> None:
        self._ending = asyncio.get_running_loop().create_task(self._end_if_idle())

    async def _end_if_idle(self) -> None:
        async with self._lock:
            await self._end()
