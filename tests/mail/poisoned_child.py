"""The reading process, with words in a mail that hang, kill or break it."""

from __future__ import annotations

import ctypes
import os

from connectors.mail import parse_child
from connectors.mail.parse_child import Task
from connectors.mail.reading import ReadMail

READ = parse_child.read


def read(task: Task) -> ReadMail:
    if b"POISON-HANG" in task.raw:
        while True:
            pass
    if b"POISON-EXIT" in task.raw:
        os._exit(3)
    if b"POISON-SEGFAULT" in task.raw:
        ctypes.string_at(0)
    if b"POISON-MEMORY" in task.raw:
        raise MemoryError
    if b"POISON-RAISE" in task.raw:
        raise ValueError(task.raw.decode())
    return READ(task)


def main(longest_s: int, parent: int) -> None:
    parse_child.read = read
    parse_child.main(longest_s, parent)
