"""The console in a real browser: it follows what happens, answers, and fits on a phone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from playwright.async_api import Browser, Page, expect

from hub.feed.routes import feed_of
from normalizer.drafts import Amendment, AmendmentKind, DeliveryState, Receipt, Target
from tests.console.people import Console

pytestmark = pytest.mark.browser
EVIL = "<img src=x onerror=\"document.title='pwned'\"><b>bold</b>"


@asynccontextmanager
async def agent(console: Console, browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """Sign in with a browser of one's own; no error may appear on its console."""
    context = await browser.new_context(**{"timezone_id": "Asia/Shanghai", **options})
    page = await context.new_page()
    wrong: list[str] = []
    page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    await page.goto(await console.agents.link())
    await page.wait_for_url("**/console/")
    yield page
    assert [each for each in wrong if "409" not in each and "ERR_FAILED" not in each] == []
    await context.close()


async def open_customer(console: Console, page: Page, customer: str) -> None:
    await page.goto(f"{console.hub.hub.url}/console/customers/{customer}")
    await expect(page.locator("#live.on")).to_be_visible()


async def shown(page: Page) -> list[str]:
    """What every line says, day lines included."""
    return [" ".join(each.split()) for each in await page.locator("#lines > li").all_inner_texts()]


async def test_the_page_follows_messages_edits_and_states_and_reads_the_same_again(
    console: Console, browser: Browser
) -> None:
    """What the script puts onto the page is what the server would have."""
    customer = await console.say("hello", name="Ann")
    async with agent(console, browser) as page:
        await open_customer(console, page, customer)
        await console.say("你好 😀 live")
        line = page.locator(".line.in", has_text="你好 😀 live")
        await expect(line).to_be_visible()
        await console.command("note", customer=customer, text="a note", agent_name="Mei")
        await expect(page.locator(".line.note", has_text="a note")).to_be_visible()
        ident = await line.get_attribute("data-id")
        edit = {"parts": [{"type": "text", "text": EVIL}]}
        await console.take_in(
            Amendment(key="e", target=Target(entry=ident), kind=AmendmentKind.EDIT, data=edit)
        )
        await expect(page.locator(".line.in", has_text="onerror")).to_contain_text("edited")
        await console.command(
            "reply", customer=customer, parts=[{"type": "text", "text": "yes"}], agent_name="Mei"
        )
        await expect(page.locator(".line.out .state.good")).to_contain_text("Sent")
        (conversation,) = {
            entry["conversation"]
            for entry in (await console.hub.get(f"/api/v1/customers/{customer}/timeline"))[
                "entries"
            ]
            if entry["conversation"]
        }
        await console.command("close", conversation=conversation)
        await expect(page.locator(".line.mark", has_text="closed")).to_be_visible()
        await expect(page.locator("#dealings .pill")).to_have_text("closed")
        assert "Ann" in await page.title()
        assert await page.locator("#lines img, #lines b").count() == 0
        before = await shown(page)
        assert len(before) == 7
        markup = await page.locator("#lines").evaluate(MARKUP)
        await page.reload()
        await expect(page.locator("#live.on")).to_be_visible()
        assert await shown(page) == before
        assert await page.locator("#lines").evaluate(MARKUP) == markup


# The elements with what styles them; white space and the mark of a new line left out.
MARKUP = """root => {
  const classes = node => [...node.classList].filter(each => each !== "fresh").sort().join(" ");
  const tell = node => [node.tagName, classes(node), node.getAttribute("href") || "",
    [...node.children].map(tell)];
  return JSON.stringify(tell(root));
}"""


async def test_an_answer_is_sent_once_and_appears(console: Console, browser: Browser) -> None:
    customer = await console.say("hello")
    async with agent(console, browser) as page:
        await open_customer(console, page, customer)
        await page.fill("textarea", "  ")
        await page.click("#answer button")
        await page.fill("textarea", "今天发货 😀")
        await page.press("textarea", "Control+Enter")
        answer = page.locator(".line.out", has_text="今天发货 😀")
        await expect(answer).to_contain_text("Mei")
        await expect(page.locator("textarea")).to_have_value("")
        await expect(answer.locator(".state")).to_contain_text("Sent")
    assert [each.parts[0].text for each in console.hub.connector.sent] == ["今天发货 😀"]  # type: ignore[union-attr]


async def test_when_somebody_spoke_meanwhile_the_text_stays_and_can_be_sent_again(
    console: Console, browser: Browser
) -> None:
    customer = await console.say("hello")
    async with agent(console, browser) as page:
        await open_customer(console, page, customer)
        await page.route("**/lines", lambda route: route.abort())  # the page does not notice
        await console.say("wait, something else")
        await page.fill("textarea", "my answer")
        await page.unroute("**/lines")
        await page.click("#answer button")
        await expect(page.locator("#problem")).to_contain_text("in the meantime")
        await expect(page.locator("textarea")).to_have_value("my answer")
        await expect(page.locator(".line", has_text="something else")).to_be_visible()
        await page.click("#answer button")
        await expect(page.locator(".line.out", has_text="my answer")).to_contain_text("Sent")
        await expect(page.locator("#problem")).to_be_hidden()
    assert len(console.hub.connector.sent) == 1


