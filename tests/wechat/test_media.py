"""Customers' files, and what WeChat says of people."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiohttp import web

from normalizer.drafts import Profile
from normalizer.outcomes import Failure, Gone, Rejected, Temporary, Unreachable
from normalizer.parts import Media
from tests.wechat.fake_wechat import OPENID, FakeWechat, json_answer
from tests.wechat.support import ADDRESS, at_work

GET = "/cgi-bin/media/get"


def picture() -> web.Response:
    return web.Response(
        body=b"\xff\xd8\xffpicture",
        content_type="image/jpeg",
        headers={"Content-Disposition": 'attachment; filename="m-1.jpg"'},
    )


async def read(stream: object) -> bytes:
    return b"".join([chunk async for chunk in stream])  # type: ignore[attr-defined]


async def test_a_file_is_fetched_with_its_name_and_type() -> None:
    async with at_work() as (ours, vendor, _):
        vendor.files["m-1"] = picture
        fetched = await ours.fetch_media(Media(vendor_ref="m-1"), ADDRESS)
        assert (fetched.mime, fetched.name) == ("image/jpeg", "m-1.jpg")
        assert await read(fetched.stream) == b"\xff\xd8\xffpicture"


async def test_a_file_is_fetched_with_a_new_token_where_the_old_one_ended() -> None:
    async with at_work() as (ours, vendor, _):
        vendor.files["m-1"] = picture
        await ours._tokens.current()
        vendor.expire()
        fetched = await ours.fetch_media(Media(vendor_ref="m-1"), ADDRESS)
        assert await read(fetched.stream) == b"\xff\xd8\xffpicture"
        assert (vendor.calls[GET], vendor.issued) == (2, 2)


async def test_a_video_is_fetched_in_two_steps() -> None:
    async with FakeWechat() as vendor:
        hosts = [vendor.url.removeprefix("http://")]
        async with at_work(vendor=vendor, media_hosts=hosts) as (ours, _, _):
            token = await ours._tokens.current()
            vendor.files["clip"] = lambda: web.Response(body=b"video", content_type="video/mp4")
            url = f"{vendor.url}{GET}?access_token={token}&media_id=clip"
            vendor.files["m-3"] = lambda: json_answer({"video_url": url})
            fetched = await ours.fetch_media(Media(vendor_ref="m-3"), ADDRESS)
            assert (fetched.mime, await read(fetched.stream)) == ("video/mp4", b"video")


async def test_a_video_elsewhere_is_not_fetched() -> None:
    async with at_work() as (ours, vendor, _):
        for url in ("http://169.254.169.254/latest", "http://evil.example/a", "file:///etc/passwd"):
            vendor.files["m-3"] = lambda url=url: json_answer({"video_url": url})  # type: ignore[misc]
            with pytest.raises(Rejected):
                await ours.fetch_media(Media(vendor_ref="m-3"), ADDRESS)


async def test_a_public_picture_is_fetched_from_the_vendors_hosts_only() -> None:
    async with at_work() as (ours, _, _):
        for url in ("http://evil.example/a", "https://mmbiz.qpic.cn.evil.example/a"):
            with pytest.raises(Rejected, match="not one of the vendor's hosts"):
                await ours.fetch_media(Media(vendor_ref=url), ADDRESS)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (None, Gone),  # 40007
        (lambda: json_answer({"errcode": -1, "errmsg": "busy"}), Temporary),
        (lambda: json_answer({"errcode": 43004, "errmsg": "no"}), Unreachable),
        (lambda: web.Response(text='{"errcode":40007,"errmsg":"x"}'), Gone),  # as text/plain
        (lambda: web.Response(text="not JSON"), Temporary),
        (lambda: json_answer({}), Temporary),
        (lambda: web.Response(status=502), Temporary),
        (lambda: web.Response(text="x" * 70_000), Temporary),
    ],
)
async def test_an_error_is_never_taken_for_a_file(
    answer: Callable[[], web.Response] | None, failure: type[Failure]
) -> None:
    async with at_work() as (ours, vendor, _):
        if answer is not None:
            vendor.files["m-1"] = answer
        with pytest.raises(failure) as failed:
            await ours.fetch_media(Media(vendor_ref="m-1"), ADDRESS)
        assert vendor.token not in str(failed.value)


async def test_a_file_without_a_reference_is_refused() -> None:
    async with at_work() as (ours, vendor, _):
        with pytest.raises(Rejected):
            await ours.fetch_media(Media(), ADDRESS)
        assert not vendor.calls


# --- people --------------------------------------------------------------------------------------


async def test_a_follower_without_a_name_is_named_by_the_end_of_the_openid() -> None:
    async with at_work() as (ours, vendor, _):
        vendor.people[OPENID] = {
            "subscribe": 1,
            "openid": OPENID,
            "language": "zh_CN",
            "subscribe_time": 1700000000,
            "unionid": "oU-1",
            "remark": "",
            "subscribe_scene": "ADD_SCENE_QR_CODE",
            "qr_scene": 0,
            "qr_scene_str": "门店_12",
        }
        assert await ours.fetch_profile(ADDRESS) == Profile(
            name="微信用户0001",
            locale="zh-CN",
            attributes={
                "unionid": "oU-1",
                "subscribe_scene": "ADD_SCENE_QR_CODE",
                "scene": "门店_12",
                "follows": "yes",
            },
        )


async def test_a_name_that_wechat_gives_is_taken() -> None:
    async with at_work() as (ours, vendor, _):
        vendor.people[OPENID] = {"subscribe": 1, "nickname": "小李", "headimgurl": "https://a/b"}
        found = await ours.fetch_profile(ADDRESS)
        assert found is not None
        assert (found.name, found.avatar) == ("小李", "https://a/b")


async def test_who_does_not_follow_is_known_by_the_openid_only() -> None:
    async with at_work() as (ours, vendor, _):
        vendor.people[OPENID] = {"subscribe": 0, "openid": OPENID}
        assert await ours.fetch_profile(ADDRESS) == Profile(
            name="微信用户0001", attributes={"follows": "no"}
        )


async def test_a_stranger_is_unreachable() -> None:
    async with at_work() as (ours, _, _):
        with pytest.raises(Unreachable, match="no such person"):
            await ours.fetch_profile(ADDRESS)


async def test_without_the_right_to_ask_somebody_still_has_a_name() -> None:
    async with at_work() as (ours, vendor, _):
        vendor.trouble = ["error:48001"]
        assert await ours.fetch_profile(ADDRESS) == Profile(name="微信用户0001")
