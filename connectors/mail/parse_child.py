"""The process that reads mails: frames of msgpack come in by stdin, and go out by stdout.

Run by :mod:`connectors.mail.parsing`, which knows why.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from datetime import datetime

import msgspec

from connectors.mail.reading import Box, MailRefused, ReadMail, read_headers, read_mail

READY = b"ready\n"
MEMORY_BYTES = 2 * 1024**3
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One mail. With ``size`` it is the head of a mail of so many bytes, and its beginning."""

    raw: bytes
    box: Box
    received_at: datetime
    internal_date: datetime | None = None
    size: int | None = None
    beginning: bytes = b""
    beginning_headers: bytes = b""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it."""

    mail: ReadMail | None = None
    error: str = ""


def read(task: Task) -> ReadMail:
    if task.size is None:
        return read_mail(
            task.raw, box=task.box, received_at=task.received_at, internal_date=task.internal_date
        )
    return read_headers(
        task.raw,
        task.size,
        task.beginning,
        box=task.box,
        received_at=task.received_at,
        internal_date=task.internal_date,
        first_headers=task.beginning_headers,
    )


def answered(frame: bytes) -> bytes:
    """Read the mail of a frame and return the frame of its answer."""
    try:
        return msgspec.msgpack.encode(Done(mail=read(msgspec.msgpack.decode(frame, type=Task))))
    except MemoryError:
        raise
    except MailRefused as refused:
        return msgspec.msgpack.encode(Done(error=str(refused)))
    except Exception as error:  # noqa: BLE001 - told to the parent, which makes it a dead letter
        # The text of an error may hold words of the mail, which belong into no log.
        return msgspec.msgpack.encode(Done(error=_where(error)))


def _where(error: Exception) -> str:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = ""
    if traceback is not None:
        code = traceback.tb_frame.f_code
        where = f" in {os.path.basename(code.co_filename)}:{traceback.tb_lineno}"
    return f"{type(error).__name__}{where}"


def main(longest_s: int, parent: int) -> None:
    """Read mails until stdin ends; die after ``longest_s`` with one, or with ``parent``."""
    # A terminal's Ctrl-C is for the parent, which ends this process in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, AttributeError):  # Linux only; elsewhere the alarm has to do
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(ValueError, OSError):  # where the limit is lower already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    if os.getppid() != parent:
        return
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library prints must not stand between the frames
    sink.write(READY)
    sink.flush()
    while len(head := source.read(8)) == 8:
        frame = source.read(int.from_bytes(head, "big"))
        signal.alarm(longest_s)
        answer = answered(frame)
        signal.alarm(0)
        sink.write(len(answer).to_bytes(8, "big") + answer)
        sink.flush()
