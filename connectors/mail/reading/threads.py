"""What a mail is called, what it answers, and which thread that makes (contracts/email.md 3)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from connectors.mail.reading import tokens
from connectors.mail.reading.headers import Headers
from connectors.mail.reading.limits import MAX_REFERENCES
from normalizer.drafts import ThreadLabel
from normalizer.text import identifier

_ID = re.compile(r"<\s*([^<>\s@]{1,400})@([^<>\s]{1,255})\s*>")
_BARE_ID = re.compile(r"([^<>\s@,;\"]{1,400})@([^<>\s@,;\"]{1,255})\Z")
_PREFIX = re.compile(
    r"\s*(?:re|fw|fwd|aw|wg|sv|vs|antw|回复|答复|回覆|答覆|回復|转发|轉寄|轉發|返信)\s*"
    r"(?:\[\d{1,3}\]|\(\d{1,3}\)|（\d{1,3}）|\^\d{1,3})?\s*[:：]\s*",
    re.IGNORECASE,
)
_FORWARDED = re.compile(
    r"\s*(?:fwd?|wg|转发|轉寄|轉發)\s*(?:\[\d{1,3}\]|\(\d{1,3}\))?\s*[:：]", re.IGNORECASE
)
_MAX_PREFIXES = 30
_SUBJECT_DAYS = 30  # contracts/email.md 3: the same subject later than this is another matter
_WHITE = re.compile(rb"[ \t\r\n]+")


class Chain(NamedTuple):
    """The ids of a mail: its own, what it answers, and the chain from the first to the last."""

    own: str
    in_reply_to: str
    references: tuple[str, ...]

    @property
    def root(self) -> str:
        return self.references[0] if self.references else self.in_reply_to


def read_chain(headers: Headers) -> Chain:
    """Return the ids of a mail. ``own`` is empty where it has none that can be used."""
    references = read_ids(headers.plain("references"))
    if len(references) > MAX_REFERENCES:
        references = [references[0], *references[-MAX_REFERENCES + 1 :]]
    own = read_ids(headers.plain("message-id"))
    answered = read_ids(headers.plain("in-reply-to"))
    return Chain(own[0] if own else "", answered[0] if answered else "", tuple(references))


def read_ids(text: str) -> list[str]:
    """Return the ids of a header in their order, without doubles: left part as it came."""
    found = [(left, right) for left, right in _ID.findall(text)]
    if not found and (bare := _BARE_ID.match(text.strip())) is not None:
        found = [(bare[1], bare[2])]
    return list(dict.fromkeys(identifier(f"<{left}@{right.lower()}>") for left, right in found))


def base_subject(subject: str) -> tuple[str, bool]:
    """Return a subject without its reply prefixes, and whether it had any."""
    base = subject
    for _ in range(_MAX_PREFIXES):
        found = _PREFIX.match(base)
        if found is None:
            break
        base = base[found.end() :]
    return base.strip(), base != subject


def is_forwarded(subject: str) -> bool:
    """Whether a subject says that another mail is handed on: its first prefix, not a later one."""
    return _FORWARDED.match(subject) is not None


def content_hash(sender: str, date: bytes, subject: bytes, body: bytes) -> str:
    """Return what tells two mails with the same id apart: the same in every box they lie in.

    Made of bytes as they came, but for folding and line ends, which servers change; nothing
    that a better charset table of ours could change goes in.
    """
    digest = hashlib.sha256()
    for piece in (sender.encode("utf-8", "replace"), _plain(date), _plain(subject)):
        digest.update(piece + b"\0")
    digest.update(_lines(body[:8192])[:4096])
    return digest.hexdigest()[:32]


def missing_id(headers: Headers, body: bytes) -> str:
    """Return an id for a mail that has none: the same for every copy of it."""
    digest = hashlib.sha256()
    for name in ("from", "to", "date", "subject"):
        digest.update(_plain(headers.raw(name)) + b"\0")
    lines = _lines(body)
    digest.update(b"%d\0" % len(lines) + lines)
    return f"<{digest.hexdigest()}@missing.hub>"


def _plain(raw: bytes) -> bytes:
    return _WHITE.sub(b" ", raw).strip()


def _lines(body: bytes) -> bytes:
    return body.replace(b"\r\n", b"\n").strip()


class Threading(NamedTuple):
    """``key`` is the thread's; where it is a new one, the rest may lead to one that is known."""

    key: str
    continues: tuple[str, ...]  # ids of mails, best first
    labels: tuple[ThreadLabel, ...]
    answers: str | None  # an entry's id, or the id of a mail
    by_token: bool = False


def read_thread(
    chain: Chain,
    own_id: str,
    recipients: Iterable[str],
    headers: Headers,
    subject: str,
    key: bytes,
) -> Threading:
    """Return the thread of a mail as far as the mail alone tells it.

    A token of ours decides; then the first id of the chain, which all mails of a thread share;
    then the mail begins one under its own id. What only a look-up can tell is left to the hub.
    """
    answered = chain.in_reply_to or (chain.references[-1] if chain.references else "")
    ours = _own_reference(chain, key)
    answers = ours.entry if ours and answered == _last_own(chain, key) else answered or None
    continues = tuple(dict.fromkeys(_candidates(chain)))
    labels = _labels(headers, subject)
    for address in recipients:
        thread = tokens.read_reply_token(address, key)
        if thread:
            return Threading(thread, continues, labels, answers, by_token=True)
    if ours is not None:
        return Threading(ours.thread, continues, labels, answers, by_token=True)
    return Threading(chain.root or own_id, continues, labels, answers)


def _candidates(chain: Chain) -> Sequence[str]:
    return [one for one in (chain.in_reply_to, *reversed(chain.references)) if one]


def _own_reference(chain: Chain, key: bytes) -> tokens.OwnId | None:
    for one in _candidates(chain):
        found = tokens.read_message_id(one, key)
        if found is not None:
            return found
    return None


def _last_own(chain: Chain, key: bytes) -> str:
    return next((one for one in _candidates(chain) if tokens.read_message_id(one, key)), "")


def _labels(headers: Headers, subject: str) -> tuple[ThreadLabel, ...]:
    """Return the providers' ids of the thread, then its subject: only an answer joins by that."""
    labels: list[ThreadLabel] = []
    gmail = headers.plain("x-gm-thrid")
    if gmail.isdecimal() and len(gmail) <= 20:
        labels.append(ThreadLabel(name=f"gmail:{gmail}"))
    index = _thread_index(headers.raw("thread-index"))
    if index:
        labels.append(ThreadLabel(name=f"index:{index}"))
    base, replied = base_subject(subject)
    if base:
        name = f"subject:{' '.join(base.casefold().split())}"
        labels.append(ThreadLabel(name=name, joins=replied, days=_SUBJECT_DAYS))
    return tuple(labels)


def _thread_index(raw: bytes) -> str:
    """Return the part of Outlook's Thread-Index that a whole conversation shares."""
    try:
        index = base64.b64decode(_WHITE.sub(b"", raw[:2000]), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return index[:22].hex() if len(index) >= 22 else ""
