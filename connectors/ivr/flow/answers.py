"""What a caller pressed or said, and where that leads: menus, digits, codes, calls back."""

from __future__ import annotations

from msgspec.structs import replace

from connectors.ivr import calls, hearing
from connectors.ivr.callers import can_be_called, typed_number
from connectors.ivr.flow.asking import (
    ask_code,
    ask_digits,
    ask_menu,
    ask_number,
    ask_when,
    onward,
    read_back,
)
from connectors.ivr.flow.entering import ask_again, enter
from connectors.ivr.flow.turn import YES, Turn, Turned
from connectors.ivr.menus import CallbackStep, CollectStep, MenuStep, VerifyStep
from connectors.ivr.proving import may_be_dialled
from connectors.ivr.state import CallState
from normalizer.drafts import AnyDraft
from normalizer.parts import Text

# --- menus ---------------------------------------------------------------------------------------


def menu_answered(turn: Turn, state: CallState, step: MenuStep) -> Turned:
    menu, request = turn.menu, turn.request
    key, heard = request.digits or "", request.speech or ""
    if not key and heard:
        option = hearing.meant(step.options, heard, state.language)
        key = option.key if option is not None else hearing.spoken_key(heard)
    if not key and not heard:
        return _not_answered(turn, state, step, silent=True)
    said = _input(turn, state, heard)
    for option in step.options:
        if option.key == key:
            return enter(turn, state, option.next, told=(said,))
    conventions = menu.conventions()
    if key == menu.OPERATOR_KEY and key in conventions:
        return enter(turn, state, menu.operator, told=(said,))
    if key == menu.REPEAT_KEY and key in conventions:
        return Turned(ask_menu(turn, state, step), (said,))
    if key == menu.LANGUAGE_KEY and key in conventions:
        other = replace(state, language=menu.other_language(state.language))
        return Turned(ask_menu(turn, other, step), (said,))
    return _not_answered(turn, state, step, silent=False, said=said)


def _not_answered(
    turn: Turn,
    state: CallState,
    step: MenuStep,
    *,
    silent: bool,
    said: AnyDraft | None = None,
) -> Turned:
    return ask_again(
        turn,
        state,
        lambda again: ask_menu(turn, again, step),
        silent=silent,
        told=said or calls.visited(state, turn.at, text=f"{state.step}: silence", result="silence"),
        otherwise=(step.silence if silent else step.invalid) or turn.menu.operator,
    )


def _input(turn: Turn, state: CallState, heard: str) -> AnyDraft:
    digits = turn.request.digits or ""
    if digits:
        return calls.visited(state, turn.at, text=f"{state.step}: pressed {digits}", digits=digits)
    return calls.visited(
        state,
        turn.at,
        text=f"{state.step}: said “{heard}”",
        speech=heard,
        confidence=turn.request.confidence,
        parts=(Text(text=heard, source="asr"),),
    )


# --- digits --------------------------------------------------------------------------------------


def digits_typed(turn: Turn, state: CallState, step: CollectStep) -> Turned:
    digits = turn.request.digits or ""
    if not digits or (step.digits and len(digits) < step.digits):
        return _again(turn, state, step, silent=not digits)
    if step.payment:
        told = calls.visited(state, turn.at, text=f"{state.step}: payment data, not kept")
        return enter(turn, state, step.next, told=(told,))
    told = calls.visited(state, turn.at, text=f"{state.step}: typed {digits}", digits=digits)
    if not step.read_back:
        return enter(turn, state, step.next, told=(told,))
    back = onward(state, "confirm", typed=digits)
    return Turned(read_back(turn, step.read_back, digits, back), (told,))


def digits_confirmed(turn: Turn, state: CallState, step: CollectStep) -> Turned:
    right = turn.request.digits == YES
    words = "confirmed" if right else "not confirmed"
    told = calls.visited(state, turn.at, text=f"{state.step}: {words}", confirmed=right)
    if right:
        return enter(turn, state, step.next, told=(told,))
    return _again(turn, state, step, silent=not turn.request.digits, told=told)


