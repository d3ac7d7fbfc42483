"""Requests as Twilio would send them now, signed: for the contract suite and `omniline simulate`.

They walk through whatever menu the account has. The ids are of the moment, so that each round of
`simulate` is calls of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from msgspec.structs import replace

from connectors._twilio.signature import FORM, SIGNATURE, signature
from connectors.ivr import flow
from connectors.ivr.menus import CollectStep, Menu, MenuStep, Step, TransferStep, VoicemailStep
from connectors.ivr.script import Back
from connectors.ivr.state import CallState
from hub import Request, Sample

if TYPE_CHECKING:
    from connectors.ivr.connector import IvrConnector

CALLER = "+8613800138000"
WITHHELD = "+86282452253"


def samples(connector: IvrConnector, menu: Menu, now: datetime) -> list[Sample]:
    """Return one request of each kind. They are signed for the account's public URL."""
    made = _Making(connector, menu, now)
    main = made.call(1)
    return [
        made.sample("ringing", "", main, {"CallStatus": "ringing", "CallerCity": ""}),
        made.asked("key", main, MenuStep, "menu", 1, {"Digits": "0"}),
        made.asked(
            "speech", main, MenuStep, "menu", 2, {"SpeechResult": "我要退货", "Confidence": "0.91"}
        ),
        made.asked("silence", main, MenuStep, "menu", 3, {"Digits": ""}),
        made.asked("digits", main, CollectStep, "collect", 4, {"Digits": "00123456"}),
        made.asked(
            "transfer_failed",
            main,
            TransferStep,
            "dial",
            5,
            {
                "DialCallStatus": "no-answer",
                "DialCallSid": made.sid("CA", 2),
                "DialBridged": "false",
            },
        ),
        made.notice(
            "leg",
            flow.LEG,
            TransferStep,
            "leg",
            {
                "CallSid": made.sid("CA", 2),
                "ParentCallSid": main,
                "CallStatus": "in-progress",
                "Direction": "outbound-dial",
                "SequenceNumber": "2",
            },
        ),
        made.notice(
            "voicemail",
            flow.RECORDING,
            VoicemailStep,
            "message_file",
            {
                "CallSid": main,
                "RecordingSid": made.sid("RE", 3),
                "RecordingStatus": "completed",
                "RecordingDuration": "34",
                "RecordingUrl": f"https://api.twilio.com/Recordings/{made.sid('RE', 3)}",
                "RecordingSource": "RecordVerb",
            },
        ),
        made.notice(
            "recording",
            flow.RECORDING,
            TransferStep,
            "call_file",
            {
                "CallSid": main,
                "RecordingSid": made.sid("RE", 4),
                "RecordingStatus": "completed",
                "RecordingDuration": "60",
                "RecordingChannels": "2",
            },
        ),
        made.sample("withheld", "", made.call(5), {"CallStatus": "ringing", "From": WITHHELD}),
        made.sample(
            "ended",
            "/status",
            made.call(6),
            {
                "CallStatus": "completed",
                "CallDuration": "126",
                "SequenceNumber": "3",
                "Timestamp": format_datetime(now),
            },
        ),
        made.sample("missed", "/status", made.call(7), {"CallStatus": "no-answer"}),
    ]


class _Making:
    """Signs for one account at one moment."""

    def __init__(self, connector: IvrConnector, menu: Menu, now: datetime) -> None:
        self._connector = connector
        self._menu = menu
        self._now = now
        self._number = connector.account.settings.numbers[0]

    def sid(self, kind: str, number: int) -> str:
        seed = f"{int(self._now.timestamp())}/{number}".encode()
        return kind + hashlib.sha256(seed).hexdigest()[:32]

    def call(self, number: int) -> str:
        return self.sid("CA", number)

    def asked(
        self,
        name: str,
        call: str,
        kind: type[Step],
        awaits: str,
        hop: int,
        fields: Mapping[str, str],
    ) -> Sample:
        """Return an answer to what a step of this kind asked."""
        state = replace(self._state(kind, awaits), hop=hop)
        return self.sample(
            name, flow.NEXT, call, {"CallStatus": "in-progress", **fields}, state=state
        )

    def notice(
        self, name: str, path: str, kind: type[Step], awaits: str, fields: Mapping[str, str]
    ) -> Sample:
        return self.sample(
            name, path, fields["CallSid"], fields, state=self._state(kind, awaits), bare=True
        )

    def sample(
        self,
        name: str,
        path: str,
        call: str,
        fields: Mapping[str, str],
        *,
        state: CallState | None = None,
        bare: bool = False,
    ) -> Sample:
        form = {
            "AccountSid": self._connector.account.settings.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": call,
        }
        if not bare:
            form |= {"From": CALLER, "To": self._number, "Direction": "inbound"}
        form |= fields
        url = f"{self._connector.context.public_url}{path}"
        if state is not None:
            url = self._connector.url(Back(path=path, state=state))
        headers = {"content-type": FORM}
        for token in self._connector.account.settings.auth_tokens[:1]:
            headers[SIGNATURE] = signature(token.reveal(), url, list(form.items()))
        request = Request(
            method="POST",
            url=url,
            path=path,
            query_string=url.partition("?")[2],
            headers=headers,
            body=urlencode(form).encode(),
            received_at=self._now,
        )
        return Sample(
            name=name,
            request=request,
            drafts=len(self._connector.parse(request.verified())),
            signed_headers=(SIGNATURE,),
            signed_query=("s",) if state is not None else (),
        )

    def _state(self, kind: type[Step], awaits: str) -> CallState:
        """Return a call that is in the menu's first step of a kind, or in its first step."""
        steps = self._menu.steps
        named = [name for name, step in steps.items() if isinstance(step, kind)]
        return CallState(
            call=self.call(1),
            began=int(self._now.timestamp()),
            step=named[0] if named else self._menu.start,
            awaits=awaits,
            caller=CALLER,
            called=self._number,
            language=self._menu.languages[0],
        )