async def test_where_answers_come_back_a_second_click_sends_all_the_same(
    console: Console, browser: Browser
) -> None:
    hub = console.hub.hub
    hub._capabilities["sample"] = replace(hub._capabilities["sample"], returns=3)
    customer = await console.say("hello")
    before = await console.command(
        "reply", customer=customer, parts=[{"type": "text", "text": "are you there?"}]
    )
    failed = DeliveryState.FAILED
    target = Target(entry=before["entry"])
    await console.take_in(Receipt(key="r", target=target, state=failed, permanent=True, gone=True))
    async with agent(console, browser) as page:
        await open_customer(console, page, customer)
        await expect(page.locator(".addresses .gone")).to_contain_text("comes back since")
        await page.fill("textarea", "my answer")
        await page.click("#answer button")
        await expect(page.locator("#problem")).to_contain_text("Send again to try all the same")
        await expect(page.locator(".line.out", has_text="my answer")).to_have_count(0)
        await page.click("#answer button")
        await expect(page.locator(".line.out", has_text="my answer")).to_contain_text("Sent")
        await expect(page.locator("#problem")).to_be_hidden()


async def test_what_is_too_long_for_the_channel_cannot_be_sent(
    console: Console, browser: Browser
) -> None:
    customer = await console.say("hello")
    async with agent(console, browser) as page:
        await open_customer(console, page, customer)
        await page.fill("textarea", "字" * 2001)
        await expect(page.locator("#count")).to_have_text("2001 of 2000")
        await expect(page.locator("#answer button")).to_be_disabled()
        await page.fill("textarea", "字" * 2000)
        await expect(page.locator("#answer button")).to_be_enabled()


async def test_times_are_those_of_the_browsers_zone(console: Console, browser: Browser) -> None:
    customer = await console.say("hello")
    timeline = await console.hub.get(f"/api/v1/customers/{customer}/timeline")
    utc = timeline["entries"][0]["at"]
    texts = []
    for zone in ("Asia/Shanghai", "America/New_York"):
        async with agent(console, browser, timezone_id=zone, locale="en-GB") as page:
            await open_customer(console, page, customer)
            time = page.locator(".line.in time")
            assert (await time.get_attribute("datetime") or "")[:19] == utc[:19]
            texts.append(await time.inner_text())
            assert await page.locator(".day").count() == 1
    hours = [int(text[:2]) for text in texts]
    assert (hours[0] - int(utc[11:13])) % 24 == 8
    assert (hours[1] - int(utc[11:13])) % 24 in (19, 20)


@pytest.mark.parametrize("width", [320, 1280])
async def test_no_page_is_wider_than_its_screen(
    console: Console, browser: Browser, width: int
) -> None:
    long = "https://example.com/" + "a" * 300
    customer = await console.say(long, name="W" * 80, subject="s" * 200)
    await console.say("长" * 400, sender="bob", name="Ève " * 20)
    await console.command("note", customer=customer, text=long)
    async with agent(console, browser, viewport={"width": width, "height": 800}) as page:
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert await page.get_by_role("link", name="Accounts").is_visible()
        await open_customer(console, page, customer)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        box = await page.locator("#answer button").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= 800
        await page.get_by_role("region", name="Messages").focus()  # by keyboard, too
        await page.keyboard.press("Home")
        assert await page.locator(".scroll").evaluate(
            "each => each.scrollWidth <= each.clientWidth"
        )


async def test_the_list_says_when_something_new_was_said(
    console: Console, browser: Browser
) -> None:
    await console.say("hello", name="Ann")
    async with agent(console, browser) as page:
        await expect(page.locator("#news")).to_be_hidden()
        async with page.expect_response("**/feed/v1/stream*"):
            await page.reload()
        await console.say("news!", sender="bob", name="Bob")
        await page.click("#news")
        await expect(page.locator(".people li").first).to_contain_text("Bob")


async def test_a_page_whose_connection_broke_catches_up(console: Console, browser: Browser) -> None:
    customer = await console.say("hello")
    async with agent(console, browser) as page:
        await open_customer(console, page, customer)
        await console.hub.until(
            "the stream", lambda: _is(feed_of(console.hub.hub).streams.count > 0)
        )
        for stream in list(feed_of(console.hub.hub).streams._open):
            stream.close()
        await expect(page.locator("#live.off")).to_be_visible()
        await console.say("while nobody listened")
        await expect(page.locator(".line", has_text="while nobody listened")).to_be_visible(
            timeout=15_000
        )
        await expect(page.locator("#live.on")).to_be_visible()


async def _is(value: bool) -> bool:
    return value
