"""What happens behind the calls: recordings are written down and deleted, what was lost is found.

A caller who hangs up makes Twilio tell nobody but the number's status callback, a message that was
left is told by its recording's callback only, and nobody knows whether Twilio repeats one that
failed. So calls and recordings of the last hours are listed at Twilio from time to time, and each
end and each recording is taken in like its callback: with the same key, so that it is told once.
What was over before the account came to the hub is somebody else's, and is left alone.
This runs in every process of the hub; all that it does may be done twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from connectors._twilio.rest import TwilioRest
from connectors.ivr import calls, flow, requests, transcripts
from connectors.ivr.menus import Menu
from connectors.ivr.recordings import RecordingDoc, Recordings
from connectors.ivr.settings import IvrSettings
from connectors.ivr.state import CallState
from hub import Account, ConnectorContext, Entry, Overloaded, StoreError
from normalizer.outcomes import Failure
from normalizer.parts import Audio, Media, MediaState

LOOK_BACK = timedelta(hours=5)  # a call lasts four hours at most
ROUNDS_PER_LOOK = 10  # calls are listed on every tenth round
PAGE = 100
MOST_PAGES = 10
MOST_SEEN = 5000
MOST_AT_ONCE = 50
TRANSCRIPT_S = 300.0
KEPT = timedelta(days=7)  # what could not be done by then is left as it is
SINCE = "calls"  # the account's state: from when on calls are the hub's
# What a recording is of, by its source at Twilio, in the words of connectors.ivr.flow.
AWAITS = {"RecordVerb": "message_file", "DialVerb": "call_file"}


class Tidying:
    """Runs until it is cancelled."""

    def __init__(
        self,
        account: Account[IvrSettings],
        context: ConnectorContext,
        menu: Menu,
        recordings: Recordings,
        rest: Callable[[], TwilioRest],
    ) -> None:
        self._account = account
        self._context = context
        self._menu = menu
        self._recordings = recordings
        self._rest = rest
        self._told: OrderedDict[str, None] = OrderedDict()
        self._behind: set[str] = set()  # recordings that could not be dealt with so far

    async def begin(self) -> None:
        """Write down that calls are ours from now on, unless that was written down before."""
        await self._ours_since()

    async def run(self) -> None:
        every_s = self._account.settings.tidy_every_s
        round_number = 0
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.tidy()
                if round_number % ROUNDS_PER_LOOK == 0:
                    await self.look_up_calls()
            except (Failure, StoreError, Overloaded) as error:
                self._context.log.warning("ivr_tidying_failed", reason=str(error))
            except Exception:
                self._context.log.exception("ivr_tidying_broke")
            round_number += 1

    # --- recordings ------------------------------------------------------------------------------

    async def tidy(self) -> None:
        """Write down and delete at Twilio what the hub has stored."""
        table = self._context.documents(RecordingDoc)
        for doc in await self._due():
            try:
                over = await self._dealt_with(doc)
            except Exception as error:  # noqa: BLE001 - a provider's own code; the others go on
                self._context.log.warning(
                    "recording_not_tidied", recording=doc.id, reason=type(error).__name__
                )
                over = False
            if over or self._context.clock.now() - doc.at > KEPT:
                await table.delete({"_id": doc.id})
                self._behind.discard(doc.id)
            elif len(self._behind) < MOST_SEEN:
                self._behind.add(doc.id)

    async def _due(self) -> list[RecordingDoc]:
        """Return what is to be dealt with: what could not be done stands in no other's way."""
        table, held = self._context.documents(RecordingDoc), sorted(self._behind)
        mine, oldest = {"account": self._account.key}, [("at", 1)]
        found = await table.find({**mine, "_id": {"$nin": held}}, sort=oldest, limit=MOST_AT_ONCE)
        if held and len(found) < MOST_AT_ONCE:
            again = {**mine, "_id": {"$in": held}}
            found += await table.find(again, sort=oldest, limit=MOST_AT_ONCE - len(found))
        return found

    async def _dealt_with(self, doc: RecordingDoc) -> bool:
        """Do what is to be done with a recording now; say whether that was all."""
        entry = await self._context.entry(doc.entry)
        if entry is None:
            return False
        media = _media(entry, doc.ref)
        if media is None:  # it was erased
            await self._delete(doc)
            return True
        if media.state is MediaState.READY:
            await self._write_down(doc, media)
            if not self._account.settings.keep_at_twilio:
                await self._delete(doc)
        return media.state is not MediaState.PENDING

    async def _write_down(self, doc: RecordingDoc, media: Media) -> None:
        name = self._account.settings.transcriber
        if not name or media.blob is None:
            return
        audio = await self._context.blobs.read(media.blob)
        async with asyncio.timeout(TRANSCRIPT_S):
            text = await transcripts.load(name)(audio, media.mime, self._menu.languages[0])
        recording = doc.ref.rpartition("/")[2]
        told = calls.change(
            doc.call or recording,
            f"tr:{recording}",
            f"transcript_{recording}",
            at=self._context.clock.now(),
            text=f"Transcript by {name}" if text else f"{name} could make out nothing",
            transcript={"ref": doc.ref, "text": text, "by": name} if text else None,
        )
        await self._context.deliver([told], door="poll")

    async def _delete(self, doc: RecordingDoc) -> None:
        recording = doc.ref.rpartition("/")[2]
        await self._rest().delete(f"Recordings/{recording}.json")
        self._context.log.info("recording_deleted_at_twilio", recording=recording)

    # --- calls -----------------------------------------------------------------------------------

    async def look_up_calls(self) -> None:
        """Take in ends and recordings of the last hours' calls that this process knows none of.

        Twilio's lists are filtered by days in UTC (``StartTime>=YYYY-MM-DD``).
        """
        ours_since = await self._ours_since()
        day = (self._context.clock.now() - LOOK_BACK).date().isoformat()
        rest = self._rest()
        listed: dict[str, requests.CallRequest] = {}
        for number in self._account.settings.numbers:
            query = (("To", number), ("StartTime>", day), ("PageSize", str(PAGE)))
            async for call in _pages(rest, "Calls.json", query, "calls"):
                request = _inbound(call)
                if request is not None:
                    listed[request.call] = request
                    await self._ended(request, ours_since)
        if listed:
            made = (("DateCreated>", day), ("PageSize", str(PAGE)))
            async for recording in _pages(rest, "Recordings.json", made, "recordings"):
                call_request = listed.get(str(recording.get("call_sid", "")))
                if call_request is not None:
                    await self._recorded(recording, call_request, ours_since)

    async def _ended(self, request: requests.CallRequest, ours_since: datetime) -> None:
        if not request.ended or request.call in self._told:
            return
        ended_at = request.timestamp or self._context.clock.now()
        if await self._is_ours(request, ended_at, ours_since):
            drafts = calls.over(request, self._account.key, ended_at)
            await self._context.deliver(drafts, door="poll")
            self._tell(request.call)

    async def _recorded(
        self, recording: Mapping[str, Any], call: requests.CallRequest, ours_since: datetime
    ) -> None:
        """Take in a recording as its callback would have told it."""
        sid, status = str(recording.get("sid", "")), str(recording.get("status", ""))
        awaits = AWAITS.get(str(recording.get("source", "")))
        settled = status in ("completed", "absent") and requests.RECORDING_SID.match(sid)
        if awaits is None or not settled or sid in self._told:
            return
        form = {
            "CallSid": call.call,
            "RecordingSid": sid,
            "RecordingStatus": status,
            "RecordingDuration": str(recording.get("duration") or ""),
            "Timestamp": str(recording.get("date_created") or ""),
        }
        request = requests.read(form)
        made_at = request.timestamp or self._context.clock.now()
        if await self._is_ours(call, made_at, ours_since):
            state = CallState(
                call=call.call,
                began=int(made_at.timestamp()),
                step="",
                awaits=awaits,
                caller=call.caller,
                called=call.called,
            )
            turn = flow.Turn(
                menu=self._menu,
                account=self._account.key,
                request=request,
                state=state,
                at=made_at,
                transcript=self._recordings.transcript_words,
            )
            await self._context.deliver(flow.told(turn), door="poll")
            self._tell(sid)

    def _tell(self, sid: str) -> None:
        self._told[sid] = None
        if len(self._told) > MOST_SEEN:
            self._told.popitem(last=False)

    async def _is_ours(
        self, call: requests.CallRequest, at: datetime, ours_since: datetime
    ) -> bool:
        """Say whether something of the last hours happened here, and not before the hub came."""
        if at < self._context.clock.now() - LOOK_BACK:
            return False
        if at >= ours_since:
            return True
        entry = calls.ringing(call, self._account.key)
        return await self._context.entry(self._context.entry_id(entry)) is not None

    async def _ours_since(self) -> datetime:
        """Return when this account was first looked after here; that is kept for good."""
        held, rev = await self._context.state(SINCE)
        if not held:
            now = self._context.clock.now()
            if await self._context.set_state(SINCE, {"since": now.isoformat()}, rev):
                return now
            held, _ = await self._context.state(SINCE)
        return datetime.fromisoformat(str(held["since"]))


