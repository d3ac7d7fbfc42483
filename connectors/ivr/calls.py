"""What is told of a call: one entry that grows, and messages for what somebody has to answer.

The entry is an event, `call.ringing`, made by the first request. Everything later is an amendment
of the kind `call` with a step of its own, so that nothing overwrites anything, and names the event
that the feed is told at once: `call.transferred` (a phone rings for this caller), `call.answered`
(a person took it), `call.ended`. A missed call, a voicemail and a request to be called back are
messages: they open a conversation, and with it a ticket.

Keys follow contracts: ``call:<CallSid>:<CallStatus>``, ``call:<CallSid>:seq:<n>``,
``call:<CallSid>:step:<step>:<attempt>``, ``rec:<RecordingSid>:<RecordingStatus>``.
No number stands in any ``data``: the address is where it is kept, and where it can be encrypted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from connectors.ivr.callers import CHANNEL, caller_address, can_be_called
from connectors.ivr.requests import CallRequest
from connectors.ivr.state import CallState
from normalizer.addresses import Address, canonical
from normalizer.drafts import (
    Actor,
    Amendment,
    AmendmentKind,
    AnyDraft,
    Command,
    Event,
    Message,
    Profile,
    Target,
)
from normalizer.model import Trust, milliseconds
from normalizer.parts import AnyPart, Audio, Media, MediaState, Text

NO_TRANSCRIPT = "no transcript: no provider configured"
TWILIO_CLOCK = timedelta(seconds=2)
SHORTEST_MESSAGE_S = 2  # a shorter one is somebody who hung up
REASONS = {"no-answer": "no_answer", "completed": "not_accepted", "answered": "not_accepted"}


def span(seconds: int) -> str:
    """Return a duration as people say it: 2 min 6 s."""
    minutes, rest = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    words = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{count} {unit}" for count, unit in words if count) or "0 s"


def moment(request: CallRequest, at: datetime) -> datetime:
    """Return when a callback's thing happened. Twilio's clock has seconds: of what has just come
    our own time tells the order better."""
    told = request.timestamp
    return told if told is not None and abs(at - told) > TWILIO_CLOCK else at


def address_of(request: CallRequest, account: str) -> Address:
    return caller_address(request.caller, request.leg_of, account)


def ringing(request: CallRequest, account: str) -> Event:
    """Return the call's entry. Every request that knows the caller makes the same one."""
    data: dict[str, Any] = {"call_id": request.leg_of, "to": request.called}
    if request.forwarded_from:
        data["forwarded"] = True
    if request.attestation:
        data["attestation"] = request.attestation
    callable_now = can_be_called(request.caller)
    if not callable_now:
        data["can_be_called_back"] = False
    profile = None
    if callable_now:
        profile = Profile(name=request.caller_name, trust=Trust.SEEN)
    at = None
    if request.timestamp is not None and request.call_duration is not None:
        at = milliseconds(request.timestamp - timedelta(seconds=request.call_duration))
    return Event(
        key=f"call:{request.leg_of}:ringing",
        at=at,
        address=address_of(request, account),
        name="call.ringing",
        data=data,
        vendor_ids=(request.leg_of,),
        profile=profile,
    )


def change(
    call: str,
    key: str,
    step: str,
    *,
    at: datetime,
    event: str = "",
    text: str = "",
    seq: int | None = None,
    parts: Sequence[AnyPart] = (),
    **data: Any,
) -> Amendment:
    """Return one more step of a call's story. ``step`` is its place in the entry."""
    told = {name: value for name, value in data.items() if value is not None}
    told["step"] = step
    told["at"] = milliseconds(at).isoformat()
    if event:
        told["event"] = event
    if text:
        told["text"] = text
    if parts:
        told["parts"] = msgspec.to_builtins(list(parts))
    return Amendment(
        key=key,
        at=milliseconds(at),
        target=Target(vendor_id=call),
        kind=AmendmentKind.CALL,
        data=told,
        seq=seq,
    )


# --- the way through the menu --------------------------------------------------------------------


def visited(
    state: CallState,
    at: datetime,
    *,
    text: str,
    event: str = "call.input",
    parts: Sequence[AnyPart] = (),
    **data: Any,
) -> Amendment:
    """Return what the caller did in a step. ``hop`` counts a call's steps, so none is told twice
    and none is taken for another."""
    return change(
        state.call,
        f"call:{state.call}:step:{state.step}:{state.hop}",
        f"path_{state.hop:03d}",
        at=at,
        event=event,
        text=text,
        parts=parts,
        menu=state.step,
        **data,
    )


def transferred(state: CallState, at: datetime, name: str, label: str) -> Amendment:
    """Return that somebody's phone is ringing for this caller."""
    return change(
        state.call,
        f"call:{state.call}:step:{state.step}:{state.hop}:rings:{state.target}",
        f"transfer_{state.hop:03d}",
        at=at,
        event="call.transferred",
        text=f"Transferred to {label}",
        menu=state.step,
        target=name,
    )


def queued(state: CallState, at: datetime, queue: str) -> Amendment:
    """Return that the caller waits until an agent's phone takes the call."""
    return change(
        state.call,
        f"call:{state.call}:step:{state.step}:{state.hop}:waits",
        f"queue_{state.hop:03d}",
        at=at,
        event="call.queued",
        text=f"Waits in the queue {queue}",
        menu=state.step,
        queue=queue,
    )


