"""What a reply by mail repeats: found where Chinese and English clients put it, and folded away.

:func:`trim` cuts a mail's text into what its writer says and what stands below it: signature,
attribution and quotation. Nothing is dropped: both halves together are the whole text. Where the
answer stands between or below the quoted lines, nothing is cut.

What somebody forwards is what they want to be read: from the line with which a forwarded mail
begins nothing is folded any more.

Every pattern looks at one line, or at three joined ones, of bounded length and without nested
repetition, so that no text makes it slow. The markers are those of contracts/email.md section 5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from normalizer.markup import OBJECT

MAX_LINES = 20_000
_LOOKED_AT = 400  # characters of a line
MAX_SIGNATURE_LINES = 12
MAX_SIGNATURE_CHARS = 800


class Trimmed(NamedTuple):
    """``visible + quoted`` is the text, but for white space between them."""

    visible: str
    quoted: str = ""


def trim(
    text: str, quotations: Sequence[tuple[int, int]] = (), *, forwarded: bool = False
) -> Trimmed:
    """Cut ``text`` before its trailing quotation, and fold the signature above it.

    ``quotations`` are ranges that the mail's markup calls quoted. ``forwarded`` says that the mail
    is known to hand another one on, as its subject tells; many clients write that one as they
    write a quotation. If nothing a person wrote would be left, everything stays visible.
    """
    if forwarded:
        return Trimmed(text)
    end = _trailing(text, quotations)
    lines = text[:end].split("\n")
    if len(lines) > MAX_LINES:
        return Trimmed(text)
    shown = [_line(line) for line in lines]
    cut = _cut(shown, quoted_below=end < len(text))
    if cut is None:
        return Trimmed(text)
    if not _says_something(shown[:cut]):
        return Trimmed(text)
    signed = _signature(shown, cut)
    if _says_something(shown[:signed]):
        cut = signed
    at = sum(len(line) + 1 for line in lines[:cut])
    visible = text[:at].rstrip() if cut < len(lines) else text[:end].rstrip()
    return Trimmed(visible, text[len(visible) :].strip("\n"))


def _trailing(text: str, quotations: Sequence[tuple[int, int]]) -> int:
    """Return where the marked-up quotation at the end of ``text`` begins."""
    end = len(text)
    for start, stop in reversed(quotations):
        if not _only_signature(text[stop:end]) or _hands_on(text[start:stop]):
            break
        end = start
    return end


def _hands_on(quoted: str) -> bool:
    """Whether what the markup calls a quotation is a mail that is forwarded."""
    lines = map(_unmarked, quoted[:2000].split("\n"))
    first = next((line for line in lines if line), "")
    return _FORWARDED.match(first) is not None


def _only_signature(text: str) -> bool:
    lines = [line for line in map(_line, text.split("\n")[:50]) if line]
    return len(text) < 2000 and all(line == OBJECT or _MOBILE.match(line) for line in lines)


def _unmarked(line: str) -> str:
    return _line(line.lstrip("> "))


def _line(line: str) -> str:
    """Return a line as the patterns want it: bounded, with plain blanks, without bold stars."""
    return line[:_LOOKED_AT].replace("\xa0", " ").replace("\u3000", " ").strip()


def _says_something(lines: Sequence[str]) -> bool:
    return any(line and not line.startswith(">") for line in lines)


# --- quotations ------------------------------------------------------------------------------

_SEPARATOR = re.compile(
    r"[-_*=—]{2,80} ?(?:原始邮件|原始信件|原邮件|邮件原件|原始消息|原始信息|回复邮件"
    r"|回复的原始?邮件|原始郵件|原始訊息|原郵件"
    r"|Original|Original (?:Message|Email|E-mail|Mail|Appointment)"
    r"|Reply Message|Replied Message|Ursprüngliche Nachricht|Message d'origine) ?[-_*=—]{2,80}\Z",
    re.IGNORECASE,
)
_FORWARDED = re.compile(
    r"[-_*=—]{2,80} ?(?:转发的邮件|转发邮件|转发邮件信息|转发的原始?邮件|已转发邮件|轉寄郵件"
    r"|轉寄的郵件|轉寄信件|轉發的郵件|Forwarding messages"
    r"|Forwarded (?:Message|Mail|Email|by .{1,60})) ?[-_*=—]{2,80}\Z"
    r"|(?:Begin forwarded message|开始转发的邮件|下面是被转发的邮件|下面是转发的邮件|開始轉寄郵件"
    r"|以下是轉寄的郵件)\s?[:：]\Z",
    re.IGNORECASE,
)
_ATTRIBUTION = re.compile(
    r"(?:"
    r"[在于於] ?.{4,200}?(?:写道|寫道|写到|发表|撰写) ?[:：]?"
    r"|.{1,120} ?[在于於] ?\d{4} ?[年/.-].{4,100}(?:写道|寫道|撰写) ?[:：]?"
    r"|\d{4} ?[年/.-].{4,160}(?:写道|寫道) ?[:：]"
    r"|.{0,80}<[^<>\s]{1,120}@[^<>\s]{1,120}> ?(?:写道|寫道) ?[:：]"
    r"|(?:On|At) .{6,250}(?:wrote|writes) ?[:：]?"
    r"|.{3,200}@.{1,120} (?:wrote|writes) ?[:：]"
    r"|(?:\d{4}[-年/]\d{1,2}[-月/]\d{1,2}日?|\d{1,2}\.\d{1,2}\.\d{4},?)"
    r"[ (（].{0,100}<[^<>\s]{1,120}@[^<>\s]{1,120}> ?[:：]"
    r"|-{2,20} ?On .{6,250} wrote ?-{2,20}"
    r"|(?:Am|Le) .{6,200}(?:schrieb .{1,120}|a écrit ?)[:：]"
    r"|(?:El|Em|Il) .{6,200}(?:escribió|escreveu|ha scritto) ?[:：]"
    r"|\d{4}년 .{6,200}님이 작성 ?[:：]"
    r")\Z"
)
# A program writes the day or the address of the other mail. A person who says "on the form I
# wrote:" says neither, and goes on below with what the mail is about.
_DATED = re.compile(r"(?:19|20)\d\d|\d{1,2}[:.]\d\d|\d ?[月日/]|@")
_OF_ONESELF = re.compile(
    r"我们?.{0,4}(?:写|寫)[道到]|我.{0,4}(?:发表|撰写)|\bI (?:\w+ )?wr(?:ote|ites?)\b"
)
_HEADER = re.compile(
    r"[|*\s]{0,6}(?:"
    r"(?P<sender>发件人|发送人|寄件者|寄件人|差出人|보낸 사람|From|Von|De)"
    r"|(?P<date>发送时间|发送日期|日期|寄件日期|傳送時間|发件时间|已发送|时间|送信日時|日時"
    r"|보낸 날짜|Sent|Date|Gesendet|Envoyé)"
    r"|(?P<to>收件人|收件者|宛先|받는 사람|To|An|À)"
    r"|(?P<subject>主 {0,4}题|主旨|主題|件名|제목|Subject|Betreff|Objet)"
    r"|(?P<other>抄送|抄送人|副本|密送|Cc|Reply-To|回复至|附件)"
    r")[*\s]{0,4}(?:[:：]|\|)",
    re.IGNORECASE,
)
_RULE = re.compile(r"[-_*=—]{3,200}\Z|(?:原始邮件|原始郵件|Original(?: Message)?)\Z")


def _cut(lines: Sequence[str], *, quoted_below: bool) -> int | None:
    """Return the index of the first line that belongs to what is answered.

    None where a mail is handed on: what stands below is what its reader is asked to look at.
    """
    for index, line in enumerate(lines):
        if not line or line.startswith(">"):
            continue
        if _FORWARDED.match(line):
            return None
        if _SEPARATOR.match(line):
            return index
        if _begins_headers(lines, index):
            return _above_rule(lines, index)
        below = _attribution_ends(lines, index)
        if below and not _answered_below(lines, below):
            return index
    if quoted_below:
        return len(lines)
    return _quoted_end(lines)


def _attribution_ends(lines: Sequence[str], index: int) -> int:
    """Return the index below an attribution that begins here and may wrap; 0 if none does."""
    joined = ""
    for count, line in enumerate(lines[index : index + 4]):
        if count and (not line or line.startswith(">")):
            return 0
        joined = f"{joined} {line}".strip() if joined[-1:].isascii() else joined + line
        if len(joined) > _LOOKED_AT:
            return 0
        if count == 0 and not _may_begin_attribution(line):
            return 0
        if _ATTRIBUTION.match(joined):
            written = _DATED.search(joined) and not _OF_ONESELF.search(joined)
            return index + count + 1 if written else 0
    return 0


_FIRST_WORDS = re.compile(
    r"(?:On|At|Am|Le|El|Em|Il|在|于|於|-{2,20} ?On|\d{4}|\d{1,2}\.\d"
    r"|.{1,120}[在于於] ?\d{4}|.{0,200}@)"
)


def _may_begin_attribution(line: str) -> bool:
    return _FIRST_WORDS.match(line) is not None


def _begins_headers(lines: Sequence[str], index: int) -> bool:
    """Whether the block of headers of an older mail begins.

    It has the sender and a date or a subject, and something that only mails have: a subject, or
    an address. Who sends a parcel from one place to another writes such a block as well.
    """
    if not _HEADER.match(lines[index]):
        return False
    kinds: set[str] = set()
    blanks = 0
    addressed = False
    for line in lines[index : index + 12]:
        found = _HEADER.match(line)
        if found is not None:
            kinds.add(found.lastgroup or "")
            addressed |= "@" in line
            blanks = 0
        elif not line or line in ("|", "---"):
            blanks += 1
            if blanks > 1:
                break
        elif not kinds:
            break
    written = "subject" in kinds or ("date" in kinds and addressed)
    return "sender" in kinds and written


def _above_rule(lines: Sequence[str], index: int) -> int:
    """Move up over the rule that Outlook draws above those headers, and QQ's title."""
    above = index - 1
    while above >= 0 and index - above <= 3 and not lines[above]:
        above -= 1
    if above < 0 or not _RULE.match(lines[above]):
        return index
    titled = above and not _RULE.match(lines[index]) and _RULE.match(lines[above - 1])
    return above - 1 if titled else above


