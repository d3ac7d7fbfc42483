"""Answers at a strict Weibo: what it is sent, and what becomes of each of its answers.

The fake checks form, fields and token; ``next_answer`` plays every kind of trouble.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import structlog

from connectors.weibo import WeiboConnector, client
from connectors.weibo.composing import MOST_TEXT_CHARS
from connectors.weibo.delivering import SentDoc
from connectors.weibo.errors import TokenRefused, failure_of, read_error
from connectors.weibo.tokens import TRY_AGAIN_S
from hub import Outgoing, StoreError
from hub.testing import FakeServices, Mood
from hub.testing.clock import START, FakeClock
from normalizer.outcomes import (
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
from normalizer.parts import (
    AnyPart,
    Button,
    Card,
    File,
    Image,
    Link,
    Location,
    Media,
    QuickReplies,
    Text,
)
from tests.weibo.fake_weibo import TOKEN, Answers, FakeWeibo, error
from tests.weibo.support import FAN, make_connector


def answer(*parts: AnyPart | str, key: str = "job_1", **more: Any) -> Outgoing:
    said = tuple(Text(text=part) if isinstance(part, str) else part for part in parts)
    return Outgoing(
        entry="ent_1", key=key, address=f"weibo:main:uid:{FAN}", parts=said, attempt=1, **more
    )


async def fails(shop: WeiboConnector, message: Outgoing) -> Failure:
    with pytest.raises(Failure) as caught:
        await shop.send(message)
    assert TOKEN not in str(caught.value)
    return caught.value


# --- what is sent --------------------------------------------------------------------------------


async def test_each_part_is_sent_as_weibo_has_it(shop: WeiboConnector, weibo: FakeWeibo) -> None:
    link = Link(url="https://shop.example/?a=1&b=%41", title="订单", text="三件")
    card = Card(title="卡", text="x", buttons=(Button(label="看", url="https://shop.example/2"),))
    await shop.send(answer("您好 100%+&=", Location(lat=31.230416, lon=121.473701), link, card))
    assert [(each.type, dict(each.data)) for each in weibo.taken] == [
        ("text", {"text": "您好 100%+&="}),
        ("position", {"longitude": "121.473701", "latitude": "31.230416"}),
        (
            "articles",
            {
                "articles": [
                    {
                        "display_name": "订单",
                        "summary": "三件",
                        "image": "",
                        "url": "https://shop.example/?a=1&b=%41",
                    },
                    {
                        "display_name": "卡",
                        "summary": "x",
                        "image": "",
                        "url": "https://shop.example/2",
                    },
                ]
            },
        ),
    ]
    assert {(each.to, each.saved) for each in weibo.taken} == {(FAN, "1")}
    assert not weibo.violations


async def test_links_go_out_eight_at_a_time(shop: WeiboConnector, weibo: FakeWeibo) -> None:
    links = [Link(url=f"https://shop.example/{number}") for number in range(9)]
    await shop.send(answer(*links))
    assert [len(each.data["articles"]) for each in weibo.taken] == [8, 1]


async def test_a_copy_in_weibos_console_can_be_left_away(
    weibo: FakeWeibo, services: FakeServices
) -> None:
    shop = make_connector({**weibo.settings, "save_sender_box": False}, services=services)
    await shop.send(answer("hello"))
    assert weibo.taken[0].saved == "0"


UNSAYABLE: Sequence[tuple[AnyPart, type[Failure]]] = (
    (Card(title="no button"), Unsupported),
    (Card(title="an order", buttons=(Button(label="yes", value="1"),)), Unsupported),
    (Card(title="two", buttons=(Button(label="a", url="https://a.example"),) * 2), Unsupported),
    (
        Card(title="x", image=Media(), buttons=(Button(label="a", url="https://a.example"),)),
        Rejected,
    ),
    (Image(media=Media(vendor_ref="1")), Rejected),
    (Link(url="javascript:alert(1)"), Rejected),
    (Link(url="http://[x"), Rejected),
    (QuickReplies(replies=(Button(label="yes"),)), Unsupported),
)


@pytest.mark.parametrize(("part", "kind"), UNSAYABLE)
async def test_what_weibo_has_no_word_for_is_refused_before_anything_is_sent(
    shop: WeiboConnector, weibo: FakeWeibo, part: AnyPart, kind: type[Failure]
) -> None:
    message = answer("with it", part)
    assert isinstance(await fails(shop, message), kind)
    assert shop.sends_needed(message) == 1
    assert not weibo.calls


async def test_files_are_articles_that_lead_to_the_hubs_copy(
    shop: WeiboConnector, weibo: FakeWeibo, services: FakeServices
) -> None:
    """Public, signed, and good for 30 days; a picture is shown, other files are a link."""
    await shop.send(
        answer(
            Image(media=Media(blob="b1", mime="image/png")),
            File(media=Media(blob="b2", name="发票.pdf")),
        )
    )
    (taken,) = weibo.taken
    picture, invoice = taken.data["articles"]
    ends = int((START + timedelta(days=30)).timestamp())
    place = f"https://hub.example/api/v1/attachments/b1/signed?expires={ends}&signature="
    assert picture["url"] == picture["image"]
    assert picture["url"].startswith(place)
    assert (picture["display_name"], invoice["display_name"]) == ("图片", "发票.pdf")
    assert "/b2/signed?" in invoice["url"]
    assert invoice["image"] == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost", "http://10.1.2.3"])
async def test_a_hub_without_a_public_address_sends_no_files(
    weibo: FakeWeibo, services: FakeServices, url: str
) -> None:
    services.public_url = url
    shop = make_connector(weibo.settings, services=services)
    failure = await fails(shop, answer(Image(media=Media(blob="b1", mime="image/png"))))
    assert isinstance(failure, Unsupported)
    assert "public_url" in failure.reason
    assert not weibo.calls


def test_an_answer_takes_as_many_messages_as_it_becomes() -> None:
    """That is how the hub refuses a long answer to a mention, which allows one."""
    shop = make_connector()
    assert shop.sends_needed(answer("长" * 299)) == 1
    assert shop.sends_needed(answer("长" * 300)) == 2
    assert shop.sends_needed(answer("看", Link(url="https://a.example"))) == 2


# --- several calls for one answer ----------------------------------------------------------------


async def test_the_fake_refuses_what_is_encoded_twice(
    shop: WeiboConnector, weibo: FakeWeibo
) -> None:
    """So that the other tests mean something: this is how the mistake would look."""
    form = {
        "access_token": TOKEN,
        "type": "text",
        "data": "%7B%22text%22%3A%22hello%22%7D",
        "receiver_id": FAN,
    }
    async with shop.context.http.post(str(weibo.settings["reply_url"]), data=form) as response:
        assert "encoded twice" in await response.text()
    assert not weibo.taken


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (error(10001, "System error"), Temporary),
        (error(10023, "User requests out of rate limit!"), RateLimited),
        (Answers(status=503), Temporary),
    ],
)
async def test_a_second_attempt_goes_on_where_the_first_one_ended(
    shop: WeiboConnector,
    weibo: FakeWeibo,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Answers,
    kind: type[Failure],
) -> None:
    """Each piece arrives once, in order, though the attempt failed between two of them."""
    monkeypatch.setattr(client, "SENDS_PER_SECOND", 1000.0)
    text = "".join(f"第{number}句。" + "长" * 280 for number in range(4))
    weibo.next_answer = [Answers(acts=True, body=b"{}"), Answers(acts=True, body=b"{}"), trouble]
    failure = await fails(shop, answer(text))
    assert isinstance(failure, kind)
    assert failure.reason.startswith("2 of its 4 messages arrived")
    await shop.send(answer(text))
    assert "".join(each.text for each in weibo.got()) == text
    assert len(weibo.taken) == 4


async def test_another_process_goes_on_where_this_one_ended(
    shop: WeiboConnector, weibo: FakeWeibo, services: FakeServices
) -> None:
    weibo.next_answer = [Answers(acts=True, body=b"{}"), error(10001, "System error")]
    await fails(shop, answer("长" * 400))
    other = make_connector(weibo.settings, services=services)
    await other.send(answer("长" * 400))
    assert [len(each.text) for each in weibo.got()] == [299, 101]


async def test_pieces_that_cannot_be_written_down_make_a_failure_unknown(
    shop: WeiboConnector,
    weibo: FakeWeibo,
    services: FakeServices,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the hub would try again, and the first piece would arrive twice."""

    async def away(docs: object) -> None:
        raise StoreError("the database is away")

    table = shop.context.documents(SentDoc)
    monkeypatch.setattr(type(table), "put", lambda self, docs: away(docs))
    weibo.next_answer = [Answers(acts=True, body=b"{}"), error(10001, "System error")]
    assert isinstance(await fails(shop, answer("长" * 400)), OutcomeUnknown)


