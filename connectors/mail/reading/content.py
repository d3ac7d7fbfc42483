"""From the tree of a mail to what a person reads, in the order in which it is read.

The whole mail becomes one text in which :data:`~normalizer.markup.OBJECT` stands for each picture
and file; that text is trimmed once, and then cut at those signs into the parts of the message. So
an answer, its pictures and its quotation are told apart also where a client spread them over
several parts. Whatever a limit keeps out is in the original mail, attached as a file.
"""

from __future__ import annotations

import mimetypes
import re
from typing import Any
from urllib.parse import unquote

import msgspec

from connectors.mail.reading import charsets
from connectors.mail.reading.headers import Headers, decode_words
from connectors.mail.reading.invites import read_invite
from connectors.mail.reading.limits import (
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_FILES_BYTES,
    MAX_HTML_CHARS,
    MAX_PARTS,
    MAX_PREVIEW_CHARS,
    MAX_TEXT_CHARS,
)
from connectors.mail.reading.structure import Node, Structure
from connectors.mail.reading.threads import is_forwarded
from connectors.mail.reading.tnef import unwrap
from connectors.mail.reading.transfer import decoded, unflowed
from normalizer.markup import OBJECT, HtmlText, safe_html, to_text
from normalizer.media import file_name, mime_type
from normalizer.parts import (
    AnyPart,
    Audio,
    File,
    Image,
    Media,
    MediaState,
    Text,
    Unsupported,
    Video,
)
from normalizer.quoted import trim
from normalizer.text import clean_text, cut


class MailFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a mail. ``ref`` is also the ``vendor_ref`` of the media in the draft's parts."""

    ref: str
    data: bytes
    media: Media


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a mail says: its parts, the bytes behind them, and what else is worth keeping."""

    parts: tuple[AnyPart, ...]
    files: tuple[MailFile, ...]
    data: dict[str, Any]
    text: str  # visible and quoted, without what stands for files


_BODIES = frozenset({"text/plain", "text/html", "text/markdown", "text/enriched"})
_SIGNATURES = frozenset(
    {"application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-signature"}
)
_ENVELOPED = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_TNEF = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
_STUB = re.compile(
    r"(?:view|read|see|open|display|support).{0,60}(?:html|browser)"
    r"|html.{0,40}(?:view|browser|mail|message)"
    r"|(?:不支持|无法显示|無法顯示|请使用|請使用).{0,30}html|html.{0,20}(?:格式|查看|浏览|瀏覽)"
    r"|(?:浏览器|瀏覽器).{0,10}(?:查看|打开|開啟)",
    re.IGNORECASE,
)
_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)
_CID = re.compile(r"\[cid:([^\]\s]{1,300})\]")
_META = re.compile(rb"<meta[^>]{0,200}?charset=[\"']?([A-Za-z0-9_-]{1,40})", re.I)
_PGP = "-----BEGIN PGP MESSAGE-----"
# A screenshot that was pasted into a web mail's editor often stands in the page itself.
_PICTURE_IN_PAGE = re.compile(
    r"""(\bsrc\s{0,9}=\s{0,9})(?:(["'])\s{0,9}(?=data:)|(?=data:))"""
    r"""data:(image/[a-z0-9.+-]{1,40})(?:;[a-z0-9=_-]{1,60}){0,5};base64,([^"'<>=]*={0,2})\s{0,9}(?(2)\2|(?=[\s>]))""",
    re.IGNORECASE,
)
_DATA_IN_PAGE = re.compile(
    r"""(?<=["'(=])data:[a-z0-9.+/-]{0,100}(?:;[a-z0-9=_-]{1,60}){0,5};base64,[a-z0-9+/=%]{200,}""",
    re.IGNORECASE,
)


def read_content(
    raw: bytes,
    structure: Structure,
    *,
    max_text_chars: int = MAX_TEXT_CHARS,
    max_files: int = MAX_FILES,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> Content:
    """Return what the mail says. Never raises for what a stranger wrote."""
    reader = _Reader(structure, max_text_chars, max_files, max_file_bytes)
    reader.walk(structure.root)
    return reader.finish(raw)


class _Reader:
    def __init__(
        self, structure: Structure, max_text_chars: int, max_files: int, max_file_bytes: int
    ) -> None:
        self.structure = structure
        self.max_text_chars = max_text_chars
        self.max_files = max_files
        self.max_file_bytes = max_file_bytes
        self.text: list[str] = []
        self.length = 0
        self.quotations: list[tuple[int, int]] = []
        self.objects: list[AnyPart | None] = []
        self.files: list[MailFile] = []
        self.bytes = 0
        self.data: dict[str, Any] = {}
        self.html: list[str] = []
        self.turned_away: list[str] = []
        self.original_needed = structure.left_out
        self.used: set[int] = set()
        self.in_page: dict[str, tuple[str, str, bytes]] = {}  # by cid: ref, type, data
        self.by_cid = {
            cid: node
            for node in structure.root.walk()
            if not node.children and (cid := _content_id(node))
        }

    # --- the tree ----------------------------------------------------------------------------

    def walk(self, node: Node, *, words: bool = True) -> None:
        """Read a part and all below it; without ``words`` only what is no text."""
        if node.kind == "multipart/alternative":
            self._alternative(node, words)
        elif node.kind == "multipart/signed" and node.children:
            self.data["signed"] = True
            for child in node.children:
                if child.kind not in _SIGNATURES:
                    self.walk(child, words=words)
        elif node.kind == "multipart/encrypted":
            self._encrypted("OpenPGP" if _is_pgp(node) else "S/MIME")
            for child in node.children:
                self._file(child)
        elif node.children:
            for child in node.children:
                self.walk(child, words=words)
        elif not node.kind.startswith("multipart/"):
            self._leaf(node, words)

    def _alternative(self, node: Node, words: bool) -> None:
        plain = next((one for one in node.children if one.kind == "text/plain"), None)
        rich = [one for one in node.children if one is not plain and _has_html(one)]
        if not words or not rich:
            for child in node.children:
                self.walk(child, words=words)
            return
        if plain is not None and not _is_attachment(plain):
            said = self._decoded_text(plain)
            if len("".join(said.split())) > 20 and not _is_stub(said):
                self._plain(plain, said)
                for child in node.children:
                    if child is not plain:
                        self.walk(child, words=False)
                return
        for child in node.children:
            if child is not plain or _is_attachment(child):
                self.walk(child, words=child is rich[-1])
        if plain is not None and not any(map(_visible, self.text)):
            self.walk(plain)

    def _leaf(self, node: Node, words: bool) -> None:
        kind = node.kind
        name = _name(node)
        if id(node) in self.used:
            return
        rest = words or kind != "text/html"  # a page that is not read has its place in `html`
        is_body = (
            kind in _BODIES and not _is_attachment(node) and not (name and self.length and rest)
        )
        if is_body and kind == "text/html":
            self._html(node, words)
        elif is_body:
            said = self._decoded_text(node)
            if words:
                self._plain(node, said)
            elif not self._was_said(said):
                self._file(node)
        elif kind == "text/calendar":
            self._calendar(node)
        elif kind == "message/rfc822":
            self._attached_mail(node)
        elif kind in _TNEF or name.lower() == "winmail.dat":
            self._winmail(node)
        elif kind in _ENVELOPED:
            signed = node.content.params.get("smime-type", "").lower() == "signed-data"
            if signed:
                self.data["signed"] = True
            else:
                self._encrypted("S/MIME")
            self._file(node)
        else:
            self._file(node)

    # --- text --------------------------------------------------------------------------------

    def _bytes(self, node: Node) -> bytes:
        encoding = node.headers.plain("content-transfer-encoding")
        data, note = decoded(node.body, encoding, is_text=node.kind.startswith("text/"))
        if note:
            self.structure.note(note)
        return data

    def _decoded_text(self, node: Node) -> str:
        params = node.content.params
        text = charsets.decode(self._bytes(node), params.get("charset", ""))
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace(OBJECT, "")
        if node.kind == "text/plain" and params.get("format", "").lower() == "flowed":
            text = unflowed(text, delsp=params.get("delsp", "").lower() == "yes")
        return text

    def _plain(self, node: Node, text: str) -> None:
        if _PGP in text:
            self.data["encrypted"] = "OpenPGP"
        out: list[str] = []
        at = 0
        for found in _CID.finditer(text):
            wanted = self.by_cid.get(found[1].lower())
            if wanted is not None and id(wanted) not in self.used:
                out.append(text[at : found.start()])
                self._say("".join(out))
                out = []
                self._file(wanted)
                at = found.end()
        self._say(text[at:])

    def _was_said(self, text: str) -> bool:
        """Whether another form of the mail, which is read, has this text as well."""
        wanted = "".join(text.split())[:10_000]
        return wanted in "".join("".join(self.text).split())

    def _html(self, node: Node, words: bool) -> None:
        raw = self._bytes(node)
        label = node.content.params.get("charset", "")
        if not label:
            found = _META.search(raw[:4096])
            label = found[1].decode("ascii") if found else ""
        markup = self._without_data(node, charsets.decode(raw, label))
        self.html.append(markup)
        if not words:
            return
        read = to_text(markup)
        if not read.whole:
            self.structure.note("HTML too large or too deep: its end was read as bare text")
        self._marked(read)

    def _without_data(self, node: Node, markup: str) -> str:
        """Return a page with the pictures that stand in it taken out, and made files of its own."""

        def taken(found: re.Match[str]) -> str:
            number = len(self.in_page) + 1
            cid = f"{number}.{node.path}@page"
            data, _ = decoded(unquote(found[4]).encode("ascii", "ignore"), "base64")
            self.in_page[cid] = (f"mail:{node.path}/{number}", found[3].lower(), data)
            return f'{found[1]}"cid:{cid}"'

        return _DATA_IN_PAGE.sub("data:,", _PICTURE_IN_PAGE.sub(taken, markup))

    def _picture_in_page(self, cid: str) -> None:
        ref, mime, data = self.in_page[cid]
        self.in_page[cid] = (ref, mime, b"")
        sniffed = next((known for magic, known in _MAGIC if data.startswith(magic)), "")
        if data and not (sniffed and _is_tiny(data)):
            self._keep(ref, data, "", sniffed or mime, bool(sniffed))

    def _marked(self, read: HtmlText) -> None:
        """Say a text in which pictures have their places."""
        pieces = read.text.split(OBJECT)
        names = iter(read.objects)
        at = 0  # in read.text
        moved: list[tuple[int, int]] = []  # (place in read.text, place in our text)
        for number, piece in enumerate(pieces):
            if number:
                at += 1
                name = next(names, "").lower()
                wanted = self.by_cid.get(name)
                if wanted is not None and id(wanted) not in self.used:
                    self._file(wanted)
                elif name in self.in_page:
                    self._picture_in_page(name)
            if piece:
                moved.append((at, self._say(piece)))
            at += len(piece)
        for start, end in read.quoted:
            self.quotations.append((_moved(moved, start), _moved(moved, end)))

    def _say(self, text: str) -> int:
        """Add text; return where it begins. Parts of text stand a line apart."""
        if not text.strip():
            return self.length
        if self.text and not self.text[-1].endswith("\n"):
            self._add("\n" if self.text[-1] == OBJECT else "\n\n")
        start = self.length
        self._add(text)
        return start

    def _add(self, text: str) -> None:
        self.text.append(text)
        self.length += len(text)

    # --- things ------------------------------------------------------------------------------

    def _object(self, part: AnyPart) -> None:
        if self.text and not self.text[-1].endswith("\n"):
            self._add("\n")
        self._add(OBJECT)
        self.objects.append(part)

    def _encrypted(self, how: str) -> None:
        self.data["encrypted"] = how
        self._object(Unsupported(what="encrypted", text=f"[encrypted mail: {how}]"))

    def _file(self, node: Node) -> None:
        self.used.add(id(node))
        data = self._bytes(node)
        name, mime = _name(node), mime_type(node.kind)
        if mime in ("application/octet-stream", "binary/octet-stream", "application/x-download"):
            mime = mimetypes.guess_type(name)[0] or mime
        sniffed = next((known for magic, known in _MAGIC if data.startswith(magic)), "")
        if sniffed and _content_id(node) and _is_tiny(data):
            self.structure.note("a tracking pixel was dropped")
            return
        if mime.startswith("image/") and sniffed and sniffed != "image/bmp":
            mime = sniffed
        if data or name:
            self._keep(f"mail:{node.path}", data, name, mime, bool(sniffed))

    def _keep(self, ref: str, data: bytes, name: str, mime: str, picture: bool = False) -> None:
        if not name:
            name = f"{mime.partition('/')[0]}{mimetypes.guess_extension(mime) or ''}"
        name = file_name(name)
        pending = MediaState.PENDING
        media = Media(mime=mime, size=len(data), name=name, vendor_ref=ref, state=pending)
        if len(data) > self.max_file_bytes or self.bytes + len(data) > MAX_FILES_BYTES:
            media = msgspec.structs.replace(media, vendor_ref=None, state=MediaState.REJECTED)
            self.structure.note("a file is too large and was left in the mailbox")
        elif len(self.files) >= self.max_files:
            self.turned_away.append(name)
            return
        else:
            self.files.append(MailFile(ref=ref, data=data, media=media))
            self.bytes += len(data)
        kind = mime.partition("/")[0]
        if kind == "image" and (picture or mime in ("image/heic", "image/webp", "image/heif")):
            self._object(Image(media=media))
        elif kind == "audio":
            self._object(Audio(media=media))
        elif kind == "video":
            self._object(Video(media=media))
        else:
            self._object(File(media=media))

    def _calendar(self, node: Node) -> None:
        text = self._decoded_text(node)
        invite = read_invite(text, node.content.params.get("method", ""))
        if invite is not None and invite not in self.objects:
            self._object(invite)
        data = self._bytes(node)
        if any(one.data == data for one in self.files):
            return  # Outlook attaches the same invitation once more
        self.used.add(id(node))
        name = _name(node) or "invite.ics"
        self._keep(f"mail:{node.path}", data, name, "text/calendar")

    def _attached_mail(self, node: Node) -> None:
        data = self._bytes(node)
        inner = Structure(data[: self.max_file_bytes])
        headers = inner.root.headers
        subject = headers.text("subject")
        preview = {
            "subject": subject,
            "from": _shown(headers),
            "date": headers.text("date", 100),
            "message_id": headers.plain("message-id")[:500],
            "text": _preview(inner),
        }
        attached = self.data.setdefault("attached_mails", [])
        if len(attached) < 10:
            attached.append({name: value for name, value in preview.items() if value})
        name = _name(node) or f"{subject[:60] or 'mail'}.eml"
        self.used.add(id(node))
        self._keep(f"mail:{node.path}", data, name, "message/rfc822")

    def _winmail(self, node: Node) -> None:
        inside = unwrap(self._bytes(node))
        if inside is not None:
            if inside.body and not any(map(_visible, self.text)):
                self._say(charsets.decode(inside.body, inside.charset).replace(OBJECT, ""))
            for number, (name, data) in enumerate(inside.files, 1):
                shown = charsets.decode(name, inside.charset)
                mime = mimetypes.guess_type(shown)[0] or "application/octet-stream"
                picture = any(data.startswith(magic) for magic, _ in _MAGIC)
                self._keep(f"mail:{node.path}/{number}", data, shown, mime, picture)
        self._file(node)

    # --- the end -----------------------------------------------------------------------------

    def finish(self, raw: bytes) -> Content:
        for cid in self.in_page:
            self._picture_in_page(cid)  # of a page that was not read: its plain text was
        self._attach_html()
        self._attach_rest(raw)
        whole = "".join(self.text)
        forwarded = is_forwarded(self.structure.root.headers.text("subject"))
        visible, quoted = trim(whole, self.quotations, forwarded=forwarded)
        if len(visible) + len(quoted) > self.max_text_chars:
            self._attach_text(whole.replace(OBJECT, ""))
            visible = _bounded(visible, self.max_text_chars)
            quoted = _bounded(quoted, self.max_text_chars)
        parts = self._parts(visible, quoted)
        text = whole.replace(OBJECT, "")
        return Content(parts=parts, files=tuple(self.files), data=self.data, text=text)

    def _attach_html(self) -> None:
        if not self.html:
            return
        whole = "\n".join(self.html)
        safe = safe_html(whole)
        if safe.withheld:
            self.data["remote_images"] = safe.withheld
        if len(safe.html) <= MAX_HTML_CHARS:
            self.data["html"] = safe.html
        else:
            self._keep("mail:html", safe.html.encode("utf-8", "replace"), "mail.html", "text/html")

    def _attach_rest(self, raw: bytes) -> None:
        if self.turned_away:
            names = ", ".join(self.turned_away[:20])
            text = f"[{len(self.turned_away)} more files, in the original mail: {names}]"
            self._object(Unsupported(what="files", text=text))
            self.original_needed = True
        if self.original_needed:
            self.max_files += 1
            self._keep("mail:original", raw, "original.eml", "message/rfc822")

    def _attach_text(self, text: str) -> None:
        self.max_files += 1
        data = text.encode("utf-8", "replace")
        self._keep("mail:text", data, "mail.txt", "text/plain")
        self.structure.note("a long text was cut; the whole of it is attached")

    def _parts(self, visible: str, quoted: str) -> tuple[AnyPart, ...]:
        """Cut the text at its objects; those that stand in the quotation come last."""
        parts: list[AnyPart] = []
        objects = [one for one in self.objects if one is not None]
        # Every further piece of text would be a part of its own: the last takes the rest.
        room = max(1, (MAX_PARTS - len(objects)) // 2)
        pieces = visible.split(OBJECT)
        shown = len(pieces) - 1
        for number, piece in enumerate(pieces):
            if number and number <= len(objects):
                parts.append(objects[number - 1])
            text = _tidy(piece)
            if not text:
                continue
            if sum(isinstance(part, Text) for part in parts) >= room:
                last, old = _last_text(parts)
                parts[last] = Text(text=f"{old.text}\n\n{text}")
            else:
                parts.append(Text(text=text))
        rest = _tidy(quoted.replace(OBJECT, ""))
        if rest:
            _quote(parts, rest)
        return (*parts, *objects[shown:])


def _quote(parts: list[AnyPart], rest: str) -> None:
    """Hang the quotation on the last text; without one it is a text of its own."""
    if not any(isinstance(part, Text) for part in parts):
        parts.append(Text(text=""))
    last, text = _last_text(parts)
    parts[last] = msgspec.structs.replace(text, quoted=rest)


def _last_text(parts: list[AnyPart]) -> tuple[int, Text]:
    return next(
        (at, part)
        for at, part in zip(range(len(parts) - 1, -1, -1), reversed(parts), strict=True)
        if isinstance(part, Text)
    )


def _moved(moved: list[tuple[int, int]], place: int) -> int:
    """Return where a place of a page's text is in ours."""
    before = [pair for pair in moved if pair[0] <= place]
    if not before:
        return moved[0][1] if moved else 0
    start, ours = before[-1]
    return ours + place - start


def _tidy(text: str) -> str:
    return re.sub(r"\n{4,}", "\n\n\n", clean_text(text, 10_000_000)).strip("\n ").rstrip()


def _visible(text: str) -> bool:
    return bool(text.replace(OBJECT, "").strip())


def _bounded(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return cut(text, limit) + "\n[the whole text is attached: mail.txt]"


def _is_stub(text: str) -> bool:
    return len(text) < 600 and _STUB.search(text) is not None


def _has_html(node: Node) -> bool:
    return any(one.kind == "text/html" and not _is_attachment(one) for one in node.walk())


def _is_attachment(node: Node) -> bool:
    return node.headers.value("content-disposition").what == "attachment"


def _is_pgp(node: Node) -> bool:
    said = node.content.params.get("protocol", "")
    return "pgp" in said.lower() or any("pgp" in one.kind for one in node.children)


def _name(node: Node) -> str:
    name = node.headers.value("content-disposition").params.get("filename", "")
    return decode_words(name or node.content.params.get("name", ""))


def _content_id(node: Node) -> str:
    return node.headers.plain("content-id").strip("<> ").lower()


def _is_tiny(data: bytes) -> bool:
    """Whether a picture measures 2 by 2 pixels or less."""
    if data.startswith(b"GIF8") and len(data) >= 10:
        width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    elif data.startswith(b"\x89PNG") and len(data) >= 24:
        width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    else:
        return False
    return width <= 2 and height <= 2


def _shown(headers: Headers) -> str:
    people = headers.people("from")
    if not people:
        return ""
    return f"{people[0].name} <{people[0].addr}>" if people[0].name else people[0].addr


def _preview(structure: Structure) -> str:
    """Return the start of an attached mail's own text."""
    reader = _Reader(structure, MAX_PREVIEW_CHARS, 0, 0)
    for kind in ("text/plain", "text/html"):
        for node in structure.root.walk():
            if node.kind == kind and not node.children and not _is_attachment(node):
                text = reader._decoded_text(node)
                if kind == "text/html":
                    text = to_text(reader._without_data(node, text)).text
                return cut(_tidy(text.replace(OBJECT, "")), MAX_PREVIEW_CHARS)
    return ""
