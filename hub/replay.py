"""Doing again what could not be done: dead letters of the inbox and of jobs.

An item that failed goes back into the inbox under its old id, parsed anew if it was its parse
that failed; the router skips whatever of it is there already. A job that was given up becomes
due again, in its lane, as a new round that outranks what was said of the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec
import structlog
from msgspec.structs import replace

from hub.clock import Clock, SystemClock
from hub.config import Config, parse_settings
from hub.contract import Account, Connector, Request, Verified
from hub.documents import AddressDoc, DeadLetter, Entry, InboxItem, Job
from hub.ids import SpaceKey
from hub.intake import RawRequest
from hub.outbound.settling import refuse_arrived, refuse_unfinished
from hub.planning.rules import Refusal
from hub.plugin_context import ConnectorContext, Services
from hub.plugin_host import PluginHost
from hub.preparing import encode_drafts
from hub.public_url import configured_url
from hub.space import space_key
from hub.store.interface import Store, StoreError
from normalizer.addresses import canonical
from normalizer.drafts import AnyDraft
from normalizer.keys import dedupe_key

log = structlog.get_logger(__name__)

AT_ONCE = 500
SEND = "send"
Find = Callable[[str, str], Connector[Any] | None]


class Replay:
    """Redrives dead letters; ``connector`` finds the connector of (channel, account).

    ``backends`` are the names of the ticket backends that there are.
    """

    def __init__(
        self,
        store: Store,
        key: SpaceKey,
        clock: Clock,
        connector: Find,
        backends: Collection[str] = (),
    ) -> None:
        self._backends = backends
        self._store = store
        self._key = key
        self._clock = clock
        self._connector = connector
        self._letters = store.table(DeadLetter)

    async def redrive(self, letter: DeadLetter, *, by: str) -> DeadLetter:
        """Have it done again and return the letter as it is then.

        Doing this twice is harmless. Raises Refusal when it is not possible, with what to do.
        """
        if letter.state != "open":
            raise Refusal(
                "conflict", f"this was {letter.state} before; see whether it came back", 409
            )
        if letter.kind == "job":
            await self._job(letter)
        else:
            await self._item(letter)
        done = replace(letter, state="redriven")
        await self._letters.swap(done, {"state": "open"})
        log.info("dead_letter_redriven", letter=letter.id, kind=letter.kind, ref=letter.ref, by=by)
        return done

    # --- items -----------------------------------------------------------------------------------

    async def _item(self, letter: DeadLetter) -> None:
        item = await self.item_of(letter)
        if item.failed is not None:
            drafts = await self._parsed(item)
            item = replace(
                item,
                drafts=encode_drafts(drafts),
                failed=None,
                addresses=self._addresses(drafts),
            )
        await self._refuse_erased(item)
        again = replace(item, open=True, routed_at=None, expire_at=None)
        await self._store.table(InboxItem).put([again])

    def _addresses(self, drafts: Sequence[AnyDraft]) -> tuple[str, ...]:
        named = [getattr(draft, "address", None) for draft in drafts]
        return tuple(self._key.hashed("adr", canonical(each)) for each in named if each is not None)

    async def item_of(self, letter: DeadLetter) -> InboxItem:
        """Return the item that a letter keeps. Raises Refusal when it was not kept."""
        if letter.item:
            return msgspec.msgpack.decode(letter.item, type=InboxItem)
        held = await self._store.table(InboxItem).get(letter.ref)
        if held is None or not (held.raw or held.raw_blob):
            raise Refusal(
                "erased",
                "its request is not kept any more: too many of this account failed that day, or"
                " it was erased",
                410,
            )
        return held

    async def _parsed(self, item: InboxItem) -> Sequence[AnyDraft]:
        connector = self._connector(item.channel, item.account)
        if connector is None:
            raise Refusal(
                "conflict", f"the account {item.channel}:{item.account} is not configured here"
            )
        try:
            if item.door == "webhook":
                raw = await self.raw_of(item)
                if raw is None:
                    raise Refusal("erased", "its request is not kept any more", 410)
                verified = believed(raw, item.received_at)
                drafts = await asyncio.to_thread(connector.parse, verified)
            else:
                drafts = await self._read_again(connector, item)
            for draft in drafts:
                dedupe_key(item.channel, item.account, draft)
        except Refusal:
            raise
        except Exception as error:
            log.info("dead_letter_not_parsed", item=item.id, reason=type(error).__name__)
            raise Refusal(
                "conflict",
                f"the connector still cannot read it: {type(error).__name__}: {str(error)[:300]}",
            ) from error
        return drafts

    async def raw_of(self, item: InboxItem) -> RawRequest | None:
        """Return the request as it arrived, if it came by a webhook and is still kept."""
        if item.door != "webhook":
            return None
        data = await self._bytes_of(item)
        return msgspec.msgpack.decode(data, type=RawRequest) if data else None

    async def _bytes_of(self, item: InboxItem) -> bytes:
        """Return what is kept of an item, nothing if it is not kept any more."""
        if item.raw_blob is None:
            return item.raw
        if await self._store.blobs.metadata(item.raw_blob) is None:
            return b""
        return await self._store.blobs.read(item.raw_blob)

    async def _read_again(self, connector: Connector[Any], item: InboxItem) -> Sequence[AnyDraft]:
        """Read what a poll or a held connection brought. Raises Refusal."""
        raw = await self._bytes_of(item)
        if not raw:
            raise Refusal("erased", "nothing is kept of it", 410)
        if not connector.reads_history():
            raise Refusal(
                "conflict", f"the channel {item.channel} cannot read again what it fetched"
            )
        read = await connector.read_history(raw, "")
        if read.failed:
            raise Refusal("conflict", f"the connector still cannot read it: {read.failed}")
        if not read.drafts:
            raise Refusal("conflict", "there is nothing in it to take in")
        return read.drafts

    async def _refuse_erased(self, item: InboxItem) -> None:
        known = await self._store.table(AddressDoc).get_many(item.addresses)
        if any(doc.erased for doc in known.values()):
            raise Refusal("erased", "the person this came from was erased since", 410)

    # --- jobs ------------------------------------------------------------------------------------

    async def _job(self, letter: DeadLetter) -> None:
        jobs = self._store.table(Job)
        job = await jobs.get(letter.ref)
        if job is None:
            raise Refusal("erased", "this job is not kept any more: do it anew", 410)
        if job.live:
            if (job.state, job.attempts) == ("outcome", letter.attempts):
                refuse_unfinished(job)  # the letter is written before the end is told
            return  # redriven by somebody else, or by a try of ours that was interrupted
        if job.kind == SEND:
            await self._refuse_senseless(job)
        if job.backend and job.backend not in self._backends:
            raise Refusal("conflict", f"the backend {job.backend} is not configured here")
        again = replace(
            job,
            live=True,
            state="ready",
            due_at=self._clock.now(),
            lease="",
            outcome={},
            reason="",
            settle_until=None,
            expire_at=None,
            args={**job.args, "round": int(job.args.get("round", 0)) + 1},
        )
        await jobs.swap(again, {"live": {"$ne": True}, "state": job.state})

    async def _refuse_senseless(self, job: Job) -> None:
        """Refuse what would reach its customer twice, and what would wait for ever unseen."""
        entry = await self._store.table(Entry).get(job.entry)
        if entry is None or entry.erased:
            raise Refusal("erased", "this answer was erased", 410)
        refuse_arrived(entry)
        if self._connector(entry.channel, entry.account) is None:
            raise Refusal(
                "conflict",
                f"the account {entry.channel}:{entry.account} is not configured here: configure"
                " it again, or write a new answer on another channel",
            )


def believed(raw: RawRequest, received_at: datetime) -> Verified:
    """Return a kept request as its connector's ``verify`` believed it then."""
    request = Request(
        method=raw.method,
        url="",
        path=raw.path,
        query_string=raw.query_string,
        headers=dict(raw.headers),
        body=raw.body,
        received_at=received_at,
    )
    return Verified(request=request, payload=raw.payload or raw.body, facts=dict(raw.facts))


