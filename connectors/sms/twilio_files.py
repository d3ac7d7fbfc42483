"""Customers' files at Twilio: fetched from there, and deleted there once the hub has them.

Twilio keeps them until somebody deletes them, so that erasing a customer here would leave their
pictures there. What is fetched is remembered, and looked after with each poll.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import ClassVar
from urllib.parse import urlsplit

from connectors._twilio.rest import TwilioRest
from connectors.sms.settings import TwilioSettings
from hub import ConnectorContext, Doc, Entry, Fetched, Index, StoreError
from normalizer.addresses import parse_address
from normalizer.drafts import Message
from normalizer.outcomes import Failure, Rejected
from normalizer.parts import MEDIA_PARTS, Media, MediaState, Text

MAX_BYTES = 16 * 1024 * 1024
MOST_AT_ONCE = 50
TIDYING_S = 20.0
KEPT = timedelta(days=7)  # what could not be deleted by then is left as it is
_PLACE = re.compile(r"/2010-04-01/Accounts/(AC\w{32})/(Messages/((?:SM|MM)\w+)/Media/(ME\w+))\Z")


class FileDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A file that is still at Twilio, and the entry that it belongs to."""

    collection: ClassVar[str] = "x_sms_files"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("account", 1), ("at", 1))),)

    account: str
    entry: str
    ref: str  # the vendor_ref of its part
    at: datetime


class TwilioFiles:
    """The files of one account."""

    def __init__(
        self,
        settings: TwilioSettings,
        context: ConnectorContext,
        account: str,
        rest: Callable[[], TwilioRest],
    ) -> None:
        self._settings = settings
        self._context = context
        self._account = account
        self._rest = rest
        self._behind: set[str] = set()  # those that could not be dealt with so far

    async def start(self) -> None:
        await self._context.register_documents(FileDoc)

    async def fetch(self, media: Media, address: str) -> Fetched:
        """Fetch from Twilio's hosts only; credentials go to the API's host and no further."""
        url, api = media.vendor_ref or "", urlsplit(self._settings.api_url)
        try:
            place = urlsplit(url)
        except ValueError as error:
            raise Rejected("the file's address is not a URL") from error
        own = (place.scheme, place.netloc.lower()) == (api.scheme, api.netloc.lower())
        fetched = await self._context.fetch(
            url,
            hosts=[api.netloc, *self._settings.media_hosts],
            headers=self._rest().authorization() if own else None,
            max_bytes=MAX_BYTES,
        )
        if own and not self._settings.keep_at_twilio:
            await self._remember(url, place.path, address)
        return fetched

    async def _remember(self, url: str, path: str, address: str) -> None:
        found = _PLACE.match(path)
        if found is None or found[1] != self._settings.account_sid:
            return
        message = Message(
            key=f"twilio:{found[1]}:{found[3]}",
            address=parse_address(address),
            parts=(Text(text=""),),
        )
        doc = FileDoc(
            id=f"{self._account}/{found[4]}",
            account=self._account,
            entry=self._context.entry_id(message),
            ref=url,
            at=self._context.clock.now(),
        )
        try:
            await self._context.documents(FileDoc).insert([doc])
        except StoreError as error:  # it stays at Twilio; the file itself is more important
            self._context.log.warning("sms_file_not_noted", reason=str(error))

    # --- what may go -----------------------------------------------------------------------------

    async def tidy(self) -> None:
        """Delete at Twilio what the hub has stored or erased; what fails waits for another poll."""
        try:
            async with asyncio.timeout(TIDYING_S):
                for doc in await self._due():
                    await self._dealt_with(doc)
        except (Failure, StoreError, TimeoutError) as error:
            self._context.log.warning("sms_files_not_tidied", reason=str(error))

    async def _due(self) -> list[FileDoc]:
        """Return what is to be dealt with: what could not be done stands in no other's way."""
        table, held = self._context.documents(FileDoc), sorted(self._behind)
        mine, oldest = {"account": self._account}, [("at", 1)]
        found = await table.find({**mine, "_id": {"$nin": held}}, sort=oldest, limit=MOST_AT_ONCE)
        if held and len(found) < MOST_AT_ONCE:
            again = {**mine, "_id": {"$in": held}}
            found += await table.find(again, sort=oldest, limit=MOST_AT_ONCE - len(found))
        return found

    async def _dealt_with(self, doc: FileDoc) -> None:
        self._behind.add(doc.id)
        entry = await self._context.entry(doc.entry)
        state = _state(entry, doc.ref) if entry is not None else MediaState.PENDING
        if state in (None, MediaState.READY):  # None: it was erased here
            place = urlsplit(doc.ref).path.partition(f"/Accounts/{self._settings.account_sid}/")[2]
            await self._rest().delete(f"{place}.json")
            self._context.log.info("file_deleted_at_twilio", file=doc.id)
        over = state is not MediaState.PENDING
        if over or self._context.clock.now() - doc.at > KEPT:
            await self._context.documents(FileDoc).delete({"_id": doc.id})
            self._behind.discard(doc.id)


def _state(entry: Entry, ref: str) -> MediaState | None:
    for part in entry.parts:
        if isinstance(part, MEDIA_PARTS) and part.media.vendor_ref == ref:
            return part.media.state
    return None