def answered(state: CallState, at: datetime, name: str, label: str) -> Amendment:
    """Return that a person took the call."""
    return change(
        state.call,
        f"call:{state.call}:step:{state.step}:{state.hop}:answered:{state.target}",
        f"answered_{state.hop:03d}",
        at=at,
        event="call.answered",
        text=f"Answered by {label}",
        menu=state.step,
        target=name,
    )


def leg(state: CallState, request: CallRequest, at: datetime, name: str, label: str) -> Amendment:
    """Return how a leg that was dialled does. Its own counting orders what comes out of order."""
    if request.sequence is not None and not request.ended:
        key = f"call:{request.call}:seq:{request.sequence}"
    else:
        key = f"call:{request.call}:{request.status}"
    return change(
        state.call,
        key,
        f"leg_{state.hop:03d}",
        at=moment(request, at),
        seq=request.sequence,
        final=request.ended or None,
        state=request.status,
        target=name,
        label=label,
        duration_s=request.call_duration,
        sip_code=request.sip_code,
    )


# --- how it ends ---------------------------------------------------------------------------------


def ended(request: CallRequest, at: datetime) -> Amendment:
    took = f" after {span(request.call_duration)}" if request.call_duration else ""
    words = "Ended" if request.status == "completed" else f"Ended: {request.status}"
    return change(
        request.leg_of,
        f"call:{request.leg_of}:{request.status}",
        "ended",
        at=moment(request, at),
        event="call.ended",
        text=f"{words}{took}",
        seq=request.sequence,
        final=True,
        state=request.status,
        duration_s=request.call_duration,
    )


def progressed(request: CallRequest, at: datetime) -> Amendment:
    number = request.sequence
    key = f"seq:{number}" if number is not None else request.status
    return change(
        request.leg_of,
        f"call:{request.leg_of}:{key}",
        "progress",
        at=moment(request, at),
        seq=number,
        state=request.status,
    )


def over(request: CallRequest, account: str, at: datetime) -> tuple[AnyDraft, ...]:
    """Return what the end of an inbound call says; its entry, if nothing was heard before."""
    call = ringing(request, account)
    end = ended(request, at)
    if request.status == "completed":
        return (call, end)
    words = f"it ended before it was taken ({request.status})"
    return (call, end, missed(request.leg_of, call.address, words, at=moment(request, at)))


def missed(call: str, address: Address, words: str, *, at: datetime) -> Message:
    """Return the message about a call that nobody took. There is one for each call at most."""
    return Message(
        key=f"call:{call}:missed",
        at=milliseconds(at),
        address=address,
        parts=(Text(text=f"Missed call: {words}."),),
        event="call.missed",
        data={"call_id": call},
    )


# --- what was said -------------------------------------------------------------------------------


def recorded(recording: str, seconds: int | None, ref: str) -> Audio:
    """Return the sound of a recording that is still at Twilio."""
    return Audio(
        media=Media(
            mime="audio/mpeg",
            name=f"{recording}.mp3",
            vendor_ref=ref,
            duration_s=float(seconds) if seconds is not None else None,
            state=MediaState.PENDING,
        )
    )


def voicemail(state: CallState, request: CallRequest, address: Address, transcript: str) -> Message:
    """Return a message that was left. ``transcript`` says what becomes of its words."""
    return Message(
        key=f"rec:{request.recording}:{request.recording_status}",
        address=address,
        parts=(recorded(request.recording, request.recording_duration, request.recording),),
        vendor_ids=(request.recording,),
        event="voicemail",
        data={"call_id": state.call, "text": transcript},
    )


def call_back(state: CallState, address: Address, number: str, *, own: bool) -> Message:
    """Return a request to be called back: a message, so that somebody has to answer it."""
    which = "the number they called from" if own else "the number they typed"
    return Message(
        key=f"call:{state.call}:callback:{state.hop}",
        address=address,
        parts=(Text(text=f"Please call back {number} ({which})."),),
        vendor_ids=(f"callback:{state.call}:{state.hop}",),
        event="call.callback_requested",
        data={"call_id": state.call},
    )


def code_entered(state: CallState, account: str, address: Address, code: str) -> Command:
    """Return that the caller typed a one-time code: the hub links who it was made for, if right."""
    place = f"{CHANNEL}:{account}"
    return Command(
        key=f"{place}:{state.call}:code:{state.hop}",
        name="identity.code.confirm",
        actor=Actor(kind="connector", id=place),
        args={"code": code, "address": canonical(address)},
    )


def call_back_when(state: CallState, number: str, when: str, at: datetime) -> Amendment:
    """Return the time that was chosen for it. ``state.target`` is the hop of the request."""
    parts = [Text(text=f"Please call back {number}, {when}.")]
    return Amendment(
        key=f"call:{state.call}:callback:{state.target}:when",
        at=milliseconds(at),
        target=Target(vendor_id=f"callback:{state.call}:{state.target}"),
        kind=AmendmentKind.EDIT,
        data={"parts": msgspec.to_builtins(parts)},
    )