async def _pages(
    rest: TwilioRest, path: str, query: Sequence[tuple[str, str]], name: str
) -> AsyncIterator[Mapping[str, Any]]:
    """Yield what a list of Twilio's holds, newest first, up to a bound."""
    page: dict[str, Any] | None = await rest.get(path, query)
    for _ in range(MOST_PAGES):
        if page is None:
            return
        for each in page.get(name) or ():
            if isinstance(each, dict):
                yield each
        page = await rest.next_page(page)


def _inbound(call: Mapping[str, Any]) -> requests.CallRequest | None:
    """Return a listed call as a request of Twilio's would tell it; None for what is no caller's."""
    sid = str(call.get("sid", ""))
    if call.get("direction") != "inbound" or call.get("parent_call_sid"):
        return None
    if not requests.CALL_SID.match(sid):
        return None
    return requests.read(
        {
            "CallSid": sid,
            "From": str(call.get("from", "")),
            "To": str(call.get("to", "")),
            "CallStatus": str(call.get("status", "")),
            "CallDuration": str(call.get("duration") or ""),
            "Timestamp": str(call.get("end_time") or ""),
        }
    )


def _media(entry: Entry | None, ref: str) -> Media | None:
    for part in entry.parts if entry is not None else ():
        if isinstance(part, Audio) and part.media.vendor_ref == ref:
            return part.media
    return None
