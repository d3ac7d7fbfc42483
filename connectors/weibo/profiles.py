"""From what Weibo tells of a fan to a profile. Unlike WeChat's, it has name and picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from normalizer.drafts import Profile

_MOST_CHARS = 200
_KEPT = ("country", "province", "city")


def profile_of(fields: Mapping[str, Any]) -> Profile | None:
    """Return the profile of a fan, None for somebody who is none: Weibo tells nothing of those."""
    if _text(fields, "follow") != "1":
        return None
    return Profile(
        name=_text(fields, "nickname") or _text(fields, "nicname"),  # the page's table says nicname
        locale=_text(fields, "language").replace("_", "-"),
        avatar=_picture(fields),
        attributes={name: text for name in _KEPT if (text := _text(fields, name))},
    )


def _picture(fields: Mapping[str, Any]) -> str:
    for name in ("headimgurl_large", "headimgurl_hd", "headimgurl"):
        url = fields.get(name)
        if isinstance(url, str) and len(url) <= 2000 and _is_link(url):
            return url
    return ""


def _is_link(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value.strip()[:_MOST_CHARS] if isinstance(value, str) else ""