def _again(
    turn: Turn,
    state: CallState,
    step: CollectStep,
    *,
    silent: bool,
    told: AnyDraft | None = None,
) -> Turned:
    told = told or calls.visited(
        state,
        turn.at,
        text=f"{state.step}: {'silence' if silent else 'too few digits'}",
        result="silence" if silent else "invalid",
    )
    return ask_again(
        turn,
        state,
        lambda again: ask_digits(turn, replace(again, typed="", private=False), step),
        silent=silent,
        told=told,
        otherwise=step.silence or turn.menu.operator,
    )


def code_typed(turn: Turn, state: CallState, step: VerifyStep) -> Turned:
    """Hand a code to the hub, and go on whether it is right or not: the caller learns nothing."""
    digits = turn.request.digits or ""
    if len(digits) == step.digits and digits.isdecimal():
        told = calls.visited(state, turn.at, text=f"{state.step}: typed a code")
        entered = calls.code_entered(state, turn.account, turn.address, digits)
        return enter(turn, state, step.next, told=(told, entered))
    return ask_again(
        turn,
        state,
        lambda again: ask_code(turn, again, step),
        silent=not digits,
        told=_no_answer(turn, state, silent=not digits),
        otherwise=step.silence or turn.menu.operator,
    )


def _no_answer(turn: Turn, state: CallState, *, silent: bool) -> AnyDraft:
    result = "silence" if silent else "invalid"
    return calls.visited(state, turn.at, text=f"{state.step}: {result}", result=result)


# --- to be called back ---------------------------------------------------------------------------


def number_typed(turn: Turn, state: CallState, step: CallbackStep) -> Turned:
    digits = turn.request.digits or ""
    if digits == YES:
        return _call_back(turn, state, step, can_be_called(state.caller), own=True)
    number = typed_number(digits, turn.region) if digits else ""
    if not number or not may_be_dialled(number, turn.menu.allowed_prefixes):
        return _number_again(turn, state, step, silent=not digits)
    told = calls.visited(state, turn.at, text=f"{state.step}: typed a number")
    back = onward(state, "number_ok", typed=number)
    return Turned(read_back(turn, step.read_back, number.lstrip("+"), back), (told,))


def number_confirmed(turn: Turn, state: CallState, step: CallbackStep) -> Turned:
    if turn.request.digits == YES:
        return _call_back(turn, state, step, state.typed, own=False)
    return _number_again(turn, state, step, silent=not turn.request.digits)


def _number_again(turn: Turn, state: CallState, step: CallbackStep, *, silent: bool) -> Turned:
    return ask_again(
        turn,
        state,
        lambda again: ask_number(turn, again, step),
        silent=silent,
        told=_no_answer(turn, state, silent=silent),
        otherwise=step.silence or turn.menu.operator,
    )


def _call_back(
    turn: Turn, state: CallState, step: CallbackStep, number: str, *, own: bool
) -> Turned:
    """Note the request at once: who hangs up during the next question is called all the same."""
    told = calls.visited(
        state, turn.at, event="call.callback_requested", text="Asked to be called back"
    )
    request = calls.call_back(state, turn.address, number, own=own)
    if not step.when:
        return enter(turn, state, step.next, told=(told, request))
    chosen = replace(state, target=state.hop, typed=number, tries=0)
    return Turned(ask_when(turn, chosen, step), (told, request))


def time_chosen(turn: Turn, state: CallState, step: CallbackStep) -> Turned:
    for when in step.when:
        if when.key == turn.request.digits:
            told = calls.visited(state, turn.at, text=f"{state.step}: {when.label}")
            chosen = calls.call_back_when(state, state.typed, when.label, turn.at)
            return enter(turn, state, step.next, told=(told, chosen))
    # Any other key is taken for silence: the request stands already, and the time is a wish.
    return ask_again(
        turn,
        state,
        lambda again: ask_when(turn, again, step),
        silent=True,
        told=calls.visited(state, turn.at, text=f"{state.step}: no time chosen", result="silence"),
        otherwise=step.next,
    )
