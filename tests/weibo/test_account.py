"""What an operator sets, and is told: settings, the token's year, `check`, profiles, files."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from connectors.weibo import WeiboConnector, client
from connectors.weibo.tokens import ending
from hub import ConfigError, Fetched
from hub.testing import FakeServices
from hub.testing.clock import START, FakeClock
from normalizer.drafts import Profile
from normalizer.outcomes import (
    Failure,
    Gone,
    Misconfigured,
    RateLimited,
    Rejected,
    Temporary,
)
from normalizer.parts import Media, MediaState
from tests.weibo.fake_weibo import TOKEN, Answers, FakeWeibo, error
from tests.weibo.support import FAN, UID, make_connector

ADDRESS = f"weibo:main:uid:{FAN}"
JPEG = b"\xff\xd8\xff\xe0" + bytes(200_000)

# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("uid", "shop", "uid"),
        ("uid", 1000000007, "uid"),
        ("path_secret", "short", "openssl rand -hex 16"),
        ("path_secret", "a/path/with/slashes", "openssl rand -hex 16"),
        ("token_bound", "yesterday", "2026-03-01"),
        ("reply_url", "http://m.api.weibo.com/2/messages/reply.json", "https"),
        ("api_url", "http://10.0.0.1", "https"),
        ("replay_window_s", 10, "60"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_its_remedy(
    setting: str, value: object, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_connector({setting: value})
    assert setting in str(caught.value)
    assert told in str(caught.value)
    assert str(value) not in str(caught.value) or setting != "path_secret"


@pytest.mark.parametrize("lacking", ["app_secrets", "path_secret"])
def test_each_guard_is_required_for_a_secure_start(lacking: str) -> None:
    (complaint,) = make_connector({lacking: None}).check_settings()
    assert lacking in complaint


# --- the token's year ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (0, None),
        (334, None),
        (335, "ends on 2027-03-02, within 30 days"),
        (350, "ends on 2027-03-02, within 30 days"),
        (351, "within 14 days"),
        (361, "within 14 days"),
        (362, "within 3 days"),
        (364, "within 3 days"),
        (365, "was over on 2027-03-02"),
        (500, "was over on 2027-03-02"),
    ],
)
def test_the_end_of_the_year_is_announced_in_three_stages(days: int, told: str | None) -> None:
    made = make_connector({"token_bound": "2026-03-02"})
    clock = made.context.clock
    assert isinstance(clock, FakeClock)
    clock.advance(days * 86_400)
    said = made.warnings()
    assert len(said) == (told is not None)
    for text in said:
        assert str(told) in text
        assert "re-binding" in text


def test_a_token_whose_day_nobody_knows_warns_of_nothing() -> None:
    assert ending(None, START) == ""


# --- check ---------------------------------------------------------------------------------------


async def test_a_good_account_has_no_problems(shop: WeiboConnector, weibo: FakeWeibo) -> None:
    assert list(await shop.check()) == []
    assert weibo.calls == {"profile": 1}


async def test_check_names_the_token_and_what_to_do(
    shop: WeiboConnector, weibo: FakeWeibo, services: FakeServices
) -> None:
    weibo.token = "2.00another"
    (told,) = await shop.check()
    assert "needs re-binding" in told
    assert TOKEN not in told
    old = make_connector({**weibo.settings, "token_bound": "2025-03-20"}, services=services)
    ends, refused = await old.check()
    assert "within 30 days" in ends
    assert "needs re-binding" in refused
    unsaid = make_connector({**weibo.settings, "token_bound": None}, services=services)
    assert "token_bound is not set" in (await unsaid.check())[0]


# --- profiles ------------------------------------------------------------------------------------


async def test_a_fans_profile_has_name_and_picture(shop: WeiboConnector, weibo: FakeWeibo) -> None:
    weibo.fans[FAN] = {
        "subscribe": 1,
        "uid": FAN,
        "nickname": "李雷",
        "sex": 1,
        "language": "zh_CN",
        "city": "上海",
        "province": "上海",
        "country": "中国",
        "headimgurl": "http://tp1.sinaimg.cn/50/1",
        "headimgurl_large": "http://tp1.sinaimg.cn/180/1",
        "follow": "1",
    }
    assert await shop.fetch_profile(ADDRESS) == Profile(
        name="李雷",
        locale="zh-CN",
        avatar="http://tp1.sinaimg.cn/180/1",
        attributes={"country": "中国", "province": "上海", "city": "上海"},
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"follow": "0"}, None),
        ({}, None),
        ({"follow": 1, "nicname": "李雷"}, Profile(name="李雷")),
        ({"follow": "1", "nickname": None, "headimgurl": "javascript:x"}, Profile()),
        ({"follow": "1", "nickname": ["x"], "headimgurl_large": "http://[x"}, Profile()),
    ],
)
async def test_what_weibo_does_not_tell_is_not_made_up(
    shop: WeiboConnector, weibo: FakeWeibo, fields: dict[str, object], expected: Profile | None
) -> None:
    weibo.fans[FAN] = fields
    assert await shop.fetch_profile(ADDRESS) == expected


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (Answers(status=500), Temporary),
        (Answers(cuts=True), Temporary),
        (Answers(body=b"[]"), Temporary),
        (error(10023, "User requests out of rate limit!", 403), RateLimited),
        (error("21327", "expired_token"), Misconfigured),
    ],
)
async def test_a_profile_that_cannot_be_had_says_why(
    shop: WeiboConnector, weibo: FakeWeibo, answers: Answers, kind: type[Failure]
) -> None:
    weibo.next_answer = [answers, answers]  # a GET that was cut is asked once more by itself
    with pytest.raises(kind) as caught:
        await shop.fetch_profile(ADDRESS)
    assert TOKEN not in f"{caught.value!r} {caught.value.__cause__!r}"


# --- files ---------------------------------------------------------------------------------------


def pending(ref: str) -> Media:
    return Media(vendor_ref=ref, state=MediaState.PENDING)


async def whole(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def fetched(shop: WeiboConnector, ref: str = "22") -> Fetched:
    return await shop.fetch_media(pending(ref), ADDRESS)


@pytest.mark.parametrize("declared", ["image/jpeg", "application/octet-stream", ""])
async def test_a_file_arrives_whole(shop: WeiboConnector, weibo: FakeWeibo, declared: str) -> None:
    weibo.files["22"] = (declared, JPEG)
    found = await fetched(shop)
    assert await whole(found.stream) == JPEG
    assert found.size == len(JPEG)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (error(21327, "expired_token", 200), Misconfigured),
        (error("21332", "invalid_access_token", 403), Misconfigured),
        (error(10022, "IP requests out of rate limit!", 403), RateLimited),
        (error(10001, "System error", 200), Temporary),
        (error(10017, "Parameter (fid)'s value invalid", 400), Rejected),
        (
            Answers(
                body=b' {"error_code":21327}', headers={"Content-Type": "application/octet-stream"}
            ),
            Misconfigured,
        ),
        (Answers(body=b'{"url":"?"}'), Rejected),
        (Answers(body=b"[1]"), Rejected),
        (Answers(status=404, body=b"gone"), Gone),
        (Answers(status=502), Temporary),
        (Answers(status=429), RateLimited),
        (Answers(cuts=True), Temporary),
        (Answers(status=302, headers={"Location": "http://169.254.169.254/x"}), Rejected),
        (Answers(status=302, headers={"Location": "//evil.example/x"}), Rejected),
    ],
)
async def test_an_error_in_a_files_place_is_no_file(
    shop: WeiboConnector, weibo: FakeWeibo, answers: Answers, kind: type[Failure]
) -> None:
    weibo.next_answer = [answers, answers]  # a GET that was cut is asked once more by itself
    with pytest.raises(kind) as caught:
        await fetched(shop)
    assert TOKEN not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_a_file_at_another_host_of_weibos_is_fetched_there(
    shop: WeiboConnector, weibo: FakeWeibo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FILE_HOSTS", (weibo.host,))
    weibo.files["23"] = ("image/jpeg", JPEG)
    moved = f"/2/mss/msget?fid=23&access_token={TOKEN}"
    weibo.next_answer = [Answers(status=302, headers={"Location": moved})]
    assert await whole((await fetched(shop)).stream) == JPEG


async def test_a_download_that_breaks_off_is_tried_again(
    shop: WeiboConnector, weibo: FakeWeibo
) -> None:
    weibo.next_answer = [
        Answers(body=JPEG, headers={"Content-Type": "image/jpeg"}, breaks_off=True)
    ]
    with pytest.raises(Temporary):
        await whole((await fetched(shop)).stream)


async def test_nobody_asks_weibo_for_a_file_without_a_reference(
    shop: WeiboConnector, weibo: FakeWeibo
) -> None:
    with pytest.raises(Rejected):
        await shop.fetch_media(Media(), ADDRESS)
    assert not weibo.calls


async def test_the_accounts_own_uid_is_what_check_asks_for(
    shop: WeiboConnector, weibo: FakeWeibo
) -> None:
    weibo.fans[UID] = {"follow": "1"}
    assert list(await shop.check()) == []
    weibo.next_answer = [error(28400, "not a fan")]
    assert list(await shop.check()) == [], "it was asked with a good token"
