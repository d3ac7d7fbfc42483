"""A channel whose messages are kept as files, and whose vendor knows the past. Made up::

    Who: ann
    Id: 17
    At: 2019-05-17T08:30:00+00:00
    File: photo.png

    what she said

``history`` reads a folder of such files in the order of their names, five a page.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from hub import Connector, Incoming, Polled, Refused, Request, Verified, hookimpl
from normalizer.addresses import Address
from normalizer.drafts import AnyDraft, Message
from normalizer.model import Direction
from normalizer.outcomes import Temporary
from normalizer.parts import File, Media, Text

omniline_api = 1
PAGE = 5


class ArchiveSettings(msgspec.Struct, frozen=True, kw_only=True):
    folder: str = ""


class Archive(Connector[ArchiveSettings]):
    channel: ClassVar[str] = "archive"
    settings: ClassVar[type[msgspec.Struct]] = ArchiveSettings

    def verify(self, request: Request) -> Verified:
        raise Refused("nobody calls an archive")

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        return ()

    async def read_history(self, raw: bytes, folder: str) -> Incoming:
        head, blank, body = raw.partition(b"\n\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        if not blank or "Who" not in fields:
            return Incoming(drafts=(), failed="it has no Who: a message names who said it")
        if fields["Who"] == "boom":
            raise RuntimeError("this must not be shown")
        parts: list[Any] = [Text(text=body.decode())]
        if "File" in fields:
            data = base64.b64encode(fields["Id"].encode())
            blob = await self.context.blobs.put(data, metadata={"name": fields["File"]})
            parts.append(File(media=Media(name=fields["File"], blob=blob, size=len(data))))
        account = self.account.key
        message = Message(
            key=fields["Id"],
            at=datetime.fromisoformat(fields["At"]),
            address=Address(scheme="archive", account=account, kind="user", id=fields["Who"]),
            parts=tuple(parts),
            direction=Direction.OUT if folder == "sent" else Direction.IN,
            vendor_ids=(fields["Id"],),
        )
        return Incoming(drafts=(message,), raw=raw)

    async def history(self, since: datetime, cursor: str | None) -> Polled:
        folder = Path(self.account.settings.folder)
        if not await asyncio.to_thread(folder.is_dir):
            raise Temporary("the folder is away")
        names = sorted(await asyncio.to_thread(lambda: [each.name for each in folder.iterdir()]))
        rest = [name for name in names if name > (cursor or "")]
        items = [await self.read_history((folder / name).read_bytes(), "") for name in rest[:PAGE]]
        young = [item for item in items if item.failed or _at(item) >= since]
        last = rest[:PAGE][-1] if rest else cursor or ""
        return Polled(items=young, cursor=last, more=len(rest) > PAGE)


def _at(item: Incoming) -> datetime:
    at = item.drafts[0].at
    assert at is not None
    return at


def written(who: str, ident: str, at: str, text: str, file: str = "") -> bytes:
    """Return a message as the archive keeps it."""
    attached = f"File: {file}\n" if file else ""
    return f"Who: {who}\nId: {ident}\nAt: {at}\n{attached}\n{text}\n".encode()


def mbox(*messages: bytes) -> bytes:
    """Return messages as an mbox; lines that begin with From are escaped."""
    text = b""
    for message in messages:
        lines = [
            b">" + line if line.lstrip(b">").startswith(b"From ") else line
            for line in message.splitlines(keepends=True)
        ]
        text += b"From ann@example.com Fri May 17 08:30:00 2019\n" + b"".join(lines) + b"\n"
    return text


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [Archive]
