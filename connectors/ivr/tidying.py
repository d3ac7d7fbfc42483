"""What happens behind the calls: recordings are written down and deleted, lost ends found.

A caller who hangs up makes Twilio tell nobody but the number's status callback, and nobody knows
whether Twilio repeats one that failed. So calls of the last hours are listed at Twilio from time
to time, and the end of each is taken in like the callback: with the same key, so that it is told
once. This runs in every process of the hub; all that it does may be done twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from connectors._twilio.rest import TwilioRest
from connectors.ivr import calls, requests, transcripts
from connectors.ivr.menus import Menu
from connectors.ivr.recordings import RecordingDoc, Recordings
from connectors.ivr.settings import IvrSettings
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
        found = await table.find(
            {"account": self._account.key}, sort=[("at", 1)], limit=MOST_AT_ONCE
        )
        for doc in found:
            try:
                over = await self._dealt_with(doc)
            except Exception as error:  # noqa: BLE001 - a provider's own code; the others go on
                self._context.log.warning(
                    "recording_not_tidied", recording=doc.id, reason=type(error).__name__
                )
                over = False
            if over or self._context.clock.now() - doc.at > KEPT:
                await table.delete({"_id": doc.id})

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
        """Take in the end of every inbound call of the last hours that this process knows none of.

        StartTime of Twilio's list is a day in UTC (``StartTime>=YYYY-MM-DD``).
        """
        since = (self._context.clock.now() - LOOK_BACK).date().isoformat()
        rest = self._rest()
        for number in self._account.settings.numbers:
            query = (("To", number), ("StartTime>", since), ("PageSize", str(PAGE)))
            page: dict[str, Any] | None = await rest.get("Calls.json", query)
            for _ in range(MOST_PAGES):
                if page is None:
                    break
                for call in page.get("calls") or ():
                    await self._ended(call)
                page = await rest.next_page(page)

    async def _ended(self, call: Mapping[str, Any]) -> None:
        status, sid = str(call.get("status", "")), str(call.get("sid", ""))
        if status not in requests.TERMINAL or sid in self._told or call.get("parent_call_sid"):
            return
        if call.get("direction") != "inbound" or not requests.CALL_SID.match(sid):
            return
        form = {
            "CallSid": sid,
            "From": str(call.get("from", "")),
            "To": str(call.get("to", "")),
            "CallStatus": status,
            "CallDuration": str(call.get("duration") or ""),
            "Timestamp": str(call.get("end_time") or ""),
        }
        request = requests.read(form)
        ended_at = request.timestamp or self._context.clock.now()
        if ended_at < self._context.clock.now() - LOOK_BACK:
            return
        await self._context.deliver(calls.over(request, self._account.key, ended_at), door="poll")
        self._told[sid] = None
        if len(self._told) > MOST_SEEN:
            self._told.popitem(last=False)


def _media(entry: Entry | None, ref: str) -> Media | None:
    for part in entry.parts if entry is not None else ():
        if isinstance(part, Audio) and part.media.vendor_ref == ref:
            return part.media
    return None