# --- from the command line -----------------------------------------------------------------------


async def replay_unrouted(store: Store, *, dry_run: bool = False) -> int:
    """Wake up items that are stored and that no router takes; return how many.

    An item is left behind when a write was interrupted by hand, or after a restore: it is
    neither routed nor open.
    """
    inbox = store.table(InboxItem)
    found = await inbox.find({"open": {"$ne": True}, "routed_at": None}, limit=AT_ONCE)
    count = 0
    while found:
        count += len(found)
        if dry_run:
            behind = {"$gt": max(item.id for item in found)}
            found = await inbox.find(
                {"open": {"$ne": True}, "routed_at": None, "_id": behind},
                sort=[("_id", 1)],
                limit=AT_ONCE,
            )
            continue
        await store.inbox.reopen([item.id for item in found])
        found = await inbox.find({"open": {"$ne": True}, "routed_at": None}, limit=AT_ONCE)
    return count


async def redrive(
    config: Config,
    store: Store,
    idents: Sequence[str],
    *,
    every: bool = False,
    dry_run: bool = False,
    clock: Clock | None = None,
) -> int:
    """Redrive dead letters (``ded_``) and route items (``in_``) again; return how many.

    ``every``: all open dead letters of the inbox as well. Raises StoreError with what is wrong.
    """
    clock = clock or SystemClock()
    letters = await _letters(store, idents, every=every)
    items = [ident for ident in idents if ident.startswith("in_")]
    known = await store.table(InboxItem).known(items)
    if missing := sorted(set(items) - known):
        raise StoreError(f"there is no item {missing[0]}")
    if dry_run:
        return len(letters) + len(known)
    key = space_key(config.hub)
    connectors = offline_connectors(config, key, store)
    replay = Replay(
        store,
        key,
        clock,
        lambda channel, account: connectors.get((channel, account)),
        [backend.name for backend in config.backends],
    )
    refused = []
    try:
        for letter in letters:
            try:
                await replay.redrive(letter, by="operator")
            except Refusal as refusal:
                refused.append(f"{letter.id}: {refusal.detail}")
    finally:
        for connector in connectors.values():
            if connector.reads_history():
                await connector.stop()  # it may have begun something to read with
    again = await store.inbox.reopen(sorted(known)) if known else 0
    if refused:
        done = len(letters) - len(refused) + again
        raise StoreError(f"{done} done, {len(refused)} not:\n" + "\n".join(refused[:20]))
    return len(letters) + again


