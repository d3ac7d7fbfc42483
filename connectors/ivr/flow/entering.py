"""Into a step, and through those behind it that ask nothing, until somebody has to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from connectors.ivr import calls
from connectors.ivr.callers import can_be_called
from connectors.ivr.flow.asking import (
    ask_code,
    ask_digits,
    ask_menu,
    ask_number,
    goodbye,
    onward,
    spoken,
)
from connectors.ivr.flow.turn import LEG, RECORDING, SCREEN, WAIT, Turn, Turned
from connectors.ivr.hours import is_open
from connectors.ivr.menus import (
    CallbackStep,
    CollectStep,
    HangUpStep,
    HoursStep,
    MenuStep,
    QueueStep,
    SayStep,
    Target,
    TransferStep,
    VerifyStep,
    VoicemailStep,
)
from connectors.ivr.proving import may_be_dialled
from connectors.ivr.script import Back, HangUp, Ring, Script, TakeMessage, Verb, WaitInQueue
from connectors.ivr.state import CallState
from normalizer.drafts import AnyDraft

MAX_CHAIN = 50  # steps without a question in between


def enter(
    turn: Turn,
    state: CallState,
    name: str,
    *,
    before: Script = (),
    told: Sequence[AnyDraft] = (),
) -> Turned:
    """Go into a step, and through those behind it that ask nothing."""
    verbs: list[Verb] = list(before)
    for _ in range(MAX_CHAIN):
        step = turn.menu.step(name)
        state = replace(state, step=name, awaits="", tries=0, typed="", target=0, private=False)
        match step:
            case SayStep():
                verbs += spoken(step.say, state.language)
                name = step.next
            case HoursStep():
                hours = turn.menu.hours.get(step.hours)
                name = step.open if hours is not None and is_open(hours, turn.at) else step.closed
            case MenuStep():
                return Turned((*verbs, *ask_menu(turn, state, step)), tuple(told))
            case CollectStep():
                return Turned((*verbs, *ask_digits(turn, state, step)), tuple(told))
            case VerifyStep():
                return Turned((*verbs, *ask_code(turn, state, step)), tuple(told))
            case TransferStep():
                verbs += spoken(step.say, state.language)
                if step.record:
                    verbs += spoken(turn.menu.phrases.consent, state.language)
                return ring(turn, state, step, 0, before=tuple(verbs), told=told)
            case QueueStep():
                return _wait_in(turn, state, step, verbs, told)
            case VoicemailStep():
                return _take_message(turn, state, step, verbs, told)
            case CallbackStep():
                if not can_be_called(state.caller):
                    name = step.withheld
                    continue
                return Turned((*verbs, *ask_number(turn, state, step)), tuple(told))
            case HangUpStep():
                said = spoken(step.say, state.language)
                return Turned((*verbs, *said, HangUp()), tuple(told))
            case _:  # a step that went away while the call was on
                break
    return end_of_call(turn, state, told)


def ask_again(
    turn: Turn,
    state: CallState,
    ask: Callable[[CallState], Script],
    *,
    silent: bool,
    told: AnyDraft,
    otherwise: str,
) -> Turned:
    """Ask again, so often as the menu says; then go on without an answer.

    ``silent``: the caller gave no answer, and is not told that it was a wrong one. ``otherwise``
    is the step that follows when they were asked often enough.
    """
    tries = state.tries + 1
    wrong = () if silent else spoken(turn.menu.phrases.invalid, state.language)
    if tries > turn.menu.repeats:
        return enter(turn, state, otherwise, before=wrong, told=(told,))
    return Turned((*wrong, *ask(replace(state, tries=tries))), (told,))


def end_of_call(turn: Turn, state: CallState, told: Sequence[AnyDraft] = ()) -> Turned:
    """End a call that cannot go on."""
    return Turned(goodbye(turn.menu, state.language), tuple(told))


def ring(
    turn: Turn,
    state: CallState,
    step: TransferStep,
    number: int,
    *,
    before: Script = (),
    told: Sequence[AnyDraft] = (),
) -> Turned:
    """Ring the first target from ``number`` on that may be rung; without one go on."""
    for place in range(number, len(step.targets)):
        name = step.targets[place]
        target = turn.menu.targets.get(name)
        if target is None:
            continue
        if target.number and not may_be_dialled(target.number, turn.menu.allowed_prefixes):
            continue
        now = replace(state, target=place, typed="")
        verb = _ringing(turn, now, step, target)
        rings = calls.transferred(now, turn.at, name, target.label or name)
        return Turned((*before, verb), (*told, rings))
    return enter(turn, state, step.failed, before=before, told=told)


def _ringing(turn: Turn, state: CallState, step: TransferStep, target: Target) -> Ring:
    # Legs tell of the hop that rang them, so that what they say lands beside it.
    recording = Back(path=RECORDING, state=replace(state, awaits="call_file"))
    return Ring(
        target=target,
        back=onward(state, "dial"),
        leg=Back(path=LEG, state=replace(state, awaits="leg")),
        screen=Back(path=SCREEN, state=replace(state, awaits="screen")) if target.screen else None,
        recording=recording if step.record and not step.payment else None,
        ring_s=step.ring_s,
        limit_s=turn.menu.max_minutes * 60,
        caller_id=turn.caller_id,
    )


def _wait_in(
    turn: Turn, state: CallState, step: QueueStep, verbs: list[Verb], told: Sequence[AnyDraft]
) -> Turned:
    waits = calls.queued(state, turn.at, step.queue)
    enqueue = WaitInQueue(
        queue=step.queue,
        back=onward(state, "queue"),
        wait=Back(path=WAIT, state=replace(state, awaits="wait")),
    )
    return Turned((*verbs, enqueue), (*told, waits))


def _take_message(
    turn: Turn,
    state: CallState,
    step: VoicemailStep,
    verbs: list[Verb],
    told: Sequence[AnyDraft],
) -> Turned:
    message = TakeMessage(
        back=onward(state, "message"),
        recording=Back(path=RECORDING, state=replace(state, awaits="message_file")),
        max_s=step.max_s,
    )
    said = spoken(step.say, state.language)
    return Turned((*verbs, *said, message), tuple(told))
