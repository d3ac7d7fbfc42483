"""Phone menus as data: what an operator writes in TOML, and nothing that happens.

A menu is a set of named steps. A call begins at ``start``, and each step says where it goes
on: on a key, on a word, on silence, when nobody answers. :mod:`connectors.ivr.proving` shows
that every way ends; :mod:`connectors.ivr.flow` walks it. docs/channels/ivr.md explains each
kind of step with a full example.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

Language = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}\Z",
        extra={"expects": 'a language tag such as "zh-CN"'},
    ),
]
StepName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z0-9_-]{0,31}\Z",
        extra={"expects": "1 to 32 lower-case letters, digits, _ and -, the first a letter"},
    ),
]
Key = Annotated[str, Meta(pattern=r"^[0-9*#]\Z", extra={"expects": "one key: 0 to 9, * or #"})]
Prompt: TypeAlias = dict[Language, str]
"""What is said, by language. A text that is an https address is a recording, and is played."""

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HANG_UP = "hang_up"  # the name of the step that every menu has


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what stands in a menu: an unknown key is an error, not a surprise on the phone."""


# --- how it sounds, when it is open, whom it calls -----------------------------------------------


class Voice(Model, frozen=True, kw_only=True):
    """How one language is spoken and heard. Names of voices are Twilio's; test them by ear."""

    say: Annotated[str, Meta(description="`language` of <Say>; empty: the language's name.")] = ""
    voice: Annotated[
        str, Meta(description="`voice` of <Say>, such as Polly.Zhiyu; empty: Twilio's default.")
    ] = ""
    hears: Annotated[
        str, Meta(description="`language` of <Gather> for speech; empty: keys only.")
    ] = ""
    speech_model: Annotated[
        str, Meta(description="`speechModel` of <Gather>, where results have to be stable.")
    ] = ""


class Hours(Model, frozen=True, kw_only=True):
    """When somebody is there. Spans are texts such as "09:00-18:00", in ``time_zone``."""

    time_zone: Annotated[
        str, Meta(description="IANA name of the clock on the wall: Asia/Shanghai.")
    ] = "Asia/Shanghai"
    week: Annotated[dict[Weekday, list[str]], Meta(description="Spans by weekday: mon to sun.")]
    closed: Annotated[
        list[str], Meta(description='Days on which nobody is there: "2026-10-01".')
    ] = []
    special: Annotated[
        dict[str, list[str]],
        Meta(description="Days with spans of their own, such as make-up working days."),
    ] = {}


class Target(Model, frozen=True, kw_only=True):
    """Somebody a call can be handed to: a number, a client or a SIP address."""

    label: Annotated[str, Meta(description="How agents read it in the timeline.")] = ""
    number: Annotated[str, Meta(description="A phone number in E.164: +8621...")] = ""
    client: Annotated[str, Meta(description="A Twilio client's identity: agent_12.")] = ""
    sip: Annotated[str, Meta(description="A SIP address: sip:desk@example.com.")] = ""
    screen: Annotated[
        bool,
        Meta(
            description="Whoever picks up has to press 1 before the caller is let through, so"
            " that no mailbox takes the call."
        ),
    ] = True

    @property
    def kinds(self) -> list[str]:
        return [kind for kind in ("number", "client", "sip") if getattr(self, kind)]


# --- the kinds of steps --------------------------------------------------------------------------


class Option(Model, frozen=True, kw_only=True):
    """One choice of a menu: a key, words that mean it, and where it leads."""

    key: Annotated[Key, Meta(description="The key that chooses it.")]
    next: Annotated[str, Meta(description="The step it leads to.")]
    hears: Annotated[
        dict[Language, list[str]], Meta(description="Words that choose it, by language.")
    ] = {}


class MenuStep(Model, frozen=True, kw_only=True, tag_field="kind", tag="menu"):
    """Asks for one key or a few words."""

    say: Annotated[Prompt, Meta(description="The question.")]
    options: Annotated[list[Option], Meta(description="The choices.", min_length=1)]
    silence: Annotated[
        str, Meta(description="Where it goes on when nobody answers; empty: `operator`.")
    ] = ""
    invalid: Annotated[
        str, Meta(description="Where it goes on after only wrong answers; empty: `operator`.")
    ] = ""


class SayStep(Model, frozen=True, kw_only=True, tag_field="kind", tag="say"):
    """Says something and goes on."""

    say: Annotated[Prompt, Meta(description="What is said.")]
    next: Annotated[str, Meta(description="The step behind it.")] = HANG_UP


class HoursStep(Model, frozen=True, kw_only=True, tag_field="kind", tag="hours"):
    """Goes one way while somebody is there and another while nobody is."""

    hours: Annotated[str, Meta(description="Which opening hours.")]
    open: Annotated[str, Meta(description="The step while somebody is there.")]
    closed: Annotated[str, Meta(description="The step while nobody is.")]


