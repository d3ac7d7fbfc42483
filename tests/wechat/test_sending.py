"""The way out: what WeChat is sent, and what its answers mean."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from connectors.wechat import api, errors, sending
from connectors.wechat.composing import calls_for
from connectors.wechat.texts import MAX_CHARS
from hub.outbound.quotas import period
from hub.testing import FakeClock
from normalizer.outcomes import (
    Accepted,
    Failure,
    Gone,
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
    Audio,
    Button,
    File,
    Image,
    Link,
    Location,
    Media,
    QuickReplies,
    Text,
    Video,
)
from tests.wechat.fake_wechat import APP_SECRET, OPENID, TEMPLATE
from tests.wechat.support import at_work, connector, outgoing

SEND = "/cgi-bin/message/custom/send"
UPLOAD = "/cgi-bin/media/upload"


async def test_a_text_goes_out_as_raw_utf_8() -> None:
    """The vendor refuses \\uXXXX; the fake does, too."""
    async with at_work() as (ours, vendor, _):
        accepted = await ours.send(outgoing(Text(text='你好😀 "\\u4f60"\x07\r\nzwei')))
        assert accepted.vendor_ids == ()
        assert vendor.bodies == [
            {"touser": OPENID, "msgtype": "text", "text": {"content": '你好😀 "\\u4f60"\nzwei'}}
        ]


async def test_an_answer_goes_in_the_name_of_a_service_account() -> None:
    async with at_work(kf_account="kf1@shop") as (ours, vendor, _):
        await ours.send(outgoing(Text(text="hi")))
        assert vendor.bodies[0]["customservice"] == {"kf_account": "kf1@shop"}


async def test_a_long_text_is_several_messages_and_counts_as_many() -> None:
    async with at_work() as (ours, vendor, _):
        message = outgoing(Text(text="长" * MAX_CHARS))
        assert ours.sends_needed(message) == 4
        await ours.send(message)
        texts = [body["text"]["content"] for body in vendor.bodies]
        assert "".join(texts) == "长" * MAX_CHARS
        assert all(len(text.encode()) <= 2048 for text in texts)


@pytest.mark.parametrize("unit", ["😀", "👨‍👩‍👧‍👦", "a"])
def test_the_longest_text_that_is_declared_never_takes_more_than_a_window(unit: str) -> None:
    text = (unit * MAX_CHARS)[:MAX_CHARS]
    assert 1 <= calls_for(outgoing(Text(text=text))) <= 5


@pytest.mark.parametrize(
    ("part", "kind", "content"),
    [
        (
            Location(lat=31.230416, lon=121.473701, label="上海市黄浦区"),
            "text",
            {"content": "上海市黄浦区\n31.230416,121.473701"},
        ),
        (
            Link(url="https://e.example/1", title="T", text="D"),
            "news",
            {
                "articles": [
                    {
                        "title": "T",
                        "description": "D",
                        "url": "https://e.example/1",
                        "picurl": "",
                    }
                ]
            },
        ),
        (
            QuickReplies(replies=(Button(label="满意", value="101"), Button(label="不满意"))),
            "msgmenu",
            {
                "head_content": "",
                "list": [{"id": "101", "content": "满意"}, {"id": "2", "content": "不满意"}],
                "tail_content": "",
            },
        ),
    ],
)
async def test_parts_become_messages(part: AnyPart, kind: str, content: Any) -> None:
    async with at_work() as (ours, vendor, _):
        await ours.send(outgoing(part))
        assert vendor.bodies == [{"touser": OPENID, "msgtype": kind, kind: content}]


async def test_a_question_and_its_options_are_one_message() -> None:
    async with at_work() as (ours, vendor, _):
        message = outgoing(
            Text(text="满意吗？"), QuickReplies(replies=(Button(label="是", value="1"),))
        )
        assert ours.sends_needed(message) == 1
        await ours.send(message)
        assert vendor.bodies[0]["msgmenu"]["head_content"] == "满意吗？"


# --- files ---------------------------------------------------------------------------------------


async def media(services: Any, data: bytes, mime: str, **more: Any) -> Media:
    blob = await services.store.blobs.put(data)
    return Media(blob=blob, mime=mime, size=len(data), name="某个 文件.bin", **more)


@pytest.mark.parametrize(
    ("make", "mime", "kind", "name"),
    [
        (Image, "image/jpeg", "image", "image.jpg"),
        (Image, "image/png", "image", "image.png"),
        (Audio, "audio/amr", "voice", "voice.amr"),
        (Audio, "audio/mpeg", "voice", "voice.mp3"),
        (Video, "video/mp4", "video", "video.mp4"),
    ],
)
async def test_a_file_is_given_to_wechat_with_name_and_type_and_then_sent(
    make: Any, mime: str, kind: str, name: str
) -> None:
    async with at_work() as (ours, vendor, services):
        await ours.send(outgoing(make(media=await media(services, b"bytes", mime))))
        ((ident, taken),) = vendor.uploads.items()
        assert taken == (kind, b"bytes", mime, name)
        content = vendor.bodies[0][kind]
        assert content["media_id"] == ident


async def test_a_file_that_wechat_lost_is_given_once_more() -> None:
    async with at_work() as (ours, vendor, services):
        vendor.forgets_uploads = 1
        image = Image(media=await media(services, b"bytes", "image/png"))
        await ours.send(outgoing(image))
        assert (vendor.calls[UPLOAD], len(vendor.bodies)) == (2, 1)
        vendor.forgets_uploads = 2
        with pytest.raises(Gone):
            await ours.send(outgoing(image))
        assert len(vendor.bodies) == 1


async def test_files_are_given_before_the_first_message_leaves() -> None:
    """What can fail fails while nothing was sent."""
    async with at_work() as (ours, vendor, services):
        image = Image(media=await media(services, b"bytes", "image/png"))
        vendor.trouble = ["500"]  # of the upload, the first call
        with pytest.raises(Temporary):
            await ours.send(outgoing(Text(text="look"), image))
        assert vendor.got() == []


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Image(media=Media(blob="b", mime="image/tiff")), "image/tiff with 0 bytes"),
        (Image(media=Media(blob="b", mime="image/png", size=3 << 20)), "at most 2097152"),
        (Image(media=Media(mime="image/png")), "not in the store"),
        (File(media=Media(mime="application/pdf")), "not in the store"),
        (Text(text="  "), "no empty texts"),
        (QuickReplies(replies=()), "1 to 20 options"),
        (
            QuickReplies(replies=(Button(label="长" * 700),)),
            "more than 2048 bytes",
        ),
        (Text(text="a" * 2048 * 6), "needs 6 messages, and WeChat allows 5"),
    ],
)
async def test_what_wechat_cannot_take_is_refused_with_a_reason_before_it_is_asked(
    part: AnyPart, words: str
) -> None:
    async with at_work() as (ours, vendor, _):
        with pytest.raises(Rejected, match=words):
            await ours.send(outgoing(part))
        assert not vendor.calls


@pytest.mark.parametrize(
    "part",
    [
        File(media=Media(blob="b", mime="application/pdf", name="发票.pdf")),
        Audio(media=Media(blob="b", mime="audio/wav", name="a.wav")),
        Audio(media=Media(blob="b", mime="audio/amr", size=3 << 20, name="long.amr")),
        Audio(media=Media(blob="b", mime="audio/amr", duration_s=61, name="longer.amr")),
        Video(media=Media(blob="b", mime="video/quicktime", name="a.mov")),
        Video(media=Media(blob="b", mime="video/mp4", size=11 << 20, name="big.mp4")),
    ],
)
async def test_a_file_that_wechat_does_not_take_goes_as_a_link_that_ends(part: Any) -> None:
    async with at_work() as (ours, vendor, services):
        message = outgoing(part)
        assert ours.sends_needed(message) == 1
        await ours.send(message)
        (article,) = vendor.bodies[0]["news"]["articles"]
        assert article["title"] == part.media.name
        assert article["url"] == ours.context.public_link("b", timedelta(days=7))
        assert not vendor.uploads
        services.public_url = "http://127.0.0.1:8080"
        with pytest.raises(Rejected, match=r"set hub\.public_url"):
            await ours.send(message)
        assert len(vendor.bodies) == 1


# --- templates -----------------------------------------------------------------------------------


async def test_a_template_is_sent_and_its_number_kept_to_the_last_digit() -> None:
    async with at_work() as (ours, vendor, _):
        accepted = await ours.send(
            outgoing(Text(text="shown"), template=TEMPLATE, params={"order": "12\x003😀"})
        )
        assert accepted.vendor_ids == ("9007199254740994",)
        assert vendor.bodies == [
            {
                "touser": OPENID,
                "template_id": TEMPLATE,
                "data": {"order": {"value": "123😀"}},
                "client_msg_id": "job_1",
            }
        ]


async def test_a_subscription_message_leaves_by_its_own_call() -> None:
    async with at_work() as (ours, vendor, _):
        accepted = await ours.send(
            outgoing(Text(text="x"), template="subscribe:SUB-1", params={"thing1": "书"})
        )
        assert accepted.vendor_ids
        assert vendor.bodies[0]["template_id"] == "SUB-1"
        assert vendor.calls["/cgi-bin/message/subscribe/bizsend"] == 1


async def test_templates_are_listed_with_their_blanks() -> None:
    async with at_work(subscription_templates=True) as (ours, _, _):
        first, second = await ours.templates()
        assert (first.name, first.params) == (TEMPLATE, ("first", "order", "remark"))
        assert first.preview == "订单发货\n{first}\n订单：{order}\n{remark}"
        assert (second.name, second.params) == ("subscribe:SUB-1", ("thing1",))


async def test_a_repetition_that_wechat_drops_was_sent() -> None:
    async with at_work() as (ours, vendor, _):
        vendor.trouble = ["error:45065"]
        accepted = await ours.send(outgoing(Text(text="x"), template=TEMPLATE, params={}))
        assert isinstance(accepted, Accepted)


async def test_an_account_without_the_right_sends_templates_and_nothing_else() -> None:
    async with at_work(rights="passive") as (ours, vendor, _):
        with pytest.raises(Unsupported, match="within 5 seconds") as refused:
            await ours.send(outgoing(Text(text="hi")))
        assert refused.value.code == "passive_only"
        assert TEMPLATE in refused.value.reason
        kept, vendor.templates = vendor.templates, []
        with pytest.raises(Unsupported, match="within 5 seconds"):
            await ours.send(outgoing(Text(text="hi")))
        assert not vendor.bodies
        vendor.templates = kept
        await ours.send(outgoing(Text(text="x"), template=TEMPLATE, params={}))
        assert len(vendor.bodies) == 1
        assert ours.capabilities.templates
        assert not ours.capabilities.free_text
        assert type(ours).capabilities.free_text


# --- what its answers mean -----------------------------------------------------------------------

CODES: list[tuple[int, type[Failure], str]] = [
    (-1, Temporary, "-1"),
    (40013, Misconfigured, "40013"),
    (40125, Misconfigured, "40125"),
    (41002, Misconfigured, "41002"),
    (41004, Misconfigured, "41004"),
    (40164, Misconfigured, "40164"),
    (61004, Misconfigured, "61004"),
    (40003, Unreachable, "40003"),
    (46004, Unreachable, "46004"),
    (43004, Unreachable, "not_following"),
    (50005, Unreachable, "not_following"),
    (43019, Unreachable, "user_blocked"),
    (48002, Unreachable, "user_blocked"),
    (45015, Unreachable, "window_closed"),
    (45047, Unreachable, "window_spent"),
    (45009, RateLimited, "45009"),
    (45011, RateLimited, "45011"),
    *((code, Rejected, str(code)) for code in (45001, 45002, 45007, 45008)),
    *((code, Rejected, str(code)) for code in (40004, 40005, 40006, 40008, 40009, 40010)),
    *((code, Rejected, str(code)) for code in (40011, 40012, 40137)),
    *((code, Rejected, str(code)) for code in (40033, 44002, 44003, 44004, 47001, 47003)),
    (43101, Unreachable, "refused_by_the_person"),
    (45066, RateLimited, "45066"),
    (45067, Rejected, "45067"),
    (48001, Misconfigured, "48001"),
    (48008, Misconfigured, "48008"),
    (50001, Misconfigured, "50001"),
    (48004, Misconfigured, "48004"),
    (50002, Misconfigured, "50002"),
    (87009, Misconfigured, "87009"),
    (99999, Rejected, "99999"),
]


@pytest.mark.parametrize(("number", "kind", "code"), CODES)
async def test_each_error_inside_a_200_means_what_the_sheet_says(
    number: int, kind: type[Failure], code: str
) -> None:
    async with at_work() as (ours, vendor, _):
        vendor.trouble = [f"error:{number}"]
        with capture_logs() as logged, pytest.raises(kind) as failed:
            await ours.send(outgoing(Text(text="hi")))
        assert type(failed.value) is kind
        assert failed.value.code == code
        assert len(failed.value.reason) > 20
        assert "rid" not in failed.value.reason
        assert vendor.calls[SEND] == 1
        (line,) = [each for each in logged if each["event"] == "wechat_refused"]
        assert (line["errcode"], line["rid"]) == (number, f"6543-abcd-{number}")


def test_every_code_of_the_sheet_is_in_the_table() -> None:
    tested = {number for number, _, _ in CODES} - {99999, 45009, 45011}
    assert set(errors.TABLE) == tested | errors.TOKEN_REFUSED | {errors.MEDIA_UNKNOWN}


def test_the_daily_quota_is_over_at_midnight_in_china() -> None:
    now = FakeClock().now()  # 17:00 there
    failed = errors.failure(45009, "reach max api daily quota limit", now)
    assert isinstance(failed, RateLimited)
    assert failed.retry_after == 7 * 3600


async def test_the_address_that_is_not_on_the_allow_list_is_named() -> None:
    async with at_work() as (ours, vendor, _):
        vendor.off_list = True
        (problem,) = await ours.check()
        assert "203.0.113.9" in problem
        assert "IP allow-list" in problem


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        ("429", RateLimited),
        ("500", OutcomeUnknown),
        ("502", OutcomeUnknown),
        ("503", Temporary),
        ("html", OutcomeUnknown),
        ("busy", Temporary),
        ("minute", RateLimited),
    ],
)
async def test_each_trouble_of_a_send_is_told_as_what_it_is(
    trouble: str, kind: type[Failure]
) -> None:
    async with at_work() as (ours, vendor, _):
        vendor.trouble = [trouble]
        with pytest.raises(kind) as failed:
            await ours.send(outgoing(Text(text="hi")))
        assert type(failed.value) is kind
        assert vendor.calls[SEND] == 1
        if trouble == "429":
            assert isinstance(failed.value, RateLimited)
            assert failed.value.retry_after == 7


async def test_a_lost_answer_is_unknown_and_nothing_is_sent_again() -> None:
    async with at_work() as (ours, vendor, _):
        for message in (
            outgoing(Text(text="hi")),
            outgoing(Text(text="x"), template=TEMPLATE, params={}),
        ):
            before = len(vendor.got())
            vendor.trouble = ["lost"]
            with pytest.raises(OutcomeUnknown) as failed:
                await ours.send(message)
            assert len(vendor.got()) == before + 1
            assert vendor.token not in repr(failed.value)
            assert APP_SECRET not in repr(failed.value)
        with pytest.raises(Unsupported):
            await ours.find_sent(outgoing(Text(text="hi")))


async def test_a_send_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "TIMEOUT", api.aiohttp.ClientTimeout(total=1.0))
    async with at_work() as (ours, vendor, _):
        await ours._tokens.current()
        vendor.trouble = ["timeout"]
        with pytest.raises(OutcomeUnknown, match="no answer"):
            await ours.send(outgoing(Text(text="hi")))
        assert vendor.calls[SEND] == 1


async def test_a_file_that_takes_too_long_was_surely_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cut later, by the worker's own deadline, nobody could say so."""
    monkeypatch.setattr(sending, "PREPARE_S", 0.5)
    async with at_work() as (ours, vendor, services):
        vendor.trouble, vendor.trouble_at = ["timeout"], UPLOAD
        image = Image(media=await media(services, b"bytes", "image/png"))
        with pytest.raises(Temporary, match="takes too long"):
            await ours.send(outgoing(image))
        assert not vendor.calls[SEND]