def _answered_below(lines: Sequence[str], below: int) -> bool:
    """Whether somebody wrote between or under quoted lines, where there are any."""
    rest = lines[below:]
    first = next((at for at, line in enumerate(rest) if line.startswith(">")), None)
    if first is None or any(rest[:first]):
        return False
    end = _signature(rest, len(rest))
    for at in range(first, end):
        line = rest[at]
        if not line or line.startswith(">") or line == OBJECT:
            continue
        if _SEPARATOR.match(line) or _FORWARDED.match(line) or _is_signature(line):
            return False  # an older mail, quoted another way
        if _attribution_ends(rest, at):
            return False  # an older mail, quoted another way
        # A long quoted line that a server broke goes on without its sign.
        wrapped = rest[at - 1].startswith(">") and len(rest[at - 1]) >= 55
        goes_on = at + 1 == len(rest) or not rest[at + 1] or rest[at + 1].startswith(">")
        if not (wrapped and goes_on and len(line) < 60):
            return True
    return False


def _quoted_end(lines: Sequence[str]) -> int | None:
    """Return where the quoted lines at the end begin; a signature below them counts as theirs.

    None where they are a mail that is handed on.
    """
    end = len(lines)
    signed = _signature(lines, end)
    at = end
    for start in {signed, end}:
        at = start
        while at and (not lines[at - 1] or lines[at - 1].startswith(">")):
            at -= 1
        if any(line.startswith(">") for line in lines[at:start]):
            if _hands_on("\n".join(lines[at:start])):
                return None
            inline = any(line.startswith(">") for line in lines[:at])
            return end if inline else at
    return end


