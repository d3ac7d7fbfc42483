"""Load: signed requests written to a file beforehand, and wrk to send them.

Both sides are sent the same kind of bytes by the same program, so the generator costs both the
same. Every request is another message: none is a repetition.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tests.bench.report import BenchError
from tests.support.load import PATH
from tests.support.processes import SECRET

SCRIPT = Path(__file__).with_name("load.lua")
TEXT = "你好，我想问一下订单 12345 什么时候发货？😀"
MISSING = (
    "there is no `wrk` on the PATH, which makes the load of this benchmark.\n"
    "Install it (Debian, Ubuntu: apt-get install wrk; macOS: brew install wrk) and run again."
)
GRACE_S = 30


class Load(msgspec.Struct, frozen=True):
    """What wrk saw. ``seconds`` is its window; latencies are those of answers inside it."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    refused: int
    broken: int
    ran_out: bool

    @property
    def acknowledged(self) -> int:
        return self.requests - self.refused

    @property
    def rate(self) -> float:
        return self.acknowledged / self.seconds


class RanOut(BenchError):
    """The window was longer than the requests that were written for it."""


class Records(msgspec.Struct, frozen=True):
    """A file of signed requests, all of one length."""

    path: Path
    length: int


def wrk_version() -> str:
    """Return wrk's version, or an empty text without one."""
    if shutil.which("wrk") is None:
        return ""
    shown = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return (shown.stdout + shown.stderr).split(" Copyright")[0].removeprefix("wrk ").split(" ")[0]


def write_records(path: Path, url: str, name: str, count: int, *, senders: int = 0) -> Records:
    """Write requests that are signed now; good for five minutes.

    ``name`` makes them different from all others. ``senders`` customers take turns; 0 = every
    message is from somebody else.
    """
    stamp = int(time.time())
    at_ms = stamp * 1000
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: application/json\r\nX-Sample-Time: {stamp}\r\n"
    ).encode()
    key = SECRET.encode()
    signed = str(stamp).encode() + b"."
    length = 0
    with path.open("wb", buffering=1024 * 1024) as file:
        for number in range(count):
            sender = f"s{number % senders:08d}" if senders else f"{name}n{number:08d}"
            body = (
                f'{{"id":"{name}{number:08d}","sender":"{sender}","at":{at_ms},"text":"{TEXT}"}}'
            ).encode()
            signature = hmac.new(key, signed + body, hashlib.sha256).hexdigest()
            record = b"%bX-Sample-Signature: %b\r\nContent-Length: %d\r\n\r\n%b" % (
                head,
                signature.encode(),
                len(body),
                body,
            )
            length = len(record)
            file.write(record)
    return Records(path, length)


async def run_wrk(
    url: str, records: Records, *, connections: int, seconds: int, pause_ms: int = 0
) -> Load:
    """Send for ``seconds``; with ``pause_ms``, each connection rests between its requests.

    Raises RanOut when the records did not last, BenchError when something was not answered.
    """
    wrk = await asyncio.create_subprocess_exec(
        "wrk",
        *("-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{GRACE_S}s"),
        *("-s", str(SCRIPT), url + PATH, "--"),
        *(str(records.path), str(records.length), str(pause_ms)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds + GRACE_S):
            output, _ = await wrk.communicate()
    finally:
        if wrk.returncode is None:
            wrk.kill()
            await wrk.wait()
    lines = [line for line in output.splitlines() if line.startswith(b"{")]
    if wrk.returncode or not lines:
        raise BenchError(f"wrk failed with {wrk.returncode}: {output.decode(errors='replace')}")
    load = msgspec.json.decode(lines[-1], type=Load)
    if load.ran_out:
        raise RanOut(f"{load.requests} signed requests did not last for {seconds} s")
    if load.broken or load.refused:
        raise BenchError(f"{load.broken} requests broke and {load.refused} were refused: {load}")
    return load
