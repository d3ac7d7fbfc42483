"""A person by mail and on the site: one timeline, and answers in both places.

The whole hub with MongoDB, dovecot and postfix, and the shop's page with the widget in a real
Chromium: nothing is faked.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import convert

from hub.clock import SystemClock
from hub.documents import Conversation, Entry
from normalizer.parts import AnyPart, plain_text
from tests.mail.conftest import MakeBox
from tests.mail.mailboxes import mail
from tests.mail.test_end_to_end import Space, account, read
from tests.site.space import Browsers
from tests.site.test_browser import ARGS, bubbles, chromium_path, say
from tests.site.test_real_hub import ACCOUNT, SITE
from tests.support.hubs import running_hub

pytestmark = [pytest.mark.real_mongo, pytest.mark.browser, pytest.mark.timeout(180)]

FIRST, SECOND = "<first@example.com>", "<second@example.com>"


class Shop:
    """The shop's own server: a page with the widget, for somebody who has logged in."""

    def __init__(self) -> None:
        self.widget = ""  # the widget's URL at the hub
        self.token = ""  # what the shop says of who is logged in
        app = web.Application()
        app.router.add_get("/", self._page)
        self.server = TestServer(app)

    @property
    def origin(self) -> str:
        return str(self.server.make_url("/")).rstrip("/")

    async def _page(self, request: web.Request) -> web.Response:
        config = f"window.OmnilineConfig = {{ identity: async () => {json.dumps(self.token)} }};"
        body = f"<script>{config}</script><script src='{self.widget}' async></script>"
        return web.Response(text=f"<!doctype html><body>{body}</body>", content_type="text/html")


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    playwright_api = pytest.importorskip("playwright.async_api")
    path = chromium_path()
    async with playwright_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGS)
        try:
            yield browser
        finally:
            await browser.close()


async def test_a_mail_and_a_browser_session_are_one_timeline(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, make_box: MakeBox
) -> None:
    """The login's verified mailbox is the mail's sender; each answer is where it was asked."""
    box, ann = await make_box(), await make_box()
    shop = Shop()
    await shop.server.start_server()
    more = ACCOUNT.replace("https://www.example.com", shop.origin) + account(box)
    async with (
        shop.server,
        chromium() as browser,
        running_hub(mongo_url, mongo_db_name, tmp_path, accounts=("main",), more=more) as hub,
        aiohttp.ClientSession() as http,
    ):
        space = await Space(hub, box, ann).connected()
        by_mail = await space.asks("asked by mail", subject="order", ident=FIRST)

        door = f"{hub.hub.url}/site/{SITE}"
        site = Browsers(door, http, SystemClock())
        shop.widget = f"{door}/widget.js"
        shop.token = site.identity("10086", email=ann.address, email_verified=True)
        tab = await (await browser.new_context(locale="zh-CN")).new_page()
        tab.set_default_timeout(30_000)
        await tab.goto(shop.origin)
        await tab.locator(".button").click()
        await say(tab, "asked on the site")
        await tab.get_by_text("已发送").wait_for()
        said = {"channel": "site", "kind": {"$exists": False}}
        (on_site,) = await hub.until("the entry", lambda: hub.hub.store.table(Entry).find(said))

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
        answer = bubbles(tab, ".row:not(.mine)")
        await answer.wait_for()
        assert await answer.inner_text() == "answered on the site"
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
