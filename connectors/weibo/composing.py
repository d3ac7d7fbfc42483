"""From the parts of an answer to the calls of ``messages/reply`` that say it.

Weibo documents three types: ``text``, ``articles`` (pictures with a link) and ``position``. There
is none for files, and an article's picture has to be a URL that the world can read, which the
hub does not offer: files are not supported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from connectors.weibo.parsing import MENTION
from connectors.weibo.splitting import MOST_UNITS, split_text
from hub import Outgoing
from normalizer.outcomes import Rejected, Unsupported
from normalizer.parts import AnyPart, Card, Link, Location, Text

SENDS = frozenset({"text", "location", "link", "card"})
MOST_TEXT_CHARS = 5 * MOST_UNITS
MOST_ARTICLES = 8  # of one call (unverified)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call: ``type`` and what ``data`` is the JSON of."""

    type: str
    data: Mapping[str, Any]

    @property
    def json(self) -> str:
        """The data as JSON, in UTF-8; the form encodes it for the URL, once."""
        return msgspec.json.encode(self.data).decode()


def calls_for(message: Outgoing) -> list[Call]:
    """Return the calls that say a message, in order.

    Raises ``Unsupported`` for a part that Weibo has no word for, and ``Rejected`` for one that it
    could not show, or for an answer to a mention that takes more than one call.
    """
    calls = list(_calls(message.parts))
    if len(calls) > 1 and message.answers is not None and MENTION in message.answers.data:
        raise Rejected(
            "Weibo allows a single message in answer to a mention: at most"
            f" {MOST_UNITS} characters and nothing else. Shorten it",
            code="mention_one_reply",
        )
    return calls


def _calls(parts: tuple[AnyPart, ...]) -> Iterator[Call]:
    articles: list[dict[str, str]] = []
    for part in parts:
        if isinstance(part, Link | Card):
            articles.append(_article(part))
            if len(articles) < MOST_ARTICLES:
                continue
        if articles:
            yield Call(type="articles", data={"articles": articles})
            articles = []
        match part:
            case Text():
                for piece in split_text(part.text):
                    yield Call(type="text", data={"text": piece})
            case Location():
                where = {"longitude": f"{part.lon:.6f}", "latitude": f"{part.lat:.6f}"}
                yield Call(type="position", data=where)
            case Link() | Card():
                continue
            case _:
                kind = part.__struct_config__.tag
                raise Unsupported(f"Weibo's messages carry no {kind}: send a link to it instead")
    if articles:
        yield Call(type="articles", data={"articles": articles})


def _article(part: Link | Card) -> dict[str, str]:
    """Return the picture with a link that stands for a link or a card."""
    if isinstance(part, Link):
        title, summary, url = part.title or part.url, part.text, part.url
    else:
        if part.image is not None:
            raise Unsupported("Weibo takes pictures by public URL only: leave the card's away")
        links = [button.url for button in part.buttons if button.url]
        title, summary, url = part.title, part.text, links[0] if len(links) == 1 else ""
        if len(links) != len(part.buttons) or not url:
            raise Unsupported("a card on Weibo has one button, and it opens a link")
    if urlsplit(url).scheme not in ("http", "https"):
        raise Rejected("a link on Weibo begins with http:// or https://")
    return {"display_name": title, "summary": summary, "image": "", "url": url}