# --- signatures ------------------------------------------------------------------------------

_MOBILE = re.compile(
    r"(?:发自我的|發自我的|来自我的|來自我的|发送自|傳送自|寄自我的|从我的.{1,40}发送"
    r"|從我的.{1,40}(?:傳送|寄出)|来自 ?QQ ?邮箱|來自 ?QQ ?郵箱"
    r"|发自 ?.{1,30}(?:邮箱|手机|客户端|Mail|iPhone|iPad)"
    r"|由 ?.{0,20}(?:邮箱|郵箱|手机|手機|客户端|Mail|iPhone|iPad|Outlook|Galaxy).{0,10}"
    r"(?:发送|傳送)\Z"
    r"|获取 ?Outlook|下载 ?Outlook|取得 ?.{0,20}Outlook|获取适用于.{1,30}Outlook"
    r"|Sent from (?:my|Mail for|Outlook|Yahoo|Samsung|Mailspring|a mobile|Proton|Xiaomi|Huawei)"
    r"|Sent (?:via|using|with) .{0,30}(?:mail|phone|iPad|Android|BlackBerry|Superhuman|Spark)\b"
    r"|Get Outlook for|Von meinem .{1,30}gesendet"
    r"|Envoyé de mon|Outlook for (?:iOS|Android)|[-—]{1,3} ?发自|发自新浪邮箱|发自网易邮箱)",
    re.IGNORECASE,
)


def _is_signature(line: str) -> bool:
    return len(line) < 120 and _MOBILE.match(line) is not None


def _signature(lines: Sequence[str], end: int) -> int:
    """Return where the signature above line ``end`` begins, or ``end``."""
    while end and not lines[end - 1]:
        end -= 1
    lowest = max(0, end - MAX_SIGNATURE_LINES - 1)
    for at in range(end - 1, lowest - 1, -1):
        if lines[at] in ("--", "-- "):
            chars = sum(map(len, lines[at:end]))
            return at if chars <= MAX_SIGNATURE_CHARS else end
    at = end
    while at and (not lines[at - 1] or _is_signature(lines[at - 1]) or _is_rule_of(lines, at - 1)):
        at -= 1
    return at if any(map(_is_signature, lines[at:end])) else end


def _is_rule_of(lines: Sequence[str], at: int) -> bool:
    """A rule belongs to the signature below it."""
    return (
        _RULE.match(lines[at]) is not None and at + 1 < len(lines) and _is_signature(lines[at + 1])
    )
