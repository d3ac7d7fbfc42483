"""Events (``type=event``), by the subtype that Weibo gives them. Others say nothing to us."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from connectors.weibo.envelope import Push, key_of

FOLLOWED = "contact.followed"
UNFOLLOWED = "contact.unfollowed"
OPTED_IN = "contact.opted_in"
OPTED_OUT = "contact.opted_out"
SCANNED = "contact.scanned"
CLICKED = "menu.clicked"
OPENED = "menu.opened"

# Typed alone, they are orders to the platform and no words for an agent.
KEYWORDS: Mapping[str, str] = {"dy": OPTED_IN, "td": OPTED_OUT}

_MOST_KEYWORD_CHARS = 20
_SCENES = ("QR_LIMIT_SCENE_", "QR_SCENE_")


def event_of(push: Push) -> tuple[str, dict[str, Any]] | None:
    """Return (name, data) of an event, None for one that the platform says to ignore."""
    found = _EVENTS.get(key_of(push.data, "subtype").lower())
    if found is None:
        return None
    name, data = found
    return name, data(push)


def keyword_of(text: str) -> str:
    return text.strip().lower()


def _nothing(push: Push) -> dict[str, Any]:
    return {}


def _keyword(push: Push) -> dict[str, Any]:
    """The text may be what the person typed to subscribe or unsubscribe."""
    typed = push.text.strip()
    return {"keyword": typed} if 0 < len(typed) <= _MOST_KEYWORD_CHARS else {}


def _scene(push: Push) -> dict[str, Any]:
    """The key is ``<action_name>_<scene_id>``."""
    key = key_of(push.data, "key")
    for action in _SCENES:
        if key.startswith(action):
            return {"via": "qr", "scene": key.removeprefix(action)}
    return {"via": "qr", "scene": key.rpartition("_")[2]}


def _menu(push: Push) -> dict[str, Any]:
    return {"key": key_of(push.data, "key")}


def _link(push: Push) -> dict[str, Any]:
    return {"url": key_of(push.data, "key")}


_EVENTS: Mapping[str, tuple[str, Callable[[Push], dict[str, Any]]]] = {
    "follow": (FOLLOWED, _nothing),
    "unfollow": (UNFOLLOWED, _nothing),
    "subscribe": (OPTED_IN, _keyword),
    "unsubscribe": (OPTED_OUT, _keyword),
    "scan": (SCANNED, _scene),
    "scan_follow": (FOLLOWED, _scene),
    "click": (CLICKED, _menu),
    "view": (OPENED, _link),
}
