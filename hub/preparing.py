"""From inbox items to normalized drafts: pure, run off the event loop, cut when it hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

import msgspec
import structlog

from hub.documents import InboxItem
from normalizer.drafts import AnyDraft, Event, Message
from normalizer.pipeline import StepContext, normalize

log = structlog.get_logger(__name__)

_decoder = msgspec.json.Decoder(tuple[AnyDraft, ...])
_encoder = msgspec.json.Encoder()
Normalize = Callable[[AnyDraft, StepContext], AnyDraft]


class Poisoned(Exception):
    """An item failed for a reason of its own; ``stage`` says where."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason


class Prepared(msgspec.Struct):
    """One inbox item with its drafts ready to plan, or what is wrong with it."""

    item: InboxItem
    drafts: tuple[AnyDraft, ...] = ()
    error: Poisoned | None = None

    @property
    def messages(self) -> list[Message]:
        """The messages that may open a conversation: history opens none."""
        if self.item.imported:
            return []
        return [draft for draft in self.drafts if isinstance(draft, Message)]

    @property
    def entries(self) -> list[Message | Event]:
        return [draft for draft in self.drafts if isinstance(draft, Message | Event)]


def encode_drafts(drafts: Sequence[AnyDraft]) -> bytes:
    """Return drafts as the inbox holds them."""
    return _encoder.encode(tuple(drafts))


def decode_drafts(data: bytes) -> tuple[AnyDraft, ...]:
    return _decoder.decode(data) if data else ()


class Preparer:
    """Prepares batches in a thread of its own; one that hangs is left behind, not waited for."""

    def __init__(
        self, region: str, *, deadline_s: float = 5.0, step: Normalize | None = None
    ) -> None:
        self._region = region
        self._deadline_s = deadline_s
        self._normalize = step or normalize
        self._thread = _Thread(self._prepare_all)

    async def prepare(self, items: Sequence[InboxItem]) -> list[Prepared]:
        """Return every item prepared. Raises ``TimeoutError`` when the batch hangs."""
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._thread.run(items)
        except TimeoutError:
            log.error("normalizing_hangs", items=[item.id for item in items][:5])
            self._thread.leave()
            self._thread = _Thread(self._prepare_all)
            raise

    def _prepare_all(self, items: Sequence[InboxItem]) -> list[Prepared]:
        return [self._prepare_one(item) for item in items]

    def _prepare_one(self, item: InboxItem) -> Prepared:
        if item.failed is not None:
            return Prepared(item, error=Poisoned("parse", item.failed))
        context = StepContext(
            channel=item.channel, account=item.account, default_region=self._region
        )
        try:
            drafts = decode_drafts(item.drafts)
            return Prepared(item, tuple([self._normalize(draft, context) for draft in drafts]))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this item's own
            return Prepared(item, error=Poisoned("normalize", f"{type(error).__name__}: {error}"))

    def close(self) -> None:
        self._thread.leave()


_Work = Callable[[Sequence[InboxItem]], list[Prepared]]
_Job = tuple[Sequence[InboxItem], "asyncio.Future[list[Prepared]]", asyncio.AbstractEventLoop]


class _Thread:
    """One daemon thread: unlike an executor's, it cannot keep the process from ending."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        threading.Thread(target=self._loop, name="normalize", daemon=True).start()

    async def run(self, items: Sequence[InboxItem]) -> list[Prepared]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Prepared]] = loop.create_future()
        self._jobs.put((items, done, loop))
        return await done

    def leave(self) -> None:
        self._jobs.put(None)

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            items, done, loop = job
            result = self._work(items)
            try:
                loop.call_soon_threadsafe(_settle, done, result)
            except RuntimeError:
                return  # the loop was closed meanwhile: nobody waits any more


def _settle(done: asyncio.Future[list[Prepared]], result: list[Prepared]) -> None:
    if not done.done():
        done.set_result(result)
