"""What a call is told to do next, as data: verbs in order. :mod:`twiml` writes them down.

A URL of our own is a path below the account's door with the state that it carries.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from connectors.ivr.menus import Target
from connectors.ivr.state import CallState


class Verb(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that Twilio does."""


class Back(msgspec.Struct, frozen=True, kw_only=True):
    """Where Twilio asks next: a path of ours, and where the call is then."""

    path: str
    state: CallState


class Speak(Verb, frozen=True, kw_only=True):
    """Say a text, or play it where it is a recording."""

    text: str
    language: str


class Silence(Verb, frozen=True, kw_only=True):
    seconds: int


class Ask(Verb, frozen=True, kw_only=True):
    """Speak, and take keys and words. ``digits`` 0: any number, ended by #."""

    prompts: tuple[Speak, ...]
    back: Back
    language: str
    digits: int = 1
    wait_s: int = 5
    hears: bool = False
    hints: tuple[str, ...] = ()
    finish_on: str = ""


class Ring(Verb, frozen=True, kw_only=True):
    """Ring a target and connect it; ``back`` is asked when that is over."""

    target: Target
    back: Back
    leg: Back
    screen: Back | None
    recording: Back | None
    ring_s: int
    limit_s: int
    caller_id: str


class TakeMessage(Verb, frozen=True, kw_only=True):
    """Record what the caller says, after a tone."""

    back: Back
    recording: Back
    max_s: int


class WaitInQueue(Verb, frozen=True, kw_only=True):
    queue: str
    back: Back
    wait: Back


class GoOn(Verb, frozen=True, kw_only=True):
    """Ask for another document at once."""

    back: Back


class Leave(Verb, frozen=True, kw_only=True):
    """Leave the queue."""


class HangUp(Verb, frozen=True, kw_only=True):
    """End the call."""


class Refuse(Verb, frozen=True, kw_only=True):
    """Do not take the call at all; it costs nothing."""

    reason: str = "busy"


Script: TypeAlias = tuple[Verb, ...]
