"""Mails for tests, built byte by byte: nothing here repairs what a test breaks on purpose."""

from __future__ import annotations

import base64
import quopri
from datetime import UTC, datetime
from typing import Any

from connectors.mail.reading import Box, ReadMail, read_mail
from normalizer.drafts import Message, Receipt

KEY = b"a key of thirty-two bytes, no les"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BOX = Box(
    own=frozenset({"support@example.com"}),
    authserv_ids=frozenset({"mx.example.com"}),
    reply_key=KEY,
    instance="hub-1",
)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + b"\x01" * 200
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x20\x00\x00\x00\x20" + b"\x00" * 60
PIXEL = b"GIF89a\x01\x00\x01\x00\x80\x00\x00" + b"\x00" * 20


def raw(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def part(body: str | bytes, *headers: str | bytes) -> bytes:
    """One part: header lines, an empty line, the body as it is given."""
    return b"".join(raw(line) + b"\r\n" for line in headers) + b"\r\n" + raw(body)


def mail(
    body: str | bytes = "Hello, where is my order?",
    *headers: str | bytes,
    sender: str | bytes | None = "Li Lei <li@example.org>",
    to: str | bytes | None = "support@example.com",
    subject: str | bytes | None = "Order",
    message_id: str | bytes | None = "<m1@example.org>",
    date: str | bytes | None = "Sun, 01 Mar 2026 10:00:00 +0000",
) -> bytes:
    """A whole mail. ``headers`` come below the usual ones; None leaves one of those out."""
    lines: list[bytes] = []
    for name, value in (
        ("From", sender),
        ("To", to),
        ("Subject", subject),
        ("Message-ID", message_id),
        ("Date", date),
    ):
        if value is not None:
            lines.append(name.encode() + b": " + raw(value))
    lines += [raw(line) for line in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + raw(body)


def multipart(kind: str, *parts: bytes, boundary: str = "b1", params: str = "") -> bytes:
    """A multipart as a part: its Content-Type, and its parts between boundaries."""
    body = b"".join(b"--" + raw(boundary) + b"\r\n" + each + b"\r\n" for each in parts)
    body += b"--" + raw(boundary) + b"--\r\n"
    return part(body, f'Content-Type: multipart/{kind}; boundary="{boundary}"{params}')


def mail_of(tree: bytes, *headers: str | bytes, **fields: Any) -> bytes:
    """A mail whose body is what :func:`part` or :func:`multipart` made."""
    head, _, body = tree.partition(b"\r\n\r\n")
    return mail(body, *headers, head, **fields)


def text(said: str, charset: str = "utf-8", *headers: str, kind: str = "plain") -> bytes:
    return part(said.encode(charset), f"Content-Type: text/{kind}; charset={charset}", *headers)


def b64(data: bytes) -> bytes:
    return base64.encodebytes(data)


def qp(data: bytes) -> bytes:
    return quopri.encodestring(data)


def attachment(data: bytes, kind: str = "application/pdf", name: str = "file.pdf") -> bytes:
    return part(
        b64(data),
        f"Content-Type: {kind}",
        f'Content-Disposition: attachment; filename="{name}"',
        "Content-Transfer-Encoding: base64",
    )


def picture(data: bytes = JPEG, cid: str = "", name: str = "photo.jpg") -> bytes:
    lines = [f'Content-Type: image/jpeg; name="{name}"', "Content-Transfer-Encoding: base64"]
    if cid:
        lines.append(f"Content-ID: <{cid}>")
    return part(b64(data), *lines, f'Content-Disposition: inline; filename="{name}"')


def read(data: bytes, box: Box = BOX, **more: Any) -> ReadMail:
    return read_mail(data, box=box, received_at=more.pop("received_at", NOW), **more)


def message_of(data: bytes, box: Box = BOX, **more: Any) -> Message:
    draft = read(data, box, **more).drafts[0]
    assert isinstance(draft, Message), draft
    return draft


def receipt_of(data: bytes, box: Box = BOX) -> Receipt:
    draft = read(data, box).drafts[0]
    assert isinstance(draft, Receipt), draft
    return draft


def dsn(
    *blocks: str,
    original: str | None = "Message-ID: <hub-78@support.example.com>",
    note: str = "This is the mail system.",
    kind: str = "delivery-status",
) -> bytes:
    """The report of a server, whose recipients' blocks are given."""
    status = "Reporting-MTA: dns; mx.qq.com\r\n\r\n" + "\r\n\r\n".join(blocks) + "\r\n"
    parts = [text(note), part(status, f"Content-Type: message/{kind}")]
    if original is not None:
        parts.append(part(original + "\r\n", "Content-Type: text/rfc822-headers"))
    return multipart("report", *parts, params=f"; report-type={kind}")
