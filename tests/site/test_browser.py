"""The widget in a real Chromium: a visitor and an agent talk, across origins.

The page is served by one server and the hub by another, as on a customer's site.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from hub.clock import SystemClock
from tests.site.space import Running, Space, settings

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TEXT = "在吗？我要开发票😀👨‍👩‍👧‍👦"
WAIT_MS = 15_000


def chromium_path() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("OMNILINE_REQUIRE_REAL") == "1":
            pytest.fail("OMNILINE_REQUIRE_REAL=1, but there is no chromium on the PATH")
        pytest.skip("NOT TESTED: the widget needs chromium, and there is none on the PATH")
    return found


class World:
    """The site, the page that embeds it, and the browser."""

    def __init__(self, running: Running, browser: Any, page_url: str) -> None:
        self.running = running
        self.browser = browser
        self.page_url = page_url
        self.problems: list[str] = []

    async def page(self, context: Any = None, **options: Any) -> Any:
        """Open the customer's page; what the console complains about is kept."""
        context = context or await self.browser.new_context(locale="zh-CN", **options)
        page = await context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.problems.append(f"page: {error}"))
        page.on("console", self._said)
        await page.goto(self.page_url)
        await page.locator(".button").wait_for()
        return page

    def _said(self, message: Any) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text}")

    async def entry(self) -> Any:
        (entry,) = await until(lambda: self.running.space.entries(kind="message"))
        return entry


async def until(look: Any, wait_s: float = 10.0) -> Any:
    """Return what ``look`` finds once it finds something."""
    async with asyncio.timeout(wait_s):
        while not (found := await look()):
            await asyncio.sleep(0.02)
    return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    playwright_api = pytest.importorskip("playwright.async_api")
    chromium = chromium_path()
    async with AsyncExitStack() as stack:
        hub_url: list[str] = []

        async def home(request: web.Request) -> web.Response:
            body = (
                "<!doctype html><html lang='zh-CN'><title>商店</title><body><h1>商店</h1>"
                "<script>window.OmnilineConfig = window.OmnilineConfig || {};</script>"
                f"<script src='{hub_url[0]}/widget.js' async></script></body></html>"
            )
            # A strict policy: the widget needs nothing but its script, its server and pictures.
            policy = f"default-src 'none'; script-src 'unsafe-inline' {hub_url[0]}/;"
            policy += f" connect-src {_origin(hub_url[0])} {_origin(hub_url[0], 'ws')};"
            policy += f" img-src {_origin(hub_url[0])}"
            return web.Response(
                text=body,
                content_type="text/html",
                headers={"Content-Security-Policy": policy},
            )

        app = web.Application()
        app.router.add_get("/", home)
        shop = TestServer(app)
        await shop.start_server()
        stack.push_async_callback(shop.close)
        shop_url = str(shop.make_url("/"))
        space = Space()
        space.clock = SystemClock()
        space.fake_clock = SystemClock()  # type: ignore[assignment]
        made = settings(
            origins=(shop_url.rstrip("/"),), limits={"message_burst": 50, "receipts_every_s": 0.1}
        )
        running = await stack.enter_async_context(Running(space, made))
        hub_url.append(running.base)
        playwright = await stack.enter_async_context(playwright_api.async_playwright())
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGS)
        stack.push_async_callback(browser.close)
        yield World(running, browser, shop_url)


def _origin(url: str, scheme: str = "http") -> str:
    return scheme + "://" + url.split("/")[2]


async def say(page: Any, text: str) -> None:
    await page.locator("textarea").fill(text)
    await page.locator("textarea").press("Enter")


def bubbles(page: Any, kind: str = ".row") -> Any:
    return page.locator(f"{kind} .bubble")


async def test_a_visitor_and_an_agent_talk(world: World, tmp_path: Path) -> None:
    """A Chinese message with emoji arrives whole; the agent's answer is shown as text."""
    page = await world.page()
    await page.locator(".button").click()
    await say(page, TEXT)
    entry = await world.entry()
    await page.get_by_text("已发送").wait_for()

    await world.running.space.answers(
        entry.conversation, "您好，<b>我是小王</b> https://www.example.com/faq"
    )
    answer = bubbles(page, ".row:not(.mine)")
    await answer.wait_for()
    shot = Path(os.environ.get("OMNILINE_SCREENSHOTS", str(tmp_path))) / "site-widget.png"
    await page.screenshot(path=str(shot))

    assert entry.parts[0].text == TEXT
    assert await bubbles(page, ".row.mine").inner_text() == TEXT
    # What an agent pastes stays text: no element is made of it but the link.
    assert await answer.inner_text() == "您好，<b>我是小王</b> https://www.example.com/faq"
    assert await answer.locator("b").count() == 0
    assert await answer.locator("a").get_attribute("rel") == "noopener noreferrer nofollow"
    assert "小王" in await page.locator(".who").inner_text()
    assert shot.stat().st_size > 5000
    assert world.problems == []


async def test_reading_is_reported_when_the_answer_is_in_view(world: World) -> None:
    """Delivered with the panel shut, read a second after it is open."""
    page = await world.page()
    await page.locator(".button").click()
    await say(page, "hello")
    entry = await world.entry()
    await page.get_by_text("已发送").wait_for()
    await page.locator("header button").last.click()
    ident = await world.running.space.answers(entry.conversation, "hi")

    async def state() -> str:
        (answer,) = await world.running.space.entries(_id=ident)
        return str(answer.delivery.state) if answer.delivery else ""

    async def is_delivered() -> bool:
        return await state() == "delivered"

    async def is_read() -> bool:
        return await state() == "read"

    await until(is_delivered)
    await page.locator(".badge").get_by_text("1").wait_for()
    await page.locator(".button").click()
    await until(is_read)


