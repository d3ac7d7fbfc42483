"""One mail, from its bytes to its drafts: :func:`read_mail` shows the whole way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from connectors.mail.reading import automatic, bounces, threads, trust
from connectors.mail.reading.content import Content, MailFile, read_content
from connectors.mail.reading.dates import written_at
from connectors.mail.reading.headers import Headers, Person, read_headers_of
from connectors.mail.reading.limits import (
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_MAIL_BYTES,
    MAX_TEXT_CHARS,
    MailRefused,
)
from connectors.mail.reading.structure import Structure
from normalizer.addresses import Address, AddressError, mailbox, unverified_mailbox
from normalizer.drafts import (
    AnyDraft,
    DeliveryState,
    Event,
    Message,
    Profile,
    Receipt,
    Scope,
    Sender,
    Target,
)
from normalizer.model import Direction, Role, Trust
from normalizer.parts import AnyPart, Audio, File, Image, Text, Unsupported, Video

_SHOWN_PEOPLE = 20  # of To and Cc, in `data`
_MAX_ANSWERED = 10  # people whose timelines a mail of ours from the Sent folder is put into


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """The mailbox that a mail lies in, as far as reading has to know it.

    ``own`` are our own addresses in lower case; ``authserv_ids`` the names, in lower case, of the
    servers whose Authentication-Results are believed; ``reply_key`` makes and proves the tokens
    of :mod:`~connectors.mail.reading.tokens`; ``instance`` is the value of our X-Hub-Instance.
    ``folder`` is ``inbox``, or ``sent`` for what our side wrote with a mail program.
    """

    own: frozenset[str]
    authserv_ids: frozenset[str]
    reply_key: bytes
    instance: str
    folder: str = "inbox"
    max_mail_bytes: int = MAX_MAIL_BYTES
    max_file_bytes: int = MAX_FILE_BYTES
    max_files: int = MAX_FILES
    max_text_chars: int = MAX_TEXT_CHARS

    def __repr__(self) -> str:
        return f"Box(folder={self.folder!r}, own={len(self.own)} addresses)"


class ReadMail(msgspec.Struct, frozen=True, kw_only=True):
    """What a mail became. ``notes`` say what was odd about it, without what it says.

    ``own``: this hub sent it, there is nothing to take in.
    """

    drafts: tuple[AnyDraft, ...] = ()
    files: tuple[MailFile, ...] = ()
    notes: tuple[str, ...] = ()
    own: bool = False

    def with_blobs(self, blobs: Mapping[str, str]) -> ReadMail:
        """Return the mail with the blob ids of its stored files in place of their refs."""
        return replace(self, drafts=tuple(_stored(draft, blobs) for draft in self.drafts))


class _Mail(msgspec.Struct, frozen=True, kw_only=True):
    """What the headers say, read once."""

    headers: Headers
    chain: threads.Chain
    own_id: str
    subject: str
    sender: Person
    addr: str  # the sender's in its canonical form, or ""
    auth: str
    recipients: tuple[str, ...]
    reasons: tuple[str, ...]
    at: datetime | None


def read_mail(
    raw: bytes, *, box: Box, received_at: datetime, internal_date: datetime | None = None
) -> ReadMail:
    """Return what a mail becomes: a message, receipts of what we sent, or nothing at all.

    ``received_at`` is when the hub got it; ``internal_date`` when the mailbox did, which bounds
    what the mail says of itself. Times are aware. Raises :class:`MailRefused` for no mail at all
    and for one over ``box.max_mail_bytes``: ask :func:`read_headers` for a stub then.
    """
    if len(raw) > box.max_mail_bytes:
        raise MailRefused(
            f"a mail of {len(raw)} bytes is over the limit of {box.max_mail_bytes}:"
            " only its headers can be taken in"
        )
    if not raw.strip():
        raise MailRefused("the mail is empty: the server gave no bytes for it")
    if b"\n" not in raw[:65_536] and b"\r" in raw[:65_536]:
        raw = raw.replace(b"\r", b"\n")
    structure = Structure(raw)
    root = structure.root
    mail = _read(root.headers, box, root.kind, root.body, received_at, internal_date)
    if _is_own(mail, box):
        return ReadMail(notes=tuple(structure.notes), own=True)
    content = read_content(
        raw,
        structure,
        max_text_chars=box.max_text_chars,
        max_files=box.max_files,
        max_file_bytes=box.max_file_bytes,
    )
    key = _content_key(mail, root.body)
    drafts: tuple[AnyDraft, ...] = ()
    if box.folder != "sent":
        drafts = _notices(mail, box, structure, content)
    if drafts:
        return ReadMail(drafts=drafts, notes=tuple(structure.notes))
    notes = tuple(structure.notes)
    drafts = _messages(mail, box, content, key)
    if not drafts:
        return ReadMail(notes=(*notes, "sent to nobody but ourselves"))
    return ReadMail(drafts=drafts, files=content.files, notes=notes)


def read_headers(
    raw_headers: bytes,
    size: int,
    first_text: bytes = b"",
    *,
    box: Box,
    received_at: datetime,
    internal_date: datetime | None = None,
    first_headers: bytes = b"",
) -> ReadMail:
    """Return the stub of a mail that is too large to be fetched: headers and its first text.

    ``size`` is that of the whole mail in bytes; ``first_text`` the beginning of its first part
    as the server gave it, and ``first_headers`` that part's own headers, which say how to read it:
    in most mails with files it is a multipart, of which the text is a part.
    """
    if not raw_headers.strip():
        raise MailRefused("the mail has no headers: the server gave no bytes for it")
    headers, _, _ = read_headers_of(raw_headers, 0, len(raw_headers))
    body = f"{size}".encode()
    mail = _read(headers, box, headers.value("content-type").what, body, received_at, internal_date)
    if _is_own(mail, box):
        return ReadMail(own=True)
    parts: list[AnyPart] = [*_beginning(headers, first_text, first_headers)]
    said = "\n\n".join(part.text for part in parts if isinstance(part, Text))
    megabytes = f"{size / 1_048_576:.0f}"
    parts.append(
        Unsupported(
            what="mail too large",
            text=f"[a mail of {megabytes} MB is too large to be taken in: it is in the mailbox]",
        )
    )
    content = Content(parts=tuple(parts), files=(), data={"too_large": size}, text=said)
    key = _content_key(mail, body)
    return ReadMail(drafts=_messages(mail, box, content, key), notes=(f"too large: {size} bytes",))


def _beginning(headers: Headers, first: bytes, first_headers: bytes) -> list[Text]:
    """Return what can be read of the first part, of which the end is missing."""
    if not first.strip():
        return []
    own = first_headers.strip()
    if not own and headers.value("content-type").what.startswith("multipart/"):
        own = b"Content-Transfer-Encoding: unknown"
    elif not own:  # the mail is one part, whose headers are its own
        names = ("content-type", "content-transfer-encoding")
        own = b"\r\n".join(name.encode() + b": " + headers.raw(name) for name in names)
    raw = b"Subject: %s\r\n%s\r\n\r\n%s" % (headers.raw("subject"), own, first[:1_000_000])
    content = read_content(raw, Structure(raw))
    return [part for part in content.parts if isinstance(part, Text)]


# --- what the headers say --------------------------------------------------------------------


def _read(
    headers: Headers,
    box: Box,
    kind: str,
    body: bytes,
    received_at: datetime,
    internal_date: datetime | None,
) -> _Mail:
    chain = threads.read_chain(headers)
    sender, addr, ambiguous = _sender(headers)
    subject = headers.text("subject")
    recipients = tuple(
        dict.fromkeys(
            person.addr
            for person in headers.people(
                "to", "cc", "delivered-to", "x-original-to", "envelope-to", "x-envelope-to"
            )
            if person.addr
        )
    )
    auth = trust.verdict(
        headers.every("authentication-results"),
        box.authserv_ids,
        addr.rpartition("@")[2],
        ambiguous=ambiguous,
    )
    return _Mail(
        headers=headers,
        chain=chain,
        own_id=chain.own or threads.missing_id(headers, body),
        subject=subject,
        sender=sender,
        addr=addr,
        auth=auth,
        recipients=recipients,
        reasons=automatic.reasons(
            headers, kind=kind, sender=addr, subject=subject, own=box.own, instance=box.instance
        ),
        at=written_at(headers.plain("date"), internal_date),
    )


def _sender(headers: Headers) -> tuple[Person, str, bool]:
    """Return who wrote, the canonical address, and whether the mail names several writers."""
    named = [(person, _canonical(person.addr)) for person in headers.people("from")]
    found = [(person, addr) for person, addr in named if addr]
    ambiguous = len(headers.every("from")) > 1 and len({addr for _, addr in found}) > 1
    if found:
        return found[0][0], found[0][1], ambiguous
    name = next((person.name for person, _ in named if person.name), "")
    for field in ("sender", "return-path"):
        for person in headers.people(field):
            addr = _canonical(person.addr)
            if addr:
                return Person(name, person.addr), addr, False
    return Person(name, ""), "", False


def _canonical(addr: str) -> str:
    try:
        return mailbox(addr).id
    except AddressError:
        return ""


def _is_own(mail: _Mail, box: Box) -> bool:
    """Whether this hub sent the mail: its mark, and one of our own addresses as the sender."""
    marked = bool(box.instance) and mail.headers.plain("x-hub-instance") == box.instance
    return marked and mail.addr in box.own


def _content_key(mail: _Mail, body: bytes) -> str:
    """Return the dedupe key. A copy that failed to prove its sender must not hide the real one."""
    headers = mail.headers
    digest = threads.content_hash(mail.addr, headers.raw("date"), headers.raw("subject"), body)
    key = f"mid:{mail.own_id}:{digest}"
    return f"unverified:{key}" if mail.auth == trust.FAIL else key


# --- messages --------------------------------------------------------------------------------


def _messages(mail: _Mail, box: Box, content: Content, key: str) -> tuple[AnyDraft, ...]:
    thread = threads.read_thread(
        mail.chain, mail.own_id, mail.recipients, mail.headers, mail.subject, box.reply_key
    )
    message = Message(
        key=key,
        scope=Scope.CHANNEL,
        at=mail.at,
        address=_address(mail),
        parts=content.parts or (Unsupported(what="empty mail", text="[empty mail]"),),
        thread=thread.key,
        subject=mail.subject,
        reply_to=thread.answers,
        vendor_ids=(mail.chain.own,) if mail.chain.own else (),
        automatic=bool(mail.reasons),
        profile=_profile(mail.sender, mail.addr),
        data=_data(mail, content, thread),
        continues=thread.continues,
        labels=thread.labels if set(mail.reasons) <= {"own address"} else (),
    )
    if box.folder != "sent":
        return (message,)
    return tuple(_sent(message, mail, box))


def _sent(message: Message, mail: _Mail, box: Box) -> list[Message]:
    """Return a mail that our side wrote as it stands in the timeline of each who got it."""
    name = "" if "@" in mail.sender.name else mail.sender.name
    drafts: list[Message] = []
    seen: set[str] = set()
    written = [mail.headers.people("to"), mail.headers.people("cc", "bcc")]
    # A mail to the own list, with the customer in copy, is the customer's all the same.
    for person in next((some for some in written if _strangers(some, box)), []):
        addr = _canonical(person.addr)
        if not addr or addr in box.own or addr in seen or len(drafts) >= _MAX_ANSWERED:
            continue
        seen.add(addr)
        drafts.append(
            replace(
                message,
                key=f"sent:{addr}:{message.key}",
                address=mailbox(addr),
                direction=Direction.OUT,
                sender=Sender(role=Role.AGENT, name=name),
                automatic=bool({*mail.reasons} - {"own address"}),
                profile=_profile(person, addr),
            )
        )
    return drafts


def _strangers(people: Sequence[Person], box: Box) -> bool:
    return any(addr and addr not in box.own for addr in (_canonical(one.addr) for one in people))


def _address(mail: _Mail) -> Address:
    """Return whose timeline it is: a forged sender never lands in a real person's."""
    if not mail.addr:
        return Address(scheme="mail", kind="unnamed", id=mail.own_id.strip("<>")[:400])
    return unverified_mailbox(mail.addr) if mail.auth == trust.FAIL else mailbox(mail.addr)