async def test_a_failure_between_two_messages_of_an_answer_is_no_clear_failure() -> None:
    """The first one has arrived: sending the answer again would double it."""
    async with at_work() as (ours, vendor, _):
        await ours._tokens.current()
        vendor.windows[OPENID] = 1
        with pytest.raises(OutcomeUnknown, match="1 of the 2 messages") as failed:
            await ours.send(outgoing(Text(text="one"), Text(text="two")))
        assert failed.value.code == "partly_sent"
        assert [got.text for got in vendor.got()] == ["one"]


async def test_a_vendor_that_cannot_be_reached_is_tried_again() -> None:
    async with at_work() as (ours, _, _):
        await ours._tokens.current()
    async with at_work(api_url="http://127.0.0.1:9") as (ours, _, _):
        with pytest.raises(Temporary):
            await ours.send(outgoing(Text(text="hi")))


async def test_the_windows_of_the_fake_are_those_of_the_sheet() -> None:
    async with at_work() as (ours, vendor, _):
        for _ in range(5):
            await ours.send(outgoing(Text(text="hi")))
        with pytest.raises(Unreachable) as spent:
            await ours.send(outgoing(Text(text="hi")))
        assert spent.value.code == "window_spent"
        vendor.closed.add(OPENID)
        with pytest.raises(Unreachable) as closed:
            await ours.send(outgoing(Text(text="hi")))
        assert closed.value.code == "window_closed"


