"""A person by mail and on the site: one timeline, and answers in both places.

The whole hub with MongoDB, dovecot and postfix, and the site's own HTTP and WebSocket: nothing is
faked.
"""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from msgspec import convert

from hub.clock import SystemClock
from hub.documents import Conversation
from normalizer.parts import AnyPart, plain_text
from tests.mail.conftest import MakeBox
from tests.mail.mailboxes import mail
from tests.mail.test_end_to_end import Space, account, read
from tests.site.space import Browsers
from tests.site.test_real_hub import ACCOUNT, SITE
from tests.support.hubs import running_hub

pytestmark = pytest.mark.real_mongo

FIRST, SECOND = "<first@example.com>", "<second@example.com>"


async def test_a_mail_and_a_site_session_are_one_timeline(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, make_box: MakeBox
) -> None:
    """The login's verified mailbox is the mail's sender; each answer is where it was asked."""
    box, ann = await make_box(), await make_box()
    async with (
        running_hub(
            mongo_url, mongo_db_name, tmp_path, accounts=("main",), more=ACCOUNT + account(box)
        ) as hub,
        aiohttp.ClientSession() as http,
    ):
        space = await Space(hub, box, ann).connected()
        by_mail = await space.asks("asked by mail", subject="order", ident=FIRST)

        site = Browsers(f"{hub.hub.url}/site/{SITE}", http, SystemClock())
        token = site.identity("10086", email=ann.address, email_verified=True)
        tab = await (await site.visitor(identity_token=token)).connect()
        shown = await tab.sends("asked on the site", "message-one")
        on_site = await hub.entry(shown["server_msg_id"])

        async def one_customer() -> str:
            pages = [await hub.get(f"/api/v1/entries/{entry.id}") for entry in (by_mail, on_site)]
            owners = {page["customer"] for page in pages}
            return owners.pop() if len(owners) == 1 else ""

        customer: str = await hub.until("one customer", one_customer)

        for channel, text in (("mail", "answered by mail"), ("site", "answered on the site")):
            done = await hub.post(
                f"/api/v1/customers/{customer}/replies",
                {"channel": channel, "parts": [{"type": "text", "text": text}]},
                once=f"to-{channel}",
            )
            assert done.status in (200, 202), done
        answer = await tab.expect("msg.new", seq="2")
        assert answer["parts"][0]["text"] == "answered on the site"
        (raw,) = await ann.mails_in(1)
        got = read(raw)
        body = got.get_body(("plain",))
        assert body is not None
        assert body.get_content().strip() == "answered by mail"
        assert str(got["Subject"]) == "Re: order"
        assert f"In-Reply-To: {FIRST}".encode() in raw
        assert f"References: {FIRST}".encode() in raw

        # Her mail program sends In-Reply-To alone, then nothing but the subject.
        again = {"In_Reply_To": str(got["Message-ID"]), "ident": SECOND}
        for text, headers in (("mailed again", again), ("and without ids", {})):
            sent = mail(text, sender=ann.address, to=box.address, subject="Re: order", **headers)
            ann.server.submit(sent, sender=ann.address, to=box.address)
        entries = await space.entries(4)
        assert {entry.thread for entry in entries} == {by_mail.thread}
        assert {entry.conversation for entry in entries} == {by_mail.conversation}

        page = await hub.get(f"/api/v1/customers/{customer}/timeline")
        told = {
            (each["channel"], plain_text(convert(each["parts"], tuple[AnyPart, ...])))
            for each in page["entries"]
            if each["kind"] == "message"
        }
        assert told == {
            ("mail", "asked by mail"),
            ("mail", "answered by mail"),
            ("mail", "mailed again"),
            ("mail", "and without ids"),
            ("site", "asked on the site"),
            ("site", "answered on the site"),
        }
        assert await hub.hub.store.table(Conversation).count({}) == 2
        await site.close()
