"""From the parts of an answer to the calls of ``messages/reply`` that say it.

Weibo documents three types: ``text``, ``articles`` (a picture and words with a link) and
``position``. There is none for files, so a file is an article that leads to the hub's own copy,
and a picture is shown in it as well.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from connectors.weibo.splitting import MOST_UNITS, split_text
from hub import Outgoing
from normalizer.outcomes import Rejected, Unsupported
from normalizer.parts import (
    AnyPart,
    Audio,
    Card,
    File,
    Image,
    Link,
    Location,
    Media,
    Text,
    Video,
)

SENDS = frozenset({"text", "location", "link", "card", "image", "audio", "video", "file"})
IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif"})
MOST_TEXT_CHARS = 5 * MOST_UNITS
MOST_ARTICLES = 8  # of one call (unverified)
_TITLES = {Image: "图片", Audio: "语音", Video: "视频", File: "文件"}

LinkTo = Callable[[str], str]
"""Return the public URL of a blob."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call: ``type`` and what ``data`` is the JSON of."""

    type: str
    data: Mapping[str, Any]

    @property
    def json(self) -> str:
        """The data as JSON, in UTF-8; the form encodes it for the URL, once."""
        return msgspec.json.encode(self.data).decode()


def calls_for(message: Outgoing, link_to: LinkTo) -> list[Call]:
    """Return the calls that say a message, in order.

    Raises ``Unsupported`` for a part that Weibo has no word for, and ``Rejected`` for one that it
    could not show.
    """
    return list(_calls(message.parts, link_to))


def _calls(parts: tuple[AnyPart, ...], link_to: LinkTo) -> Iterator[Call]:
    articles: list[dict[str, str]] = []
    for part in parts:
        article = _article(part, link_to)
        if article is not None:
            articles.append(article)
        if articles and (article is None or len(articles) == MOST_ARTICLES):
            yield Call(type="articles", data={"articles": articles})
            articles = []
        if article is None:
            yield from _other(part)
    if articles:
        yield Call(type="articles", data={"articles": articles})


def _other(part: AnyPart) -> Iterator[Call]:
    match part:
        case Text():
            for piece in split_text(part.text):
                yield Call(type="text", data={"text": piece})
        case Location():
            where = {"longitude": f"{part.lon:.6f}", "latitude": f"{part.lat:.6f}"}
            yield Call(type="position", data=where)
        case _:
            raise Unsupported(f"Weibo's messages carry no {part.__struct_config__.tag}")


# --- articles ------------------------------------------------------------------------------------


def _article(part: AnyPart, link_to: LinkTo) -> dict[str, str] | None:
    """Return the article that a part is, None for one that is none."""
    match part:
        case Link():
            return _linked(part.title or part.url, part.text, part.url)
        case Card():
            return _card(part, link_to)
        case Image():
            url = _file(part.media, link_to)
            return _linked(part.media.name or _TITLES[Image], "", url, image=url)
        case Audio() | Video() | File():
            url = _file(part.media, link_to)
            return _linked(part.media.name or _TITLES[type(part)], "", url)
        case _:
            return None


def _card(part: Card, link_to: LinkTo) -> dict[str, str]:
    links = [button.url for button in part.buttons]
    if len(links) != 1 or not links[0]:
        raise Unsupported("a card on Weibo has one button, and it opens a link")
    image = _file(part.image, link_to) if part.image is not None else ""
    return _linked(part.title, part.text, links[0], image=image)


def _linked(title: str, summary: str, url: str, *, image: str = "") -> dict[str, str]:
    try:
        good = urlsplit(url).scheme in ("http", "https")
    except ValueError:
        good = False
    if not good:
        raise Rejected("a link on Weibo begins with http:// or https://")
    return {"display_name": title, "summary": summary, "image": image, "url": url}


def _file(media: Media, link_to: LinkTo) -> str:
    """Return where Weibo and the fan fetch a file. Raises where they cannot."""
    if not media.blob:
        raise Rejected(f"{media.name or 'the file'} is not in the store")
    url = link_to(media.blob)
    if not _is_public(urlsplit(url).hostname or ""):
        raise Unsupported(
            "files reach Weibo as links to this hub, and hub.public_url is no public address: set"
            " it, or send a link instead"
        )
    return url


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return host not in ("", "localhost")
