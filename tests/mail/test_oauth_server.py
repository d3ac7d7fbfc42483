"""OAuth logins at a real server: dovecot asks whose a token is, postfix asks dovecot.

Real: IMAP, SMTP and their XOAUTH2. Played: the token endpoint, and what dovecot asks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from connectors.mail import oauth_tokens
from connectors.mail.outcomes import LoginRefused
from tests.mail.conftest import MakeBox
from tests.mail.fake_oauth import FakeOAuth
from tests.mail.mailboxes import Mailbox, outgoing
from tests.support.mailserver import MailServer


@pytest.fixture
async def oauth() -> AsyncIterator[FakeOAuth]:
    async with FakeOAuth() as endpoint:
        yield endpoint


@pytest.fixture
async def box(
    make_box: MakeBox, mail_server: MailServer, oauth: FakeOAuth
) -> AsyncIterator[Mailbox]:
    """A mailbox that logs in by the endpoint's last token, and by nothing else."""
    made = await make_box(password=None, oauth=oauth.settings)
    async with aiohttp.ClientSession() as http:
        made.services.http = http
        mail_server.introspection.whose = lambda token: made.user if token == oauth.token else ""
        yield made
        await made.close()
        mail_server.introspection.whose = lambda token: ""


async def test_a_mailbox_is_read_and_answered_with_tokens_that_end_meanwhile(
    box: Mailbox,
    make_box: MakeBox,
    mail_server: MailServer,
    oauth: FakeOAuth,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The servers refuse an ended token by both protocols, and a new one is fetched once."""
    monkeypatch.setattr(oauth_tokens, "YOUNG", oauth_tokens.YOUNG * 0)
    monkeypatch.setattr(oauth_tokens, "CALLER_WAITS_S", 30.0)
    ann = await make_box()
    held = await box.hold().open()
    await box.connector.send(outgoing(ann.address, "one"))
    assert len(oauth.issued) == 1
    oauth.issued.append("nobody has it: what was issued has ended")
    mail_server.kick(box.user)
    await held.ended()
    await box.hold(held.cursor).open()
    await box.connector.stop()  # its connection for sending as well
    await box.connector.send(outgoing(ann.address, "two", key="job_2", entry="ent_2"))
    assert len(oauth.asked) == 2
    assert list(await box.connector.check()) == []


async def test_a_real_refusal_is_told_with_the_servers_reason(
    box: Mailbox, mail_server: MailServer
) -> None:
    mail_server.introspection.whose = lambda token: "somebody-else"
    with pytest.raises(LoginRefused, match=r"AUTHENTICATIONFAILED.*status 401, schemes bearer"):
        await box.connector._mailbox.open()
    with pytest.raises(LoginRefused, match=r"535 5\.7\.8.*status 401, schemes bearer"):
        await box.connector._submission.check()
