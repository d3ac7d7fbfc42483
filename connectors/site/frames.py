"""What goes over the wire: one struct a frame, both ways, as JSON.

``{"v":1,"t":"<type>","id":"<frame id>","re":"<id answered>","ts":"<RFC 3339>", ...}``. Unknown
fields and unknown types are ignored, wrong types are not. All ids and places are strings.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from connectors.site.errors import SiteError

VERSION = 1
SUBPROTOCOL = "omniline.v1"
MAX_FRAME_BYTES = 64 * 1024

Ident = Annotated[str, Meta(max_length=128)]
Place = Annotated[str, Meta(pattern=r"^[0-9]{1,15}\Z")]  # a seq
ClientId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{8,64}\Z")]  # should be a UUIDv7
Token = Annotated[str, Meta(max_length=16 * 1024)]


# --- from the client -----------------------------------------------------------------------------


class ClientFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="t"):
    id: Ident = ""
    v: int = VERSION


class ClientInfo(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(max_length=100)] = ""
    version: Annotated[str, Meta(max_length=100)] = ""


class Hello(ClientFrame, tag="hello", frozen=True, kw_only=True):
    access_token: Token
    cursor: Annotated[str, Meta(max_length=256)] = ""
    client: ClientInfo = ClientInfo()
    caps: Annotated[list[str], Meta(max_length=50)] = []


class Send(ClientFrame, tag="msg.send", frozen=True, kw_only=True):
    client_msg_id: ClientId
    parts: list[dict[str, Any]]
    conversation_id: Ident = ""
    reply_to_seq: Place | None = None


class Edit(ClientFrame, tag="msg.edit", frozen=True, kw_only=True):
    conversation_id: Ident
    seq: Place
    parts: list[dict[str, Any]]


class Recall(ClientFrame, tag="msg.recall", frozen=True, kw_only=True):
    conversation_id: Ident
    seq: Place


class ReceiptIn(ClientFrame, tag="receipt", frozen=True, kw_only=True):
    conversation_id: Ident
    delivered_seq: Place | None = None
    read_seq: Place | None = None


class TypingIn(ClientFrame, tag="typing", frozen=True, kw_only=True):
    conversation_id: Ident = ""
    on: bool


class Refresh(ClientFrame, tag="auth.refresh", frozen=True, kw_only=True):
    access_token: Token


class Identify(ClientFrame, tag="auth.identify", frozen=True, kw_only=True):
    identity_token: Token = ""
    user_id: Ident = ""
    user_hash: Ident = ""


class Logout(ClientFrame, tag="auth.logout", frozen=True, kw_only=True):
    pass


class Rate(ClientFrame, tag="rate", frozen=True, kw_only=True):
    conversation_id: Ident
    score: Annotated[int, Meta(ge=1, le=5)]
    comment: Annotated[str, Meta(max_length=2000)] = ""


class Ping(ClientFrame, tag="ping", frozen=True, kw_only=True):
    pass


AnyClientFrame: TypeAlias = (
    Hello | Send | Edit | Recall | ReceiptIn | TypingIn | Refresh | Identify | Logout | Rate | Ping
)
_KINDS = {
    str(kind.__struct_config__.tag)
    for kind in (
        Hello,
        Send,
        Edit,
        Recall,
        ReceiptIn,
        TypingIn,
        Refresh,
        Identify,
        Logout,
        Rate,
        Ping,
    )
}


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    t: str
    id: Ident = ""
    v: int = VERSION


_envelope = msgspec.json.Decoder(_Envelope, strict=True)
_frame = msgspec.json.Decoder(AnyClientFrame, strict=True)


def decode_frame(text: str | bytes) -> AnyClientFrame | None:
    """Return the frame, or None for a type that this version does not know.

    Raises :class:`SiteError` (bad_frame); :attr:`BadFrame.re` is its id where it could be read.
    """
    re = ""
    try:
        envelope = _envelope.decode(text)
        re = envelope.id
        if envelope.v != VERSION:
            raise BadFrame(re, f"this hub speaks version {VERSION}")
        return _frame.decode(text) if envelope.t in _KINDS else None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadFrame(re, str(error)) from error


class BadFrame(SiteError):
    def __init__(self, re: str, message: str) -> None:
        super().__init__("bad_frame", message[:300])
        self.re = re


def decode_body(body: bytes, kind: type[Any]) -> Any:
    """Read a JSON body. Raises :class:`SiteError` (bad_frame)."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise SiteError("bad_frame", str(error)[:300]) from error


