# ruff: noqa: E501 - headers as they are
"""Mails made at random from a seed, with words planted in them: an oracle for lost text.

Every part that a person could read gets marker words; :func:`generated` returns them with the mail.
Damage is done on purpose in places where the words survive in the bytes.
"""

from __future__ import annotations

import base64
import random
from typing import NamedTuple

from tests.mail.reading.building import JPEG, PNG, b64, mail, part, qp, raw

CHARSETS = ("utf-8", "gb2312", "gbk", "gb18030", "big5", "us-ascii", "iso-8859-1", "x-nope", "")
FILLERS = (
    "订单在哪里，请尽快回复我，谢谢",
    "訂單什麼時候出貨",
    "Where is my order, please?",
    "😀 好的",
)


class Generated(NamedTuple):
    section: str
    raw: bytes
    words: tuple[str, ...]


def generated(section: str, seed: int) -> Generated:
    maker = _Maker(random.Random(f"{section}/{seed}"))
    made = {"3": maker.chained, "4": maker.broken, "5": maker.nested, "6": maker.automatic}
    data = made.get(section, maker.nested)()
    return Generated(section, data, tuple(maker.words))


class _Maker:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.words: list[str] = []
        self.boundaries = 0

    # --- mails -------------------------------------------------------------------------------

    def chained(self) -> bytes:
        """Ids and references in every state of repair."""
        pick = self.chance.choice
        ids = [f"<{self.chance.randrange(10**9)}@a.cn>" for _ in range(self.chance.randrange(40))]
        glue = pick([" ", "\r\n ", "\t", "", ","])
        message_id = pick(
            ["<ok@a.cn>", "<>", "ok@a.cn", "<no at>", "<a@b@c>", None, "<\u4f60@a.cn>"]
        )
        return mail(
            self.said("utf-8"),
            "Content-Type: text/plain; charset=utf-8",
            "References: " + glue.join(ids),
            "In-Reply-To: " + pick(ids or ["<>"]),
            subject=pick(["回复：", "Re: ", "", "Re[3]: 转发："]) + "x",
            message_id=message_id,
        )

    def broken(self) -> bytes:
        """Wrong charsets, encodings, boundaries, headers: one or two at a time."""
        pick = self.chance.choice
        body = (
            self.part()
            if pick([True, False])
            else self.multipart("mixed", self.part(), self.part())
        )
        data = self.whole(body)
        if pick([True, False]):
            data = self.damaged(data)
        return data

    def nested(self) -> bytes:
        """Trees of every kind of multipart, with pictures and files between texts."""
        tree = self.tree(self.chance.randrange(1, 5))
        return self.whole(self.multipart("mixed", self.part(), tree))

    def automatic(self) -> bytes:
        """Reports, lists and answers of machines, with words that must not be lost either."""
        pick = self.chance.choice
        lines = [
            pick(["Auto-Submitted: auto-replied", "Precedence: list", "X-Autoreply: 1"]),
            pick(["Return-Path: <>", "List-Id: <a.b>", "X-Failed-Recipients: x@y.cn"]),
        ]
        tree = self.part()
        if pick([True, False]):
            status = part("Action: failed\r\n", "Content-Type: message/delivery-status")
            tree = self.multipart("report", tree, status)
        return self.whole(tree, *lines)

    # --- pieces ------------------------------------------------------------------------------

    def word(self) -> str:
        word = "MARK" + "".join(self.chance.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=10))
        self.words.append(word)
        return word

    def said(self, charset: str) -> bytes:
        codec = {"x-nope": "utf-8", "": "utf-8", "us-ascii": "gbk", "iso-8859-1": "utf-8"}
        lines = []
        for _ in range(self.chance.randrange(1, 5)):
            lines.append(f"{self.chance.choice(FILLERS)} {self.word()}")
        return "\r\n".join(lines).encode(codec.get(charset, charset), "ignore")

    def part(self) -> bytes:
        pick = self.chance.choice
        charset = pick(CHARSETS)
        kind = pick(["plain", "plain", "html"])
        said = self.said(charset)
        if kind == "html":
            said = b"<html><body><div>" + said.replace(b"\r\n", b"<br>") + b"</div></body></html>"
        encoding = pick(["8bit", "base64", "quoted-printable", "x-odd", ""])
        if encoding == "base64":
            said = b64(said)
        elif encoding == "quoted-printable":
            said = qp(said)
        label = f"; charset={pick(['', chr(34)])}{charset}" if charset else ""
        if label.count('"') == 1:
            label += '"'
        lines = [f"Content-Type: text/{kind}{label}"]
        if encoding:
            lines.append(f"Content-Transfer-Encoding: {encoding}")
        return part(said, *lines)

    def file(self) -> bytes:
        data = self.chance.choice([JPEG, PNG, b""]) or self.word().encode()
        name = self.chance.choice(["a.jpg", "../b.png", "订单.txt", ""])
        lines: list[str | bytes] = [
            f"Content-Type: {self.chance.choice(['image/jpeg', 'application/octet-stream', 'text/csv'])}",
            "Content-Transfer-Encoding: base64",
        ]
        how = self.chance.choice(["attachment", "inline"])
        lines.append(raw(f'Content-Disposition: {how}; filename="{name}"'))
        return part(base64.encodebytes(data), *lines)

    def tree(self, depth: int) -> bytes:
        pick = self.chance.choice
        if depth <= 0 or self.chance.random() < 0.2:
            return pick([self.part, self.part, self.file, self.inner])()
        kind = pick(["mixed", "mixed", "related", "alternative", "signed", "parallel", "digest?"])
        if kind == "alternative":
            return self.alternative()
        children = [self.tree(depth - 1) for _ in range(self.chance.randrange(1, 4))]
        return self.multipart(kind.strip("?"), *children)

    def alternative(self) -> bytes:
        """The same words twice, as programs do, and perhaps something that is no text."""
        said = self.said("utf-8")
        page = b"<p>" + said.replace(b"\r\n", b"<br>") + b"</p>"
        rich = part(page, "Content-Type: text/html; charset=utf-8")
        if self.chance.random() < 0.5:
            rich = self.multipart("related", rich, self.file())
        children = [part(said, "Content-Type: text/plain; charset=utf-8"), rich]
        return self.multipart("alternative", *children)

    def inner(self) -> bytes:
        return part(
            mail(self.said("utf-8"), "Content-Type: text/plain; charset=utf-8"),
            "Content-Type: message/rfc822",
        )

    def multipart(self, kind: str, *parts: bytes) -> bytes:
        self.boundaries += 1
        sign = f"{'=_' * self.chance.randrange(3)}b{self.boundaries}x"
        body = b"".join(b"--" + sign.encode() + b"\r\n" + each + b"\r\n" for each in parts)
        end = self.chance.choice([b"--\r\n", b"--", b"-- \r\nepilogue"])
        body += b"--" + sign.encode() + end
        return part(body, f'Content-Type: multipart/{kind}; boundary="{sign}"')

    def whole(self, tree: bytes, *lines: str) -> bytes:
        head, _, body = tree.partition(b"\r\n\r\n")
        return mail(body, *lines, head)

    def damaged(self, data: bytes) -> bytes:
        """Break a mail without touching a marker."""
        how = self.chance.randrange(7)
        if how == 0:
            return data.replace(b"\r\n", b"\n")
        if how == 1:
            return data.replace(b"MIME", b"MEMI").replace(
                b"Content-Type: multipart", b"Content-type : multipart"
            )
        if how == 2:
            return data.replace(b'boundary="', b'boundary="wrong')
        if how == 3:
            return data.replace(b"Subject: Order", b"Subject: =?gb2312?B?\xc4\xe3=?=\r\n\tmore")
        if how == 4:
            return data.replace(b"From: ", b"From: \xc4\xe3\xba\xc3 ").replace(
                b"Date: ", b"Date: CST "
            )
        if how == 5:
            return data.rstrip(b"-\r\n")
        return b"\r\n" + data + b"\x00\xff\xfe"
