"""What a caller hears, and how Twilio is told to wait for what they press or say."""

from __future__ import annotations

from msgspec.structs import replace

from connectors.ivr import hearing
from connectors.ivr.callers import spaced
from connectors.ivr.flow.turn import NEXT, Turn
from connectors.ivr.menus import CallbackStep, CollectStep, Menu, MenuStep, Prompt, VerifyStep
from connectors.ivr.script import Ask, Back, GoOn, HangUp, Script, Speak
from connectors.ivr.state import CallState


def spoken(prompt: Prompt, language: str) -> tuple[Speak, ...]:
    """Return a prompt in the caller's language; nothing when it has no words there."""
    text = prompt.get(language, "")
    return (Speak(text=text, language=language),) if text else ()


def onward(state: CallState, awaits: str, path: str = NEXT, **changes: object) -> Back:
    """Return the way back into the flow: the same step, one hop on."""
    after = replace(state, awaits=awaits, hop=state.hop + 1)
    return Back(path=path, state=replace(after, **changes))


def goodbye(menu: Menu, language: str) -> Script:
    """Return the end of a call that cannot go on."""
    return (*spoken(menu.phrases.goodbye, language), HangUp())


def ask_menu(turn: Turn, state: CallState, step: MenuStep) -> Script:
    back = onward(state, "menu")
    words = hearing.words(step.options, state.language)
    ask = Ask(
        prompts=spoken(step.say, state.language),
        back=back,
        language=state.language,
        wait_s=turn.menu.wait_s,
        hears=bool(words and turn.menu.voice(state.language).hears),
        hints=words,
    )
    return (ask, GoOn(back=back))


def ask_digits(turn: Turn, state: CallState, step: CollectStep) -> Script:
    back = onward(state, "collect", private=step.payment)
    return _typed(turn, step.say, back, step.digits)


def ask_code(turn: Turn, state: CallState, step: VerifyStep) -> Script:
    return _typed(turn, step.say, onward(state, "code"), step.digits)


def ask_number(turn: Turn, state: CallState, step: CallbackStep) -> Script:
    return _typed(turn, step.say, onward(state, "number", typed=""), 0)


def _typed(turn: Turn, prompt: Prompt, back: Back, digits: int) -> Script:
    """Ask for so many digits, 0 for any number of them; the caller may end them with #."""
    ask = Ask(
        prompts=spoken(prompt, back.state.language),
        back=back,
        language=back.state.language,
        digits=digits,
        wait_s=turn.menu.wait_s,
        finish_on="#",
    )
    return (ask, GoOn(back=back))


def read_back(turn: Turn, prompt: Prompt, digits: str, back: Back) -> Script:
    """Read digits out, and ask for one key: whether they are right."""
    language = back.state.language
    prompts = (*spoken(prompt, language), Speak(text=spaced(digits), language=language))
    return _one_key(turn, prompts, back)


def ask_when(turn: Turn, state: CallState, step: CallbackStep) -> Script:
    return _one_key(turn, spoken(step.ask_when, state.language), onward(state, "when"))


def _one_key(turn: Turn, prompts: tuple[Speak, ...], back: Back) -> Script:
    ask = Ask(prompts=prompts, back=back, language=back.state.language, wait_s=turn.menu.wait_s)
    return (ask, GoOn(back=back))
