"""Mails about mails: what came back, what was read (contracts/email.md section 7).

A report (RFC 3464, RFC 8098) names the mail that it is about by its headers; the envelope sender
(VERP) to which it was returned names it as well, and for the free-text bounces of many providers
that is all there is. What cannot be connected to a mail of ours stays an ordinary automatic mail.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import msgspec

from connectors.mail.reading import tokens
from connectors.mail.reading.headers import Headers, read_headers_of
from connectors.mail.reading.structure import Node, Structure
from connectors.mail.reading.threads import read_ids
from connectors.mail.reading.transfer import decoded
from normalizer.addresses import Address, AddressError, mailbox
from normalizer.text import clean_line

_MAX_BLOCKS = 50
_STATUS = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_REPLY_CODE = re.compile(r"(?<![\d.])([45]\d\d)(?=[\s-])(?![\s-]{0,3}(?:年|kb|bytes))", re.I)
_QUOTED_ID = re.compile(r"Message-ID\s{0,5}:\s{0,5}(<[^<>\s@]{1,400}@[^<>\s]{1,255}>)", re.I)
_RETURNED = re.compile(
    r"(?:退信|系统退信|系統退信|投递失败|投遞失敗|无法投递|無法投遞|未送达|未送達|发送失败"
    r"|undeliver|failure notice|mail delivery (?:failed|system)"
    r"|delivery (?:status notification|failure|has failed|incomplete)"
    r"|returned mail|returned to sender|mail system error|rejected mail|could not be delivered)",
    re.IGNORECASE,
)
_DELAYED = re.compile(
    r"(?:delayed|will (?:be retried|retry|continue|keep trying)|still trying|not yet been delivered"
    r"|延迟|延遲|延误|重试|仍在尝试)",
    re.IGNORECASE,
)
# RFC 3463 section 3.2: these say that there is no such mailbox, not that it takes nothing now.
NO_SUCH_MAILBOX = frozenset({"5.1.1", "5.1.10"})
_SERVERS = frozenset({"mailer-daemon", "postmaster", "mail-daemon", "bounce", "bounces"})


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What a server or a reader says of one mail of ours for one recipient.

    ``state`` is ``failed``, ``delayed``, ``delivered`` or ``read``. Exactly one of ``entry`` and
    ``message_id`` is set.
    """

    state: str = ""
    recipient: Address | None = None
    entry: str = ""
    message_id: str = ""
    code: str = ""
    reason: str = ""
    permanent: bool = False


def read_notices(
    structure: Structure,
    *,
    text: str,
    subject: str,
    sender: str,
    recipients: Sequence[str],
    automatic: Collection[str],
    own: Collection[str],
    key: bytes,
) -> tuple[Notice, ...]:
    """Return what a mail says about mails of ours; empty if it is an ordinary mail."""
    root = structure.root
    returned_to = next((one for one in (_verp(addr, key) for addr in recipients) if one), "")
    if root.kind == "multipart/report" or _find(root, "message/delivery-status") is not None:
        return _report(root, returned_to, own, key)
    bounced = sender.rpartition("@")[0] in _SERVERS or _RETURNED.search(subject)
    if not (automatic and bounced):
        return ()
    headers = _original(root)
    if not (returned_to or _from_us(headers, own)):
        return ()
    quoted = _QUOTED_ID.search(text)
    message_id = _first_id(headers) or (quoted[1] if quoted else "")
    return _free_text(root, text, subject, returned_to, message_id, key)


def _verp(addr: str, key: bytes) -> str:
    return tokens.read_bounce_token(addr, key)


# --- reports ---------------------------------------------------------------------------------


def _report(root: Node, returned_to: str, own: Collection[str], key: bytes) -> tuple[Notice, ...]:
    headers = _original(root)
    if not (returned_to or _from_us(headers, own)):
        return ()
    target = _target(returned_to, _first_id(headers), key)
    status = _find(root, "message/delivery-status")
    if status is not None:
        found = [_delivery(block, target) for block in _blocks(status)]
        return tuple(one for one in found if one is not None)
    reading = _find(root, "message/disposition-notification")
    if reading is None:
        return ()
    blocks = _blocks(reading)
    if not blocks:
        return ()
    ids = read_ids(blocks[0].plain("original-message-id"))
    target = target or _target("", ids[0] if ids else "", key)
    disposition = blocks[0].plain("disposition").rpartition(";")[2].lower()
    if target is None or "displayed" not in disposition:
        return ()
    return (msgspec.structs.replace(target, state="read", recipient=_recipient(blocks[0])),)


