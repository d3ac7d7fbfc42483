"""The way of a call through its menu: what was asked and where it is give what happens next.

Pure: (menu, state, request, moment) -> what Twilio is told, and what the timeline is told. The
same request gives the same two, however often it comes. The words for what a state awaits:

==============  =========================================================================
``menu``        a key or a word of a menu
``collect``     digits; ``confirm``: whether those that were read back are right
``code``        a one-time code
``dial``        how ringing a target ended; ``screen`` and ``accept``: whoever picked up
``message``     a recorded message is over
``queue``       waiting is over; ``wait``: what is heard meanwhile
``number``      the number to call back; ``number_ok``: whether it is right; ``when``
``leg``         how a dialled leg does; ``message_file`` and ``call_file``: a recording
==============  =========================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from connectors.ivr import calls, hearing
from connectors.ivr.callers import (
    caller_address,
    can_be_called,
    spaced,
    typed_number,
)
from connectors.ivr.hours import is_open
from connectors.ivr.menus import (
    CallbackStep,
    CollectStep,
    HangUpStep,
    HoursStep,
    Menu,
    MenuStep,
    Prompt,
    QueueStep,
    SayStep,
    Target,
    TransferStep,
    VerifyStep,
    VoicemailStep,
)
from connectors.ivr.proving import may_be_dialled
from connectors.ivr.requests import CallRequest
from connectors.ivr.script import (
    Ask,
    Back,
    GoOn,
    HangUp,
    Leave,
    Ring,
    Script,
    Silence,
    Speak,
    TakeMessage,
    Verb,
    WaitInQueue,
)
from connectors.ivr.state import CallState
from normalizer.addresses import Address
from normalizer.drafts import AnyDraft
from normalizer.parts import Text

NEXT, SCREEN, LEG, RECORDING, WAIT = "/next", "/screen", "/leg", "/recording", "/wait"
MAX_HOPS = 100  # questions of one call; then it ends, whatever the menu says
MAX_CHAIN = 50  # steps without a question in between
YES = "1"
QUEUE_PAUSE_S = 10


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One request, where its call is, and all that decides what happens."""

    menu: Menu
    account: str
    request: CallRequest
    state: CallState
    at: datetime
    region: str = "CN"
    caller_id: str = ""
    transcript: str = calls.NO_TRANSCRIPT

    @property
    def address(self) -> Address:
        return caller_address(self.state.caller, self.state.call, self.account)


class Turned(msgspec.Struct, frozen=True):
    """What Twilio is told, and what the timeline is told."""

    script: Script = ()
    drafts: tuple[AnyDraft, ...] = ()


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
    told = _enter(turn, turn.state, turn.menu.start)
    return Turned(told.script, (calls.ringing(turn.request, turn.account), *told.drafts))


def go_on(turn: Turn) -> Turned:
    """Go on with what Twilio says came of the last thing it was told to do."""
    state = turn.state
    if state.expired(turn.at):
        # Who is still on the line begins anew. More likely it is an old request that was sent
        # again, so the timeline is told nothing.
        again = first_state(turn.menu, turn.request, turn.at)
        return Turned(_enter(turn, replace(again, hop=state.hop), turn.menu.start).script)
    if state.hop > MAX_HOPS:
        return _goodbye(turn, state)
    step = turn.menu.step(state.step)
    match state.awaits, step:
        case "menu", MenuStep():
            return _chosen(turn, state, step)
        case "collect", CollectStep():
            return _collected(turn, state, step)
        case "confirm", CollectStep():
            return _confirmed(turn, state, step)
        case "code", VerifyStep():
            return _code(turn, state, step)
        case "dial", TransferStep():
            return _dialled(turn, state, step)
        case "message", VoicemailStep():
            told = calls.visited(state, turn.at, event="", text="Left the voicemail step")
            if turn.request.ended:  # by hanging up: nobody's phone rings for who has gone
                return Turned((HangUp(),), (told,))
            return _enter(turn, state, step.next, told=(told,))
        case "queue", QueueStep():
            return _queued(turn, state, step)
        case "number", CallbackStep():
            return _number(turn, state, step)
        case "number_ok", CallbackStep():
            return _number_ok(turn, state, step)
        case "when", CallbackStep():
            return _when(turn, state, step)
        case _:  # the menu was changed while the call was on
            return _enter(turn, state, turn.menu.start)


