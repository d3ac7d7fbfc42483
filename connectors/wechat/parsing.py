"""From a verified payload to drafts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.wechat.common import read_push
from connectors.wechat.events import read_event
from connectors.wechat.messages import read_message
from connectors.wechat.settings import WechatSettings
from normalizer.drafts import AnyDraft


def read_drafts(payload: bytes, settings: WechatSettings, account: str) -> Sequence[AnyDraft]:
    """Return what a push says. Raises ValueError for what is none of WeChat's pushes."""
    push = read_push(payload, account)
    if push.kind == "event":
        return read_event(push, settings)
    return (read_message(push, settings),)