def _profile(person: Person, addr: str) -> Profile | None:
    # A name with an address in it wants to be taken for somebody else's.
    name = "" if "@" in person.name else person.name
    return Profile(name=name, mailbox=addr, trust=Trust.CLAIMED) if name or addr else None


def _data(mail: _Mail, content: Content, thread: threads.Threading) -> dict[str, Any]:
    headers = mail.headers
    base, _ = threads.base_subject(mail.subject)
    data: dict[str, Any] = {
        "message_id": mail.own_id,
        "in_reply_to": mail.chain.in_reply_to,
        "references": list(mail.chain.references),
        "from": _written(mail.sender),
        "to": [_written(person) for person in headers.people("to")[:_SHOWN_PEOPLE]],
        "cc": [_written(person) for person in headers.people("cc")[:_SHOWN_PEOPLE]],
        "reply_to": [_written(person) for person in headers.people("reply-to")[:_SHOWN_PEOPLE]],
        "auth": mail.auth,
        "date_raw": headers.text("date", 200),
        "base_subject": base,
        "thread_hints": [*thread.continues, *(one.name for one in thread.labels if one.joins)],
        "thread_by_token": thread.by_token,
        "automatic_because": list(mail.reasons),
        "list_id": headers.text("list-id", 200),
        **content.data,
    }
    kept = {name: value for name, value in data.items() if value not in ("", [], False)}
    return {**kept, "auth": mail.auth}