# --- to the client -------------------------------------------------------------------------------


class Frame(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="t"):
    """Base of what the hub says."""

    v: int = msgspec.field(default_factory=lambda: VERSION)  # a factory is never omitted
    id: str = ""
    re: str = ""
    ts: str = ""


class SenderOut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    kind: str  # visitor, agent, bot, system
    name: str = ""
    avatar: str = ""


class Welcome(Frame, tag="welcome", kw_only=True):
    session_id: str
    cursor: str
    heartbeat_s: float
    limits: dict[str, Any]
    availability: str


class Resumed(Frame, tag="resumed", kw_only=True):
    count: int = msgspec.field(default_factory=int)
    cursor: str


class Reset(Frame, tag="reset", kw_only=True):
    reason: str
    cursor: str


class Ack(Frame, tag="ack", kw_only=True):
    """``server_msg_id`` answers a message; the rest answers auth.identify and auth.logout."""

    server_msg_id: str = ""
    access_token: str = ""
    visitor_id: str = ""
    visitor_token: str = ""
    user: dict[str, Any] | None = None
    conversations: list[dict[str, Any]] | None = None


class Rejected(Frame, tag="msg.rejected", kw_only=True):
    client_msg_id: str
    code: str
    message: str


class MessageFrame(Frame, kw_only=True):
    conversation_id: str
    seq: str
    rev: str
    sender: SenderOut
    parts: list[dict[str, Any]]
    client_msg_id: str = ""
    server_msg_id: str = ""
    reply_to_seq: str = ""
    subject: str = ""
    event: str = ""
    edited: bool = False
    recalled: bool = False
    state: str = ""  # sent, delivered or read by the other side
    cursor: str = ""


class MsgNew(MessageFrame, tag="msg.new", kw_only=True):
    pass


class MsgEdited(MessageFrame, tag="msg.edited", kw_only=True):
    pass


class MsgRecalled(MessageFrame, tag="msg.recalled", kw_only=True):
    pass


class ReceiptOut(Frame, tag="receipt", kw_only=True):
    conversation_id: str
    by: str
    delivered_seq: str = ""
    read_seq: str = ""
    cursor: str = ""


class TypingOut(Frame, tag="typing", kw_only=True):
    conversation_id: str
    by: str
    on: bool
    ttl_ms: int


class ConvState(Frame, tag="conv.state", kw_only=True):
    conversation_id: str
    state: str
    closed: dict[str, str] | None = None
    cursor: str = ""


class AvailabilityOut(Frame, tag="availability", kw_only=True):
    state: str
    next_open: str = ""


class InboxCount(Frame, tag="inbox.count", kw_only=True):
    unread: int = msgspec.field(default_factory=int)
    latest_id: str = ""


class ErrorOut(Frame, tag="error", kw_only=True):
    code: str
    message: str
    retry_after_ms: int | None = None
    fatal: bool = msgspec.field(default_factory=bool)


class GoingAway(Frame, tag="going_away", kw_only=True):
    reconnect_after_ms: int


class Pong(Frame, tag="pong", kw_only=True):
    pass


_encoder = msgspec.json.Encoder()


def rfc3339(moment: datetime) -> str:
    """Return a UTC moment as it stands in frames, in milliseconds."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_frame(frame: Frame) -> str:
    return _encoder.encode(frame).decode()


def error_frame(error: SiteError, re: str = "", *, fatal: bool = False) -> ErrorOut:
    return ErrorOut(
        re=re,
        code=error.code,
        message=error.message,
        retry_after_ms=error.retry_after_ms,
        fatal=fatal,
    )
