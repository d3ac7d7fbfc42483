"""What a notification about a leg or a recording says: nobody waits for an answer to it."""

from __future__ import annotations

from connectors.ivr import calls
from connectors.ivr.flow.people import missed, target_names
from connectors.ivr.flow.turn import Turn
from normalizer.drafts import AnyDraft


def told(turn: Turn) -> tuple[AnyDraft, ...]:
    """Return what a notification about a leg or a recording says."""
    match turn.state.awaits:
        case "leg":
            return _leg(turn)
        case "message_file":
            return _message_file(turn)
        case "call_file":
            return _call_file(turn)
        case _:
            return ()


def _leg(turn: Turn) -> tuple[AnyDraft, ...]:
    state, request = turn.state, turn.request
    name, label = target_names(turn, state)
    drafts: list[AnyDraft] = [calls.leg(state, request, turn.at, name, label)]
    if request.status in ("in-progress", "answered") and not _screened(turn, name):
        drafts.append(calls.answered(state, calls.moment(request, turn.at), name, label))
    if request.status == "canceled":
        drafts.append(missed(turn, "the caller hung up while it rang"))
    return tuple(drafts)


def _screened(turn: Turn, name: str) -> bool:
    target = turn.menu.targets.get(name)
    return target is not None and target.screen


def _message_file(turn: Turn) -> tuple[AnyDraft, ...]:
    """A message is one when its file is ready; a moment of silence is a missed call."""
    request, state = turn.request, turn.state
    if request.recording_status == "in-progress":
        return ()
    long_enough = (request.recording_duration or 0) >= calls.SHORTEST_MESSAGE_S
    if request.recording_status == "completed" and request.recording and long_enough:
        told = calls.change(
            state.call,
            f"rec:{request.recording}:{request.recording_status}",
            "voicemail",
            at=turn.at,
            text=f"Left a message of {calls.span(request.recording_duration or 0)}",
            duration_s=request.recording_duration,
        )
        return (calls.voicemail(state, request, turn.address, turn.transcript), told)
    return (missed(turn, "no message was left"),)


def _call_file(turn: Turn) -> tuple[AnyDraft, ...]:
    request, state = turn.request, turn.state
    if request.recording_status != "completed" or not request.recording:
        return ()
    ref = f"{state.call}/{request.recording}"
    seconds = request.recording_duration
    return (
        calls.change(
            state.call,
            f"rec:{request.recording}:{request.recording_status}",
            f"recording_{request.recording}",
            at=turn.at,
            event="call.recorded",
            text=f"Recorded, {calls.span(seconds or 0)}; {turn.transcript}",
            parts=(calls.recorded(request.recording, seconds, ref),),
            duration_s=seconds,
            transcript=turn.transcript,
        ),
    )