async def test_a_text_of_the_most_characters_goes_out_at_five_a_second(
    shop: WeiboConnector, weibo: FakeWeibo
) -> None:
    began = asyncio.get_running_loop().time()
    await shop.send(answer("长" * MOST_TEXT_CHARS))
    assert len(weibo.taken) == 5
    assert asyncio.get_running_loop().time() - began > 4 / client.SENDS_PER_SECOND - 0.1


# --- what becomes of it --------------------------------------------------------------------------

NOW = FakeClock().now().replace(minute=20, second=30)
TABLE: Sequence[tuple[Sequence[int], type[Failure]]] = (
    ((10001, 10002, 10003, 10009, 10010, 10011), Temporary),
    ((10004,), Misconfigured),
    ((10012,), Rejected),
    ((10005, 10014), Misconfigured),
    ((10006,), Rejected),
    ((10007, 10008, 10016, 10017, 10018, 10020, 10021), Rejected),
    ((10013, 20003), Unreachable),
    ((10022, 10023, 10024, 20016), RateLimited),
    ((20017, 20018, 20019, 20020, 20021), Rejected),
    (range(20301, 20310), Unreachable),
    ((21301, 21314, 21315, 21316, 21317, 21319, 21327, 21332), TokenRefused),
    ((28400, 28499), Rejected),
    ((99999, -1), Rejected),
)
CODES = [(code, kind) for codes, kind in TABLE for code in codes]