# --- check ---------------------------------------------------------------------------------------


async def test_check_tries_token_and_rights_and_writes_to_nobody() -> None:
    async with at_work() as (ours, vendor, _):
        assert await ours.check() == ()
        assert vendor.got() == []
        vendor.no_right = True
        (problem,) = await ours.check()
        assert 'rights = "passive"' in problem
        assert "within 5 seconds" in problem
    async with at_work(rights="passive") as (ours, vendor, _):
        (problem,) = await ours.check()
        assert 'set rights = "customer_service"' in problem
        vendor.no_right = True
        assert await ours.check() == ()
    (problem,) = await connector(app_secret=None).check()
    assert "app_secret is not set" in problem


async def test_a_vendor_that_is_busy_for_a_moment_does_not_cut_an_answer_in_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it refused was surely not sent; what nobody knows the end of is not repeated."""
    monkeypatch.setattr(sending, "AGAIN_S", (0.0, 0.0))
    answer = outgoing(Text(text="one"), Text(text="two"))
    cases = (
        (["busy", "503"], 2, None),
        (["busy"] * 3, 1, "partly_sent"),
        (["502"], 1, "partly_sent"),
    )
    for troubles, arrived, code in cases:
        async with at_work() as (ours, vendor, _):
            await ours._tokens.current()
            vendor.trouble, vendor.trouble_at = ["", *troubles], SEND
            if code is None:
                await ours.send(answer)
            else:
                with pytest.raises(OutcomeUnknown) as failed:
                    await ours.send(answer)
                assert failed.value.code == code
            texts = [body["text"]["content"] for body in vendor.bodies]
            assert texts == ["one", "two"][:arrived]


async def test_templates_that_are_used_up_for_today_do_not_stop_the_accounts_answers() -> None:
    """Each call has a quota of its own; midnight may be many hours away."""
    by_itself = {"automatic": True, "params": {"order": "1"}}
    for message, scope in (
        (outgoing(template=TEMPLATE, **by_itself), "address"),
        (outgoing(template="subscribe:SUB-1", **by_itself), "address"),
        (outgoing(Text(text="hi")), "account"),
    ):
        async with at_work() as (ours, vendor, _):
            await ours._tokens.current()
            vendor.trouble = ["error:45009"]
            with pytest.raises(RateLimited) as limited:
                await ours.send(message)
            assert (limited.value.scope, limited.value.code) == (scope, "45009")
            assert 60 <= limited.value.retry_after <= 86_400


async def test_an_agents_template_that_cannot_go_today_is_told_at_once() -> None:
    """Waiting for midnight, it would stand before all that the agent says to this customer."""
    async with at_work() as (ours, vendor, _):
        await ours._tokens.current()
        vendor.trouble = ["error:45009"]
        with pytest.raises(Unreachable, match="until midnight in China") as refused:
            await ours.send(outgoing(template=TEMPLATE, params={"order": "1"}))
        assert refused.value.code == "quota_spent"


@pytest.mark.parametrize("number", sorted(errors.NOT_ALLOWED | errors.RESTRICTED))
async def test_an_account_without_the_right_to_templates_goes_on_answering(number: int) -> None:
    """As a fault of the account it would be tried for ever, and stop all answers each time."""
    async with at_work() as (ours, vendor, _):
        await ours._tokens.current()
        vendor.trouble = [f"error:{number}"]
        with pytest.raises(Unsupported, match="does not allow templates") as refused:
            await ours.send(outgoing(template=TEMPLATE, params={"order": "1"}))
        assert refused.value.code == str(number)
        vendor.trouble = [f"error:{number}"]
        with pytest.raises(Misconfigured):
            await ours.send(outgoing(Text(text="hi")))


def test_a_key_that_came_too_soon_keeps_nobody_else_waiting() -> None:
    failed = errors.failure(45066, "retry too fast", FakeClock().now())
    assert isinstance(failed, RateLimited)
    assert (failed.scope, failed.retry_after) == ("address", 60.0)


def test_a_quota_of_templates_is_a_day_in_china_and_of_templates_alone() -> None:
    assert connector().capabilities.quotas == ()
    (quota,) = connector(templates_per_day=100_000).capabilities.quotas
    assert (quota.sends, quota.templates, quota.per) == (100_000, True, "account")
    begins, ends = period(quota, FakeClock().now())
    assert errors.until_midnight_s(FakeClock().now()) == (ends - FakeClock().now()).total_seconds()
    assert (ends - begins) == timedelta(days=1)