def _delivery(block: Headers, target: Notice | None) -> Notice | None:
    """Read what is said of one recipient. Without an action the block is about the server."""
    action = block.value("action").what
    if target is None or not action:
        return None
    diagnostic = block.text("diagnostic-code", 1000)
    reason = diagnostic.partition(";")[2].strip() or diagnostic or block.text("status", 200)
    status = _STATUS.search(block.plain("status")) or _STATUS.search(diagnostic)
    code = status[0] if status else ""
    if action not in ("failed", "delayed", "delivered"):
        return None
    return msgspec.structs.replace(
        target,
        state=action,
        recipient=_recipient(block),
        code=code,
        reason=reason,
        permanent=action == "failed" and code.startswith("5"),
    )


def _blocks(node: Node) -> list[Headers]:
    """Return the groups of fields of a report: about the mail first, then of each recipient."""
    body, _ = decoded(node.body, node.headers.plain("content-transfer-encoding"))
    body = body.replace(b"\r\n", b"\n")
    blocks: list[Headers] = []
    at = looked = 0
    while at < len(body) and len(blocks) < _MAX_BLOCKS and looked < 20 * _MAX_BLOCKS:
        looked += 1
        headers, following, _ = read_headers_of(body, at, len(body))
        if len(headers):
            blocks.append(headers)
        if following <= at:
            following = body.find(b"\n", at) + 1 or len(body)  # a line that is no field
        at = following
    return blocks


def _recipient(block: Headers) -> Address | None:
    for name in ("original-recipient", "final-recipient"):
        text = block.plain(name).rpartition(";")[2].strip().strip("<>")
        try:
            return mailbox(text)
        except AddressError:
            continue
    return None


# --- free text -------------------------------------------------------------------------------


def _free_text(
    root: Node, text: str, subject: str, returned_to: str, message_id: str, key: bytes
) -> tuple[Notice, ...]:
    target = _target(returned_to, message_id, key)
    if target is None:
        return ()
    status = _STATUS.search(text)
    reply = _REPLY_CODE.search(text)
    code = status[0] if status else reply[1] if reply else ""
    recipient = None
    for word in root.headers.plain("x-failed-recipients").split(","):
        try:
            recipient = mailbox(word)
            break
        except AddressError:
            continue
    delayed = bool(_DELAYED.search(subject)) or (
        not code.startswith("5") and bool(_DELAYED.search(text[:5000]))
    )
    return (
        msgspec.structs.replace(
            target,
            state="delayed" if delayed else "failed",
            recipient=recipient,
            code=code,
            reason=_reason(text, code) or clean_line(subject, 200),
            permanent=code.startswith("5") and not delayed,
        ),
    )


def _reason(text: str, code: str) -> str:
    """Return the line in which the code stands."""
    if not code:
        return ""
    return next((clean_line(line, 400) for line in text.split("\n") if code in line), "")


# --- the mail that it is about ---------------------------------------------------------------


def _find(root: Node, kind: str) -> Node | None:
    return next((node for node in root.walk() if node.kind == kind), None)


def _original(root: Node) -> Headers | None:
    """Return the headers of the mail that came back, if they were returned with it."""
    for node in root.walk():
        if node.kind in ("message/rfc822", "text/rfc822-headers", "message/rfc822-headers"):
            body, _ = decoded(node.body, node.headers.plain("content-transfer-encoding"))
            body = body.lstrip(b"\r\n")
            headers, _, _ = read_headers_of(body, 0, len(body))
            return headers
        if node.kind == "message/delivery-status":
            continue
    return None


def _from_us(headers: Headers | None, own: Collection[str]) -> bool:
    """Whether the mail that came back can be ours: others write in our name, too.

    Without its headers, or without a sender among them, its id has to tell.
    """
    people = headers.people("from") if headers is not None else []
    if not people:
        return True
    return any(_lowered(person.addr) in own for person in people)


def _lowered(addr: str) -> str:
    try:
        return mailbox(addr).id
    except AddressError:
        return ""


def _first_id(headers: Headers | None) -> str:
    ids = read_ids(headers.plain("message-id")) if headers is not None else []
    return ids[0] if ids else ""


def _target(returned_to: str, message_id: str, key: bytes) -> Notice | None:
    """Return an empty notice about the mail that is meant, or None if nobody says which."""
    if returned_to:
        return Notice(entry=returned_to)
    ours = tokens.read_message_id(message_id, key) if message_id else None
    if ours is not None:
        return Notice(entry=ours.entry)
    return Notice(message_id=message_id) if message_id else None
