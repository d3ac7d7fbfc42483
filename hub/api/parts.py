"""The parts of a message as callers send them: strict, bounded, with attachments by their id.

A media part names an attachment that was uploaded before; what it is, its type and its size,
is known from the upload and never believed from here.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from hub.api.bodies import PATH_IDS, Input
from hub.api.keys import ApiKey
from hub.api.uploads import Uploads

Line = Annotated[str, Meta(max_length=500)]
Words = Annotated[str, Meta(max_length=20_000)]
Url = Annotated[str, Meta(max_length=4_000)]
BlobId = Annotated[str, Meta(pattern=PATH_IDS["attachment"])]


class PartInput(Input, tag_field="type", frozen=True, kw_only=True):
    """One piece of a message, in the order in which the customer sees them."""


class MediaInput(Input, frozen=True, kw_only=True):
    """An attachment: ``blob`` is the id that its upload answered with."""

    blob: BlobId
    name: Line = ""


class ButtonInput(Input, frozen=True, kw_only=True):
    label: Line
    url: Url = ""
    value: Line = ""


class TextInput(PartInput, tag="text", frozen=True, kw_only=True):
    text: Words
    format: Annotated[str, Meta(pattern="^(plain|md-lite)$")] = "plain"


class ImageInput(PartInput, tag="image", frozen=True, kw_only=True):
    media: MediaInput


class AudioInput(PartInput, tag="audio", frozen=True, kw_only=True):
    media: MediaInput


class VideoInput(PartInput, tag="video", frozen=True, kw_only=True):
    media: MediaInput


class FileInput(PartInput, tag="file", frozen=True, kw_only=True):
    media: MediaInput


class LocationInput(PartInput, tag="location", frozen=True, kw_only=True):
    """``datum``: wgs84, as GPS tells it, or gcj02, as maps in China do."""

    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]
    label: Line = ""
    datum: Annotated[str, Meta(pattern="^(wgs84|gcj02)$")] = "wgs84"


class LinkInput(PartInput, tag="link", frozen=True, kw_only=True):
    url: Url
    title: Line = ""
    text: Words = ""


class CardInput(PartInput, tag="card", frozen=True, kw_only=True):
    title: Line
    text: Words = ""
    image: MediaInput | None = None
    buttons: Annotated[list[ButtonInput], Meta(max_length=20)] = []


class QuickRepliesInput(PartInput, tag="quick_replies", frozen=True, kw_only=True):
    replies: Annotated[list[ButtonInput], Meta(min_length=1, max_length=20)]


class ExtensionInput(PartInput, tag="ext", frozen=True, kw_only=True):
    """A plugin's own part; ``fallback`` is what others show."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,40}(\.[a-z0-9_-]{1,40})+$")]
    fallback: Words
    data: dict[str, Any] = {}


AnyPartInput: TypeAlias = (
    TextInput
    | ImageInput
    | AudioInput
    | VideoInput
    | FileInput
    | LocationInput
    | LinkInput
    | CardInput
    | QuickRepliesInput
    | ExtensionInput
)
PartsInput = Annotated[list[AnyPartInput], Meta(max_length=20)]


async def command_parts(
    parts: list[AnyPartInput], uploads: Uploads, caller: ApiKey, key: str
) -> list[dict[str, Any]]:
    """Return the parts as a command takes them, with what is known of their attachments.

    ``key`` is the Idempotency-Key of the request: under it the same blobs are named again.
    Raises Refusal(422) for an attachment that is not there, or not the caller's.
    """
    return [await _with_media(msgspec.to_builtins(part), uploads, caller, key) for part in parts]


async def _with_media(
    part: dict[str, Any], uploads: Uploads, caller: ApiKey, key: str
) -> dict[str, Any]:
    for member in ("media", "image"):
        media = part.get(member)
        if media is not None:
            part[member] = await _media(media, uploads, caller, key)
    return part


async def _media(
    media: dict[str, Any], uploads: Uploads, caller: ApiKey, key: str
) -> dict[str, Any]:
    blob, known = await uploads.named(caller, media["blob"], key)
    told = {
        "blob": blob,
        "name": media["name"] or known.get("name", ""),
        "mime": known.get("mime", ""),
        "size": known.get("size"),
        "sha256": known.get("sha256"),
        "state": "ready",
    }
    measures = {name: known[name] for name in ("width", "height") if name in known}
    return told | measures
