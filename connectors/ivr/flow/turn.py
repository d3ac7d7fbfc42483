"""One request of a call, and what comes of it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from connectors.ivr import calls
from connectors.ivr.callers import caller_address
from connectors.ivr.menus import Menu
from connectors.ivr.requests import CallRequest
from connectors.ivr.script import Script
from connectors.ivr.state import CallState
from normalizer.addresses import Address
from normalizer.drafts import AnyDraft

NEXT, SCREEN, LEG, RECORDING, WAIT = "/next", "/screen", "/leg", "/recording", "/wait"
YES = "1"


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
