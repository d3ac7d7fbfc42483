"""Recordings at Twilio: fetched with credentials, remembered until they may go from there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar
from urllib.parse import urlsplit

from connectors._twilio.rest import VERSION, TwilioRest
from connectors.ivr import calls
from connectors.ivr.requests import CALL_SID, RECORDING_SID
from connectors.ivr.settings import IvrSettings
from hub import Account, ConnectorContext, Doc, Fetched
from normalizer.addresses import parse_address
from normalizer.drafts import Event, Message
from normalizer.outcomes import Gone, Rejected, Temporary
from normalizer.parts import Media, Text

HOSTS = ("*.twilio.com", "*.twiliocdn.com")  # beside the API's own, after a redirect
MAX_BYTES = 256 * 1024 * 1024  # four hours of MP3 in two channels
NOT_YET = 6  # a file that is told as completed may be a 404 for some seconds
MOST_COUNTED = 10_000


class RecordingDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A recording that is still at Twilio, and the entry that it belongs to."""

    collection: ClassVar[str] = "x_ivr_recordings"

    account: str
    entry: str
    ref: str  # the vendor_ref of its part
    call: str = ""  # CallSid, where the entry is the call's own
    at: datetime


class Recordings:
    """Fetches recordings of one account."""

    def __init__(
        self,
        account: Account[IvrSettings],
        context: ConnectorContext,
        rest: Callable[[], TwilioRest],
    ) -> None:
        self._account = account
        self._context = context
        self._rest = rest
        self._not_yet: dict[str, int] = {}

    async def start(self) -> None:
        await self._context.register_documents(RecordingDoc)

    @property
    def transcript_words(self) -> str:
        """What an entry says about its transcript before there is one."""
        provider = self._account.settings.transcriber
        return f"transcript: waits for {provider}" if provider else calls.NO_TRANSCRIPT

    async def fetch(self, media: Media, address: str) -> Fetched:
        """Begin to download a recording. Raises Temporary for a file that is not ready yet."""
        call, _, recording = (media.vendor_ref or "").rpartition("/")
        if not RECORDING_SID.match(recording) or (call and not CALL_SID.match(call)):
            raise Rejected("this is not the id of a recording at Twilio")
        settings = self._account.settings
        url = (
            f"{settings.api_url.rstrip('/')}/{VERSION}/Accounts/{settings.account_sid}"
            f"/Recordings/{recording}.mp3"
        )
        place = urlsplit(settings.api_url)
        try:
            fetched = await self._context.fetch(
                url,
                hosts=[place.netloc, *HOSTS],
                headers=self._rest().authorization(),
                max_bytes=MAX_BYTES,
            )
        except Gone as error:
            if error.code != "404" or self._counted(recording) > NOT_YET:
                raise
            raise Temporary("Twilio does not have the recording ready yet", code="404") from error
        self._not_yet.pop(recording, None)
        await self._remember(recording, call, media.vendor_ref or "", address)
        return fetched

    def _counted(self, recording: str) -> int:
        """Return how often a file was not there; a process that starts anew counts anew."""
        if len(self._not_yet) >= MOST_COUNTED:
            self._not_yet.clear()
        self._not_yet[recording] = self._not_yet.get(recording, 0) + 1
        return self._not_yet[recording]

    async def _remember(self, recording: str, call: str, ref: str, address: str) -> None:
        """Note that it can be deleted at Twilio once the entry has it."""
        where = parse_address(address)
        draft: Message | Event
        if call:
            draft = Event(key=f"call:{call}:ringing", address=where, name="call.ringing")
        else:
            key = f"rec:{recording}:completed"
            draft = Message(key=key, address=where, parts=(Text(text=""),))
        await self._context.documents(RecordingDoc).insert(
            [
                RecordingDoc(
                    id=f"{self._account.key}/{recording}",
                    account=self._account.key,
                    entry=self._context.entry_id(draft),
                    ref=ref,
                    call=call,
                    at=self._context.clock.now(),
                )
            ]
        )
