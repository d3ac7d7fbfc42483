"""What Twilio's voice webhooks say: a form, read into a typed request.

Names and meanings are from Twilio's pages on TwiML voice requests, as contracts have them.
Fields of queues (QueueResult, QueueTime) are unverified, and only used where they are there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, urlencode

import msgspec

CALL_SID = re.compile(r"CA[0-9a-fA-F]{32}\Z")
RECORDING_SID = re.compile(r"RE[0-9a-fA-F]{32}\Z")
MAX_FIELDS = 500
MAX_SPEECH = 1000
MAX_DIGITS = 64
MASK = "x"
# What a caller types or says; masked in a step that takes payment data.
PRIVATE_FIELDS = frozenset(
    {
        "Digits",
        "FinishedOnKey",
        "SpeechResult",
        "UnstableSpeechResult",
        "StableSpeechResult",
        "TranscriptionText",
    }
)
TERMINAL = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
STATUSES = TERMINAL | {"queued", "initiated", "ringing", "in-progress", "answered"}


class NotACall(ValueError):
    """The form is no voice request; the message says which field is wrong."""


class CallRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One voice request. Durations are seconds; what is not there is empty or None."""

    call: str
    parent: str = ""
    caller: str = ""
    called: str = ""
    status: str = ""
    direction: str = ""
    forwarded_from: str = ""
    caller_name: str = ""
    attestation: str = ""
    digits: str | None = None  # None: no such field; "" came back from an empty answer
    speech: str | None = None
    confidence: float | None = None
    dial_status: str = ""
    dial_call: str = ""
    dial_duration: int | None = None
    dial_bridged: bool | None = None
    recording: str = ""
    recording_status: str = ""
    recording_duration: int | None = None
    recording_source: str = ""
    call_duration: int | None = None
    sequence: int | None = None
    sip_code: int | None = None
    timestamp: datetime | None = None
    queue_result: str = ""
    queue_time: int | None = None

    @property
    def inbound(self) -> bool:
        return self.direction in ("", "inbound")

    @property
    def leg_of(self) -> str:
        """The call that the timeline tells of: of a leg that was dialled, the caller's."""
        return self.parent or self.call

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL


def read_form(payload: bytes) -> dict[str, str]:
    """Return the fields of a form; of a repeated name the first. Raises ``ValueError``."""
    fields: dict[str, str] = {}
    for name, value in parse_qsl(
        payload.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS
    ):
        fields.setdefault(name, value)
    return fields


def read(form: Mapping[str, str]) -> CallRequest:
    """Return the request that a form says. Raises :class:`NotACall`."""
    call, parent = form.get("CallSid", ""), form.get("ParentCallSid", "")
    if not CALL_SID.match(call):
        raise NotACall("CallSid is not the id of a call")
    if parent and not CALL_SID.match(parent):
        raise NotACall("ParentCallSid is not the id of a call")
    recording = form.get("RecordingSid", "")
    if recording and not RECORDING_SID.match(recording):
        raise NotACall("RecordingSid is not the id of a recording")
    dial_call = form.get("DialCallSid", "")
    digits, speech = form.get("Digits"), form.get("SpeechResult")
    return CallRequest(
        call=call,
        parent=parent,
        caller=_text(form, "From") or _text(form, "Caller"),
        called=_text(form, "To") or _text(form, "Called"),
        status=_word(form, "CallStatus"),
        direction=_word(form, "Direction"),
        forwarded_from=_text(form, "ForwardedFrom"),
        caller_name=_text(form, "CallerName"),
        attestation=_word(form, "StirVerstat"),
        digits=None if digits is None else digits[:MAX_DIGITS],
        speech=None if speech is None else speech[:MAX_SPEECH],
        confidence=_confidence(form.get("Confidence", "")),
        dial_status=_word(form, "DialCallStatus"),
        dial_call=dial_call if CALL_SID.match(dial_call) else "",
        dial_duration=_number(form, "DialCallDuration"),
        dial_bridged={"true": True, "false": False}.get(form.get("DialBridged", "").lower()),
        recording=recording,
        recording_status=_word(form, "RecordingStatus"),
        recording_duration=_number(form, "RecordingDuration"),
        recording_source=_word(form, "RecordingSource"),
        call_duration=_number(form, "CallDuration"),
        sequence=_number(form, "SequenceNumber"),
        sip_code=_number(form, "SipResponseCode"),
        timestamp=_time(form.get("Timestamp", "")),
        queue_result=_word(form, "QueueResult"),
        queue_time=_number(form, "QueueTime"),
    )


def masked(payload: bytes) -> bytes:
    """Return a form in which every key that was pressed and word that was said is an x.

    The number of keys stays, because a flow needs to know that something was typed. Raises
    ``ValueError`` for what is no form.
    """
    fields = parse_qsl(payload.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    return urlencode(
        [
            (name, MASK * min(len(value), MAX_DIGITS) if name in PRIVATE_FIELDS else value)
            for name, value in fields
        ]
    ).encode()


def _text(form: Mapping[str, str], name: str) -> str:
    return form.get(name, "").strip()[:256]


_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


def _word(form: Mapping[str, str], name: str) -> str:
    value = form.get(name, "").strip()
    return value if _WORD.match(value) else ""


def _number(form: Mapping[str, str], name: str) -> int | None:
    value = form.get(name, "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _confidence(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


def _time(text: str) -> datetime | None:
    """Return an RFC 2822 time in UTC; None for what is none."""
    try:
        parsed = parsedate_to_datetime(text)
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
