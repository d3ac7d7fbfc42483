"""What servers' refusals mean: the tables of IMAP and SMTP, and the brake on failed logins.

Sources: RFC 3501 and 5530 (IMAP response codes), RFC 5321 and 3463 (SMTP replies and enhanced
status codes).
"""

from __future__ import annotations

import re

from connectors.mail.reading.bounces import NO_SUCH_MAILBOX
from hub import Clock
from normalizer.outcomes import (
    Failure,
    Misconfigured,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
)
from normalizer.text import clean_line

LOGIN_TRIES = 3  # then accounts get locked
LOGIN_PAUSE_S = 3600.0
BUSY_S = 60.0

# Response codes of a NO, and whether coming back later can help.
_IMAP_PASSING = frozenset({"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "CONTACTADMIN"})
_IMAP_LOGIN = frozenset({"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "ALERT"})
_IMAP_FOLDER = frozenset({"NONEXISTENT", "TRYCREATE", "CANNOT", "NOPERM"})
_CODE = re.compile(r"\[([A-Z-]+)")
_ENHANCED = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
# Gmail says so with [ALERT], others without a code. It is nothing about user and password: what
# counts as a refused login would keep the mailbox closed for an hour.
_IMAP_BUSY = re.compile(
    r"too many (?:simultaneous |concurrent |open )?(?:connections|sessions)|number of connections"
    r"|connection limit|bandwidth limit|temporar(?:y|ily)|try again later|server (?:is )?busy",
    re.IGNORECASE,
)
_TOO_MANY = re.compile(r"too many|rate limit|throttl|frequen|try again later", re.IGNORECASE)

REMEDY = (
    "look at user and password. QQ, 163 and other Chinese providers want an authorisation code"
    " (授权码) from the mailbox's settings, Gmail an app password, Microsoft 365 an OAuth token"
)

TOKEN_REMEDY = (
    "the server takes the access token for wrong, ended or without rights. Look at user (the"
    " mailbox's own address) and at the app's rights: Microsoft 365 wants IMAP.AccessAsUser.All and"
    " SMTP.Send with a refresh token; IMAP.AccessAsApp, SMTP.SendAsApp and access to this mailbox"
    " without one; SMTP switched on for the mailbox; Google wants https://mail.google.com/"
)


class LoginRefused(Misconfigured):
    """The server does not accept user or password."""


def imap_failure(command: str, result: str, text: str) -> Failure:
    """Return what a NO or BAD to an IMAP command means."""
    said = clean_line(text, 200)
    found = _CODE.search(text)
    code = found.group(1) if found else ""
    if result == "BAD":
        return Rejected(f"the IMAP server does not understand {command}: {said}", code="BAD")
    if code in _IMAP_PASSING or (code in ("", "ALERT") and _IMAP_BUSY.search(text)):
        return Temporary(f"the IMAP server is not available: {said}", code=code)
    if command == "AUTHENTICATE":
        return LoginRefused(
            f"the IMAP server refused the login ({said}): {TOKEN_REMEDY}", code=code
        )
    if command == "LOGIN" or code in _IMAP_LOGIN:
        return LoginRefused(f"the IMAP server refused the login ({said}): {REMEDY}", code=code)
    if code == "OVERQUOTA":
        return Misconfigured(f"the mailbox is full: {said}", code=code)
    if code in _IMAP_FOLDER or command == "SELECT":
        return Misconfigured(
            f"a folder cannot be opened ({said}): look at inbox, sent and junk", code=code
        )
    return Temporary(f"the IMAP server refused {command}: {said}", code=code)


def smtp_failure(code: int, text: str, *, login: bool = False, token: bool = False) -> Failure:
    """Return what an SMTP reply of 4xx or 5xx means. Such a reply says: surely not sent.

    ``login``: it answers one, and with ``token`` one by XOAUTH2.
    """
    said = f"{code} {clean_line(text, 300)}"
    found = _ENHANCED.search(text)
    enhanced = found.group(0) if found else ""
    name = enhanced or str(code)
    if login or code in (432, 454, 534, 535, 538) or enhanced in ("5.7.8", "4.7.8", "5.7.9"):
        if code < 500 and not enhanced.startswith("5"):
            return Temporary(f"the mail server cannot check logins now: {said}", code=name)
        remedy = TOKEN_REMEDY if token else REMEDY
        return LoginRefused(f"the mail server refused the login ({said}): {remedy}", code=name)
    if code == 530:
        return Misconfigured(
            f"the mail server wants TLS or a login first ({said}): look at smtp_tls, smtp_login",
            code=name,
        )
    if code < 500:
        if _TOO_MANY.search(text) and "greylist" not in text.lower():
            return RateLimited(
                f"the mail server has had enough: {said}", retry_after=BUSY_S, code=name
            )
        return Temporary(f"the mail server puts it off: {said}", code=name)
    if enhanced in ("5.1.1", "5.1.10", "5.1.2", "5.1.3", "5.1.6") or code == 551:
        gone = enhanced in NO_SUCH_MAILBOX or code == 551
        return Unreachable(f"there is no such mailbox: {said}", code=name, gone=gone)
    if enhanced in ("5.2.2", "5.2.1"):
        return Unreachable(f"the mailbox takes no mail: {said}", code=name)
    if enhanced == "5.3.4" or code == 523 or (code == 552 and not enhanced):
        return Rejected(f"the mail is too large, send a link instead: {said}", code=name)
    if enhanced.startswith("5.7"):
        return Rejected(
            f"the mail server's policy refuses it (look at SPF, DKIM and DMARC): {said}", code=name
        )
    if code in (550, 553) and not enhanced:
        return Unreachable(f"the mail server does not deliver there: {said}", code=name)
    return Rejected(f"the mail server refuses it: {said}", code=name)


class LoginBrake:
    """Stops logging in after three refusals in a row; then one try an hour.

    A door comes back for ever, and a server that sees the same wrong password for ever locks
    the account. A restart of the hub, which a changed setting needs anyway, begins anew, and so
    does another token, once.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._refused = 0
        self._last: LoginRefused | None = None
        self._since = 0.0
        self._with: object = None

    def check(self, login: object = None) -> None:
        """Raise the last refusal again if it is too early for another try with this login."""
        if self._last is None or self._refused < LOGIN_TRIES or login != self._with:
            return
        if self._clock.monotonic() - self._since < LOGIN_PAUSE_S:
            raise LoginRefused(
                f"{self._last.reason}. After {self._refused} refusals the next try is in an hour,"
                " so that the account is not locked; restart the hub to try at once",
                code=self._last.code,
            )

    def refused(self, failure: LoginRefused, login: object = None) -> None:
        self._with = login
        self._refused += 1
        self._last = failure
        self._since = self._clock.monotonic()

    def worked(self) -> None:
        self._refused, self._last = 0, None