@pytest.mark.parametrize("as_text", [False, True], ids=["number", "text"])
@pytest.mark.parametrize(("code", "kind"), CODES)
def test_each_code_of_the_sheet_has_its_meaning(
    code: int, kind: type[Failure], as_text: bool
) -> None:
    found = read_error(error(str(code) if as_text else code, "the words").body)
    assert found is not None
    failure = failure_of(found, NOW)
    assert type(failure) is kind
    assert "the words" in failure.reason
    assert len(failure.reason) > len("the words") + 20, "an operator has to know what to do"


def test_a_limit_of_the_hour_waits_until_the_hour_is_over() -> None:
    found = read_error(error(10022, "").body)
    assert found is not None
    failure = failure_of(found, NOW)
    assert isinstance(failure, RateLimited)
    assert failure.retry_after == 39 * 60 + 30


@pytest.mark.parametrize(
    ("code", "words", "kind"),
    [
        (99001, "expired_token", TokenRefused),
        (10014, "invalid_access_token", TokenRefused),
        ("expired_token", None, TokenRefused),
        (20003, "IP requests out of rate limit!", RateLimited),
        (99002, "Insufficient app permissions!", Misconfigured),
        (99003, "Too many pending tasks, system is busy!", Temporary),
        (10001.0, "", Temporary),
        ([], "Auth faild!", TokenRefused),
        ("21327", 5, TokenRefused),
    ],
)
def test_known_words_decide_where_a_copy_of_the_table_has_other_numbers(
    code: Any, words: Any, kind: type[Failure]
) -> None:
    found = read_error(error(code, words).body)
    assert found is not None
    assert type(failure_of(found, NOW)) is kind


@pytest.mark.parametrize("status", [200, 400, 403, 500, 503])
async def test_the_body_is_asked_before_the_status(
    shop: WeiboConnector, weibo: FakeWeibo, status: int
) -> None:
    weibo.next_answer = [error("20302", "you are in the blacklist", status)]
    failure = await fails(shop, answer("hello"))
    assert isinstance(failure, Unreachable)
    assert failure.code == "20302"


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (Answers(status=429, headers={"Retry-After": "7"}), RateLimited),
        (Answers(status=429, headers={"Retry-After": "Mon, 1 Jan"}), RateLimited),
        (Answers(status=503), Temporary),
        (Answers(status=408), Temporary),
        (Answers(status=500, body=b"<html>"), OutcomeUnknown),
        (Answers(status=502), OutcomeUnknown),
        (Answers(status=504), OutcomeUnknown),
        (Answers(status=403, body=b"<html>"), Misconfigured),
        (Answers(status=404), Misconfigured),
        (Answers(status=302, headers={"Location": "http://127.0.0.1:9/"}), Misconfigured),
        (Answers(status=413), Rejected),
        (Answers(acts=True, body=b"<html>ok"), OutcomeUnknown),
        (Answers(acts=True, body=b"[]"), OutcomeUnknown),
        (Answers(acts=True, body=b"x" * 200_000), OutcomeUnknown),
        (Answers(acts=True, cuts=True), OutcomeUnknown),
        (Answers(body=b'{"result": false}'), Rejected),
    ],
)
async def test_an_answer_without_a_reason_is_told_by_its_status(
    shop: WeiboConnector, weibo: FakeWeibo, answers: Answers, kind: type[Failure]
) -> None:
    weibo.next_answer = [answers]
    failure = await fails(shop, answer("hello"))
    assert type(failure) is kind
    assert weibo.calls["reply"] == 1, "a doubtful call must not be repeated"


