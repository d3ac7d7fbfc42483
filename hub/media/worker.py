"""The media job: a file that is still at its vendor, or unchecked, ends stored or with a reason.

    1 fetched, within limits -> 2 sniffed, scanned -> 3 a picture is re-encoded
    -> 4 what is kept is in the blob store -> its outcome goes to the router

Everything may be done twice: a file is only named by an entry once its outcome is routed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import structlog
from msgspec.structs import replace

from hub.config import MediaSettings
from hub.contract import Connector, Fetched
from hub.documents import AddressDoc, Entry, Job
from hub.jobs import Obsolete, Paused, Result, to_result
from hub.media.downloads import Download
from hub.media.keeping import clear_attempts, keep
from hub.media.pictures import Copies, Pictures
from hub.media.scanning import Scanned, Scanners
from hub.media.sniffing import PICTURES, second_format, sniff_file
from hub.planning.media import source_of
from hub.steps import reached
from hub.store.interface import Store, StoreError
from normalizer.media import UNKNOWN_MIME, file_name, mime_type
from normalizer.outcomes import (
    Failure,
    Gone,
    OutcomeUnknown,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
from normalizer.parts import MEDIA_PARTS, Media, MediaState

log = structlog.get_logger(__name__)

Find = Callable[[str, str], Connector[Any] | None]
NOT_HERE_S = 60.0
MOST_IN_DOUBT = 12  # attempts of a file at which processes die or hang


class _NotWanted(Exception):
    """Nobody waits for this file any more."""


class MediaWorker:
    """Runs ``media`` jobs, and ``media_import`` ones, which are those of old messages."""

    def __init__(
        self,
        store: Store,
        connector: Find,
        scanners: Scanners,
        pictures: Pictures,
        settings: MediaSettings,
        folder: Path,
    ) -> None:
        self._store = store
        self._connector = connector
        self._scanners = scanners
        self._pictures = pictures
        self._settings = settings
        self._folder = folder
        self._attempts: set[asyncio.Future[Result]] = set()
        self._stopping = False

    def stop(self) -> None:
        """Break off what is being fetched: another process, or the next start, begins anew."""
        self._stopping = True
        for attempt in self._attempts:
            attempt.cancel()

    # --- what the lanes ask --------------------------------------------------------------------

    async def run(self, job: Job) -> Result | None:
        try:
            await clear_attempts(self._store.blobs, job)
            entry, media = await self._wanted(job)
            try:
                return await self._until_stopped(self._done(job, entry, media))
            except BaseException:
                await clear_attempts(self._store.blobs, job)
                raise
        except Gone as gone:
            return _ended(job, MediaState.LOST, gone.reason)
        except (Rejected, Unsupported, Unreachable) as refused:
            return _ended(job, MediaState.REJECTED, refused.reason)
        except _NotWanted as unwanted:
            result = {"state": "obsolete", "index": job.args["index"], "ref": job.args["ref"]}
            raise Obsolete(str(unwanted), result) from unwanted
        except StoreError as error:
            raise Temporary(str(error)) from error
        except (Failure, Paused):
            raise
        except Exception as error:  # a full disk, a mistake of ours: doing it again does no harm
            log.exception("media_attempt_failed", job=job.id)
            raise Temporary(f"the file was not looked at: {type(error).__name__}") from error

    async def look_up(self, job: Job) -> Result | None:
        """Doing it again is safe, but not for ever: this file may be what kills the process."""
        if job.attempts >= MOST_IN_DOUBT and job.failing_since is None:
            raise Rejected(f"it was tried {job.attempts} times, and no attempt came to an end")
        return None

    def settle_s(self, job: Job) -> float:
        return 0.0

    def failed(self, job: Job, failure: Failure) -> Result | None:
        state = MediaState.REJECTED if isinstance(failure, OutcomeUnknown) else MediaState.LOST
        return {**_ended(job, state, f"given up: {failure.reason}"), "keep_source": True}

    def holds_lane(self, job: Job) -> bool:
        return False

    async def address_of(self, job: Job) -> tuple[str, str]:
        entry = await self._store.table(Entry).get(job.entry)
        return (entry.channel, entry.account) if entry else ("hub", "")

    # --- one attempt ---------------------------------------------------------------------------

    async def _wanted(self, job: Job) -> tuple[Entry, Media]:
        """Return the entry and the medium as they are now: it may have been edited or erased."""
        entry = await self._store.table(Entry).get(job.entry)
        if entry is None or entry.erased:
            raise _NotWanted("the message was erased")
        if entry.recalled:
            raise _NotWanted("the message was recalled")
        for part in entry.parts:
            if isinstance(part, MEDIA_PARTS) and part.media.vendor_ref == job.args["ref"]:
                if part.media.state is MediaState.READY:
                    raise _NotWanted("the file is there already")
                return entry, part.media
        raise _NotWanted("the message was edited, and has no such file any more")

    async def _until_stopped(self, attempt: Coroutine[Any, Any, Result]) -> Result:
        """Run an attempt. Raises Paused when the hub stops: the next one begins at once."""
        task = asyncio.ensure_future(attempt)
        self._attempts.add(task)
        try:
            if self._stopping:
                task.cancel()
            await asyncio.wait({task})
        except BaseException:
            task.cancel()
            await asyncio.wait({task})
            raise
        finally:
            self._attempts.discard(task)
        if task.cancelled():
            raise Paused("the hub is stopping", 0.1)
        return task.result()

    async def _done(self, job: Job, entry: Entry, media: Media) -> Result:
        with Download(self._folder) as download:
            fetched = await self._fetch(entry, media, download)
            reached("media.1")
            claimed = media.mime or fetched.mime
            media = replace(media, name=_name(media, fetched))
            mime = await asyncio.to_thread(sniff_file, download.file, claimed)
            self._refuse_forbidden(mime, media.name)
            scanned = await self._scanners.scan(replace(media, mime=mime), download.file)
            if scanned.state == "infected":
                return _ended(job, MediaState.REJECTED, scanned.reason, scan=scanned.state)
            reached("media.2")
            media = replace(media, declared=_declared(claimed, mime))
            if mime in PICTURES:
                done = await self._picture(job, media, download, mime, scanned)
            else:
                done = await self._file(job, media, download, mime, scanned)
            reached("media.4")
        return {"state": str(done.state), "index": job.args["index"], "media": to_result(done)}

    async def _fetch(self, entry: Entry, media: Media, download: Download) -> Fetched:
        """Read the whole file, from the blob store or from the vendor."""
        blob = source_of(media)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                if blob is not None:
                    fetched = await self._stored(blob)
                else:
                    fetched = await self._from_vendor(entry, media)
                async with aclosing(_closable(fetched.stream)) as stream:
                    await download.read(
                        stream, limit=self._settings.max_bytes, promised=fetched.size
                    )
        except TimeoutError as error:
            waited = f"{self._settings.timeout_s:g} s"
            raise Temporary(f"the file was not there within {waited}") from error
        except (Failure, StoreError, Paused, _NotWanted):
            raise
        except Exception as error:  # whatever a connector raises: fetching again does no harm
            log.exception("media_fetch_failed", entry=entry.id, channel=entry.channel)
            raise Temporary(f"the download failed: {type(error).__name__}") from error
        return fetched

    async def _stored(self, blob: str) -> Fetched:
        if await self._store.blobs.metadata(blob) is None:
            raise Gone("the file is no longer in the store")
        return Fetched(stream=self._store.blobs.stream(blob))

    async def _from_vendor(self, entry: Entry, media: Media) -> Fetched:
        connector = self._connector(entry.channel, entry.account)
        if connector is None:
            account = f"{entry.channel}:{entry.account}"
            raise Paused(f"the account {account} is not configured here", NOT_HERE_S)
        address = await self._store.table(AddressDoc).get(entry.address)
        if address is None or address.erased:
            raise _NotWanted("the sender was erased")
        return await connector.fetch_media(media, address.address)

    def _refuse_forbidden(self, mime: str, name: str) -> None:
        if mime in self._settings.forbidden_types:
            raise Rejected(f"files of the type {mime} are not taken")
        if name.lower().endswith(tuple(self._settings.forbidden_suffixes)):
            raise Rejected(f"files named *.{name.rpartition('.')[2].lower()} are not taken")

    async def _file(
        self, job: Job, media: Media, download: Download, mime: str, scanned: Scanned
    ) -> Media:
        kept = await keep(self._store.blobs, job, "original", download.file, mime, media.name)
        return replace(
            media,
            state=MediaState.READY,
            blob=kept.blob,
            mime=mime,
            size=kept.size,
            sha256=kept.sha256,
            scan=scanned.state,
            reason=scanned.reason,
        )

    async def _picture(
        self, job: Job, media: Media, download: Download, mime: str, scanned: Scanned
    ) -> Media:
        """Keep a copy that is safe to show and a thumbnail; the original where it is harmless."""
        second = await asyncio.to_thread(second_format, download.file)
        copies = await self._pictures.cleaned(download.file)
        try:
            reached("media.3")
            if copies.shape is None:
                if second:
                    raise Rejected(f"the file claims to be a picture, and is {second} as well")
                told = replace(media, declared=mime)  # it is no picture to whoever shows it
                kept = await self._file(job, told, download, UNKNOWN_MIME, scanned)
                why = "; ".join(each for each in (scanned.reason, copies.unreadable) if each)
                return replace(kept, reason=why)
            return await self._copied(job, media, download, mime, scanned, copies, second)
        finally:
            copies.close()

    async def _copied(
        self,
        job: Job,
        media: Media,
        download: Download,
        mime: str,
        scanned: Scanned,
        copies: Copies,
        second: str,
    ) -> Media:
        assert copies.shape is not None
        assert copies.thumb_shape is not None
        blobs, shape, small = self._store.blobs, copies.shape, copies.thumb_shape
        copy = await keep(blobs, job, "copy", copies.copy, shape.mime, media.name)
        thumb = await keep(blobs, job, "thumb", copies.thumb, small.mime, media.name)
        original = None
        if not second:
            original = await keep(blobs, job, "original", download.file, mime, media.name)
        return replace(
            media,
            state=MediaState.READY,
            blob=copy.blob,
            mime=shape.mime,
            size=copy.size,
            sha256=copy.sha256,
            width=shape.width,
            height=shape.height,
            scan=scanned.state,
            reason=scanned.reason,
            thumb=replace(thumb, width=small.width, height=small.height),
            original=original,
        )


def _ended(job: Job, state: MediaState, reason: str, *, scan: str = "") -> Result:
    media = Media(vendor_ref=job.args["ref"], state=state, reason=reason, scan=scan)
    return {"state": str(state), "index": job.args["index"], "media": to_result(media)}


def _name(media: Media, fetched: Fetched) -> str:
    name = media.name or fetched.name
    return file_name(name) if name else ""


def _declared(claimed: str, mime: str) -> str:
    """Return what was claimed where the bytes say otherwise; a claim of nothing is none."""
    declared = mime_type(claimed) if claimed else UNKNOWN_MIME
    same = declared in (mime, UNKNOWN_MIME) or (declared, mime) in _ALIKE
    return "" if same else declared


_ALIKE = {("image/jpg", "image/jpeg"), ("image/pjpeg", "image/jpeg"), ("audio/x-amr", "audio/amr")}


async def _closable(stream: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield what ``stream`` yields, and close it when nobody reads any further."""
    try:
        async for chunk in stream:
            yield chunk
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