async def _letters(store: Store, idents: Sequence[str], *, every: bool) -> list[DeadLetter]:
    table = store.table(DeadLetter)
    named = [ident for ident in idents if not ident.startswith("in_")]
    held = await table.get_many(named)
    if missing := sorted(set(named) - held.keys()):
        raise StoreError(f"there is no dead letter {missing[0]}")
    letters = dict(held)
    if every:
        found = await table.find({"state": "open", "kind": {"$ne": "job"}}, sort=[("_id", -1)])
        letters |= {letter.id: letter for letter in found}
    return [letters[ident] for ident in sorted(letters)]


def offline_connectors(
    config: Config, key: SpaceKey, store: Store
) -> Mapping[tuple[str, str], Connector[Any]]:
    """Return the configured accounts' connectors without a running hub: to read with."""
    host = PluginHost.for_config(config)
    host.discover(config.hub.plugin_modules)
    kinds = host.connectors()
    connectors: dict[tuple[str, str], Connector[Any]] = {}
    for account in config.accounts:
        kind = kinds.get(account.channel)
        if kind is None:
            continue
        context = ConnectorContext(
            host.connector_plugin(account.channel),
            cast("Services", _Offline(key, configured_url(config.hub), store)),
            structlog.get_logger(account.channel),
            account.channel,
            account.key,
            mount=kind.mount,
        )
        settings = parse_settings(kind.settings, account.settings, account.name)
        connectors[(account.channel, account.key)] = kind(
            Account(
                channel=account.channel,
                key=account.key,
                label=account.label,
                settings=settings,
                insecure=account.insecure,
            ),
            context,
        )
    return connectors


class _Offline:
    """What reading needs of the hub (``read_history`` keeps files): no doors, nothing is sent."""

    def __init__(self, key: SpaceKey, public_url: str, store: Store) -> None:
        self.key = key
        self.store = store
        self.clock = SystemClock()
        self.public_url = public_url
