"""The one place that speaks SMTP: aiosmtplib step by step, so that each failure has its meaning.

``SMTP.send_message`` would write the mail anew and break its ids, ``login`` would try a wrong
password by three mechanisms (which locks accounts), and ``sendmail`` does not tell whether a
connection was lost before or behind the end of the data. So the steps are taken here: until
DATA whatever fails was surely not sent; behind it no answer means that nobody knows.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiosmtplib
import structlog

from connectors.mail.composing import Envelope
from connectors.mail.logins import Login, Logins
from connectors.mail.outcomes import LoginBrake, LoginRefused, smtp_failure
from connectors.mail.settings import MailSettings
from connectors.mail.xoauth2 import initial_response, reason_in
from normalizer.outcomes import (
    Failure,
    Misconfigured,
    OutcomeUnknown,
    Rejected,
    Temporary,
    Unreachable,
)
from normalizer.text import clean_line

log = structlog.get_logger(__name__)

CONNECT_S = 10.0
KEPT_S = 60.0  # servers cut idle connections after a few minutes
QUIT_S = 2.0
SLOWEST_BYTES_PER_S = 50_000

Tls = Callable[[], ssl.SSLContext | None]


class Submission:
    """Sends an account's mails over a few connections."""

    def __init__(self, settings: MailSettings, tls: Tls, logins: Logins, brake: LoginBrake) -> None:
        self._settings = settings
        self._tls = tls
        self._logins = logins
        self._brake = brake
        self._free: list[tuple[aiosmtplib.SMTP, float]] = []
        self._places = asyncio.Semaphore(settings.limits.smtp_connections)

    async def send(self, envelope: Envelope) -> str:
        """Send a mail; return what the server said, which holds its queue's id.

        Raises one of normalizer.outcomes' failures.
        """
        async with self._connection() as smtp:
            await self._before_data(smtp, envelope)
            return await self._data(smtp, envelope)

    async def check(self) -> None:
        """Connect and log in. Raises what a send would."""
        async with self._connection():
            return

    async def close(self) -> None:
        free, self._free = self._free, []
        for smtp, _ in free:
            await _goodbye(smtp)

    # --- the steps -----------------------------------------------------------------------------

    async def _before_data(self, smtp: aiosmtplib.SMTP, envelope: Envelope) -> None:
        options = []
        most = smtp.esmtp_extensions.get("size", "").strip()
        if smtp.supports_extension("size"):
            if most.isdecimal() and 0 < int(most) < len(envelope.data):
                raise Rejected(
                    f"the mail has {len(envelope.data)} bytes with its files, and the mail server"
                    f" takes {most}: send a link instead",
                    code="5.3.4",
                )
            options.append(f"SIZE={len(envelope.data)}")
        if envelope.utf8:
            if not smtp.supports_extension("smtputf8"):
                raise Unreachable(
                    "this address has letters that the mail server cannot send to (SMTPUTF8)"
                )
            options += ["SMTPUTF8", "BODY=8BITMIME"]
        encoding = "utf-8" if envelope.utf8 else "ascii"
        try:
            await smtp.mail(envelope.sender, options=options, encoding=encoding)
            await smtp.rcpt(envelope.recipient, encoding=encoding)
        except aiosmtplib.SMTPResponseException as error:
            raise smtp_failure(error.code, error.message) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Temporary("the connection to the mail server was lost before sending") from error

    async def _data(self, smtp: aiosmtplib.SMTP, envelope: Envelope) -> str:
        allowed_s = self._settings.limits.answer_s + len(envelope.data) / SLOWEST_BYTES_PER_S
        try:
            async with asyncio.timeout(allowed_s):
                answer = await smtp.data(envelope.data, timeout=allowed_s)
        except aiosmtplib.SMTPResponseException as error:
            raise smtp_failure(error.code, error.message) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise OutcomeUnknown(
                "the mail server took the mail and the connection was lost before it said so"
            ) from error
        return clean_line(answer.message, 300)

    # --- connections ---------------------------------------------------------------------------

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[aiosmtplib.SMTP]:
        """Lend a connection; one that failed is not used again, except after a plain refusal."""
        async with self._places:
            smtp = await self._usable()
            try:
                yield smtp
            except (OutcomeUnknown, Temporary):
                smtp.close()
                raise
            except Failure:
                await self._keep(smtp)
                raise
            except BaseException:
                smtp.close()
                raise
            await self._keep(smtp)

    async def _usable(self) -> aiosmtplib.SMTP:
        while self._free:
            smtp, since = self._free.pop()
            if time.monotonic() - since < KEPT_S and await _alive(smtp):
                return smtp
            smtp.close()
        return await self._open()

    async def _keep(self, smtp: aiosmtplib.SMTP) -> None:
        if smtp.is_connected:
            self._free.append((smtp, time.monotonic()))

    async def _open(self) -> aiosmtplib.SMTP:
        if not self._settings.smtp_login:
            return await self._connected(None)
        return await self._logins.log_in(self._brake, self._connected)

    async def _connected(self, login: Login | None) -> aiosmtplib.SMTP:
        settings = self._settings
        where = f"{settings.smtp_host}:{settings.smtp_port}"
        smtp = aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            local_hostname=settings.domain,  # else it asks the DNS, and blocks
            timeout=settings.limits.answer_s,
            use_tls=settings.smtp_tls == "tls",
            # Said outright: left to the server's offer, whoever is in between takes it away.
            start_tls=settings.smtp_tls == "starttls",
            tls_context=self._tls() if settings.smtp_tls != "none" else None,
        )
        try:
            async with asyncio.timeout(settings.limits.answer_s):
                await smtp.connect(timeout=CONNECT_S)
                await smtp.ehlo()
                if login is not None:
                    await self._log_in(smtp, login)
        except BaseException as error:
            smtp.close()
            if isinstance(error, Failure) or not isinstance(error, Exception):
                raise
            raise _not_connected(where, error) from error
        return smtp

    async def _log_in(self, smtp: aiosmtplib.SMTP, login: Login) -> None:
        known = set(smtp.server_auth_methods)
        secret = login.password.reveal() if login.password is not None else ""
        try:
            if login.token is not None:
                await _xoauth2(smtp, login.user, login.token.reveal())
            elif "plain" in known:
                await smtp.auth_plain(login.user, secret)
            elif "login" in known:
                await smtp.auth_login(login.user, secret)
            elif "cram-md5" in known:
                await smtp.auth_crammd5(login.user, secret)
            else:
                raise Misconfigured(
                    "the mail server offers no login here: look at smtp_port and smtp_tls, or say"
                    " smtp_login = false for a relay without logins"
                )
        except ValueError as error:
            raise LoginRefused(
                "user, password or token hold a character that SMTP cannot carry"
            ) from error
        except aiosmtplib.SMTPResponseException as error:
            raise smtp_failure(
                error.code, error.message, login=True, token=login.token is not None
            ) from error


