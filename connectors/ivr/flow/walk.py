"""A call from its first request to its last: each goes on where the one before left it."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from connectors.ivr import calls
from connectors.ivr.flow.answers import (
    code_typed,
    digits_confirmed,
    digits_typed,
    menu_answered,
    number_confirmed,
    number_typed,
    time_chosen,
)
from connectors.ivr.flow.entering import end_of_call, enter
from connectors.ivr.flow.people import dialled, queued
from connectors.ivr.flow.turn import Turn, Turned
from connectors.ivr.menus import (
    CallbackStep,
    CollectStep,
    Menu,
    MenuStep,
    QueueStep,
    TransferStep,
    VerifyStep,
    VoicemailStep,
)
from connectors.ivr.requests import CallRequest
from connectors.ivr.script import HangUp
from connectors.ivr.state import CallState

MAX_HOPS = 100  # questions of one call; then it ends, whatever the menu says


def first_state(menu: Menu, request: CallRequest, at: datetime) -> CallState:
    """Return where a call is before its first step."""
    return CallState(
        call=request.leg_of,
        began=int(at.timestamp()),
        step=menu.start,
        awaits="menu",
        caller=request.caller,
        called=request.called,
        language=menu.languages[0],
    )


def begin(turn: Turn) -> Turned:
    """Take a new call."""
    told = enter(turn, turn.state, turn.menu.start)
    return Turned(told.script, (calls.ringing(turn.request, turn.account), *told.drafts))


def go_on(turn: Turn) -> Turned:
    """Go on with what Twilio says came of the last thing it was told to do."""
    state = turn.state
    if state.expired(turn.at):
        # Who is still on the line begins anew. More likely it is an old request that was sent
        # again, so the timeline is told nothing.
        again = first_state(turn.menu, turn.request, turn.at)
        return Turned(enter(turn, replace(again, hop=state.hop), turn.menu.start).script)
    if state.hop > MAX_HOPS:
        return end_of_call(turn, state)
    step = turn.menu.step(state.step)
    match state.awaits, step:
        case "menu", MenuStep():
            return menu_answered(turn, state, step)
        case "collect", CollectStep():
            return digits_typed(turn, state, step)
        case "confirm", CollectStep():
            return digits_confirmed(turn, state, step)
        case "code", VerifyStep():
            return code_typed(turn, state, step)
        case "dial", TransferStep():
            return dialled(turn, state, step)
        case "message", VoicemailStep():
            told = calls.visited(state, turn.at, event="", text="Left the voicemail step")
            if turn.request.ended:  # by hanging up: nobody's phone rings for who has gone
                return Turned((HangUp(),), (told,))
            return enter(turn, state, step.next, told=(told,))
        case "queue", QueueStep():
            return queued(turn, state, step)
        case "number", CallbackStep():
            return number_typed(turn, state, step)
        case "number_ok", CallbackStep():
            return number_confirmed(turn, state, step)
        case "when", CallbackStep():
            return time_chosen(turn, state, step)
        case _:  # the menu was changed while the call was on
            return enter(turn, state, turn.menu.start)
