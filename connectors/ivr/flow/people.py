"""Other people in a call: whoever a transfer rings, and whoever takes callers from a queue."""

from __future__ import annotations

from msgspec.structs import replace

from connectors.ivr import calls
from connectors.ivr.flow.asking import spoken
from connectors.ivr.flow.entering import enter, ring
from connectors.ivr.flow.turn import SCREEN, YES, Turn, Turned
from connectors.ivr.menus import Menu, QueueStep, TransferStep
from connectors.ivr.script import Ask, Back, HangUp, Leave, Silence
from connectors.ivr.state import CallState
from normalizer.drafts import AnyDraft

QUEUE_PAUSE_S = 10


def screen(turn: Turn) -> Turned:
    """Ask whoever picked up whether they are a person; let the caller through to them."""
    state, menu = turn.state, turn.menu
    if state.awaits == "screen":
        language = menu.languages[0]
        ask = Ask(
            prompts=spoken(menu.phrases.accept, language),
            back=Back(path=SCREEN, state=replace(state, awaits="accept")),
            language=language,
            wait_s=menu.wait_s,
        )
        return Turned((ask, HangUp()))
    if turn.request.digits != YES:
        return Turned((HangUp(),))
    name, label = target_names(turn, state)
    return Turned((), (calls.answered(state, turn.at, name, label),))


def dialled(turn: Turn, state: CallState, step: TransferStep) -> Turned:
    """Go on after a target was rung: the call is over, or the next one is."""
    request = turn.request
    name, label = target_names(turn, state)
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
        return Turned((HangUp(),), (failed, missed(turn, words)))
    if state.target + 1 < len(step.targets):
        return ring(turn, state, step, state.target + 1, told=(failed,))
    names = ", ".join(label_of(turn.menu, each) for each in step.targets)
    nobody = missed(turn, f"nobody answered ({names})")
    return enter(turn, state, step.failed, told=(failed, nobody))


def queued(turn: Turn, state: CallState, step: QueueStep) -> Turned:
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
        return Turned((HangUp(),), (over, missed(turn, "the caller hung up while waiting")))
    nobody = missed(turn, f"nobody took it from the queue {step.queue}")
    return enter(turn, state, step.failed, told=(over, nobody))


def wait(turn: Turn) -> Turned:
    """Say what is heard in a queue, and leave it after the longest wait."""
    step = turn.menu.step(turn.state.step)
    waited = turn.request.queue_time
    if waited is None:  # where Twilio does not say, the call's whole time: it has to end some day
        waited = int(turn.at.timestamp()) - turn.state.began
    if not isinstance(step, QueueStep) or waited >= step.max_wait_s:
        return Turned((Leave(),))
    said = spoken(step.say, turn.state.language)
    return Turned((*said, Silence(seconds=QUEUE_PAUSE_S)))


def missed(turn: Turn, words: str) -> AnyDraft:
    return calls.missed(turn.state.call, turn.address, words, at=turn.at)


def target_names(turn: Turn, state: CallState) -> tuple[str, str]:
    step = turn.menu.step(state.step)
    if isinstance(step, TransferStep) and state.target < len(step.targets):
        name = step.targets[state.target]
        return name, label_of(turn.menu, name)
    return "", "somebody"


def label_of(menu: Menu, name: str) -> str:
    target = menu.targets.get(name)
    return target.label if target is not None and target.label else name
