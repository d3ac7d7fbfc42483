"""From Twilio's fields to drafts, whether they came by webhook or out of a list.

Sources: Twilio's pages on incoming message webhooks and on status callbacks. Fields are added
without notice; what is not known here stays in the raw request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from connectors._twilio.codes import look_up
from connectors.sms import keywords
from connectors.sms.senders import WHATSAPP, sender_address, split_via
from connectors.sms.settings import SmsSettings
from hub import Account
from normalizer.addresses import Address
from normalizer.drafts import (
    AnyDraft,
    DeliveryState,
    Event,
    Message,
    Profile,
    Receipt,
    Target,
)
from normalizer.parts import (
    AnyPart,
    Audio,
    File,
    Image,
    Location,
    Media,
    MediaState,
    Text,
    Unsupported,
    Video,
)

MAX_FIELDS = 1000
MAX_FILES = 20  # Twilio allows ten
OPTED_OUT_CODE = "21610"
INBOUND_STATES = frozenset({"receiving", "received"})

# Twilio's words for what became of a message, ours, and their rank: callbacks come in any order,
# and a state never goes down. "sent" may be the last word of a carrier that gives no receipts.
STATES: Mapping[str, tuple[DeliveryState, int]] = {
    "accepted": (DeliveryState.ACCEPTED, 0),
    "scheduled": (DeliveryState.ACCEPTED, 0),
    "queued": (DeliveryState.ACCEPTED, 1),
    "sending": (DeliveryState.ACCEPTED, 2),
    "sent": (DeliveryState.ACCEPTED, 3),
    "partially_delivered": (DeliveryState.ACCEPTED, 3),
    "delivered": (DeliveryState.DELIVERED, 4),
    "undelivered": (DeliveryState.FAILED, 4),
    "failed": (DeliveryState.FAILED, 4),
    "canceled": (DeliveryState.FAILED, 4),
    "read": (DeliveryState.READ, 5),
}


def fields_of(payload: bytes) -> dict[str, str]:
    """Return the form's fields. Raises ValueError for what is no form."""
    pairs = parse_qsl(payload.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    return dict(pairs)


def is_status(fields: Mapping[str, str]) -> bool:
    """Whether fields tell what became of a message of ours."""
    return "MessageStatus" in fields and fields["MessageStatus"] not in INBOUND_STATES


def inbound(
    account: Account[SmsSettings], fields: Mapping[str, str], *, at: datetime | None = None
) -> Sequence[AnyDraft]:
    """Return a message, or what somebody wants by a single word. Webhooks give no time."""
    sid = message_sid(fields)
    via, sender = split_via(fields.get("From", ""))
    _, ours = split_via(fields.get("To", ""))
    address = sender_address(
        sender, account.key, region=account.settings.region, international=True
    )
    body = fields.get("Body", "")
    key = f"twilio:{fields.get('AccountSid', '')}:{sid}"
    thread = f"{via}:{ours}" if via else ours
    data = {"to": ours, "via": via, "service": fields.get("MessagingServiceSid", "")}
    data = {name: value for name, value in data.items() if value}
    said = _word(account.settings, fields.get("OptOutType", ""), body)
    word = {"scope": ours, "word": body.strip()}
    if said and not keywords.is_yes(body):
        return (
            Event(
                key=key,
                at=at,
                address=address,
                name=said,
                text=body,
                thread=thread,
                data=word,
                vendor_ids=(sid,),
            ),
        )
    message = Message(
        key=key,
        at=at,
        address=address,
        parts=_parts(fields),
        thread=thread,
        vendor_ids=(sid,),
        profile=_profile(fields) if via == WHATSAPP else None,
        data=data,
    )
    if not said:
        return (message,)
    # A "yes" is what people answer to questions, and what lets messages through again.
    event = Event(
        key=f"{key}:opt", at=at, address=address, name=said, text=body, thread=thread, data=word
    )
    return (message, event)


def status(account: str, fields: Mapping[str, str]) -> Sequence[AnyDraft]:
    """Return a receipt. A word that is not known means no more than that Twilio has it."""
    sid, word = message_sid(fields), fields["MessageStatus"]
    state, rank = STATES.get(word, (DeliveryState.ACCEPTED, 0))
    code, reason, permanent = fields.get("ErrorCode", ""), "", False
    if state is DeliveryState.FAILED:
        known = look_up(int(code)) if _is_number(code) else None
        reason = known.sentence if known else f"Twilio says: {word}"
        permanent = known.permanent if known else word == "canceled"
    receipt = Receipt(
        key=f"twilio:{sid}:{word}",
        target=Target(vendor_id=sid),
        state=state,
        code=code,
        reason=reason,
        permanent=permanent,
        seq=rank,
    )
    if code != OPTED_OUT_CODE:
        return (receipt,)
    _, theirs = split_via(fields.get("To", ""))
    _, ours = split_via(fields.get("From", ""))
    address = sender_address(theirs, account, region="CN", international=True)
    return (receipt, opted_out_before(address, ours, f"twilio:{sid}:opt"))


def opted_out_before(address: Address, ours: str, key: str) -> Event:
    """Return what a refused send tells: this person said no, where the hub did not hear it."""
    return Event(
        key=key,
        address=address,
        name=keywords.OPTED_OUT,
        thread=ours,
        data={"scope": ours, "word": ""},
    )


def message_sid(fields: Mapping[str, str]) -> str:
    """Return the message's id; SmsSid and SmsMessageSid are its former names."""
    for name in ("MessageSid", "SmsSid", "SmsMessageSid"):
        if fields.get(name):
            return fields[name]
    raise ValueError("the request names no message: MessageSid is missing")


def from_list(resource: Mapping[str, Any]) -> dict[str, str]:
    """Return the webhook's fields of a message out of Messages.json; its files are a list."""
    names = {
        "sid": "MessageSid",
        "account_sid": "AccountSid",
        "messaging_service_sid": "MessagingServiceSid",
        "from": "From",
        "to": "To",
        "body": "Body",
        "num_media": "NumMedia",
    }
    return {
        ours: str(resource[theirs] or "") for theirs, ours in names.items() if theirs in resource
    }


def _word(settings: SmsSettings, told: str, body: str) -> str:
    """Return the event's name, "" for an ordinary text. What Twilio says itself comes first."""
    if told:
        return {"STOP": keywords.OPTED_OUT, "START": keywords.OPTED_IN}.get(told.upper(), "")
    if keywords.opt_out(body, settings.opt_out_words):
        return keywords.OPTED_OUT
    if keywords.opt_in(body, settings.opt_in_words) or keywords.is_yes(body):
        return keywords.OPTED_IN
    return ""


def _parts(fields: Mapping[str, str]) -> tuple[AnyPart, ...]:
    parts: list[AnyPart] = [Text(text=fields["Body"])] if fields.get("Body", "") else []
    for number in range(min(_count(fields.get("NumMedia", "")), MAX_FILES)):
        if url := fields.get(f"MediaUrl{number}", ""):
            parts.append(_file(url, fields.get(f"MediaContentType{number}", "")))
    if fields.get("Latitude") and fields.get("Longitude"):
        parts.append(_place(fields))
    return tuple(parts) or (Unsupported(what="empty message"),)


def _file(url: str, mime: str) -> AnyPart:
    media = Media(vendor_ref=url, mime=mime.lower(), state=MediaState.PENDING)
    match mime.lower().partition("/")[0]:
        case "image":
            return Image(media=media)
        case "audio":
            return Audio(media=media)
        case "video":
            return Video(media=media)
        case _:
            return File(media=media)


def _place(fields: Mapping[str, str]) -> AnyPart:
    try:
        lat, lon = float(fields["Latitude"]), float(fields["Longitude"])
    except ValueError:
        return Unsupported(what="location")
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        return Unsupported(what="location")
    return Location(lat=lat, lon=lon, label=fields.get("Label", ""))


def _profile(fields: Mapping[str, str]) -> Profile | None:
    name = fields.get("ProfileName", "")
    return Profile(name=name) if name else None


def _count(text: str) -> int:
    return int(text) if _is_number(text) else 0


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 7