async def _xoauth2(smtp: aiosmtplib.SMTP, user: str, token: str) -> None:
    """Log in with an access token. Raises SMTPAuthenticationError with the server's reason.

    A refusal is a challenge with the reason, then an empty line of ours, then the refusal itself.
    The library sends that line as well, and drops the reason.
    """
    if "xoauth2" not in smtp.server_auth_methods:
        raise Misconfigured(
            "the mail server takes no access tokens here (it offers no XOAUTH2): look at"
            " smtp_host, smtp_port and smtp_tls"
        )
    answer = await smtp.execute_command(b"AUTH", b"XOAUTH2", initial_response(user, token))
    said = ""
    if answer.code == aiosmtplib.SMTPStatus.auth_continue:
        said = reason_in(answer.message)
        answer = await smtp.execute_command(b"")
    if answer.code != aiosmtplib.SMTPStatus.auth_successful:
        reason = f"{answer.message}; {said}" if said else answer.message
        raise aiosmtplib.SMTPAuthenticationError(answer.code, reason)


def _not_connected(where: str, error: Exception) -> Failure:
    """Return what a connection that did not come about means: surely nothing was sent."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Misconfigured(
                f"the certificate of {where} is not valid for it ({cause.verify_message}): it may"
                " be the wrong host, or somebody in between; a private authority goes into ca_file"
            )
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return smtp_failure(error.code, error.message)
    if isinstance(error, aiosmtplib.SMTPNotSupported) or "STARTTLS" in str(error):
        return Misconfigured(f"{where} offers no STARTTLS: look at smtp_port and smtp_tls")
    return Temporary(f"no connection to {where}: {type(error).__name__}")


async def _alive(smtp: aiosmtplib.SMTP) -> bool:
    """Say whether a kept connection still answers; it forgets what was begun on it."""
    try:
        async with asyncio.timeout(CONNECT_S):
            await smtp.rset()
    except (aiosmtplib.SMTPException, OSError):
        return False
    return True


async def _goodbye(smtp: aiosmtplib.SMTP) -> None:
    try:
        async with asyncio.timeout(QUIT_S):
            await smtp.quit()
    except (aiosmtplib.SMTPException, OSError) as error:
        log.debug("smtp_quit_failed", reason=type(error).__name__)
    smtp.close()