@pytest.mark.parametrize("body", [b"{}", b'{"result":true}', b'{"error_code":0,"result":"true"}'])
async def test_an_answer_without_an_error_is_accepted(
    shop: WeiboConnector, weibo: FakeWeibo, body: bytes
) -> None:
    weibo.next_answer = [Answers(acts=True, body=body)]
    accepted = await shop.send(answer("hello"))
    assert accepted.vendor_ids == ()
    assert len(weibo.taken) == 1


async def test_a_silent_weibo_is_unknown_and_an_absent_one_is_tried_again(
    shop: WeiboConnector,
    weibo: FakeWeibo,
    services: FakeServices,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "TOTAL_S", 0.3)
    weibo.next_answer = [Answers(acts=True, hangs=True)]
    assert isinstance(await fails(shop, answer("hello")), OutcomeUnknown)
    assert len(weibo.taken) == 1
    nobody = make_connector({"reply_url": "http://127.0.0.1:9/"}, services=services)
    assert type(await fails(nobody, answer("hello"))) is Temporary


async def test_somebody_who_unfollowed_is_unreachable(
    shop: WeiboConnector, weibo: FakeWeibo
) -> None:
    weibo.unfollowed.add(FAN)
    assert isinstance(await fails(shop, answer("hello")), Unreachable)


# --- the token -----------------------------------------------------------------------------------


async def test_a_refused_token_stops_everything_and_is_tried_once_an_hour(
    shop: WeiboConnector, weibo: FakeWeibo, services: FakeServices
) -> None:
    """The reason names the remedy; nothing goes to Weibo with it, whoever it is for."""
    weibo.token = "2.00another"
    first = await fails(shop, answer("hello"))
    assert isinstance(first, Misconfigured)
    assert "needs re-binding" in first.reason
    for _ in range(3):
        again = await fails(shop, answer("hello", key="job_2"))
        assert (type(again), again.code) == (TokenRefused, "21332")
    with pytest.raises(Misconfigured):
        await shop.fetch_profile(f"weibo:main:uid:{FAN}")
    assert weibo.calls == {"reply": 1}
    clock = services.clock
    assert isinstance(clock, FakeClock)
    clock.advance(TRY_AGAIN_S + 1)
    await fails(shop, answer("hello"))
    await fails(shop, answer("hello"))
    assert weibo.calls == {"reply": 2}
    clock.advance(TRY_AGAIN_S + 1)
    weibo.token = TOKEN
    await shop.send(answer("hello"))
    await shop.send(answer("hello"))
    assert len(weibo.taken) == 2


async def test_an_account_without_a_token_receives_and_says_what_it_lacks(
    weibo: FakeWeibo, services: FakeServices
) -> None:
    """The token is shown only after the URL was checked, so the account has to start without."""
    shop = make_connector({**weibo.settings, "access_token": None}, services=services)
    assert not shop.check_settings()
    failure = await fails(shop, answer("hello"))
    assert isinstance(failure, Misconfigured)
    assert "access_token" in failure.reason
    assert [failure.reason] == list(await shop.check())


async def test_a_token_that_weibo_repeats_is_not_told(
    shop: WeiboConnector, weibo: FakeWeibo
) -> None:
    weibo.next_answer = [error(10012, f"Illegal request! access_token={TOKEN}")]
    with structlog.testing.capture_logs() as logged:
        failure = await fails(shop, answer("hello"))
    assert "Illegal request" in failure.reason
    assert [each["event"] for each in logged] == ["weibo_refuses_us"]
    assert TOKEN not in repr(logged)


# --- pace ----------------------------------------------------------------------------------------


async def test_too_many_at_once_are_told_to_come_later(
    shop: WeiboConnector, weibo: FakeWeibo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST_AHEAD_S", 0.1)
    weibo.mood = Mood.WELL
    found = await asyncio.gather(
        *(shop.send(answer("hello", key=f"job_{number}")) for number in range(4)),
        return_exceptions=True,
    )
    limited = [each for each in found if isinstance(each, RateLimited)]
    assert limited
    assert len(weibo.taken) == 4 - len(limited)