class CollectStep(Model, frozen=True, kw_only=True, tag_field="kind", tag="collect"):
    """Takes digits: an order number, a card number."""

    say: Annotated[Prompt, Meta(description="What to type.")]
    digits: Annotated[
        int, Meta(description="How many; 0: any number, ended by #.", ge=0, le=32)
    ] = 0
    read_back: Annotated[
        Prompt,
        Meta(description="Said before the digits are read back; 1 confirms. Empty: not read."),
    ] = {}
    payment: Annotated[
        bool,
        Meta(
            description="Payment data: never recorded, never stored, not even in the raw request."
        ),
    ] = False
    next: Annotated[str, Meta(description="The step behind it.")]
    silence: Annotated[
        str, Meta(description="Where it goes on when nothing is typed; empty: `operator`.")
    ] = ""


class TransferStep(Model, frozen=True, kw_only=True, tag_field="kind", tag="transfer"):
    """Hands the call to somebody: one target after the other."""

    say: Annotated[Prompt, Meta(description="Said before it rings; empty: nothing.")] = {}
    targets: Annotated[list[str], Meta(description="Whom to call, in order.", min_length=1)]
    ring_s: Annotated[
        int, Meta(description="How long each is rung.", ge=5, le=120, extra={"unit": "s"})
    ] = 20
    failed: Annotated[str, Meta(description="The step when nobody answers.")]
    record: Annotated[
        bool, Meta(description="Record the conversation. `consent` is said before it.")
    ] = False
    payment: Annotated[bool, Meta(description="A payment line: `record` is refused here.")] = False


class QueueStep(Model, frozen=True, kw_only=True, tag_field="kind", tag="queue"):
    """Lets the caller wait in a Twilio queue, from which agents' phones take calls."""

    queue: Annotated[str, Meta(description="The queue's name at Twilio.", min_length=1)]
    say: Annotated[Prompt, Meta(description="Said while waiting, again and again.")]
    max_wait_s: Annotated[
        int, Meta(description="Longest wait.", ge=10, le=3600, extra={"unit": "s"})
    ] = 300
    failed: Annotated[str, Meta(description="The step after the longest wait.")]


class VoicemailStep(Model, frozen=True, kw_only=True, tag_field="kind", tag="voicemail"):
    """Records a message. ``say`` has to tell that it is recorded."""

    say: Annotated[Prompt, Meta(description="The notice before the tone: say that it records.")]
    max_s: Annotated[
        int, Meta(description="Longest message.", ge=5, le=600, extra={"unit": "s"})
    ] = 120
    next: Annotated[str, Meta(description="The step after the message.")] = HANG_UP


class When(Model, frozen=True, kw_only=True):
    """A time at which somebody may be called back."""

    key: Annotated[Key, Meta(description="The key that chooses it.")]
    label: Annotated[str, Meta(description="How agents read it: after 18:00.", min_length=1)]


class CallbackStep(Model, frozen=True, kw_only=True, tag_field="kind", tag="callback"):
    """Takes a request to be called back, which agents find as a message to answer."""

    say: Annotated[Prompt, Meta(description="Press 1 for this number, or type another one and #.")]
    read_back: Annotated[Prompt, Meta(description="Said before a typed number; 1 confirms.")]
    ask_when: Annotated[Prompt, Meta(description="Asks for a time; empty: not asked.")] = {}
    when: Annotated[list[When], Meta(description="The times.")] = []
    next: Annotated[str, Meta(description="The step behind it.")] = HANG_UP
    withheld: Annotated[str, Meta(description="The step for callers without a number.")]
    silence: Annotated[
        str, Meta(description="Where it goes on when nobody answers; empty: `operator`.")
    ] = ""


class VerifyStep(Model, frozen=True, kw_only=True, tag_field="kind", tag="verify"):
    """Takes a one-time code that the hub sent to the customer on another channel.

    Whether it was right is told to agents and not to the caller: a menu reveals nothing.
    """

    say: Annotated[Prompt, Meta(description="Asks for the code.")]
    digits: Annotated[int, Meta(description="How many digits it has.", ge=6, le=12)] = 8
    next: Annotated[str, Meta(description="The step behind it.")]
    silence: Annotated[
        str, Meta(description="Where it goes on when nothing is typed; empty: `operator`.")
    ] = ""


class HangUpStep(Model, frozen=True, kw_only=True, tag_field="kind", tag="hangup"):
    """Says goodbye and ends the call."""

    say: Annotated[Prompt, Meta(description="The last words; empty: none.")] = {}


Step: TypeAlias = (
    MenuStep
    | SayStep
    | HoursStep
    | CollectStep
    | TransferStep
    | QueueStep
    | VoicemailStep
    | CallbackStep
    | VerifyStep
    | HangUpStep
)


