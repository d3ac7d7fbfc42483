"""``omniline check`` for a mailbox: log in on both sides, look at the folders, name the remedy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from connectors.mail.composing import Envelope
from connectors.mail.held import Mailbox
from connectors.mail.imap import Imap
from connectors.mail.logins import Logins
from connectors.mail.smtp import Submission
from normalizer.outcomes import Failure

ARRIVES_S = 30.0
ASK_EVERY_S = 0.5


async def problems(
    logins: Logins, mailbox: Mailbox, submission: Submission | None, probe: Envelope | None
) -> list[str]:
    """Return what is wrong, in plain words. With ``probe`` that mail is sent and waited for."""
    found: list[str] = []
    imap = None
    try:
        await logins.renew()
    except Failure as failure:
        found.append(f"OAuth: {failure.reason}")
    renewed = not found
    try:
        imap = await mailbox.open()
    except Failure as failure:
        _add(found, "IMAP", failure)
    try:
        if imap is not None:
            found += [f"IMAP: {each}" async for each in _folders(mailbox, imap)]
        if submission is not None:
            before = len(found)
            try:
                await submission.check()
            except Failure as failure:
                _add(found, "SMTP", failure)
            if probe is not None and imap is not None and len(found) == before:
                found += await _to_itself(mailbox, imap, submission, probe)
    finally:
        if imap is not None:
            await imap.close()
    if renewed and (said := logins.warning()):
        found.append(said)
    return found


def _add(found: list[str], side: str, failure: Failure) -> None:
    """Note a failure, but not for each side again what is wrong with the token of both."""
    if f"OAuth: {failure.reason}" not in found:
        found.append(f"{side}: {failure.reason}")


async def _folders(mailbox: Mailbox, imap: Imap) -> AsyncIterator[str]:
    settings = mailbox.settings
    if not imap.can("IDLE"):
        yield (
            "the server has no IDLE, so new mail is noticed by asking every 30 s: nothing to do,"
            " but expect the delay"
        )
    try:
        sent = await mailbox.sent_folder(imap)
        if (settings.watch_sent or settings.save_sent) and not sent:
            yield (
                "the server names no Sent folder: set `sent` to its name, or watch_sent = false"
                " and save_sent = false"
            )
        for key, folder in (("inbox", settings.inbox), ("sent", sent), ("junk", settings.junk)):
            if not folder:
                continue
            try:
                await imap.select(folder)
            except Failure as failure:
                names = ", ".join(sorted(each.name for each in await imap.folders())[:30])
                yield f"{key} = {folder!r}: {failure.reason}. The server has: {names}"
    except Failure as failure:
        yield failure.reason


async def _to_itself(
    mailbox: Mailbox, imap: Imap, submission: Submission, probe: Envelope
) -> list[str]:
    try:
        await submission.send(probe)
        await imap.select(mailbox.settings.inbox)
        until = time.monotonic() + ARRIVES_S
        while not await imap.uids_with_id(probe.message_id):
            if time.monotonic() > until:
                return [
                    f"a mail to itself was accepted and did not arrive within {ARRIVES_S:.0f} s:"
                    " look at the server's queue and at its spam folder, and whether `address`"
                    " is delivered to this mailbox"
                ]
            await asyncio.sleep(ASK_EVERY_S)
            await imap.noop()
    except Failure as failure:
        return [f"sending to itself: {failure.reason}"]
    return []
