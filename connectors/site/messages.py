"""What visitors say: from a frame or a request's body to a draft, without I/O."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
from msgspec import Meta

from connectors.site.errors import SiteError
from connectors.site.settings import Limits
from normalizer.addresses import Address
from normalizer.drafts import Message, Profile
from normalizer.parts import (
    AnyPart,
    Audio,
    File,
    Form,
    Image,
    Location,
    Media,
    MediaState,
    Text,
    Video,
)
from normalizer.text import grapheme_length

_MAX_URL_CHARS = 500


class _In(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    pass


class TextIn(_In, tag="text", frozen=True, kw_only=True):
    text: str


class MediaIn(_In, frozen=True, kw_only=True):
    upload_id: Annotated[str, Meta(min_length=1, max_length=64)]


class ImageIn(MediaIn, tag="image", frozen=True, kw_only=True):
    pass


class AudioIn(MediaIn, tag="audio", frozen=True, kw_only=True):
    pass


class VideoIn(MediaIn, tag="video", frozen=True, kw_only=True):
    pass


class FileIn(MediaIn, tag="file", frozen=True, kw_only=True):
    pass


class LocationIn(_In, tag="location", frozen=True, kw_only=True):
    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]
    label: Annotated[str, Meta(max_length=200)] = ""


class FormIn(_In, tag="form", frozen=True, kw_only=True):
    answers: Annotated[
        dict[Annotated[str, Meta(max_length=100)], Annotated[str, Meta(max_length=4000)]],
        Meta(min_length=1, max_length=50),
    ]


AnyIn: TypeAlias = TextIn | ImageIn | AudioIn | VideoIn | FileIn | LocationIn | FormIn
_MAY_SEND = frozenset({"text", "image", "audio", "video", "file", "location", "form"})
_MEDIA: dict[type[MediaIn], type[Image | Audio | Video | File]] = {
    ImageIn: Image,
    AudioIn: Audio,
    VideoIn: Video,
    FileIn: File,
}


def read_parts(raw: list[dict[str, Any]], limits: Limits) -> tuple[AnyPart, ...]:
    """Return what a visitor may say; media parts are pending and name their upload.

    Raises :class:`SiteError`: bad_frame, unsupported_type or too_large.
    """
    if not raw:
        raise SiteError("bad_frame", "a message has at least one part")
    if len(raw) > limits.parts_per_message:
        raise SiteError("too_large", f"a message has at most {limits.parts_per_message} parts")
    return tuple(_read_part(part, limits) for part in raw)


def _read_part(raw: dict[str, Any], limits: Limits) -> AnyPart:
    if raw.get("type") not in _MAY_SEND:
        raise SiteError("unsupported_type", "visitors send text, media, locations and answers")
    try:
        part = msgspec.convert(raw, AnyIn, strict=True)
    except msgspec.ValidationError as error:
        raise SiteError("bad_frame", str(error)[:300]) from error
    match part:
        case TextIn():
            return _text(part.text, limits)
        case LocationIn():
            return Location(lat=part.lat, lon=part.lon, label=part.label)
        case FormIn():
            return Form(answers=part.answers)
        case _:
            media = Media(vendor_ref=part.upload_id, state=MediaState.PENDING)
            return _MEDIA[type(part)](media=media)


def _text(text: str, limits: Limits) -> Text:
    if not text.strip():
        raise SiteError("bad_frame", "a text part needs text")
    # Graphemes are counted, because that is what a person sees: an emoji of seven code points
    # is one. The second bound keeps a pile of marks on one letter out.
    if grapheme_length(text) > limits.text_chars or len(text) > 8 * limits.text_chars:
        raise SiteError("too_large", f"a text has at most {limits.text_chars} characters")
    return Text(text=text)


def build_message(
    address: Address,
    *,
    client_msg_id: str,
    parts: tuple[AnyPart, ...],
    thread: str = "",
    reply_to_seq: str = "",
    level: str,
    page: dict[str, str],
    profile: Profile | None,
) -> Message:
    """Return the draft. ``data.digest`` is what a repeated id is compared by."""
    data: dict[str, Any] = {"level": level, "digest": digest(parts, reply_to_seq)}
    if page:
        data["page"] = page
    if reply_to_seq:
        data["reply_to_seq"] = reply_to_seq
    return Message(
        key=client_msg_id,
        address=address,
        parts=parts,
        thread=thread,
        profile=profile,
        data=data,
    )


def digest(parts: tuple[AnyPart, ...], reply_to_seq: str = "") -> str:
    body = msgspec.json.encode([parts, reply_to_seq], order="deterministic")
    return hashlib.sha256(body).hexdigest()[:32]


def clean_page(page: dict[str, str], allow: tuple[str, ...]) -> dict[str, str]:
    """Return where the visitor is, without what may be secret in it.

    Addresses of pages hold reset tokens and personal data: credentials, fragments and all query
    parameters but the allowed ones are cut before anything is stored.
    """
    kept = {
        "url": clean_url(page.get("url", ""), allow),
        "referrer": clean_url(page.get("referrer", ""), ()),
        "title": page.get("title", "")[:200],
    }
    return {name: value for name, value in kept.items() if value}


def clean_url(text: str, allow: tuple[str, ...]) -> str:
    try:
        url = urlsplit(text)
        host = url.hostname or ""
        port = f":{url.port}" if url.port else ""
        query = parse_qsl(url.query, max_num_fields=200)
    except ValueError:
        return ""
    if url.scheme not in ("http", "https") or not host:
        return ""
    if ":" in host:
        host = f"[{host}]"
    kept = urlencode([(name, value) for name, value in query if name in allow])
    return urlunsplit((url.scheme, host + port, url.path, kept, ""))[:_MAX_URL_CHARS]
