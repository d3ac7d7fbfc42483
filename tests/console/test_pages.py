"""The console's pages by HTTP: who may see them, what stands on them, and that nothing is markup.

The hub is real; the page is read with an HTML parser, so words are what a browser would show.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hub.api.views import Remark, TimelinePage
from hub.console.lines import MOST_QUOTED, _part
from hub.console.pages import _remarks, _said
from hub.documents import Conversation, Entry, TicketLink
from normalizer.drafts import Amendment, AmendmentKind, DeliveryState, Event, Receipt, Target
from normalizer.parts import Button, Card, File, Image, Link, Location, Media, MediaState, Text
from tests.console.people import Console

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


# --- getting in ----------------------------------------------------------------------------------


async def test_who_is_not_signed_in_is_told_how_to(console: Console) -> None:
    customer = await console.say("secret words")
    anybody = await console.agents.anybody()
    for path in ("/console/", f"/console/customers/{customer}", "/console/?q=ann"):
        page = await anybody.get(path, status=401)
        assert "omniline signin" in page.shown
        assert "secret" not in page.text
    async with anybody.session.get(f"{anybody.url}/console/customers/{customer}/lines") as answer:
        assert answer.status == 401
        assert "secret" not in await answer.text()


async def test_a_sign_in_link_leads_to_the_list_and_signing_out_ends_it(console: Console) -> None:
    agent = await console.agents.sign_in("Mei")
    assert "Mei" in (await agent.get("/console/")).shown
    assert (await agent.get("/console", status=302)).headers["Location"] == "/console/"
    async with agent.session.post(f"{agent.url}/console/signout") as answer:
        assert answer.status == 403  # not from one of our pages
    origin = {"Origin": agent.url}
    async with agent.session.post(f"{agent.url}/console/signout", headers=origin) as answer:
        assert answer.status == 200
        assert "signed out" in await answer.text()
    await agent.get("/console/", status=401)


async def test_a_session_without_the_scope_sees_no_customer(console: Console) -> None:
    customer = await console.say("secret words")
    agent = await console.agents.sign_in(scopes=["feed:read"])
    for path in ("/console/", f"/console/customers/{customer}"):
        page = await agent.get(path, status=403)
        assert "customers:read" in page.shown
        assert "secret" not in page.text


async def test_a_session_of_one_account_sees_that_accounts_lines_only(console: Console) -> None:
    customer = await console.say("to main", name="Ann")
    other = await console.say("to second", account="second", name="Bob")
    await console.command("merge", customer=customer, other=other, evidence={"kind": "agent"})
    stranger = await console.say("elsewhere", sender="eve", account="second", name="Eve")
    agent = await console.agents.sign_in(accounts=["sample:main"])
    page = await agent.customer(customer)
    assert "to main" in page.shown
    assert "to second" not in page.text
    people = await agent.get("/console/")
    assert "to main" in people.shown
    for hidden in ("to second", "elsewhere", "Eve"):
        assert hidden not in people.text
    await agent.get(f"/console/customers/{stranger}", status=404)


async def test_pages_may_run_no_foreign_script_and_are_not_kept(console: Console) -> None:
    customer = await console.say("hi")
    agent = await console.agents.sign_in()
    anybody = await console.agents.anybody()
    pages = [
        await agent.get("/console/"),
        await agent.customer(customer),
        await anybody.get("/console/", status=401),
    ]
    for page in pages:
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "no-store" in page.headers["Cache-Control"]
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert "<script>" not in page.text
        assert not page.attributes("div", "style")
        for src in page.attributes("script", "src"):
            assert src.startswith("/console/files/")


async def test_the_style_and_the_script_are_served_and_nothing_else(console: Console) -> None:
    anybody = await console.agents.anybody()
    for name, kind in (
        ("console.css", "text/css"),
        ("console.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    ):
        page = await anybody.get(f"/console/files/{name}")
        assert page.headers["Content-Type"].startswith(kind)
    for name in ("pages.py", "base.html", "..%2Fpages.py", "%2e%2e%2fapp.py"):
        await anybody.get(f"/console/files/{name}", status=404)


# --- the list ------------------------------------------------------------------------------------


async def test_the_list_shows_names_last_words_and_channels_newest_first(console: Console) -> None:
    ann = await console.say("first", name="李雷 🌸")
    await console.say("from bob", sender="bob", name="Bob")
    agent = await console.agents.sign_in()
    page = await agent.get("/console/")
    assert page.shown.index("Bob") < page.shown.index("李雷 🌸")
    for words in ("first", "from bob", "sample"):
        assert words in page.shown
    await console.say("你好\nagain", name="李雷 🌸")
    page = await agent.get("/console/")
    assert page.shown.index("李雷 🌸") < page.shown.index("Bob")
    assert "你好 again" in page.shown
    assert f"/console/customers/{ann}" in page.attributes("a", "href")
    await console.command("reply", customer=ann, parts=[{"type": "text", "text": "bye"}])
    assert "You: bye" in (await agent.get("/console/")).shown


async def test_the_list_can_be_searched_and_goes_on(console: Console) -> None:
    for number in range(60):
        await console.say("hi", sender=f"s{number}", name=f"Customer {number:02}")
    agent = await console.agents.sign_in()
    page = await agent.get("/console/")
    (more,) = [href for href in page.attributes("a", "href") if "cursor=" in href]
    rest = await agent.get(more)
    both = page.attributes("a", "href") + rest.attributes("a", "href")
    assert len({href for href in both if "/customers/" in href}) == 60
    found = await agent.get("/console/?q=customer%2042")
    assert "Customer 42" in found.shown
    assert "Customer 43" not in found.shown
    assert "Nobody" in (await agent.get("/console/?q=%3Cb%3E")).shown
    assert "Nobody has written yet" not in page.shown


async def test_an_empty_hub_says_what_will_come(console: Console) -> None:
    agent = await console.agents.sign_in()
    assert "Nobody has written yet" in (await agent.get("/console/")).shown


# --- the timeline --------------------------------------------------------------------------------


async def test_the_timeline_has_everything_in_order_newest_last(console: Console) -> None:
    customer = await console.say("hello", name="Ann")
    address = console.hub.address("ann")
    await console.take_in(Event(key="f", address=address, name="contact.followed"))
    answer = await console.command(
        "reply", customer=customer, parts=[{"type": "text", "text": "hi Ann"}], agent_name="Mei"
    )
    await console.command("note", customer=customer, text="is in a hurry", agent_name="Mei")
    read = Receipt(key="r", target=Target(entry=answer["entry"]), state=DeliveryState.READ)
    await console.take_in(read)
    await console.say("oops")
    timeline = await console.hub.get(f"/api/v1/customers/{customer}/timeline")
    oops, hello = timeline["entries"][0]["id"], timeline["entries"][-1]["id"]
    await console.take_in(
        Amendment(key="a", target=Target(entry=oops), kind=AmendmentKind.RECALL),
        Amendment(
            key="e",
            target=Target(entry=hello),
            kind=AmendmentKind.EDIT,
            data={"parts": [{"type": "text", "text": "hello there"}]},
        ),
    )
    conversation = timeline["entries"][0]["conversation"]
    await console.command("close", conversation=conversation)
    page = await (await console.agents.sign_in()).customer(customer)
    kinds = [" ".join(line.classes) for line in page.lines]
    assert kinds == [
        "line mark",
        "line said in",
        "line event",
        "line said out",
        "line note",
        "line said in",
        "line mark",
    ]
    opened, edited, followed, sent, note, recalled, closed = page.lines
    assert "Conversation opened" in opened.text
    assert "sample Ann" in edited.text
    assert "edited" in edited.text
    assert "hello there" in edited.text
    assert "Contact followed" in followed.text
    assert "Mei" in sent.text
    assert "Read" in sent.text
    assert "Note" in note.text
    assert "is in a hurry" in note.text
    assert "recalled" in recalled.text
    assert "oops" not in page.text
    assert "Conversation closed: by an agent" in closed.text


async def test_what_failed_says_why(console: Console) -> None:
    customer = await console.say("hello")
    answer = await console.command(
        "reply", customer=customer, parts=[{"type": "text", "text": "hi"}]
    )
    failed = Receipt(
        key="r",
        target=Target(entry=answer["entry"]),
        state=DeliveryState.FAILED,
        reason="the window is closed",
    )
    await console.take_in(failed)
    page = await (await console.agents.sign_in()).customer(customer)
    (line,) = (each for each in page.lines if "out" in each.classes)
    assert "Not sent the window is closed" in line.text


async def test_the_list_does_not_call_answered_what_did_not_arrive(console: Console) -> None:
    """A customer whose answer failed, or perhaps failed, still waits."""
    customer = await console.say("hello")
    answer = await console.command(
        "reply", customer=customer, parts=[{"type": "text", "text": "hi"}]
    )
    agent = await console.agents.sign_in()
    sent = await agent.get("/console/")
    assert "You: hi" in sent.shown
    assert "waits for an answer" not in sent.attributes("span", "title")
    target = Target(entry=answer["entry"])
    await console.take_in(Receipt(key="r", target=target, state=DeliveryState.FAILED))
    failed = await agent.get("/console/")
    assert "Not sent: hi" in failed.shown
    assert "waits for an answer" in failed.attributes("span", "title")
    entry = await console.hub.hub.store.table(Entry).get(answer["entry"])
    assert entry is not None
    assert entry.delivery is not None
    unknown = replace(entry, delivery=replace(entry.delivery, state=DeliveryState.UNKNOWN))
    assert _said(unknown) == "Sent? No answer came"


async def test_what_a_mail_quotes_is_folded_and_can_be_read(console: Console) -> None:
    said = Text(text="See below.", quoted=f"On Monday Ann wrote:\n> the old words {EVIL}")
    customer = await console.say(said)
    page = await (await console.agents.sign_in()).customer(customer)
    assert any(tag == "details" and held["class"] == "quoted" for tag, held in page.elements)
    (line,) = (each for each in page.lines if "See below." in each.text)
    assert "> the old words <script>" in line.text


def test_of_a_long_quotation_the_page_carries_the_beginning() -> None:
    (shown, quoted) = _part(Text(text="yes", quoted="old " * 50_000), "ent_1", "")
    assert (shown.kind, quoted.kind) == ("text", "quoted")
    assert MOST_QUOTED - 10 < len(quoted.text) <= MOST_QUOTED + 2
    assert quoted.text.endswith("old …")


def test_remarks_about_several_accounts_are_one_line() -> None:
    """Three boxes of them left no room for the timeline on a small screen."""
    remarks = [
        Remark(channel=channel, account="shop", kind="foreign_answers_unseen", text=channel)
        for channel in ("sms", "weibo")
    ]
    page = TimelinePage(
        customer="cus_1", merged_from=None, entries=[], next_cursor=None, latest="", remarks=remarks
    )
    assert _remarks(page) == [
        "Answers given outside the hub on sms:shop, weibo:shop are not shown here."
    ]
    assert _remarks(replace(page, remarks=remarks[:1])) == ["sms"]


async def test_tickets_stand_on_the_page_with_their_links(console: Console) -> None:
    customer = await console.say("hello")
    table = console.hub.hub.store.table(Conversation)
    (held,) = await table.find({"customer": customer})
    tickets = (
        TicketLink(backend="desk", id="1", number="4711", status="open", url="https://d.example/1"),
        TicketLink(backend="other", id="2", status="new", url="javascript:alert(1)"),
    )
    await table.put([replace(held, tickets=tickets, tags=("vip",), assignee="Mei")])
    page = await (await console.agents.sign_in()).customer(customer)
    for words in ("desk 4711 · open", "other 2 · new", "#vip", "assigned to Mei"):
        assert words in page.shown
    hrefs = page.attributes("a", "href")
    assert "https://d.example/1" in hrefs
    assert not [href for href in hrefs if "javascript" in href]


async def test_words_of_customers_are_never_markup(console: Console) -> None:
    customer = await console.say(
        EVIL,
        Link(url="javascript:alert(1)", title=EVIL),
        Link(url="https://ok.example/?a=1&b=2", title="fine"),
        Link(url="data:text/html,x", title="data"),
        Link(url="//evil.example", title="no scheme"),
        Card(title=EVIL, buttons=(Button(label="b", url="vbscript:x"),)),
        File(media=Media(name=EVIL, state=MediaState.PENDING)),
        Location(lat=1.5, lon=2.5, label=EVIL),
        name=EVIL,
        subject=EVIL,
    )
    await console.command("note", customer=customer, text=EVIL, agent_name=EVIL)
    agent = await console.agents.sign_in(EVIL)
    for page in (await agent.customer(customer), await agent.get("/console/")):
        tags = {tag for tag, _ in page.elements}
        assert "img" not in tags
        assert [held for tag, held in page.elements if tag == "script"] == [
            {"src": "/console/files/console.js", "defer": ""}
        ]
        assert EVIL[:25] in page.shown
        assert not [name for _, held in page.elements for name in held if name.startswith("on")]
    page = await agent.customer(customer)
    outside = [href for href in page.attributes("a", "href") if not href.startswith("/console/")]
    assert outside == ["https://ok.example/?a=1&b=2"]
    rels = [held.get("rel") for tag, held in page.elements if held.get("target") == "_blank"]
    assert set(rels) == {"noopener noreferrer"}


async def test_pictures_are_shown_from_our_own_address_only(console: Console) -> None:
    blob = await console.hub.hub.store.blobs.put(b"png", metadata={"kind": "attachment"})
    customer = await console.say(
        Image(media=Media(mime="image/png", blob=blob, name="a.png")),
        Image(media=Media(vendor_ref="https://vendor.example/p.png", state=MediaState.PENDING)),
    )
    page = await (await console.agents.sign_in()).customer(customer)
    (line,) = (each for each in page.lines if "in" in each.classes)
    assert page.attributes("img", "src") == [f"/api/v1/attachments/{blob}?entry={line.id}"]
    assert "vendor.example" not in page.text


async def test_a_long_history_is_read_page_by_page(console: Console) -> None:
    for number in range(60):
        customer = await console.say(f"number {number:02}")
    agent = await console.agents.sign_in()
    page = await agent.customer(customer)
    said = [line.text[-9:] for line in page.lines if "in" in line.classes]
    assert said == [f"number {number:02}" for number in range(10, 60)]
    (older,) = [href for href in page.attributes("a", "href") if "before=" in href]
    before = await agent.customer(customer, older)
    said = [line.text[-9:] for line in before.lines if "in" in line.classes]
    assert said == [f"number {number:02}" for number in range(10)]
    assert "textarea" not in {tag for tag, _ in before.elements}
    assert "Back to now" in before.shown


async def test_a_merged_customers_page_leads_to_the_one_it_is_now(console: Console) -> None:
    ann = await console.say("by ann")
    bob = await console.say("by bob", sender="bob")
    await console.command("merge", customer=ann, other=bob, evidence={"kind": "agent"})
    agent = await console.agents.sign_in()
    page = await agent.get(f"/console/customers/{bob}", status=302)
    assert page.headers["Location"] == f"/console/customers/{ann}"
    both = await agent.customer(ann)
    assert "by ann" in both.shown
    assert "by bob" in both.shown


async def test_an_erased_customer_leaves_nothing_to_read(console: Console) -> None:
    customer = await console.say("my secret", name="Ann")
    await console.command("erase", customer=customer)
    agent = await console.agents.sign_in()
    page = await agent.get(f"/console/customers/{customer}", status=410)
    assert "Erased" in page.shown
    for text in (page.text, (await agent.get("/console/")).text):
        assert "my secret" not in text
    for ident in ("cus_00000000000000000000000000", "nonsense"):
        assert (
            "no such customer" in (await agent.get(f"/console/customers/{ident}", status=404)).shown
        )


async def test_who_may_not_answer_gets_no_box(console: Console) -> None:
    customer = await console.say("hello")
    reader = await console.agents.sign_in(scopes=["customers:read"])
    page = await reader.customer(customer)
    assert "textarea" not in {tag for tag, _ in page.elements}
    assert "not answer" in page.shown
    writer = await console.agents.sign_in(scopes=["customers:read", "replies:write"])
    page = await writer.customer(customer)
    assert page.attributes("option", "value") == [console.hub.address_id("ann")]
    assert page.attributes("option", "data-most") == ["2000"]


@pytest.mark.parametrize("query", ["?before=nonsense", "?limit=0", "?unknown=1"])
async def test_an_odd_address_says_so(console: Console, query: str) -> None:
    customer = await console.say("hello")
    agent = await console.agents.sign_in()
    async with agent.session.get(f"{agent.url}/console/customers/{customer}{query}") as answer:
        assert answer.status in (400, 422)
        assert answer.content_type == "text/html"
        assert "did not work" in await answer.text()


async def test_an_address_without_a_name_stands_for_its_customer(console: Console) -> None:
    customer = await console.say("hello", sender="only-an-id")
    page = await (await console.agents.sign_in()).customer(customer)
    assert "only-an-id" in page.shown
