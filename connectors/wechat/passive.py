"""The answer in the response: ``success``, or a text for the customer at once.

wechatpy writes the reply's XML. Its trap: a text with ``]]>`` ends the CDATA section that it is
put into, and what follows becomes markup. The fence cuts such a text in two sections.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import cast

from connectors.wechat import crypto, wire
from connectors.wechat.settings import WechatSettings
from hub import Answer, Clock, Verified
from normalizer.drafts import AnyDraft, Message

XML = "text/xml; charset=utf-8"
ACCEPTED = Answer(body=b"success", content_type="text/plain")


def answer_of(
    settings: WechatSettings, verified: Verified, drafts: Sequence[AnyDraft], clock: Clock
) -> Answer:
    """Return what WeChat is told. Pure: the same push at the same time has the same answer."""
    if verified.request.method == "GET":
        echo = verified.request.query.get("echostr", "")
        return Answer(body=echo.encode(), content_type="text/plain")
    if not settings.passive_reply or not any(isinstance(draft, Message) for draft in drafts):
        return ACCEPTED
    if not verified.payload.lstrip().startswith(b"<"):
        return ACCEPTED  # how a JSON push would be answered is not documented
    fields = wire.read(verified.payload)
    now = int(clock.now().timestamp())
    reply = text_reply(
        settings.passive_reply,
        to=wire.text(fields, "FromUserName"),
        sender=wire.text(fields, "ToUserName"),
        at=now,
    )
    if "key" in verified.facts:
        reply = _sealed(settings, verified, reply, now)
    return Answer(body=reply.encode(), content_type=XML)


def load() -> None:
    """Import the library: a tenth of a second, for accounts that answer at once.

    Raises ``ImportError`` where the extra is not installed, at start and not at an answer.
    """
    import wechatpy.replies  # noqa: F401


def text_reply(content: str, *, to: str, sender: str, at: int) -> str:
    """Return a reply's XML. ``at`` is in Unix seconds; the library would take its own clock."""
    from wechatpy.replies import TextReply

    reply = TextReply(source=fenced(sender), target=fenced(to), time=at, content=fenced(content))
    return cast("str", reply.render())


def fenced(text: str) -> str:
    """Return a text that stays one text inside ``<![CDATA[...]]>``."""
    return text.replace("]]>", "]]]]><![CDATA[>")


def _sealed(settings: WechatSettings, verified: Verified, reply: str, now: int) -> str:
    """Encrypt a reply with the key that opened the push, signed with the token that signed it."""
    key = crypto.aes_key(settings.encoding_aes_keys[int(verified.facts["key"])].reveal())
    token = settings.tokens[int(verified.facts["token"])].reveal() if settings.tokens else ""
    nonce = hashlib.sha256(f"{now}{reply}".encode()).hexdigest()[:16]
    # Answers are pure, so what stands where random bytes would is a keyed hash of all it covers.
    prefix = hmac.new(key, f"{now}|{nonce}|{reply}".encode(), hashlib.sha256).digest()[:16]
    sealed = crypto.encrypt(key, settings.appid, reply.encode(), prefix)
    signed = crypto.signature(token, str(now), nonce, sealed)
    return (
        f"<xml><Encrypt><![CDATA[{sealed}]]></Encrypt>"
        f"<MsgSignature><![CDATA[{signed}]]></MsgSignature>"
        f"<TimeStamp>{now}</TimeStamp><Nonce><![CDATA[{nonce}]]></Nonce></xml>"
    )
