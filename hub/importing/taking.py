"""Taking history in: 1 read a page 2 drop what is known 3 into the inbox 4 store the cursor.

It runs in a process of its own, beside hubs or without one. It puts items into the inbox and
keeps its own record; everything else is the router's. Live messages wait behind at most a page
or two of it: while the router has more than that to do, the import waits.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from hub.clock import Clock
from hub.documents import (
    Entry,
    ImportCounts,
    ImportFailure,
    ImportRollback,
    ImportRun,
)
from hub.ids import SpaceKey
from hub.importing.accounts import MarkedBlobs
from hub.importing.found import Found, ImportProblem, Page, Source
from hub.inbox_writer import InboxWriter, Overloaded
from hub.intake import Intake
from hub.media.sniffing import sniff
from hub.metrics import Metrics
from hub.planning.media import blobs_in
from hub.steps import reached
from hub.store.interface import LaneLease, NotStorable, Store, StoreError
from hub.strays import Strays, delete_blobs
from normalizer.drafts import AnyDraft, Event, Message
from normalizer.keys import dedupe_key
from normalizer.media import file_name
from normalizer.parts import Audio, File, Image, Media, Video
from normalizer.pipeline import StepContext, normalize
from normalizer.text import clean_line

log = structlog.get_logger(__name__)

LEASE_S = 10.0
COMMIT_S = 30.0
WAIT_S = 0.2
BACKLOG = 150  # items that wait for a router that runs; more, and the import waits
BACKLOG_ALONE = 10_000  # ... and while none runs, so that a hub that starts is not kept busy
FAILURES_KEPT = 20
REASON_CHARS = 300

Progress = Callable[[ImportCounts, Page], None]


class RouterNeeded(ImportProblem):
    """Enough waits for a router, and none runs."""


class NotOurs(ImportProblem):
    """Another process goes on with this import."""


def lane_of(ident: str) -> str:
    """Return the lane whose lease says that a process runs this import."""
    return f"importing:{ident}"


class _Ready(msgspec.Struct):
    """Something found, normalized as the router will see it."""

    found: Found
    drafts: tuple[AnyDraft, ...]
    entries: tuple[str, ...]  # ids that its messages and events have


class Taking:
    """Runs one import. ``region`` reads phone numbers without a country."""

    def __init__(self, store: Store, key: SpaceKey, clock: Clock, *, region: str) -> None:
        self._store = store
        self._key = key
        self._clock = clock
        self._region = region
        self._runs = store.table(ImportRun)
        self._met: set[bytes] = set()  # of this file: the same twice is taken once

    # --- dry -------------------------------------------------------------------------------------

    async def try_out(self, source: Source, progress: Progress) -> ImportCounts:
        """Read everything, write nothing, and return what an import would do."""
        counts = ImportCounts()
        async with aclosing(_closable(source.pages(None))) as pages:
            async for page in pages:
                ready, failed = self._ready(page)
                fresh = await self._fresh(ready, "")
                counts = _counted(
                    counts, page, [each for each in ready if id(each) in fresh], failed
                )
                progress(counts, page)
        return counts

    # --- for real --------------------------------------------------------------------------------

    async def run(self, run: ImportRun, source: Source, progress: Progress) -> ImportRun:
        """Take everything in from where the run stands; return it when it is done.

        Whatever stops it, it can be resumed. Raises ImportProblem and StoreError.
        """
        async with self._leased(run.id):
            # A repeated insert finds the run of a first try that was cut: then that one goes on.
            if await self._runs.insert([run]):
                run = await self._resumed(run.id)
            try:
                run = await self._take_all(run, source, progress)
            except asyncio.CancelledError:
                await self._end(run.id, "paused", "it was stopped")
                raise
            except RouterNeeded as problem:
                await self._end(run.id, "paused", str(problem))
                raise
            except NotOurs:
                raise
            except (ImportProblem, StoreError) as problem:
                await self._end(run.id, "failed", str(problem))
                raise
        return run

    async def _resumed(self, ident: str) -> ImportRun:
        held = await self._runs.get(ident)
        if held is None or held.state == "done":
            raise ImportProblem(f"{ident} is done: there is nothing to resume")
        await self._refuse_taken_back(ident)
        return await self._save(held, state="running", reason="", ended_at=None)

    async def _take_all(self, run: ImportRun, source: Source, progress: Progress) -> ImportRun:
        writer = InboxWriter(self._store.inbox, None, budget_s=COMMIT_S)
        await writer.start()
        intake = Intake(
            writer,
            self._store.blobs,
            self._key,
            self._clock,
            Metrics(),
            default_region=self._region,
            strays=Strays(self._store, self._clock),
        )
        try:
            async with aclosing(_closable(source.pages(run.cursor))) as pages:
                async for page in pages:
                    run = await self._take(run, page, intake)
                    progress(run.counts, page)
        finally:
            await writer.close()
        return await self._save(run, state="done", ended_at=self._clock.now())

    async def _take(self, run: ImportRun, page: Page, intake: Intake) -> ImportRun:
        await self._may_go_on()
        await self._refuse_taken_back(run.id)
        ready, failed = self._ready(page)
        fresh = await self._fresh(ready, run.id)
        taken = [each for each in ready if id(each) in fresh]
        blobs = MarkedBlobs(self._store.blobs, run.id)
        put = [each for each in taken if fresh[id(each)]]
        refused = await asyncio.gather(*[self._put(intake, run.id, each, blobs) for each in put])
        for each, reason in zip(put, refused, strict=True):
            if reason is not None:
                taken = [other for other in taken if other is not each]
                failed.append(ImportFailure(place=each.found.place, reason=reason))
        unused = [each for each in ready if not fresh.get(id(each))]
        for blob in blobs_in(msgspec.to_builtins([each.drafts for each in unused])):
            await self._discard(blob, run.id)
        reached("import.1")
        run = await self._save(
            run, counts=_counted(run.counts, page, taken, failed), cursor=page.cursor
        )
        reached("import.2")
        return run

    async def _put(
        self, intake: Intake, ident: str, ready: _Ready, blobs: MarkedBlobs
    ) -> str | None:
        """Make one durable in the inbox, with its files; return why that can never be."""
        found, drafts = ready.found, ready.drafts
        if found.files:
            first = drafts[0]
            assert isinstance(first, Message)
            parts = [await _attached(path, blobs) for path in found.files]
            drafts = (replace(first, parts=(*first.parts, *parts)), *drafts[1:])
        while True:
            try:
                await intake.take_in(
                    found.channel,
                    found.account,
                    drafts,
                    door="import",
                    raw=found.raw,
                    may_spool=False,
                    imported=ident,
                )
                return None
            except NotStorable as error:
                return clean_line(f"it is too large to be kept: {error}", REASON_CHARS)
            except Overloaded as error:
                log.info("import_waits", run=ident, reason=str(error))
                await asyncio.sleep(WAIT_S)

    async def _discard(self, blob: str, ident: str) -> None:
        """Delete what a connector stored for a message that is known; it must be the import's."""
        marked = await self._store.blobs.metadata(blob)
        if marked is not None and marked.get("import") == ident:
            used = await self._store.table(Entry).find(
                {"imported": ident, "parts.media.blob": blob}
            )
            if not used:
                await delete_blobs(self._store, [blob])

    # --- what is known ---------------------------------------------------------------------------

    def _ready(self, page: Page) -> tuple[list[_Ready], list[ImportFailure]]:
        """Normalize what was found, as the router will; say what cannot be taken, and why."""
        ready: list[_Ready] = []
        failed: list[ImportFailure] = []
        for found in page.found:
            reason = found.failed
            if not reason and not found.drafts:
                continue  # the hub's own, which it knows: counted as that
            if not reason:
                try:
                    ready.append(self._normalized(found))
                    continue
                except Exception as error:  # noqa: BLE001 - whatever it is, it is this one's
                    reason = f"it cannot be taken: {type(error).__name__}: {error}"
            reason = clean_line(reason, REASON_CHARS)
            failed.append(ImportFailure(place=found.place, reason=reason))
        return ready, failed

    def _normalized(self, found: Found) -> _Ready:
        context = StepContext(
            channel=found.channel, account=found.account, default_region=self._region
        )
        drafts = tuple(normalize(draft, context) for draft in found.drafts)
        keys = [dedupe_key(found.channel, found.account, draft) for draft in drafts]
        entries = tuple(
            self._key.hashed("ent", key)
            for key, draft in zip(keys, drafts, strict=True)
            if isinstance(draft, Message | Event)
        )
        return _Ready(found, drafts, entries)

    async def _fresh(self, ready: Sequence[_Ready], ident: str) -> dict[int, bool]:
        """Return what is new, by ``id()``; False for what this run has brought before.

        That is so for the page at which it was interrupted: it counts, and is not put again.
        """
        ids = {entry for each in ready for entry in each.entries}
        held = await self._store.table(Entry).get_many(ids)
        fresh: dict[int, bool] = {}
        for each in ready:
            new = [entry for entry in each.entries if self._unmet(entry)]
            if not each.entries or any(entry not in held for entry in new):
                fresh[id(each)] = True
            elif ident and any(held[entry].imported == ident for entry in new):
                fresh[id(each)] = False
        return fresh

    def _unmet(self, entry: str) -> bool:
        mark = hashlib.blake2b(entry.encode(), digest_size=8).digest()
        if mark in self._met:
            return False
        self._met.add(mark)
        return True

    # --- its record, and its turn ----------------------------------------------------------------

    async def _save(self, run: ImportRun, **changed: Any) -> ImportRun:
        """Write the record. Raises ImportProblem when another process has gone on with it."""
        after = replace(run, **{"updated_at": self._clock.now(), **changed})
        if not await self._runs.swap(after, {"cursor": run.cursor, "state": run.state}):
            raise NotOurs(f"another process goes on with {run.id}")
        return after

    async def _end(self, ident: str, state: str, reason: str) -> None:
        held = await self._runs.get(ident)
        if held is not None and held.state == "running":
            await self._save(
                held, state=state, reason=clean_line(reason, 1000), ended_at=self._clock.now()
            )

    async def _refuse_taken_back(self, ident: str) -> None:
        if await self._store.table(ImportRollback).get(ident) is not None:
            raise ImportProblem(f"{ident} was taken back: start a new import")

    async def _may_go_on(self) -> None:
        """Wait until the router has little to do. Raises RouterNeeded when none runs for long."""
        while True:
            count, _, _ = await self._store.inbox.backlog()
            _, alive = await self._store.router.holder()
            if count < (BACKLOG if alive else BACKLOG_ALONE):
                return
            if not alive:
                raise RouterNeeded(
                    f"{count} items wait for a hub and none runs: start one, then resume"
                )
            await asyncio.sleep(WAIT_S)

    @asynccontextmanager
    async def _leased(self, ident: str) -> AsyncIterator[None]:
        """Be the only process that runs this import."""
        leases = await self._store.lanes.claim([lane_of(ident)], ident, LEASE_S)
        if not leases:
            raise ImportProblem(
                f"a process runs {ident}, or did until {LEASE_S:.0f} s ago: wait, or stop it"
            )
        keeper = asyncio.create_task(self._keep(leases[0]), name="import-lease")
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            with suppress(StoreError):  # then it runs out by itself
                await self._store.lanes.release(leases[0])

    async def _keep(self, lease: LaneLease) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 4)
            try:
                await self._store.lanes.renew(lease, LEASE_S)
            except StoreError as error:
                log.info("import_lease_not_renewed", lane=lease.lane, reason=str(error))


