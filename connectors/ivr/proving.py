"""The proof that a menu works, before anybody calls: run at start and by ``omniline check``.

It shows, for every step and every way out of it (each key, silence, wrong answers, nobody at a
target): the way leads to a step that is there, every step is reached, from everywhere the end can
be reached, nothing goes round without asking, every prompt is there in every language, no key and
no word means two things, and nothing is dialled that is not allowed. What is wrong is a sentence
that names the step and the key.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from urllib.parse import urlsplit

from connectors.ivr import hours
from connectors.ivr.hearing import plain
from connectors.ivr.menus import (
    HANG_UP,
    CallbackStep,
    CollectStep,
    HangUpStep,
    HoursStep,
    Menu,
    MenuStep,
    Prompt,
    Step,
    Target,
    TransferStep,
    is_recording,
    prompts_of,
    ways_of,
)
from normalizer.addresses import phone

MAX_PROMPT = 20_000
_PREFIX = re.compile(r"\+[1-9][0-9]{0,14}\Z")
_CLIENT = re.compile(r"[A-Za-z0-9_.@+-]{1,121}\Z")
_SIP = re.compile(r"sips?:[^\s<>\"]{1,250}\Z")


def problems(menu: Menu) -> list[str]:
    """Return everything that is wrong with a menu; empty: every call finds an end."""
    return [
        *_languages(menu),
        *_phrases(menu),
        *_hours(menu),
        *_targets(menu),
        *(found for name, step in menu.steps.items() for found in _step(menu, name, step)),
        *_ways(menu),
    ]


def may_be_dialled(number: str, prefixes: Collection[str]) -> bool:
    """Say whether a number in E.164 begins like one that may be dialled."""
    return any(number.startswith(prefix) for prefix in prefixes)


# --- what is said --------------------------------------------------------------------------------


def _languages(menu: Menu) -> Iterator[str]:
    for language in sorted({each for each in menu.languages if menu.languages.count(each) > 1}):
        yield f"languages: {language} stands there twice"
    for language in menu.voices:
        if language not in menu.languages:
            yield f"voices.{language}: the menu does not speak it; its languages: {_list(menu)}"


def _phrases(menu: Menu) -> Iterator[str]:
    phrases = menu.phrases
    screened = any(target.screen for target in menu.targets.values())
    recorded = any(isinstance(s, TransferStep) and s.record for s in menu.steps.values())
    for what, prompt, needed in (
        ("invalid", phrases.invalid, True),
        ("goodbye", phrases.goodbye, True),
        ("accept", phrases.accept, screened),
        ("consent", phrases.consent, recorded),
    ):
        yield from _prompt(menu, f"phrases.{what}", prompt, needed=needed)


def _prompt(menu: Menu, where: str, prompt: Prompt, *, needed: bool) -> Iterator[str]:
    if not prompt and not needed:
        return
    for language in menu.languages:
        text = prompt.get(language, "")
        if not text.strip():
            yield f"{where}: there is no text in {language}"
        elif is_recording(text):
            yield from _recording(f"{where}.{language}", text)
        elif len(text) > MAX_PROMPT:
            yield f"{where}.{language}: a text has at most {MAX_PROMPT} characters"
    for language in prompt:
        if language not in menu.languages:
            yield f"{where}: {language} is not among the languages ({_list(menu)})"


def _recording(where: str, url: str) -> Iterator[str]:
    try:
        place = urlsplit(url)
        host = place.hostname
    except ValueError:
        host = None
        place = urlsplit("")
    if not host or any(ord(char) <= 32 for char in url):
        yield f"{where}: this is no address of a recording"
    elif place.scheme != "https":
        yield f"{where}: a recording is fetched by https: Twilio and the way to it are public"


def _hours(menu: Menu) -> Iterator[str]:
    for name, each in menu.hours.items():
        for problem in hours.problems(each):
            yield f"hours.{name}: {problem}"
    used = {step.hours for step in menu.steps.values() if isinstance(step, HoursStep)}
    for name in menu.hours:
        if name not in used:
            yield f"hours.{name}: no step of the kind hours asks for them"


# --- whom it calls -------------------------------------------------------------------------------


def _targets(menu: Menu) -> Iterator[str]:
    for prefix in menu.allowed_prefixes:
        if not _PREFIX.match(prefix):
            yield f"allowed_prefixes: {prefix!r} is no beginning of a number: write +86"
    used = {
        name
        for step in menu.steps.values()
        if isinstance(step, TransferStep)
        for name in step.targets
    }
    for name, target in menu.targets.items():
        yield from (f"targets.{name}: {problem}" for problem in _target(menu, target))
        if name not in used:
            yield f"targets.{name}: no step of the kind transfer rings it"


def _target(menu: Menu, target: Target) -> Iterator[str]:
    kinds = target.kinds
    if len(kinds) != 1:
        yield "name one of number, client and sip" + (
            f"; it has {' and '.join(kinds)}" if kinds else ""
        )
        return
    if target.number:
        number = phone(target.number) if target.number.startswith("+") else None
        if number is None or number.id != target.number:
            yield f"{target.number!r} is no phone number in E.164: write +8621..."
        elif not may_be_dialled(target.number, menu.allowed_prefixes):
            yield (
                f"{target.number} may not be dialled: no entry of allowed_prefixes is its"
                " beginning (calls to numbers cost money, and thieves know it)"
            )
    elif target.client and not _CLIENT.match(target.client):
        yield f"{target.client!r} is no client's identity: letters, digits and _ . @ + -"
    elif target.sip and not _SIP.match(target.sip):
        yield f"{target.sip!r} is no SIP address: write sip:desk@example.com"


# --- the steps, one by one -----------------------------------------------------------------------


def _step(menu: Menu, name: str, step: Step) -> Iterator[str]:
    where = f"steps.{name}"
    if name == HANG_UP and not isinstance(step, HangUpStep):
        yield f"{where}: this name belongs to the step that hangs up"
    for what, prompt, needed in prompts_of(name, step):
        yield from _prompt(menu, f"{where}.{what}", prompt, needed=needed)
    match step:
        case MenuStep():
            yield from _options(menu, where, step)
        case CollectStep():
            if step.payment and step.read_back:
                yield f"{where}: payment data is not read back: take read_back away"
        case TransferStep():
            yield from _transfer(menu, where, step)
        case HoursStep():
            if step.hours not in menu.hours:
                yield f"{where}: there are no hours {step.hours!r}; there are: {_names(menu.hours)}"
        case CallbackStep():
            yield from _callback(where, step)
        case _:
            return


def _options(menu: Menu, where: str, step: MenuStep) -> Iterator[str]:
    seen: set[str] = set()
    kept = menu.conventions()
    for option in step.options:
        if option.key in seen:
            yield f"{where}: key {option.key} is bound twice"
        elif option.key in kept:
            yield f"{where}: key {option.key} is bound twice: everywhere it is {kept[option.key]}"
        seen.add(option.key)
        for language in option.hears:
            if language not in menu.languages:
                yield f"{where}: key {option.key} hears {language}, which is not spoken here"
            elif not menu.voice(language).hears:
                yield (
                    f"{where}: key {option.key} hears words in {language}, and"
                    f" voices.{language}.hears does not say in which of Twilio's languages"
                )
    for language in menu.languages:
        yield from _words(where, step, language)


def _words(where: str, step: MenuStep, language: str) -> Iterator[str]:
    """A word means one thing, and every choice can be said where one can."""
    owners: dict[str, str] = {}
    for option in step.options:
        for word in option.hears.get(language, ()):
            bare = plain(word)
            if not bare:
                yield f"{where}: key {option.key} hears {word!r}, in which nothing can be heard"
            elif owners.setdefault(bare, option.key) != option.key:
                yield (
                    f"{where}: {word!r} ({language}) is bound twice, to the keys"
                    f" {owners[bare]} and {option.key}"
                )
    if owners:
        for option in step.options:
            if not option.hears.get(language):
                yield f"{where}: key {option.key} hears nothing in {language}, and others do"


def _transfer(menu: Menu, where: str, step: TransferStep) -> Iterator[str]:
    for name in step.targets:
        if name not in menu.targets:
            yield f"{where}: there is no target {name!r}; there are: {_names(menu.targets)}"
    if len(set(step.targets)) < len(step.targets):
        yield f"{where}: a target stands there twice"
    if step.payment and step.record:
        yield f"{where}: a payment line is not recorded: take record away"


def _callback(where: str, step: CallbackStep) -> Iterator[str]:
    keys = [when.key for when in step.when]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"{where}.when: key {key} is bound twice"
    if step.ask_when and not step.when:
        yield f"{where}: ask_when asks for times, and `when` has none"


# --- the ways ----------------------------------------------------------------------------------


def _ways(menu: Menu) -> Iterator[str]:
    names = {*menu.steps, HANG_UP}
    broken = False
    for what, name in (("start", menu.start), ("operator", menu.operator)):
        if name not in names:
            broken = True
            yield f"{what}: there is no step {name!r}; there are: {_names(names)}"
    ways = {name: list(ways_of(menu, step)) for name, step in menu.steps.items()}
    ways.setdefault(HANG_UP, [])
    for name, found in ways.items():
        for on, where in found:
            if where not in names and not (where == menu.operator and broken):
                yield f"steps.{name}: {on} leads to {where!r}, and there is no such step"
                broken = True
    if broken:
        return
    yield from _reached(menu, ways)
    yield from _ends(ways)
    yield from _rounds(menu, ways)


def _reached(menu: Menu, ways: dict[str, list[tuple[str, str]]]) -> Iterator[str]:
    found, ahead = {menu.start}, [menu.start]
    while ahead:
        for _, name in ways[ahead.pop()]:
            if name not in found:
                found.add(name)
                ahead.append(name)
    for name in menu.steps:
        if name not in found:
            yield f"steps.{name}: no way leads there from {menu.start}"


def _ends(ways: dict[str, list[tuple[str, str]]]) -> Iterator[str]:
    """From every step, and by every way out of it, the end can be reached."""
    ending = {name for name, found in ways.items() if not found}
    grew = True
    while grew:
        more = {
            name
            for name, found in ways.items()
            if name not in ending and any(where in ending for _, where in found)
        }
        ending |= more
        grew = bool(more)
    for name, found in ways.items():
        for on, where in found:
            if where not in ending:
                yield f"steps.{name}: {on} leads to {where}, from where no way ends the call"


_BY_ITSELF = {
    # What a call does when the caller does nothing, or can do nothing about it.
    "say": {"next"},
    "hours": {"open", "closed"},
    "menu": {"silence", "invalid"},
    "collect": {"silence"},
    "callback": {"silence", "withheld"},
    "verify": {"silence"},
    "transfer": {"failed"},
    "queue": {"failed"},
    "voicemail": {"next"},
    "hangup": set[str](),
}


def _rounds(menu: Menu, ways: dict[str, list[tuple[str, str]]]) -> Iterator[str]:
    """A caller who says nothing, and whom nobody takes, comes to an end and does not go round."""
    alone = {
        name: [where for on, where in found if on in _BY_ITSELF[_kind(menu, name)]]
        for name, found in ways.items()
    }
    state: dict[str, int] = {}  # 1 under way, 2 done
    told: set[frozenset[str]] = set()
    for start in alone:
        path: list[str] = []
        stack = [(start, iter(alone[start]))] if start not in state else []
        if stack:
            state[start] = 1
            path.append(start)
        while stack:
            name, rest = stack[-1]
            where = next(rest, None)
            if where is None:
                state[name] = 2
                stack.pop()
                path.pop()
            elif state.get(where) == 1:
                ring = path[path.index(where) :]
                if frozenset(ring) not in told:
                    told.add(frozenset(ring))
                    yield _round(ring)
            elif where not in state:
                state[where] = 1
                path.append(where)
                stack.append((where, iter(alone[where])))


def _round(ring: Sequence[str]) -> str:
    return (
        f"steps.{ring[0]}: a caller who does nothing goes round for ever:"
        f" {' -> '.join([*ring, ring[0]])}"
    )


def _kind(menu: Menu, name: str) -> str:
    step = menu.step(name)
    return str(type(step).__struct_config__.tag) if step is not None else "hangup"


def _list(menu: Menu) -> str:
    return ", ".join(menu.languages)


def _names(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
