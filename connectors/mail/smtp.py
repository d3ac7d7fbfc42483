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
from connectors.mail.outcomes import LoginBrake, LoginRefused, smtp_failure
from connectors.mail.settings import MailSettings
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

    def __init__(self, settings: MailSettings, tls: Tls, brake: LoginBrake) -> None:
        self._settings = settings
        self._tls = tls
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
        settings = self._settings
        self._brake.check()
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
                if settings.smtp_login:
                    await self._log_in(smtp)
        except BaseException as error:
            smtp.close()
            if isinstance(error, Failure) or not isinstance(error, Exception):
                raise
            raise _not_connected(where, error) from error
        return smtp

    async def _log_in(self, smtp: aiosmtplib.SMTP) -> None:
        settings = self._settings
        known = set(smtp.server_auth_methods)
        try:
            if settings.access_token is not None:
                await smtp.auth_xoauth2(settings.login, settings.access_token.reveal())
            elif settings.password is None:
                raise LoginRefused("smtp_login needs a password or an access_token")
            elif "plain" in known:
                await smtp.auth_plain(settings.login, settings.password.reveal())
            elif "login" in known:
                await smtp.auth_login(settings.login, settings.password.reveal())
            elif "cram-md5" in known:
                await smtp.auth_crammd5(settings.login, settings.password.reveal())
            else:
                raise Misconfigured(
                    "the mail server offers no login here: look at smtp_port and smtp_tls, or say"
                    " smtp_login = false for a relay without logins"
                )
        except aiosmtplib.SMTPResponseException as error:
            failure = smtp_failure(error.code, error.message, login=True)
            if isinstance(failure, LoginRefused):
                self._brake.refused(failure)
            raise failure from error
        self._brake.worked()


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
