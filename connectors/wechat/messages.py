"""What a customer said: a push with a MsgId becomes a message."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from math import isfinite
from typing import Any

from connectors.wechat.common import Push
from connectors.wechat.settings import WechatSettings
from connectors.wechat.wire import Fields, text
from normalizer.drafts import Message, Profile
from normalizer.parts import (
    AnyPart,
    Audio,
    File,
    Image,
    Link,
    Location,
    Media,
    MediaState,
    Text,
    Transcript,
    Unsupported,
    Video,
)

MENU_OPTION = "menu.option"
VOICES = {"amr": "audio/amr", "speex": "audio/speex"}
NOT_FETCHED = "WeChat hands out no files of this kind: ask for it as a picture, or by mail"

Read = Callable[[Fields, WechatSettings], AnyPart]


def read_message(push: Push, settings: WechatSettings) -> Message:
    """Return the draft of a message push; types that nobody knows are Unsupported parts."""
    fields = push.fields
    part = READERS.get(push.kind, _unknown)(fields, settings)
    option = text(fields, "bizmsgmenuid")
    return Message(
        key=_key(push),
        at=push.at,
        address=push.address,
        parts=(part,),
        event=MENU_OPTION if option else "",
        data=_data(push, option),
        profile=_profile(fields),
    )


def _key(push: Push) -> str:
    """Return the vendor's number; of a push without one, what a repetition has in common."""
    number = text(push.fields, "MsgId")
    if number:
        return f"msg:{number}"
    told = "|".join(f"{name}={value!r}" for name, value in sorted(push.fields.items()))
    digest = hashlib.sha256(told.encode(errors="surrogatepass")).hexdigest()[:32]
    return f"msg::{push.created}:{push.kind}:{digest}"


def _data(push: Push, option: str) -> dict[str, Any]:
    fields = push.fields
    told = {
        "option_id": option,
        "article": text(fields, "MsgDataId"),
        "article_index": text(fields, "Idx"),
        "pic_url": text(fields, "PicUrl"),
        "file_md5": text(fields, "FileMd5"),
    }
    return {name: value for name, value in told.items() if value}


def _profile(fields: Fields) -> Profile | None:
    union = text(fields, "UnionId") or text(fields, "unionid")
    return Profile(attributes={"unionid": union}) if union else None


# --- a reader for each MsgType -------------------------------------------------------------------


def _text(fields: Fields, settings: WechatSettings) -> AnyPart:
    return Text(text=text(fields, "Content"))


def _image(fields: Fields, settings: WechatSettings) -> AnyPart:
    """Name the picture by MediaId; without the right to fetch that, by its public address."""
    by_url, by_id = text(fields, "PicUrl"), text(fields, "MediaId")
    ref = (by_url or by_id) if settings.rights == "passive" else (by_id or by_url)
    return Image(media=_at_vendor(ref, "image/jpeg"))


def _voice(fields: Fields, settings: WechatSettings) -> AnyPart:
    heard = text(fields, "Recognition")
    return Audio(
        media=_at_vendor(text(fields, "MediaId"), VOICES.get(text(fields, "Format").lower(), "")),
        transcript=Transcript(text=heard, by="vendor") if heard else None,
    )


def _video(fields: Fields, settings: WechatSettings) -> AnyPart:
    return Video(media=_at_vendor(text(fields, "MediaId"), "video/mp4"))


def _location(fields: Fields, settings: WechatSettings) -> AnyPart:
    """Location_X is the latitude. The datum is China's own, GCJ-02 (unverified)."""
    label = text(fields, "Label")
    place = coordinates(text(fields, "Location_X"), text(fields, "Location_Y"))
    if place is None:
        return Unsupported(what="location", text=label)
    return Location(lat=place[0], lon=place[1], label=label, datum="gcj02")


def _link(fields: Fields, settings: WechatSettings) -> AnyPart:
    return Link(
        url=text(fields, "Url"), title=text(fields, "Title"), text=text(fields, "Description")
    )


def _file(fields: Fields, settings: WechatSettings) -> AnyPart:
    """A file has no MediaId, and no call fetches it (seen in the wild, unverified)."""
    length = text(fields, "FileTotalLen")
    known = length.isascii() and length.isdigit() and len(length) < 16
    return File(
        media=Media(
            name=text(fields, "Title"),
            size=int(length) if known else None,
            state=MediaState.LOST,
            reason=NOT_FETCHED,
        )
    )


def _unknown(fields: Fields, settings: WechatSettings) -> AnyPart:
    return Unsupported(what=text(fields, "MsgType").strip() or "message")


READERS: dict[str, Read] = {
    "text": _text,
    "image": _image,
    "voice": _voice,
    "video": _video,
    "shortvideo": _video,
    "location": _location,
    "link": _link,
    "file": _file,
}


def _at_vendor(ref: str, mime: str) -> Media:
    if not ref:
        return Media(mime=mime, state=MediaState.LOST, reason="WeChat did not say where it is")
    return Media(mime=mime, vendor_ref=ref, state=MediaState.PENDING)


def coordinates(lat: str, lon: str) -> tuple[float, float] | None:
    """Return a place on earth, None where the texts say none."""
    try:
        place = float(lat), float(lon)
    except ValueError:
        return None
    if all(map(isfinite, place)) and abs(place[0]) <= 90 and abs(place[1]) <= 180:
        return place
    return None