class Phrases(Model, frozen=True, kw_only=True):
    """What is said in any step. Each needs a text in every language."""

    invalid: Annotated[Prompt, Meta(description="Said after a wrong key, before the repetition.")]
    accept: Annotated[
        Prompt, Meta(description="Said to whoever picks up a screened transfer: press 1.")
    ] = {}
    consent: Annotated[Prompt, Meta(description="Said before a conversation is recorded.")] = {}
    goodbye: Annotated[Prompt, Meta(description="Said when a call cannot go on.")]


class Menu(Model, frozen=True, kw_only=True):
    """A whole phone menu."""

    languages: Annotated[
        list[Language], Meta(description="Those it speaks; the first one answers.", min_length=1)
    ]
    voices: Annotated[
        dict[Language, Voice], Meta(description="How each language is spoken and heard.")
    ] = {}
    start: Annotated[str, Meta(description="The first step.")]
    operator: Annotated[
        str,
        Meta(description="The step behind 0, after too many wrong answers and after silence."),
    ]
    repeats: Annotated[
        int, Meta(description="How often a question is asked again.", ge=0, le=5)
    ] = 2
    wait_s: Annotated[
        int, Meta(description="How long an answer is awaited.", ge=1, le=60, extra={"unit": "s"})
    ] = 5
    max_minutes: Annotated[
        int,
        Meta(
            description="Longest conversation with a target.",
            ge=1,
            le=240,
            extra={"unit": "minutes"},
        ),
    ] = 60
    allowed_prefixes: Annotated[
        list[str],
        Meta(description="Beginnings of numbers that may be dialled: +86. Others are refused."),
    ] = []
    phrases: Annotated[Phrases, Meta(description="What is said in any step.")]
    hours: Annotated[dict[StepName, Hours], Meta(description="Opening hours by name.")] = {}
    targets: Annotated[dict[StepName, Target], Meta(description="Transfer targets by name.")] = {}
    steps: Annotated[
        dict[StepName, Step],
        Meta(
            description="The steps by name. Each has a `kind`: menu, say, hours, collect,"
            " transfer, queue, voicemail, callback, verify, hangup."
        ),
    ]

    # Conventions that hold in every menu step, unless they have nothing to do there.
    OPERATOR_KEY = "0"
    REPEAT_KEY = "*"
    LANGUAGE_KEY = "9"

    def step(self, name: str) -> Step | None:
        """Return a step; the one that hangs up is always there."""
        found = self.steps.get(name)
        return HangUpStep() if found is None and name == HANG_UP else found

    def voice(self, language: str) -> Voice:
        return self.voices.get(language, Voice())

    def other_language(self, language: str) -> str:
        """Return the language that the language key changes to."""
        place = self.languages.index(language) if language in self.languages else 0
        return self.languages[(place + 1) % len(self.languages)]

    def conventions(self) -> Mapping[str, str]:
        """Return what every menu's keys mean that no option names: key to a word for it."""
        kept = {self.OPERATOR_KEY: "the operator", self.REPEAT_KEY: "repeat"}
        if len(self.languages) > 1:
            kept[self.LANGUAGE_KEY] = "the other language"
        return kept


def is_recording(text: str) -> bool:
    """Say whether a prompt is played and not spoken."""
    return text.startswith(("https://", "http://"))


def prompts_of(name: str, step: Step) -> Iterator[tuple[str, Prompt, bool]]:
    """Yield (what it is, the prompt, whether the step needs it) of a step."""
    match step:
        case MenuStep() | SayStep() | QueueStep() | VoicemailStep() | VerifyStep():
            yield "say", step.say, True
        case CollectStep():
            yield "say", step.say, True
            yield "read_back", step.read_back, False
        case CallbackStep():
            yield "say", step.say, True
            yield "read_back", step.read_back, True
            yield "ask_when", step.ask_when, bool(step.when)
        case TransferStep() | HangUpStep():
            yield "say", step.say, False
        case HoursStep():
            return


def ways_of(menu: Menu, step: Step) -> Iterator[tuple[str, str]]:
    """Yield (on what, the next step) for every way out of a step."""
    match step:
        case MenuStep():
            for option in step.options:
                yield f"key {option.key}", option.next
            if menu.OPERATOR_KEY not in {option.key for option in step.options}:
                yield f"key {menu.OPERATOR_KEY}", menu.operator
            yield "silence", step.silence or menu.operator
            yield "invalid", step.invalid or menu.operator
        case SayStep():
            yield "next", step.next
        case HoursStep():
            yield "open", step.open
            yield "closed", step.closed
        case CollectStep() | VerifyStep():
            yield "next", step.next
            yield "silence", step.silence or menu.operator
        case TransferStep() | QueueStep():
            yield "failed", step.failed
        case VoicemailStep():
            yield "next", step.next
        case CallbackStep():
            yield "next", step.next
            yield "withheld", step.withheld
            yield "silence", step.silence or menu.operator
        case HangUpStep():
            return
