"""The webhook door: a JSON body signed with HMAC-SHA256 over time and body.

The vendor is made up. It sends, and signs again when it repeats itself::

    POST /in/sample/main
    x-sample-time: 1772442000
    x-sample-signature: hex(hmac_sha256(secret, time + "." + body))
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

import msgspec

from hub import (
    Account,
    Clock,
    Connector,
    ConnectorContext,
    Outgoing,
    Refused,
    Request,
    Sample,
    Secret,
    Verified,
    hookimpl,
)
from normalizer.addresses import Address
from normalizer.capabilities import Capabilities
from normalizer.drafts import AnyDraft, DeliveryState, Event, Message, Receipt, Target
from normalizer.outcomes import Accepted, Unsupported
from normalizer.parts import Text
from normalizer.parts import Unsupported as UnsupportedPart

omniline_api = 1
omniline_name = "sample"  # "webhook" is a ticket backend

WINDOW_S = 300
_SECOND = 1000


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    secrets: Annotated[
        list[Secret], msgspec.Meta(description="Shared secrets; several while rotating.")
    ] = []


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """What the made-up vendor sends. ``at`` is Unix time in milliseconds."""

    id: str
    sender: str
    at: int
    type: str = "text"
    text: str = ""
    ref: str = ""
    state: str = ""


_decoder = msgspec.json.Decoder(Push)


class SampleWebhook(Connector[Settings]):
    channel: ClassVar[str] = "sample"
    settings: ClassVar[type[msgspec.Struct]] = Settings
    capabilities: ClassVar[Capabilities] = Capabilities(
        sends=frozenset({"text"}), max_text_chars=2000, delivery_receipts=True
    )

    def __init__(self, account: Account[Settings], context: ConnectorContext) -> None:
        super().__init__(account, context)
        self._keys = [secret.reveal().encode() for secret in account.settings.secrets]
        self.sent: list[Outgoing] = []

    def check_settings(self) -> Sequence[str]:
        return () if self._keys else ("the sample channel needs a secret",)

    def verify(self, request: Request) -> Verified:
        if self._keys or not self.account.insecure:
            check_signature(request, self._keys)
        return request.verified()

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        push = _decoder.decode(verified.payload)
        at = datetime.fromtimestamp(push.at / _SECOND, UTC)
        address = Address(
            scheme=self.channel, account=self.account.key, kind="user", id=push.sender
        )
        match push.type:
            case "text":
                return (
                    Message(
                        key=push.id,
                        at=at,
                        address=address,
                        parts=(Text(text=push.text),),
                        vendor_ids=(push.id,) if push.ref == "named" else (),
                    ),
                )
            case "followed":
                return (
                    Event(
                        key=f"{push.at}:{push.id}", at=at, address=address, name="contact.followed"
                    ),
                )
            case "receipt":
                return (
                    Receipt(
                        key=f"{push.ref}:{push.state}",
                        at=at,
                        address=address,
                        target=Target(vendor_id=push.ref),
                        state=DeliveryState(push.state),
                    ),
                )
            case _:
                unknown = UnsupportedPart(what=push.type)
                return (Message(key=push.id, at=at, address=address, parts=(unknown,)),)

    async def send(self, message: Outgoing) -> Accepted:
        for part in message.parts:
            if not isinstance(part, Text):
                raise Unsupported("the sample channel sends texts only")
        self.sent.append(message)
        return Accepted(vendor_ids=(f"s-{message.key}",))

    def samples(self, clock: Clock) -> Sequence[Sample]:
        at = int(clock.now().timestamp() * _SECOND)
        pushes = {
            "text": Push(id="m1", sender="ann", at=at, text="你好😀"),
            "followed": Push(id="f1", sender="ann", at=at, type="followed"),
            "receipt": Push(id="r1", sender="ann", at=at, type="receipt", ref="s1", state="read"),
            "unknown": Push(id="m2", sender="ann", at=at, type="hologram"),
        }
        return [
            signed_sample(name, msgspec.json.encode(push), self._keys, clock)
            for name, push in pushes.items()
        ]


def check_signature(request: Request, keys: Sequence[bytes]) -> None:
    """Raise ``Refused`` unless one of the keys signed this request within the window."""
    timestamp = request.headers.get("x-sample-time", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12):
        raise Refused("timestamp")
    if abs(request.received_at.timestamp() - int(timestamp)) > WINDOW_S:
        raise Refused("stale")
    # Bytes that are no UTF-8 arrive as lone surrogates, which a plain encode() refuses.
    given = request.headers.get("x-sample-signature", "").encode(errors="surrogateescape")
    genuine = False
    for key in keys:
        genuine |= hmac.compare_digest(sign(key, timestamp, request.body).encode(), given)
    if not genuine:
        raise Refused("signature")


def sign(key: bytes, timestamp: str, body: bytes) -> str:
    """Return the signature of the made-up vendor."""
    return hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def signed_headers(key: bytes, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that the vendor would send with this body."""
    return {
        "content-type": "application/json",
        "x-sample-time": str(timestamp),
        "x-sample-signature": sign(key, str(timestamp), body),
    }


def signed_sample(
    name: str, body: bytes, keys: Sequence[bytes], clock: Clock, **facts: Any
) -> Sample:
    """Return a sample as the vendor would sign it now; unsigned where there is no key."""
    now = clock.now()
    headers = signed_headers(keys[0], int(now.timestamp()), body) if keys else {}
    return Sample(
        name=name,
        request=Request(method="POST", url="", headers=headers, body=body, received_at=now),
        signed_headers=("x-sample-time", "x-sample-signature"),
        **facts,
    )


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [SampleWebhook]