async def test_what_was_said_while_the_hub_was_away_is_sent_once_when_it_is_back(
    world: World,
) -> None:
    """The outbox keeps it through a reload of the page; the entry is one."""
    context = await world.browser.new_context(locale="zh-CN")
    page = await world.page(context)
    await page.locator(".button").click()
    await say(page, "first")
    await world.entry()
    await page.get_by_text("已发送").wait_for()
    world.running.space.overloaded = True
    await say(page, "while it was away")
    await page.get_by_text("发送中").wait_for()
    await page.close()
    world.running.space.overloaded = False

    again = await world.page(context)
    await again.locator(".button").click()

    async def both() -> list[Any]:
        found = await world.running.space.entries(kind="message")
        return found if len(found) == 2 else []

    entries = await until(both)
    assert entries[1].parts[0].text == "while it was away"
    await again.wait_for_function(_STATES, arg=["first", "while it was away"])


_STATES = """(wanted) => {
  const root = document.querySelector("#omniline-widget").shadowRoot;
  const texts = [...root.querySelectorAll(".row.mine .bubble")].map((each) => each.textContent);
  const states = [...root.querySelectorAll(".state")].map((each) => each.textContent);
  const pending = states.some((each) => /发送中/.test(each));
  return !pending && JSON.stringify(texts) === JSON.stringify(wanted);
}"""


async def test_enter_does_not_send_while_an_input_method_composes(world: World) -> None:
    """Picking a word with Enter is no message; the Enter after it is."""
    page = await world.page()
    await page.locator(".button").click()
    text = page.locator("textarea")
    await text.fill("nihao")
    for fired in (
        "new CompositionEvent('compositionstart')",
        "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, cancelable: true})",
        "new CompositionEvent('compositionend')",
        "new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, cancelable: true})",
    ):
        await text.evaluate(f"(node) => node.dispatchEvent({fired})")
    assert await page.locator(".row.mine").count() == 0
    assert await text.input_value() == "nihao"

    await text.press("Enter")

    assert (await world.entry()).parts[0].text == "nihao"


async def test_without_sockets_the_widget_polls(world: World) -> None:
    """A network that cuts WebSockets: after three failures messages go both ways by REST."""
    context = await world.browser.new_context(locale="zh-CN")
    await context.add_init_script(
        "window.WebSocket = class { constructor() {"
        " setTimeout(() => this.onclose && this.onclose({code: 1006}), 5); } close() {} };"
        "window.WebSocket.OPEN = 1;"
    )
    page = await world.page(context)
    await page.locator(".button").click()
    await say(page, "by REST")
    entry = await world.entry()
    await page.get_by_text("已发送").wait_for()
    await world.running.space.answers(entry.conversation, "by long poll")

    await page.get_by_text("by long poll").wait_for()
    assert await bubbles(page, ".row.mine").count() == 1


async def test_a_picture_is_uploaded_and_shown(world: World) -> None:
    """Chosen in the widget, stored as an image, shown from its signed link."""
    from tests.site.test_uploads import png

    page = await world.page()
    await page.locator(".button").click()
    await say(page, "hello")
    await world.entry()
    await page.locator("input[type=file]").set_input_files(
        {"name": "截图.png", "mimeType": "image/png", "buffer": png(2, 2)}
    )

    shown = page.locator(".row.mine img")
    await shown.wait_for(state="attached")
    await page.wait_for_function(
        "() => { const image = document.querySelector('#omniline-widget').shadowRoot"
        ".querySelector('img'); return image && image.complete && image.naturalWidth === 2; }"
    )
    assert world.problems == []


async def test_edits_and_recalls_are_shown(world: World) -> None:
    """The agent's edit replaces the words; the visitor's own recall leaves a tombstone."""
    page = await world.page()
    await page.locator(".button").click()
    await say(page, "oops")
    entry = await world.entry()
    ident = await world.running.space.answers(entry.conversation, "tpyo")
    await page.get_by_text("tpyo").wait_for()
    await world.running.space.agent("edit", entry=ident, parts=[{"type": "text", "text": "typo"}])
    await page.get_by_text("typo", exact=True).wait_for()
    await page.get_by_text("已编辑").wait_for()

    await page.get_by_role("button", name="撤回").click()

    await page.get_by_text("消息已撤回").wait_for()
    assert await page.get_by_text("oops").count() == 0
    (recalled,) = [e for e in await world.running.space.entries(kind="message") if e.recalled]
    assert recalled.id == entry.id


async def test_the_widget_works_where_storage_is_blocked(world: World) -> None:
    """Private modes throw at localStorage: the chat works and says what it cannot do."""
    context = await world.browser.new_context(locale="zh-CN")
    await context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked'); } });"
    )
    page = await world.page(context)
    await page.locator(".button").click()
    await say(page, "hello")
    assert (await world.entry()).parts[0].text == "hello"
    assert world.problems == []


async def test_a_user_is_logged_in_through_the_pages_callback(world: World) -> None:
    """Omniline.identify: the token is the site's, the next message comes from the user."""
    page = await world.page()
    await page.locator(".button").click()
    await say(page, "before")
    await world.entry()
    await page.get_by_text("已发送").wait_for()
    token = world.running.identity("10086")
    await page.evaluate("(token) => window.Omniline.identify(async () => token)", token)

    await say(page, "after")

    async def both() -> list[Any]:
        found = await world.running.space.entries(kind="message")
        return found if len(found) == 2 else []

    entries = await until(both)
    assert [entry.data["level"] for entry in entries] == ["anonymous", "verified"]
    await page.wait_for_function(_STATES, arg=["before", "after"])
    await page.get_by_role("button", name="站内信").wait_for()