def _written(person: Person) -> str:
    return f"{person.name} <{person.addr}>" if person.name else person.addr


# --- receipts --------------------------------------------------------------------------------


def _notices(mail: _Mail, box: Box, structure: Structure, content: Content) -> tuple[AnyDraft, ...]:
    found = bounces.read_notices(
        structure,
        text=content.text,
        subject=mail.subject,
        sender=mail.addr,
        recipients=mail.recipients,
        automatic=mail.reasons,
        own=box.own,
        key=box.reply_key,
    )
    drafts = [_notice(one, mail) for one in found]
    return tuple(draft for draft in drafts if draft is not None)


_STATES = {
    "failed": DeliveryState.FAILED,
    "delivered": DeliveryState.DELIVERED,
    "read": DeliveryState.READ,
}


def _notice(notice: bounces.Notice, mail: _Mail) -> AnyDraft | None:
    """Return the draft; a server that says the same twice, in two mails, has said it once."""
    about = notice.recipient.id if notice.recipient else ""
    kind = "mdn" if notice.state == "read" else "dsn"
    said = notice.code or notice.state
    key = f"{kind}:{notice.entry or notice.message_id}:{about}:{said}"
    if notice.state == "delayed":
        if notice.recipient is None:
            return None
        return Event(
            key=f"delayed:{key}",
            at=mail.at,
            address=notice.recipient,
            name="mail.delayed",
            text=notice.reason,
            data={
                "code": notice.code,
                "entry": notice.entry,
                "message_id": notice.message_id,
            },
        )
    return Receipt(
        key=key,
        at=mail.at,
        target=Target(entry=notice.entry or None, vendor_id=notice.message_id or None),
        state=_STATES[notice.state],
        address=notice.recipient,
        code=notice.code,
        reason=notice.reason,
        permanent=notice.permanent,
        gone=notice.permanent and notice.code in bounces.NO_SUCH_MAILBOX,
    )


# --- files -----------------------------------------------------------------------------------


def _stored(draft: AnyDraft, blobs: Mapping[str, str]) -> AnyDraft:
    if not isinstance(draft, Message):
        return draft
    parts: Sequence[AnyPart] = [_with_blob(part, blobs) for part in draft.parts]
    return replace(draft, parts=tuple(parts))


def _with_blob(part: AnyPart, blobs: Mapping[str, str]) -> AnyPart:
    if not isinstance(part, Image | Audio | Video | File):
        return part
    blob = blobs.get(part.media.vendor_ref or "")
    if blob is None:
        return part
    return replace(part, media=replace(part.media, blob=blob, vendor_ref=None))