# --- counting ------------------------------------------------------------------------------------


def _counted(
    counts: ImportCounts, page: Page, taken: Iterable[_Ready], failed: Sequence[ImportFailure]
) -> ImportCounts:
    """Add a page to the counts."""
    by = Counter(counts.by)
    number = 0
    for each in taken:
        number += 1
        account = f"{each.found.channel}:{each.found.account}"
        by[f"account:{account}"] += 1
        first = each.drafts[0]
        by[f"kind:{_kind(first)}"] += 1
        by[f"month:{_month(first.at)}"] += 1
    return ImportCounts(
        seen=counts.seen + len(page.found),
        taken=counts.taken + number,
        known=counts.known + len(page.found) - number - len(failed),
        failed=counts.failed + len(failed),
        by=dict(sorted(by.items())),
        failures=(*counts.failures, *failed)[:FAILURES_KEPT],
    )


def _kind(draft: AnyDraft) -> str:
    if isinstance(draft, Message):
        return f"message.{draft.direction}"
    return type(draft).__name__.lower()


def _month(at: datetime | None) -> str:
    return f"{at:%Y-%m}" if at is not None else "unknown"


# --- files ---------------------------------------------------------------------------------------

_KINDS = {"image": Image, "audio": Audio, "video": Video}


async def _attached(path: Path, blobs: MarkedBlobs) -> Image | Audio | Video | File:
    """Store a file and return the part that shows it; its type is what its bytes are."""
    data = await asyncio.to_thread(path.read_bytes)
    mime = await asyncio.to_thread(sniff, data)
    told = {
        "name": file_name(path.name),
        "mime": mime,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    blob = await blobs.put(data, metadata={"kind": "attachment", **told})
    kind: Any = _KINDS.get(mime.partition("/")[0], File)
    part: Image | Audio | Video | File = kind(media=Media(blob=blob, **told))  # type: ignore[arg-type]
    return part


def _closable(pages: AsyncIterator[Page]) -> Any:
    return pages
