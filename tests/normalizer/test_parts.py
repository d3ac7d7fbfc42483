"""Parts: what a reader without pictures is told, and how they are written and read."""

from __future__ import annotations

import msgspec
import pytest

from normalizer.parts import (
    MEDIA_PARTS,
    AnyPart,
    Audio,
    Button,
    Calendar,
    Card,
    Extension,
    File,
    Form,
    Image,
    Link,
    Location,
    Media,
    MediaState,
    Part,
    QuickReplies,
    Text,
    Transcript,
    Unsupported,
    Video,
    plain_text,
)

CASES: list[tuple[AnyPart, str]] = [
    (Text(text="你好😀", quoted="earlier"), "你好😀"),
    (Text(text=""), ""),
    (Image(media=Media()), "[image]"),
    (Image(media=Media(name="身份证.jpg")), "[image: 身份证.jpg]"),
    (Audio(media=Media(name="a.amr")), "[audio: a.amr]"),
    (
        Audio(media=Media(), transcript=Transcript(text="还没发货。", by="vendor")),
        "[audio] 还没发货。",
    ),
    (Video(media=Media(), thumbnail=Media(name="t.jpg")), "[video]"),
    (File(media=Media(name="发票.pdf")), "[file: 发票.pdf]"),
    (
        Location(lat=31.230416, lon=121.4737015, label="上海"),
        "[location 上海 31.230416,121.473702]",
    ),
    (Location(lat=0, lon=-0.5), "[location 0.000000,-0.500000]"),
    (Link(url="https://example.com"), "https://example.com"),
    (
        Link(url="https://example.com", title="订单", text="第 77 号"),
        "订单 https://example.com\n第 77 号",
    ),
    (
        Card(
            title="已发货",
            text="运单号 SF1",
            image=Media(),
            buttons=(Button(label="物流", url="https://example.com/o"), Button(label="好")),
        ),
        "已发货\n运单号 SF1\n物流 https://example.com/o\n好",
    ),
    (Card(title="已发货"), "已发货"),
    (QuickReplies(replies=(Button(label="是"), Button(label="否", value="0"))), "是 / 否"),
    (Form(answers={"姓名": "张三", "电话": "138"}), "姓名: 张三\n电话: 138"),
    (
        Calendar(method="REQUEST", summary="上门安装", start="2023-11-16T06:00:00Z"),
        "[calendar REQUEST 上门安装 2023-11-16T06:00:00Z]",
    ),
    (Calendar(method="CANCEL"), "[calendar CANCEL]"),
    (Unsupported(what="sticker"), "[sticker]"),
    (Unsupported(what="sticker", text="a cat"), "a cat"),
    (Extension(name="acme.coupon", fallback="¥10 券", data={"n": 1}), "¥10 券"),
]


@pytest.mark.parametrize(("part", "text"), CASES)
def test_every_part_can_be_told_in_plain_text(part: AnyPart, text: str) -> None:
    assert plain_text((part,)) == text


def test_several_parts_are_lines_and_empty_ones_leave_none() -> None:
    parts = (Text(text="正面"), Text(text=""), Image(media=Media()), Text(text="反面"))
    assert plain_text(parts) == "正面\n[image]\n反面"
    assert plain_text(()) == ""


@pytest.mark.parametrize(("part", "text"), CASES)
def test_a_part_reads_back_by_its_type(part: AnyPart, text: str) -> None:
    written = msgspec.json.encode(part)
    assert msgspec.json.decode(written)["type"] == part.__struct_config__.tag
    assert msgspec.json.decode(written, type=AnyPart) == part  # type: ignore[arg-type]


def test_the_cases_show_every_part_there_is() -> None:
    assert {type(part) for part, _ in CASES} == set(Part.__subclasses__())
    assert set(MEDIA_PARTS) == {kind for kind in Part.__subclasses__() if hasattr(kind, "media")}


@pytest.mark.parametrize(
    "written",
    [
        {"type": "hologram"},
        {"text": "no type"},
        {"type": "text"},
        {"type": "text", "text": 7},
        {"type": "image", "media": {"state": "somewhere"}},
        {"type": "location", "lat": None, "lon": 0.0},
    ],
)
def test_what_is_no_part_is_refused(written: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(written, AnyPart)


def test_a_newer_releases_field_does_not_keep_a_part_from_being_read() -> None:
    written = b'{"type":"image","media":{"state":"lost","hologram":true},"new":1}'
    read = msgspec.json.decode(written, type=AnyPart)  # type: ignore[arg-type]
    assert read == Image(media=Media(state=MediaState.LOST))