def screen(turn: Turn) -> Turned:
    """Ask whoever picked up whether they are a person; let the caller through to them."""
    state, menu = turn.state, turn.menu
    if state.awaits == "screen":
        language = menu.languages[0]
        ask = Ask(
            prompts=_spoken(menu.phrases.accept, language),
            back=Back(path=SCREEN, state=replace(state, awaits="accept")),
            language=language,
            wait_s=menu.wait_s,
        )
        return Turned((ask, HangUp()))
    if turn.request.digits != YES:
        return Turned((HangUp(),))
    name, label = _target_names(turn, state)
    return Turned((), (calls.answered(state, turn.at, name, label),))


def wait(turn: Turn) -> Turned:
    """Say what is heard in a queue, and leave it after the longest wait."""
    step = turn.menu.step(turn.state.step)
    if not isinstance(step, QueueStep) or (turn.request.queue_time or 0) >= step.max_wait_s:
        return Turned((Leave(),))
    spoken = _spoken(step.say, turn.state.language)
    return Turned((*spoken, Silence(seconds=QUEUE_PAUSE_S)))


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


# --- entering a step -----------------------------------------------------------------------------


def _enter(
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
                verbs += _spoken(step.say, state.language)
                name = step.next
            case HoursStep():
                hours = turn.menu.hours.get(step.hours)
                name = step.open if hours is not None and is_open(hours, turn.at) else step.closed
            case MenuStep():
                return Turned((*verbs, *_ask_menu(turn, state, step)), tuple(told))
            case CollectStep():
                return Turned((*verbs, *_ask_digits(turn, state, step)), tuple(told))
            case VerifyStep():
                return Turned((*verbs, *_ask_code(turn, state, step)), tuple(told))
            case TransferStep():
                verbs += _spoken(step.say, state.language)
                if step.record:
                    verbs += _spoken(turn.menu.phrases.consent, state.language)
                return _ring(turn, state, step, 0, before=tuple(verbs), told=told)
            case QueueStep():
                return _wait_in(turn, state, step, verbs, told)
            case VoicemailStep():
                return _take_message(turn, state, step, verbs, told)
            case CallbackStep():
                if not can_be_called(state.caller):
                    name = step.withheld
                    continue
                return Turned((*verbs, *_ask_number(turn, state, step)), tuple(told))
            case HangUpStep():
                spoken = _spoken(step.say, state.language)
                return Turned((*verbs, *spoken, HangUp()), tuple(told))
            case _:  # a step that went away while the call was on
                break
    return _goodbye(turn, state, told)


def goodbye(menu: Menu, language: str) -> Script:
    """Return the end of a call that cannot go on."""
    return (*_spoken(menu.phrases.goodbye, language), HangUp())


def _goodbye(turn: Turn, state: CallState, told: Sequence[AnyDraft] = ()) -> Turned:
    return Turned(goodbye(turn.menu, state.language), tuple(told))


def _spoken(prompt: Prompt, language: str) -> tuple[Speak, ...]:
    text = prompt.get(language, "")
    return (Speak(text=text, language=language),) if text else ()


def _onward(state: CallState, awaits: str, path: str = NEXT, **changes: object) -> Back:
    """Return the way back into the flow: the same step, one hop on."""
    onward = replace(state, awaits=awaits, hop=state.hop + 1)
    return Back(path=path, state=replace(onward, **changes))


# --- menus ---------------------------------------------------------------------------------------


def _ask_menu(turn: Turn, state: CallState, step: MenuStep) -> Script:
    back = _onward(state, "menu")
    words = hearing.words(step.options, state.language)
    ask = Ask(
        prompts=_spoken(step.say, state.language),
        back=back,
        language=state.language,
        wait_s=turn.menu.wait_s,
        hears=bool(words and turn.menu.voice(state.language).hears),
        hints=words,
    )
    return (ask, GoOn(back=back))


def _chosen(turn: Turn, state: CallState, step: MenuStep) -> Turned:
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
            return _enter(turn, state, option.next, told=(said,))
    conventions = menu.conventions()
    if key == menu.OPERATOR_KEY and key in conventions:
        return _enter(turn, state, menu.operator, told=(said,))
    if key == menu.REPEAT_KEY and key in conventions:
        return Turned(_ask_menu(turn, state, step), (said,))
    if key == menu.LANGUAGE_KEY and key in conventions:
        other = replace(state, language=menu.other_language(state.language))
        return Turned(_ask_menu(turn, other, step), (said,))
    return _not_answered(turn, state, step, silent=False, said=said)


def _not_answered(
    turn: Turn,
    state: CallState,
    step: MenuStep,
    *,
    silent: bool,
    said: AnyDraft | None = None,
) -> Turned:
    """Ask again, so often as the menu says; then go on without an answer."""
    told = said or calls.visited(state, turn.at, text=f"{state.step}: silence", result="silence")
    tries = state.tries + 1
    wrong = () if silent else _spoken(turn.menu.phrases.invalid, state.language)
    if tries > turn.menu.repeats:
        where = (step.silence if silent else step.invalid) or turn.menu.operator
        return _enter(turn, state, where, before=wrong, told=(told,))
    again = _ask_menu(turn, replace(state, tries=tries), step)
    return Turned((*wrong, *again), (told,))


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


def _ask_digits(turn: Turn, state: CallState, step: CollectStep, before: Script = ()) -> Script:
    back = _onward(state, "collect", private=step.payment)
    ask = Ask(
        prompts=_spoken(step.say, state.language),
        back=back,
        language=state.language,
        digits=step.digits,
        wait_s=turn.menu.wait_s,
        finish_on="#",
    )
    return (*before, ask, GoOn(back=back))


def _collected(turn: Turn, state: CallState, step: CollectStep) -> Turned:
    digits = turn.request.digits or ""
    if not digits or (step.digits and len(digits) < step.digits):
        return _again(turn, state, step, silent=not digits)
    if step.payment:
        told = calls.visited(state, turn.at, text=f"{state.step}: payment data, not kept")
        return _enter(turn, state, step.next, told=(told,))
    told = calls.visited(state, turn.at, text=f"{state.step}: typed {digits}", digits=digits)
    if not step.read_back:
        return _enter(turn, state, step.next, told=(told,))
    back = _onward(state, "confirm", typed=digits)
    ask = Ask(
        prompts=_read_out(step.read_back, digits, state.language),
        back=back,
        language=state.language,
        wait_s=turn.menu.wait_s,
    )
    return Turned((ask, GoOn(back=back)), (told,))


def _confirmed(turn: Turn, state: CallState, step: CollectStep) -> Turned:
    right = turn.request.digits == YES
    words = "confirmed" if right else "not confirmed"
    told = calls.visited(state, turn.at, text=f"{state.step}: {words}", confirmed=right)
    if right:
        return _enter(turn, state, step.next, told=(told,))
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
    tries = state.tries + 1
    wrong = () if silent else _spoken(turn.menu.phrases.invalid, state.language)
    if tries > turn.menu.repeats:
        where = step.silence or turn.menu.operator
        return _enter(turn, state, where, before=wrong, told=(told,))
    fresh = replace(state, tries=tries, typed="", private=False)
    return Turned(_ask_digits(turn, fresh, step, before=wrong), (told,))


def _ask_code(turn: Turn, state: CallState, step: VerifyStep, before: Script = ()) -> Script:
    back = _onward(state, "code")
    ask = Ask(
        prompts=_spoken(step.say, state.language),
        back=back,
        language=state.language,
        digits=step.digits,
        wait_s=turn.menu.wait_s,
        finish_on="#",
    )
    return (*before, ask, GoOn(back=back))


def _code(turn: Turn, state: CallState, step: VerifyStep) -> Turned:
    """Hand a code to the hub, and go on whether it is right or not: the caller learns nothing."""
    digits = turn.request.digits or ""
    if len(digits) == step.digits and digits.isdecimal():
        told = calls.visited(state, turn.at, text=f"{state.step}: typed a code")
        entered = calls.code_entered(state, turn.account, turn.address, digits)
        return _enter(turn, state, step.next, told=(told, entered))
    result = "invalid" if digits else "silence"
    told = calls.visited(state, turn.at, text=f"{state.step}: {result}", result=result)
    tries = state.tries + 1
    wrong = _spoken(turn.menu.phrases.invalid, state.language) if digits else ()
    if tries > turn.menu.repeats:
        where = step.silence or turn.menu.operator
        return _enter(turn, state, where, before=wrong, told=(told,))
    return Turned(_ask_code(turn, replace(state, tries=tries), step, before=wrong), (told,))


def _read_out(prompt: Prompt, digits: str, language: str) -> tuple[Speak, ...]:
    return (*_spoken(prompt, language), Speak(text=spaced(digits), language=language))


# --- somebody else's phone -----------------------------------------------------------------------


def _ring(
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
        ring = _ringing(turn, now, step, target)
        rings = calls.transferred(now, turn.at, name, target.label or name)
        return Turned((*before, ring), (*told, rings))
    return _enter(turn, state, step.failed, before=before, told=told)


def _ringing(turn: Turn, state: CallState, step: TransferStep, target: Target) -> Ring:
    # Legs tell of the hop that rang them, so that what they say lands beside it.
    recording = Back(path=RECORDING, state=replace(state, awaits="call_file"))
    return Ring(
        target=target,
        back=_onward(state, "dial"),
        leg=Back(path=LEG, state=replace(state, awaits="leg")),
        screen=Back(path=SCREEN, state=replace(state, awaits="screen")) if target.screen else None,
        recording=recording if step.record and not step.payment else None,
        ring_s=step.ring_s,
        limit_s=turn.menu.max_minutes * 60,
        caller_id=turn.caller_id,
    )


def _dialled(turn: Turn, state: CallState, step: TransferStep) -> Turned:
    """Go on after a target was rung: the call is over, or the next one is."""
    request = turn.request
    name, label = _target_names(turn, state)
    talked = request.dial_status in ("completed", "answered")
    if talked and request.dial_bridged is not False:
        took = f" for {calls.span(request.dial_duration)}" if request.dial_duration else ""
        over = calls.visited(
            state,
            turn.at,
            event="",
            text=f"Talked to {label}{took}",
            target=name,
            duration_s=request.dial_duration,
        )
        return Turned((HangUp(),), (over,))
    reason = calls.REASONS.get(request.dial_status, request.dial_status or "failed")
    failed = calls.visited(
        state,
        turn.at,
        event="call.transfer_failed",
        text=f"{label} did not take the call ({reason})",
        reason=reason,
        agent=label,
        target=name,
    )
    # A caller who has gone ends it too, with whatever word Twilio has for the leg.
    if request.dial_status == "canceled" or request.ended:
        words = "the caller hung up while it rang"
        return Turned((HangUp(),), (failed, _missed(turn, words)))
    if state.target + 1 < len(step.targets):
        return _ring(turn, state, step, state.target + 1, told=(failed,))
    names = ", ".join(_label(turn.menu, each) for each in step.targets)
    nobody = _missed(turn, f"nobody answered ({names})")
    return _enter(turn, state, step.failed, told=(failed, nobody))


def _leg(turn: Turn) -> tuple[AnyDraft, ...]:
    state, request = turn.state, turn.request
    name, label = _target_names(turn, state)
    drafts: list[AnyDraft] = [calls.leg(state, request, turn.at, name, label)]
    if request.status in ("in-progress", "answered") and not _screened(turn, name):
        drafts.append(calls.answered(state, calls.moment(request, turn.at), name, label))
    if request.status == "canceled":
        drafts.append(_missed(turn, "the caller hung up while it rang"))
    return tuple(drafts)


def _screened(turn: Turn, name: str) -> bool:
    target = turn.menu.targets.get(name)
    return target is not None and target.screen


def _missed(turn: Turn, words: str) -> AnyDraft:
    return calls.missed(turn.state.call, turn.address, words, at=turn.at)


def _target_names(turn: Turn, state: CallState) -> tuple[str, str]:
    step = turn.menu.step(state.step)
    if isinstance(step, TransferStep) and state.target < len(step.targets):
        name = step.targets[state.target]
        return name, _label(turn.menu, name)
    return "", "somebody"


def _label(menu: Menu, name: str) -> str:
    target = menu.targets.get(name)
    return target.label if target is not None and target.label else name


# --- waiting -------------------------------------------------------------------------------------


def _wait_in(
    turn: Turn, state: CallState, step: QueueStep, verbs: list[Verb], told: Sequence[AnyDraft]
) -> Turned:
    waits = calls.queued(state, turn.at, step.queue)
    enqueue = WaitInQueue(
        queue=step.queue,
        back=_onward(state, "queue"),
        wait=Back(path=WAIT, state=replace(state, awaits="wait")),
    )
    return Turned((*verbs, enqueue), (*told, waits))


def _queued(turn: Turn, state: CallState, step: QueueStep) -> Turned:
    result = turn.request.queue_result
    waited = turn.request.queue_time
    over = calls.visited(
        state,
        turn.at,
        # Twilio tells "bridged" when the conversation is over: no screen may pop for it now.
        event="" if result == "bridged" else "call.transfer_failed",
        text=f"Left the queue {step.queue}: {result or 'unknown'}",
        reason=result,
        waited_s=waited,
    )
    if result == "bridged":
        return Turned((HangUp(),), (over,))
    if result == "hangup":
        return Turned((HangUp(),), (over, _missed(turn, "the caller hung up while waiting")))
    nobody = _missed(turn, f"nobody took it from the queue {step.queue}")
    return _enter(turn, state, step.failed, told=(over, nobody))


# --- messages and recordings ---------------------------------------------------------------------


def _take_message(
    turn: Turn,
    state: CallState,
    step: VoicemailStep,
    verbs: list[Verb],
    told: Sequence[AnyDraft],
) -> Turned:
    message = TakeMessage(
        back=_onward(state, "message"),
        recording=Back(path=RECORDING, state=replace(state, awaits="message_file")),
        max_s=step.max_s,
    )
    spoken = _spoken(step.say, state.language)
    return Turned((*verbs, *spoken, message), tuple(told))


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
    return (_missed(turn, "no message was left"),)


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


# --- to be called back ---------------------------------------------------------------------------


def _ask_number(turn: Turn, state: CallState, step: CallbackStep, before: Script = ()) -> Script:
    back = _onward(state, "number", typed="")
    ask = Ask(
        prompts=_spoken(step.say, state.language),
        back=back,
        language=state.language,
        digits=0,
        wait_s=turn.menu.wait_s,
        finish_on="#",
    )
    return (*before, ask, GoOn(back=back))


def _number(turn: Turn, state: CallState, step: CallbackStep) -> Turned:
    digits = turn.request.digits or ""
    if digits == YES:
        return _call_back(turn, state, step, can_be_called(state.caller), own=True)
    number = typed_number(digits, turn.region) if digits else ""
    if not number or not may_be_dialled(number, turn.menu.allowed_prefixes):
        return _number_again(turn, state, step, silent=not digits)
    told = calls.visited(state, turn.at, text=f"{state.step}: typed a number")
    back = _onward(state, "number_ok", typed=number)
    ask = Ask(
        prompts=_read_out(step.read_back, number.lstrip("+"), state.language),
        back=back,
        language=state.language,
        wait_s=turn.menu.wait_s,
    )
    return Turned((ask, GoOn(back=back)), (told,))


def _number_ok(turn: Turn, state: CallState, step: CallbackStep) -> Turned:
    if turn.request.digits == YES:
        return _call_back(turn, state, step, state.typed, own=False)
    return _number_again(turn, state, step, silent=not turn.request.digits)


def _number_again(turn: Turn, state: CallState, step: CallbackStep, *, silent: bool) -> Turned:
    result = "silence" if silent else "invalid"
    told = calls.visited(state, turn.at, text=f"{state.step}: {result}", result=result)
    tries = state.tries + 1
    wrong = () if silent else _spoken(turn.menu.phrases.invalid, state.language)
    if tries > turn.menu.repeats:
        where = step.silence or turn.menu.operator
        return _enter(turn, state, where, before=wrong, told=(told,))
    asked = _ask_number(turn, replace(state, tries=tries), step, before=wrong)
    return Turned(asked, (told,))


def _call_back(
    turn: Turn, state: CallState, step: CallbackStep, number: str, *, own: bool
) -> Turned:
    """Note the request at once: who hangs up during the next question is called all the same."""
    told = calls.visited(
        state, turn.at, event="call.callback_requested", text="Asked to be called back"
    )
    request = calls.call_back(state, turn.address, number, own=own)
    if not step.when:
        return _enter(turn, state, step.next, told=(told, request))
    chosen = replace(state, target=state.hop, typed=number, tries=0)
    return Turned(_ask_when(turn, chosen, step), (told, request))


def _ask_when(turn: Turn, state: CallState, step: CallbackStep) -> Script:
    back = _onward(state, "when")
    ask = Ask(
        prompts=_spoken(step.ask_when, state.language),
        back=back,
        language=state.language,
        wait_s=turn.menu.wait_s,
    )
    return (ask, GoOn(back=back))


def _when(turn: Turn, state: CallState, step: CallbackStep) -> Turned:
    for when in step.when:
        if when.key == turn.request.digits:
            told = calls.visited(state, turn.at, text=f"{state.step}: {when.label}")
            chosen = calls.call_back_when(state, state.typed, when.label, turn.at)
            return _enter(turn, state, step.next, told=(told, chosen))
    tries = state.tries + 1
    told = calls.visited(state, turn.at, text=f"{state.step}: no time chosen", result="silence")
    if tries > turn.menu.repeats:
        return _enter(turn, state, step.next, told=(told,))
    return Turned(_ask_when(turn, replace(state, tries=tries), step), (told,))
