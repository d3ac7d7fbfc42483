"""The connector: which request asks what, who may ask, and what each is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from connectors._twilio.rest import TwilioRest
from connectors._twilio.signature import SigningKeys, unchecked, verified
from connectors.ivr import calls, checking, flow, requests, samples, twiml
from connectors.ivr.callers import CHANNEL
from connectors.ivr.loops import LoopGuard
from connectors.ivr.recordings import Recordings
from connectors.ivr.requests import CallRequest
from connectors.ivr.script import Back, Refuse, Script
from connectors.ivr.settings import IvrSettings
from connectors.ivr.state import PARAMETER, BadState, Sealer
from connectors.ivr.tidying import Tidying
from hub import (
    Account,
    Answer,
    Clock,
    Connector,
    ConnectorContext,
    Fetched,
    Refused,
    Request,
    Sample,
    Verified,
)
from normalizer.capabilities import Capabilities
from normalizer.drafts import AnyDraft
from normalizer.parts import Media

CALL, STATUS = "", "/status"
DIALOGUE = frozenset({flow.NEXT, flow.SCREEN, flow.WAIT})  # somebody waits on the line
NOTICES = frozenset({flow.LEG, flow.RECORDING})  # our own URLs, nobody waits
STATEFUL = DIALOGUE | NOTICES
PATHS = STATEFUL | {CALL, "/", STATUS}


class IvrConnector(Connector[IvrSettings]):
    """One phone account."""

    channel: ClassVar[str] = CHANNEL
    settings: ClassVar[type[msgspec.Struct]] = IvrSettings
    capabilities: ClassVar[Capabilities] = Capabilities(
        # Somebody else's softphone can call a customer, and nothing tells the hub.
        sees_foreign_answers=False,
    )
    max_body_bytes: ClassVar[int] = 64 * 1024

    def __init__(self, account: Account[IvrSettings], context: ConnectorContext) -> None:
        super().__init__(account, context)
        settings = account.settings
        self.menu = settings.load_menu()
        self._keys = SigningKeys(tokens=settings.auth_tokens, shared=settings.signing_keys)
        self._sealer = Sealer(context.secret("call-state"))
        self._loops = LoopGuard(settings.numbers)
        self._recordings = Recordings(account, context, self.rest)
        self._tidying = Tidying(account, context, self.menu, self._recordings, self.rest)
        self._task: asyncio.Task[None] | None = None

    # --- 1: is it Twilio? ------------------------------------------------------------------------

    def verify(self, request: Request) -> Verified:
        if request.method != "POST" or request.path not in PATHS:
            raise Refused("path")
        if not self._keys and self.account.insecure:
            believed = unchecked(request)
        else:
            believed = verified(request, self._keys)
        return self._of_this_call(believed)

    def _of_this_call(self, believed: Verified) -> Verified:
        """Refuse another account's and another call's request; hide what is nobody's business."""
        request = believed.request
        try:
            form = requests.read_form(believed.payload)
        except ValueError as error:
            raise Refused("form") from error
        if form.get("AccountSid", self.account.settings.account_sid) != (
            self.account.settings.account_sid
        ):
            raise Refused("account")
        if request.path not in STATEFUL:
            return believed
        sealed = request.query.get(PARAMETER, "")
        try:
            state = self._sealer.open(
                sealed, form.get("CallSid", ""), form.get("ParentCallSid", "")
            )
        except BadState as error:
            raise Refused("state") from error
        if not state.private:
            return believed
        # Neither the inbox nor a dead letter may ever hold it, so it ends here.
        hidden = requests.masked(believed.payload)
        return replace(believed, request=replace(request, body=hidden), payload=hidden)

    def check_settings(self) -> Sequence[str]:
        if self._keys:
            return ()
        return ("auth_tokens is empty, so anybody could call in your customers' names",)

    # --- 2: what does it say? --------------------------------------------------------------------

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        path, request = verified.request.path, self._read(verified)
        at = verified.request.received_at
        if path == STATUS:
            return self._status(request, at)
        if path in NOTICES:
            return flow.told(self._turn(verified, request))
        if path not in STATEFUL and self._loops.goes_round(request, at):
            return self._refused_loop(request, at)
        return self._dialogue(verified, request).drafts

    def _status(self, request: CallRequest, at: datetime) -> tuple[AnyDraft, ...]:
        """Tell how a call is, in whatever order that comes. A leg of it is not another call."""
        if request.parent or not request.inbound or request.status not in requests.STATUSES:
            return ()
        if request.ended:
            return calls.over(request, self.account.key, at)
        call = calls.ringing(request, self.account.key)
        return (call, calls.progressed(request, at))

    def _refused_loop(self, request: CallRequest, at: datetime) -> tuple[AnyDraft, ...]:
        refused = calls.change(
            request.leg_of,
            f"call:{request.leg_of}:loop",
            "refused",
            at=at,
            event="call.refused",
            text="Refused: this number is forwarded to itself",
            reason="forwarding_loop",
        )
        return (calls.ringing(request, self.account.key), refused)

    def _dialogue(self, verified: Verified, request: CallRequest) -> flow.Turned:
        turn = self._turn(verified, request)
        match verified.request.path:
            case flow.NEXT:
                return flow.go_on(turn)
            case flow.SCREEN:
                return flow.screen(turn)
            case flow.WAIT:
                return flow.wait(turn)
            case _:
                return flow.begin(turn)

    def _turn(self, verified: Verified, request: CallRequest) -> flow.Turn:
        at = verified.request.received_at
        if verified.request.path in STATEFUL:
            sealed = verified.request.query.get(PARAMETER, "")
            state = self._sealer.open(sealed, request.call, request.parent)
        else:
            state = flow.first_state(self.menu, request, at)
        settings = self.account.settings
        return flow.Turn(
            menu=self.menu,
            account=self.account.key,
            request=request,
            state=state,
            at=at,
            region=settings.region,
            caller_id=settings.numbers[0],
            transcript=self._recordings.transcript_words,
        )

    @staticmethod
    def _read(verified: Verified) -> CallRequest:
        return requests.read(requests.read_form(verified.payload))

    # --- 3: what is Twilio told? -----------------------------------------------------------------

    def answer(self, verified: Verified, drafts: Sequence[AnyDraft], clock: Clock) -> Answer:
        """Return the document that goes on with the call; of a notice, that it was taken.

        A caller is waiting, so what cannot be read, or fails, is told to them in words, and never
        by an error: Twilio would say "application error" in English and hang up.
        """
        if verified.request.path in NOTICES or verified.request.path == STATUS:
            return Answer(status=204)
        try:
            request = self._read(verified)
            at = verified.request.received_at
            if verified.request.path not in STATEFUL:
                looping = self._loops.goes_round(request, at)
                self._loops.note(request, at)
                if looping:
                    return self._document((Refuse(),))
            return self._document(self._dialogue(verified, request).script)
        except Exception as error:  # noqa: BLE001 - a person is on the line; parse kept the request
            self.context.log.warning("call_not_answered", reason=type(error).__name__)
            return self._document(flow.goodbye(self.menu, self.menu.languages[0]))

    def _document(self, script: Script) -> Answer:
        body = twiml.render(script, self.menu, self.url)
        return Answer(body=body, content_type=twiml.CONTENT_TYPE)

    def url(self, back: Back) -> str:
        """Return the address that Twilio asks next, absolute: live calls take no other."""
        sealed = self._sealer.seal(back.state)
        return f"{self.context.public_url}{back.path}?{PARAMETER}={sealed}"

    # --- recordings ------------------------------------------------------------------------------

    def rest(self) -> TwilioRest:
        """Twilio's API with this account's credentials. Raises Misconfigured without any."""
        return checking.rest(self.account, self.context)

    async def fetch_media(self, media: Media, address: str) -> Fetched:
        return await self._recordings.fetch(media, address)

    # --- life ------------------------------------------------------------------------------------

    async def check(self) -> Sequence[str]:
        return await checking.problems(self.account, self.context)

    async def start(self) -> None:
        await self._recordings.start()
        if self.account.settings.tidy_every_s:
            await self._tidying.begin()
            self._task = asyncio.create_task(self._tidying.run(), name="ivr-tidying")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def samples(self, clock: Clock) -> Sequence[Sample]:
        return samples.samples(self, self.menu, clock.now())
