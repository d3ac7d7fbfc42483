"""Mail that no person wrote: stored, but it opens and reopens nothing and is never answered.

The list is that of contracts/email.md section 6, which follows RFC 3834 and what is in use.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from connectors.mail.reading.headers import Headers

_PRECEDENCE = frozenset({"bulk", "junk", "list", "auto_reply"})
_HEADERS = ("x-autoreply", "x-autorespond", "x-auto-reply-from", "x-failed-recipients")
_LISTS = ("list-id", "list-unsubscribe")
_LOCAL_PARTS = frozenset(
    {"mailer-daemon", "postmaster", "no-reply", "noreply", "do-not-reply", "donotreply"}
)
# Behind the words something else begins. "自动回复功能打不开" and "Out of office chairs" go on, and
# are what a customer writes about.
_SUBJECT = re.compile(
    r"[\[【(（]?(?:自动回复|自動回覆|自动答复|自動回復|不在办公室|不在辦公室"
    r"|Auto(?:matic)?[- ]?reply|Out of (?:the )?Office)"
    r"(?:\s*(?:\Z|[^\w\s])|\s+(?:Re|Fwd?|until|till|from|reply|message|notification|auto\w*)\b"
    r"|\s*(?:回复|答复|回覆|邮件|信|通知|您)[:：]?)",
    re.IGNORECASE,
)


def reasons(
    headers: Headers, *, kind: str, sender: str, subject: str, own: Collection[str], instance: str
) -> tuple[str, ...]:
    """Return why a mail counts as automatic: the names of what says so; empty if nothing does.

    ``sender`` is the address in From in lower case, ``kind`` the mail's content type.
    """
    found: list[str] = []
    submitted = headers.value("auto-submitted").what.split()[:1]
    if submitted not in ([], ["no"]):
        found.append("auto-submitted")
    if headers.value("precedence").what in _PRECEDENCE:
        found.append("precedence")
    if headers.plain("x-auto-response-suppress"):
        found.append("x-auto-response-suppress")
    found += [name for name in _HEADERS if headers.has(name)]
    found += [name for name in _LISTS if headers.has(name)]
    if headers.has("return-path") and headers.plain("return-path").replace(" ", "") in ("<>", ""):
        found.append("return-path")
    if sender.rpartition("@")[0] in _LOCAL_PARTS:
        found.append("from")
    if kind == "multipart/report":
        found.append("report")
    if _SUBJECT.match(subject):
        found.append("subject")
    if instance and headers.plain("x-hub-instance") == instance:
        found.append("x-hub-instance")
    if sender and sender in own:
        found.append("own address")
    return tuple(found)
