"""The spool keeps what it acknowledged, in order, through crashes, full disks and damage.

Real parts: files, locks, fsync, processes that are killed. Played: a full or broken disk, by
functions put in the place of `os.write`, `os.fsync` and the free-space probe.
Only the format tests look behind the public face, at `_encode_frame` and `_decode_frames`.
"""

import asyncio
import errno
import os
import random
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from hub.spool import Record, Spool, SpoolError, SpoolFull, framing
from hub.spool.files import root_locked

KILLS = 60 if os.environ.get("OMNILINE_SCALE") == "full" else 5
HEADER_SIZE = 40
FRAME_OVERHEAD = 21


def open_spool(root: Path, **settings: Any) -> Spool:
    return Spool.open(root, **{"max_bytes": 1 << 26, "reserve_bytes": 0, **settings})


def record(number: int, payload: bytes = b"") -> Record:
    return Record(id=f"in_{number:06d}", payload=payload or b"payload %d" % number)


def numbered(count: int, start: int = 0) -> list[Record]:
    return [record(number) for number in range(start, start + count)]


def ids(records: Sequence[Record]) -> list[str]:
    return [r.id for r in records]


class Inbox:
    """Takes what is delivered; fails where it is told to."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.batches: list[int] = []

    async def __call__(self, records: Sequence[Record]) -> None:
        self.records += records
        self.batches.append(len(records))

    @property
    def ids(self) -> list[str]:
        return ids(self.records)


async def leave(root: Path, records: Sequence[Record], **settings: Any) -> Path:
    """A folder as a process leaves it behind that stopped with its spool not empty."""
    before = set(folders(root))
    async with open_spool(root, **settings) as spool:
        for each in records:
            await spool.append([each])
    (folder,) = set(folders(root)) - before
    return folder


async def recover(root: Path, **settings: Any) -> list[Record]:
    """What the next process delivers from what it finds."""
    inbox = Inbox()
    async with open_spool(root, **settings) as spool:
        await spool.adopt_dead()
        await spool.drain(inbox)
        assert spool.pending == 0
        assert spool.bytes == 0
    return inbox.records


def folders(root: Path) -> list[Path]:
    return sorted(root.glob("*-????????"))


def contents(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def segments(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.seg"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "spool"


class HeldFsync:
    """Stops the spool's thread in fsync until it is let go; counts the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.entered = threading.Event()
        self.let_go = threading.Event()
        self._real = os.fsync
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, descriptor: int) -> None:
        if threading.current_thread().name.startswith("spool"):
            self.calls += 1
            self.entered.set()
            assert self.let_go.wait(10)
        self._real(descriptor)


def break_disk(
    monkeypatch: pytest.MonkeyPatch, call: str, error: int, *, after: int = 0
) -> Callable[[], None]:
    """Let `os.write` or `os.fsync` fail on the spool's thread; returns what repairs it.

    A failing write first stores `after` bytes, as a disk does that fills up in the middle.
    """
    real = getattr(os, call)

    def broken(descriptor: int, *data: Any) -> Any:
        if not threading.current_thread().name.startswith("spool"):
            return real(descriptor, *data)
        nonlocal after
        if data and after:
            stored = real(descriptor, data[0][:after])
            after = 0
            return stored
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, call, broken)
    return lambda: monkeypatch.setattr(os, call, real)


# --- appending and draining -----------------------------------------------------------------------


async def test_what_200_tasks_append_at_once_is_drained_once_and_in_order(root: Path) -> None:
    async with open_spool(root, segment_bytes=4096) as spool:
        numbers = count()

        async def task() -> None:
            for size in (1, 2, 3):
                await spool.append([record(next(numbers)) for _ in range(size)])

        await asyncio.gather(*(task() for _ in range(200)))
        assert spool.pending == 1200
        assert len(segments(root)) > 1
        inbox = Inbox()
        assert await spool.drain(inbox) == 1200
        assert inbox.records == numbered(1200)
        assert spool.pending == spool.bytes == 0
        assert segments(root) == []
        assert await spool.drain(inbox) == 0


async def test_append_returns_only_after_fsync_and_concurrent_appends_share_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_spool(root) as spool:
        disk = HeldFsync(monkeypatch)
        first = asyncio.create_task(spool.append([record(0)]))
        await asyncio.to_thread(disk.entered.wait, 10)
        others = [asyncio.create_task(spool.append([record(n)])) for n in range(1, 200)]
        done, _ = await asyncio.wait({first, *others}, timeout=0.05)
        assert not done
        assert spool.pending == 200, "what is being written counts already"
        disk.let_go.set()
        await asyncio.gather(first, *others)
        assert disk.calls == 3, "the first record's file and its folder, then all others at once"
        inbox = Inbox()
        await spool.drain(inbox)
        assert inbox.records == numbered(200)


async def test_a_group_is_bounded_so_that_one_write_stays_small(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_spool(root, segment_bytes=1 << 30) as spool:
        disk = HeldFsync(monkeypatch)
        disk.let_go.set()
        payload = bytes(1 << 20)
        await asyncio.gather(*(spool.append([record(n, payload)]) for n in range(9)))
        assert disk.calls == 4, "3 + 3 + 3 MiB under the bound of 4, and the new segment's folder"


async def test_a_new_segment_s_folder_entry_is_synced_before_append_returns(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_spool(root) as spool:
        synced: list[Path] = []
        real = os.fsync

        def fsync(descriptor: int) -> None:
            inode = os.fstat(descriptor).st_ino
            synced.extend(p for p in root.rglob("*") if p.stat().st_ino == inode)
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        await spool.append([record(0)])
        (segment,) = segments(root)
        assert synced == [segment, segment.parent]


async def test_what_is_appended_during_a_drain_is_drained_after_it_in_order(root: Path) -> None:
    async with open_spool(root) as spool:
        await spool.append(numbered(10))
        inbox = Inbox()
        late: list[asyncio.Task[None]] = []

        async def deliver(records: Sequence[Record]) -> None:
            await inbox(records)
            if len(inbox.records) == 5:
                await spool.append(numbered(10, start=10))
            if len(inbox.records) == 20:  # not awaited: the drain must wait for it by itself
                late.append(asyncio.create_task(spool.append(numbered(10, start=20))))
                await asyncio.sleep(0)

        assert await spool.drain(deliver, batch=5) == 30
        assert inbox.records == numbered(30)
        assert spool.pending == 0
        await asyncio.gather(*late)


async def test_batches_keep_to_their_count_and_bytes_but_hold_at_least_one_record(
    root: Path,
) -> None:
    async with open_spool(root) as spool:
        await spool.append([record(n, bytes(100)) for n in range(5)] + [record(5, bytes(1000))])
        inbox = Inbox()
        await spool.drain(inbox, batch=3, batch_bytes=250)
        assert inbox.batches == [2, 2, 1, 1]
        await spool.append(numbered(7))
        await spool.drain(inbox, batch=3)
        assert inbox.batches[4:] == [3, 3, 1]


async def test_when_deliver_fails_half_way_the_rest_stays_for_the_next_drain(root: Path) -> None:
    async with open_spool(root, segment_bytes=200) as spool:
        for each in numbered(20):
            await spool.append([each])
        inbox = Inbox()

        async def deliver(records: Sequence[Record]) -> None:
            if len(inbox.records) >= 9:
                raise ConnectionError("no primary")
            await inbox(records)

        with pytest.raises(ConnectionError, match="no primary"):
            await spool.drain(deliver, batch=3)
        assert 9 <= len(inbox.records) < 20
        assert spool.pending == 20 - len(inbox.records)
        await spool.append([record(20)])
        await spool.drain(inbox)
        assert inbox.records == numbered(21), "each once, in order"


async def test_a_cancelled_drain_keeps_what_was_not_delivered(root: Path) -> None:
    async with open_spool(root) as spool:
        await spool.append(numbered(4))
        inbox = Inbox()
        reached = asyncio.Event()

        async def deliver(records: Sequence[Record]) -> None:
            if inbox.records:
                reached.set()
                await asyncio.Event().wait()
            await inbox(records)

        drain = asyncio.create_task(spool.drain(deliver, batch=2))
        await reached.wait()
        drain.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drain
        await spool.drain(inbox)
        assert inbox.records == numbered(4)


async def test_a_second_drain_waits_for_the_first(root: Path) -> None:
    async with open_spool(root) as spool:
        await spool.append(numbered(6))
        inbox = Inbox()
        delivering = 0

        async def deliver(records: Sequence[Record]) -> None:
            nonlocal delivering
            delivering += 1
            assert delivering == 1
            await asyncio.sleep(0)
            await inbox(records)
            delivering -= 1

        counts = await asyncio.gather(*(spool.drain(deliver, batch=1) for _ in range(3)))
        assert sorted(counts) == [0, 0, 6]
        assert inbox.records == numbered(6)


async def test_a_cancelled_append_disturbs_no_other(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_spool(root) as spool:
        disk = HeldFsync(monkeypatch)
        tasks = [asyncio.create_task(spool.append([record(n)])) for n in range(3)]
        await asyncio.to_thread(disk.entered.wait, 10)
        tasks[1].cancel()
        with suppress(asyncio.CancelledError):
            await tasks[1]
        disk.let_go.set()
        await asyncio.gather(tasks[0], tasks[2])
        inbox = Inbox()
        await spool.drain(inbox)
        assert {"in_000000", "in_000002"} <= set(inbox.ids)
        assert spool.pending == 0


async def test_a_record_without_a_frame_fails_alone(root: Path) -> None:
    async with open_spool(root) as spool:
        results = await asyncio.gather(
            spool.append([record(0)]),
            spool.append([Record(id="in_" + "x" * 300, payload=b"")]),
            spool.append([Record(id="", payload=b"")]),
            spool.append([record(1)]),
            return_exceptions=True,
        )
        assert [type(r) for r in results] == [type(None), ValueError, ValueError, type(None)]
        assert spool.pending == 2
        await spool.append([])
        assert spool.pending == 2


async def test_oldest_at_tells_since_when_something_waits(root: Path) -> None:
    async with open_spool(root) as spool:
        assert spool.oldest_at is None
        before = datetime.now(UTC) - timedelta(milliseconds=1)
        await spool.append([record(0)])
        assert spool.oldest_at is not None
        assert before <= spool.oldest_at <= datetime.now(UTC)
        await spool.drain(Inbox())
        assert spool.oldest_at is None


# --- opening and closing --------------------------------------------------------------------------


async def test_close_removes_an_empty_folder_and_keeps_one_with_records(root: Path) -> None:
    async with open_spool(root) as spool:
        (folder,) = folders(root)
        await spool.append([record(0)])
        await spool.drain(Inbox())
    assert not folder.exists()
    kept = await leave(root, numbered(1))
    assert kept.is_dir()
    assert await recover(root) == numbered(1)
    assert folders(root) == []


async def test_a_closed_spool_refuses_and_closing_again_is_harmless(root: Path) -> None:
    spool = open_spool(root)
    await spool.close()
    await spool.close()
    with pytest.raises(SpoolError, match="closed"):
        await spool.append([record(0)])
    with pytest.raises(SpoolError, match="closed"):
        await spool.drain(Inbox())


async def test_close_waits_for_appends_under_way_and_ends_a_drain_after_its_batch(
    root: Path,
) -> None:
    spool = open_spool(root)
    append = asyncio.create_task(spool.append(numbered(4)))
    await asyncio.sleep(0)
    closing: list[asyncio.Task[None]] = []
    inbox = Inbox()

    async def deliver(records: Sequence[Record]) -> None:
        await inbox(records)
        closing.append(asyncio.create_task(spool.close()))
        await asyncio.sleep(0)

    assert await spool.drain(deliver, batch=1) == 1
    await append
    await asyncio.gather(*closing)
    assert inbox.records == numbered(1)
    assert await recover(root) == numbered(4), "the position is not kept, the records are"


async def test_closing_during_the_last_batch_leaves_nothing_to_deliver_again(root: Path) -> None:
    spool = open_spool(root)
    await spool.append(numbered(2))
    closing: list[asyncio.Task[None]] = []

    async def deliver(records: Sequence[Record]) -> None:
        closing.append(asyncio.create_task(spool.close()))
        await asyncio.sleep(0)

    assert await spool.drain(deliver) == 2
    await asyncio.gather(*closing)
    assert contents(root) == ["lock"]


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    with pytest.raises(SpoolError, match=r"spool.*writable folder"):
        open_spool(tmp_path / "spool")


async def test_records_are_readable_by_the_hub_s_user_alone(root: Path) -> None:
    folder = await leave(root, numbered(1))
    for path in (root, folder, folder / "lock", folder / "00000001.seg"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_root_lock_that_is_never_released_is_an_error_that_says_how_to_find_its_holder(
    tmp_path: Path,
) -> None:
    with root_locked(tmp_path):
        with pytest.raises(SpoolError, match="fuser"):
            with root_locked(tmp_path, timeout=0.02):
                pytest.fail("two holders")


# --- bounds and broken disks ----------------------------------------------------------------------


async def test_a_call_that_would_pass_the_bound_is_refused_whole_and_later_ones_may_fit(
    root: Path,
) -> None:
    frame = FRAME_OVERHEAD + 9 + 100
    async with open_spool(root, max_bytes=2 * HEADER_SIZE + 3 * frame) as spool:
        await spool.append([record(0, bytes(100))])
        with pytest.raises(SpoolFull, match="MongoDB"):
            await spool.append([record(n, bytes(100)) for n in (1, 2, 3)])
        assert spool.pending == 1
        await spool.append([record(n, bytes(100)) for n in (4, 5)])
        assert spool.bytes == sum(path.stat().st_size for path in segments(root))
        with pytest.raises(SpoolFull):
            await spool.append([record(6, bytes(100))])
        inbox = Inbox()
        await spool.drain(inbox)
        assert inbox.ids == ["in_000000", "in_000004", "in_000005"]
        await spool.append([record(7, bytes(100))])


async def test_the_bound_counts_a_segment_s_header_too(root: Path) -> None:
    size = HEADER_SIZE + FRAME_OVERHEAD + 9 + 100
    for max_bytes, kept in ((size - 1, 0), (size, 1)):
        async with open_spool(root, max_bytes=max_bytes) as spool:
            with suppress(SpoolFull):
                await spool.append([record(0, bytes(100))])
            assert spool.pending == kept
            assert sum(path.stat().st_size for path in segments(root)) == kept * size
            await spool.drain(Inbox())


async def test_calls_in_one_group_are_refused_one_by_one(root: Path) -> None:
    frame = FRAME_OVERHEAD + 9 + 100
    async with open_spool(root, max_bytes=HEADER_SIZE + 3 * frame) as spool:
        results = await asyncio.gather(
            spool.append([record(0, bytes(100)), record(1, bytes(100))]),
            spool.append([record(2, bytes(100)), record(3, bytes(100))]),
            spool.append([record(4, bytes(100))]),
            return_exceptions=True,
        )
        assert [type(r) for r in results] == [type(None), SpoolFull, type(None)]
        inbox = Inbox()
        await spool.drain(inbox)
        assert inbox.ids == ["in_000000", "in_000001", "in_000004"]


async def test_what_was_adopted_counts_against_the_bound(root: Path) -> None:
    await leave(root, [record(0, bytes(5000))])
    async with open_spool(root, max_bytes=5200) as spool:
        await spool.append([record(1)])
        await spool.adopt_dead()
        assert spool.bytes == sum(path.stat().st_size for path in segments(root))
        with pytest.raises(SpoolFull):
            await spool.append([record(2, bytes(200))])
        inbox = Inbox()
        await spool.drain(inbox)
        assert inbox.ids == ["in_000000", "in_000001"]
        await spool.append([record(2, bytes(200))])


async def test_the_disk_s_reserve_is_not_touched(root: Path) -> None:
    free = 10_000
    async with open_spool(root, reserve_bytes=9_000, free_bytes=lambda _: free) as spool:
        await spool.append([record(0, bytes(500))])
        with pytest.raises(SpoolFull, match="reserve"):
            await spool.append([record(1, bytes(1000))])
        free = 8_999
        with pytest.raises(SpoolFull, match="8999 bytes free"):
            await spool.append([record(2)])
        free = 20_000
        await spool.append([record(3, bytes(1000))])
        inbox = Inbox()
        await spool.drain(inbox)
        assert inbox.ids == ["in_000000", "in_000003"]


@pytest.mark.parametrize("after", [0, 1, 25, 60])
@pytest.mark.parametrize("first", [True, False], ids=["new segment", "begun segment"])
async def test_a_full_disk_refuses_and_its_torn_write_is_cut_back(
    root: Path, monkeypatch: pytest.MonkeyPatch, after: int, first: bool
) -> None:
    async with open_spool(root) as spool:
        expected = [] if first else numbered(2)
        await spool.append(expected)
        on_disk = [path.read_bytes() for path in segments(root)]
        repair = break_disk(monkeypatch, "write", errno.ENOSPC, after=after)
        results = await asyncio.gather(
            spool.append([record(98)]), spool.append([record(99)]), return_exceptions=True
        )
        assert [type(r) for r in results] == [SpoolFull, SpoolFull]
        assert spool.pending == len(expected)
        assert [path.read_bytes() for path in segments(root)] == on_disk
        repair()
        await spool.append([record(2)])
    assert await recover(root) == [*expected, record(2)]


@pytest.mark.parametrize("first", [True, False], ids=["new segment", "begun segment"])
async def test_after_a_failed_fsync_nothing_is_acknowledged_and_that_file_is_written_no_more(
    root: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    expected = [] if first else numbered(2)
    async with open_spool(root) as spool:
        await spool.append(expected)
        before = segments(root)
        repair = break_disk(monkeypatch, "fsync", errno.EIO)
        with capture_logs() as logs, pytest.raises(SpoolError, match="Check that disk"):
            await spool.append([record(99)])
        assert "spool_write_failed" in [entry["event"] for entry in logs]
        repair()
        await spool.append([record(2)])
        assert len(segments(root)) == len(before) + 1
    assert await recover(root) == [*expected, record(2)]


async def test_a_segment_that_cannot_be_closed_costs_nothing_since_it_is_synced(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_spool(root, segment_bytes=1) as spool:
        await spool.append([record(0)])
        real = os.close

        failed: list[int] = []

        def broken(descriptor: int) -> None:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            real(descriptor)
            if is_file and threading.current_thread().name.startswith("spool"):
                failed.append(descriptor)
                raise OSError(errno.EIO, "late write error")

        monkeypatch.setattr(os, "close", broken)
        await spool.append([record(1)])
        await spool.append([record(2)])
        assert len(failed) == 2
        monkeypatch.setattr(os, "close", real)
        inbox = Inbox()
        await spool.drain(inbox)
        assert inbox.records == numbered(3)


async def test_nobody_waits_for_ever_when_the_writer_is_cancelled_with_its_loop(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_spool(root) as spool:
        disk = HeldFsync(monkeypatch)
        first = asyncio.create_task(spool.append([record(0)]))
        await asyncio.to_thread(disk.entered.wait, 10)
        second = asyncio.create_task(spool.append([record(1)]))
        await asyncio.sleep(0)
        (writer,) = (t for t in asyncio.all_tasks() if t.get_name() == "spool-writer")
        writer.cancel()
        disk.let_go.set()
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(r) for r in results] == [SpoolError, SpoolError]
        await spool.append([record(2)])
        inbox = Inbox()
        await spool.drain(inbox)
        assert inbox.ids[-1] == "in_000002"
        assert "in_000001" not in inbox.ids
        assert spool.pending == 0


async def test_a_free_space_probe_that_fails_refuses_instead_of_hanging(root: Path) -> None:
    def broken(_: Path) -> int:
        raise OSError(errno.EIO, "probe")

    def defect(_: Path) -> int:
        raise RuntimeError("a defect of ours")

    for probe in (broken, defect):
        async with open_spool(root, free_bytes=probe) as spool:
            with capture_logs() as logs, pytest.raises(SpoolError, match=r"probe|defect"):
                await spool.append([record(0)])
            assert [entry["event"] for entry in logs] == ["spool_write_failed"]
            assert spool.pending == 0


# --- damage ---------------------------------------------------------------------------------------


async def test_a_tail_torn_at_any_byte_of_the_last_record_is_cut_and_the_rest_delivered(
    root: Path, tmp_path: Path
) -> None:
    folder = await leave(root, numbered(3))
    whole = (folder / "00000001.seg").read_bytes()
    last_frame = FRAME_OVERHEAD + len(record(2).id) + len(record(2).payload)
    for size in range(len(whole) - last_frame, len(whole)):
        copy = tmp_path / f"cut-{size}"
        (copy / folder.name).mkdir(parents=True)
        (copy / folder.name / "00000001.seg").write_bytes(whole[:size])
        with capture_logs() as logs:
            assert await recover(copy) == numbered(2), size
        cuts = [entry["offset"] for entry in logs if entry["event"] == "spool_tail_cut"]
        assert cuts == ([len(whole) - last_frame] if size > len(whole) - last_frame else [])
        assert contents(copy) == ["lock"], "nothing is set aside"


@pytest.mark.parametrize("content", [b"", b"OMNSP", bytes(5000)], ids=["empty", "cut", "zeros"])
async def test_a_segment_whose_beginning_never_reached_the_disk_is_dropped(
    root: Path, content: bytes
) -> None:
    folder = await leave(root, numbered(2))
    (folder / "00000002.seg").write_bytes(content)
    assert await recover(root) == numbered(2)
    assert contents(root) == ["lock"]


async def test_zeros_after_the_last_record_are_a_torn_tail(root: Path) -> None:
    folder = await leave(root, numbered(2))
    with (folder / "00000001.seg").open("ab") as segment:
        segment.write(bytes(4096))
    assert await recover(root) == numbered(2)
    assert contents(root) == ["lock"]


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_a_flipped_byte_costs_its_own_record_only_and_the_file_is_set_aside(
    root: Path, tmp_path: Path, victim: int
) -> None:
    folder = await leave(root, numbered(3))
    whole = (folder / "00000001.seg").read_bytes()
    frame = FRAME_OVERHEAD + len(record(0).id) + len(record(0).payload)
    start = HEADER_SIZE + victim * frame
    for offset in range(start, start + frame):
        damaged = bytearray(whole)
        damaged[offset] ^= 0x10
        copy = tmp_path / f"flip-{offset}"
        (copy / folder.name).mkdir(parents=True)
        path = copy / folder.name / "00000001.seg"
        path.write_bytes(damaged)
        with capture_logs() as logs:
            delivered = await recover(copy)
        assert delivered == [r for r in numbered(3) if r != record(victim)], offset
        noted = [entry for entry in logs if entry["event"] == "spool_segment_damaged"]
        assert [(n["log_level"], n["path"], n["offset"]) for n in noted] == [
            ("error", str(path), start)
        ]
        aside = copy / f"{folder.name}-00000001.damaged"
        assert aside.read_bytes() == damaged
        assert contents(copy) == [aside.name, "lock"]


async def test_a_set_aside_segment_is_listed_and_delivered_after_its_repair(root: Path) -> None:
    folder = await leave(root, numbered(3))
    path = folder / "00000001.seg"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"payload 1", b"payload X"))
    assert len(await recover(root)) == 2
    async with open_spool(root) as spool:
        (aside,) = spool.damaged
        assert await spool.adopt_dead() == 0, "nobody reads it again by itself"
        aside.unlink()
        folder.mkdir()
        path.write_bytes(whole)
        assert await spool.adopt_dead() == 3
        inbox = Inbox()
        await spool.drain(inbox)
        assert inbox.records == numbered(3)
        assert spool.damaged == []


async def test_only_the_last_segment_may_be_torn(root: Path) -> None:
    """A segment that was followed by another was whole: what it lacks was acknowledged."""
    folder = await leave(root, numbered(4), segment_bytes=1)
    first = folder / "00000002.seg"
    first.write_bytes(first.read_bytes()[:-1])
    with capture_logs() as logs:
        assert ids(await recover(root)) == ["in_000000", "in_000002", "in_000003"]
    assert "spool_segment_damaged" in [entry["event"] for entry in logs]
    assert (root / f"{folder.name}-00000002.damaged").exists()


@pytest.mark.parametrize("offset", [0, 9, 11, 20, 35, 39])
async def test_a_damaged_header_sets_the_segment_aside_and_spares_the_others(
    root: Path, offset: int
) -> None:
    folder = await leave(root, numbered(3), segment_bytes=1)
    path = folder / "00000003.seg"
    damaged = bytearray(path.read_bytes())
    damaged[offset] ^= 1
    path.write_bytes(damaged)
    assert await recover(root) == numbered(2)
    assert (root / f"{folder.name}-00000003.damaged").read_bytes() == damaged


async def test_damage_in_the_process_s_own_segment_is_found_when_it_is_drained(root: Path) -> None:
    async with open_spool(root) as spool:
        await spool.append(numbered(3))
        (path,) = segments(root)
        path.write_bytes(path.read_bytes().replace(b"payload 1", b"payload X"))
        inbox = Inbox()
        with capture_logs() as logs:
            assert await spool.drain(inbox) == 2
        assert inbox.ids == ["in_000000", "in_000002"]
        assert spool.pending == 0
        assert len(spool.damaged) == 1
        events = [entry["event"] for entry in logs]
        assert events == ["spool_segment_damaged", "spool_segment_set_aside"]
    assert folders(root) == []


async def test_a_file_that_cannot_be_read_for_now_is_neither_dropped_nor_set_aside(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave(root, numbered(2))
    real = Path.read_bytes

    def too_many_files(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "too many open files", str(path))

    async with open_spool(root) as spool:
        monkeypatch.setattr(Path, "read_bytes", too_many_files)
        with capture_logs() as logs:
            assert await spool.adopt_dead() == 0
        assert [entry["event"] for entry in logs] == ["spool_folder_unreadable"]
        await spool.append([record(2)])
        inbox = Inbox()
        with pytest.raises(OSError, match="too many"):
            await spool.drain(inbox)
        monkeypatch.setattr(Path, "read_bytes", real)
        assert await spool.adopt_dead() == 2
        await spool.drain(inbox)
        assert inbox.records == numbered(3)
        assert spool.damaged == []


async def test_a_file_on_a_bad_sector_is_set_aside(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = await leave(root, numbered(3), segment_bytes=1)
    real = Path.read_bytes

    def bad_sector(path: Path) -> bytes:
        if path.name == "00000003.seg":
            raise OSError(errno.EIO, "input/output error")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", bad_sector)
    with capture_logs() as logs:
        assert await recover(root) == numbered(2)
    assert "spool_tail_cut" not in [entry["event"] for entry in logs]
    assert (root / f"{folder.name}-00000003.damaged").exists()


async def test_a_frame_that_somebody_sent_inside_a_payload_is_never_delivered(root: Path) -> None:
    """Its bytes are a true frame from another segment; the damage lies just before them."""
    other = await leave(root, [record(666)])
    foreign = (other / "00000001.seg").read_bytes()
    (other / "00000001.seg").unlink()
    folder = await leave(root, [record(1, b"A" * 50 + foreign[HEADER_SIZE:] + b"B" * 50)])
    path = folder / "00000001.seg"
    path.write_bytes(path.read_bytes().replace(b"\xf5rec", b"\xf5raw", 1))
    assert await recover(root) == []
    assert (root / f"{folder.name}-00000001.damaged").exists()


async def test_an_older_copy_of_a_frame_in_the_wrong_place_is_not_delivered(root: Path) -> None:
    folder = await leave(root, numbered(3))
    path = folder / "00000001.seg"
    whole = path.read_bytes()
    frame = (len(whole) - HEADER_SIZE) // 3
    copied = whole[HEADER_SIZE : HEADER_SIZE + frame]
    path.write_bytes(whole[: HEADER_SIZE + frame] + copied + whole[HEADER_SIZE + 2 * frame :])
    assert ids(await recover(root)) == ["in_000000", "in_000002"]


# --- the format -----------------------------------------------------------------------------------

SALT = bytes(range(16))
some_records = st.lists(
    st.builds(
        Record,
        id=st.text(min_size=1, max_size=40).filter(lambda s: s.isprintable()),
        payload=st.binary(max_size=80) | st.just(b"\xf5rec" * 9),
    ),
    max_size=8,
)


def encode(records: Sequence[Record]) -> tuple[bytes, list[int]]:
    data = b""
    offsets = []
    for each in records:
        offsets.append(len(data))
        data += framing.encode_frame(each, SALT, len(data))
    return data, offsets


@given(records=some_records)
def test_every_record_comes_back_as_it_was_framed(records: list[Record]) -> None:
    data, offsets = encode(records)
    frames = list(framing.decode_frames(data, SALT, 0))
    assert [frame.record for frame in frames] == records
    assert [frame.start for frame in frames] == offsets
    assert len(data) == sum(framing.frame_size(each) for each in records)


@given(records=some_records, at=st.integers(min_value=0), junk=st.binary(min_size=1, max_size=30))
@settings(max_examples=200)
def test_damage_anywhere_costs_only_the_records_it_touches_and_invents_none(
    records: list[Record], at: int, junk: bytes
) -> None:
    data, offsets = encode(records)
    at %= len(data) + 1
    damaged = (data[:at] + junk + data[at + len(junk) :])[: max(len(data), at)]
    ends = [*offsets[1:], len(data)]
    untouched = [
        each
        for each, start, end in zip(records, offsets, ends, strict=False)
        if damaged[start:end] == data[start:end]
    ]
    frames = list(framing.decode_frames(damaged, SALT, 0))
    assert [frame.record for frame in frames if frame.record] == untouched
    assert "".join("x" * (frame.end - frame.start) for frame in frames) == "x" * len(damaged)


@given(records=some_records, size=st.integers(min_value=0))
def test_a_cut_anywhere_leaves_every_whole_record_and_one_torn_tail(
    records: list[Record], size: int
) -> None:
    data, offsets = encode(records)
    size %= len(data) + 1
    ends = [*offsets[1:], len(data)]
    whole = [r for r, end in zip(records, ends, strict=False) if end <= size]
    frames = list(framing.decode_frames(data[:size], SALT, 0))
    assert [frame.record for frame in frames if frame.record] == whole
    assert all(frame.torn for frame in frames if not frame.record)


def test_looking_for_the_next_frame_in_hostile_bytes_takes_linear_time() -> None:
    """A payload made of markers with huge sizes makes nobody hash it over and over."""
    hostile = (b"\xf5rec\x10\x00\x07\xff\xff" * (1 << 17))[: 1 << 20]
    data, _ = encode([Record(id="a", payload=hostile), Record(id="b", payload=b"found")])
    started = time.process_time()
    frames = list(framing.decode_frames(b"\x00" + data[1:], SALT, 0))
    assert time.process_time() - started < 5
    assert [frame.record.id for frame in frames if frame.record] == ["b"]


@pytest.mark.parametrize("check", [framing._digest, framing._head_crc])
def test_both_checks_of_a_frame_depend_on_its_segment_and_its_place(
    check: Callable[[bytes, bytes, int], object],
) -> None:
    assert check(b"frame", SALT, 7) == check(b"frame", SALT, 7)
    others = [check(b"frame", SALT, 8), check(b"frame", SALT[::-1], 7), check(b"Frame", SALT, 7)]
    assert check(b"frame", SALT, 7) not in others


# --- sealed payloads ------------------------------------------------------------------------------


def xor(key: int) -> Callable[[bytes], bytes]:
    """A toy cipher with a check, so that a wrong key is noticed."""

    def seal(payload: bytes) -> bytes:
        return bytes(b ^ key for b in b"ok" + payload)

    return seal


def unxor(key: int) -> Callable[[bytes], bytes]:
    def unseal(sealed: bytes) -> bytes:
        plain = bytes(b ^ key for b in sealed)
        if not plain.startswith(b"ok"):
            raise ArithmeticError("wrong key")
        return plain[2:]

    return unseal


async def test_sealed_payloads_are_unreadable_on_the_disk_and_come_back_plain(root: Path) -> None:
    await leave(root, numbered(3), seal=xor(7), unseal=unxor(7))
    assert all(b"payload" not in path.read_bytes() for path in segments(root))
    assert await recover(root, seal=xor(7), unseal=unxor(7)) == numbered(3)


async def test_a_spool_reads_what_was_written_before_sealing_was_switched_on_and_after(
    root: Path,
) -> None:
    await leave(root, numbered(2))
    await leave(root, numbered(2, start=2), seal=xor(7), unseal=unxor(7))
    assert await recover(root, unseal=unxor(7)) == numbered(4)


async def test_a_sealed_folder_waits_untouched_until_somebody_has_the_key(root: Path) -> None:
    folder = await leave(root, numbered(2), seal=xor(7), unseal=unxor(7))
    plain = await leave(root, numbered(1, start=2))
    with capture_logs() as logs:
        assert await recover(root) == numbered(1, start=2)
    (entry,) = (e for e in logs if e["event"] == "spool_folder_sealed")
    assert entry["path"] == str(folder)
    assert folder.exists()
    assert not plain.exists()
    assert await recover(root, unseal=unxor(7)) == numbered(2)


async def test_a_payload_that_cannot_be_unsealed_is_set_aside_not_lost(root: Path) -> None:
    folder = await leave(root, numbered(2), seal=xor(7), unseal=unxor(7))
    await leave(root, numbered(1, start=2), seal=xor(9), unseal=unxor(9))
    with capture_logs() as logs:
        assert await recover(root, unseal=unxor(9)) == numbered(1, start=2)
    assert "ArithmeticError" in str(logs)
    assert "payload 0" not in str(logs)
    folder.mkdir()
    (root / f"{folder.name}-00000001.damaged").rename(folder / "00000001.seg")
    assert await recover(root, unseal=unxor(7)) == numbered(2), "with the right key it is whole"


def test_sealing_without_the_means_to_unseal_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="unseal"):
        open_spool(root, seal=xor(7))


async def test_a_seal_that_fails_fails_its_own_append_only(root: Path) -> None:
    def seal(payload: bytes) -> bytes:
        if payload == b"bad":
            raise ArithmeticError("no")
        return payload

    async with open_spool(root, seal=seal, unseal=bytes) as spool:
        results = await asyncio.gather(
            spool.append([record(0)]), spool.append([record(1, b"bad")]), return_exceptions=True
        )
        assert [type(r) for r in results] == [type(None), ArithmeticError]
        assert spool.pending == 1


# --- adoption -------------------------------------------------------------------------------------


async def test_dead_folders_are_drained_oldest_first_and_before_one_s_own(root: Path) -> None:
    for start in (0, 2, 4):
        await leave(root, numbered(2, start=start))
    async with open_spool(root) as spool:
        await spool.append(numbered(2, start=6))
        assert await spool.adopt_dead() == 6
        assert spool.pending == 8
        assert await spool.adopt_dead() == 0
        inbox = Inbox()
        await spool.drain(inbox)
        assert inbox.records == numbered(8)
        assert len(folders(root)) == 1, "only its own folder is left"


async def test_age_is_kept_when_the_clock_is_set_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave(root, numbered(2))
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3600 * 10**9)
    await leave(root, numbered(2, start=2))
    assert await recover(root) == numbered(4)


async def test_a_living_process_s_folder_is_not_adopted(root: Path) -> None:
    async with open_spool(root) as living, open_spool(root) as other:
        await living.append(numbered(2))
        assert await other.adopt_dead() == 0
        assert await living.adopt_dead() == 0
        inbox = Inbox()
        assert await other.drain(inbox) == 0
        assert await living.drain(inbox) == 2


async def test_what_an_adopter_did_not_drain_is_adopted_again(root: Path) -> None:
    await leave(root, numbered(3))
    async with open_spool(root) as spool:
        assert await spool.adopt_dead() == 3
    assert await recover(root) == numbered(3)


async def test_a_folder_that_cannot_be_locked_is_reported_and_does_not_stop_the_start(
    root: Path,
) -> None:
    broken = await leave(root, numbered(1))
    (broken / "lock").unlink()
    (broken / "lock").mkdir()
    await leave(root, numbered(2, start=1))
    with capture_logs() as logs:
        assert await recover(root) == numbered(2, start=1)
    assert [(e["event"], e["path"]) for e in logs if e["log_level"] == "error"] == [
        ("spool_folder_unreadable", str(broken))
    ]
    assert (broken / "00000001.seg").exists()


async def test_other_things_in_the_root_are_left_alone(root: Path) -> None:
    folder = await leave(root, numbered(1))
    (root / "lost+found").mkdir()
    (root / "notes.txt").write_text("mine")
    (folder / "notes.txt").write_text("mine too")
    with capture_logs() as logs:
        assert await recover(root) == numbered(1)
    assert [e["event"] for e in logs if e["log_level"] == "warning"] == ["spool_folder_not_removed"]
    assert (root / "lost+found").is_dir()
    assert (root / "notes.txt").read_text() == "mine"
    assert (folder / "notes.txt").read_text() == "mine too"


# --- real processes, really killed ----------------------------------------------------------------

CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
import structlog
from hub.spool import Record, Spool

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
what, root, cycle = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

def say(*ids):
    sys.stdout.write("".join(i + "\\n" for i in ids))
    sys.stdout.flush()

async def append(spool):
    numbers = iter(range(10**9))
    async def worker(size):
        while True:
            records = [Record(id=f"in_{cycle:02d}{next(numbers):08d}", payload=b"x" * size)
                       for _ in range(1 + size % 3)]
            await spool.append(records)
            say(*(r.id for r in records))
    await asyncio.gather(*(worker(size) for size in range(16)))

async def drain(spool):
    async def deliver(records):
        say(*(r.id for r in records))
        if records[-1].id >= "in_000060":
            os.kill(os.getpid(), signal.SIGKILL)
    await spool.drain(deliver, batch=7)

async def main():
    async with Spool.open(root, max_bytes=1 << 28, segment_bytes=2048, reserve_bytes=0) as spool:
        if what == "contend":
            say("ready")
            sys.stdin.readline()
        await spool.adopt_dead()
        if what == "append":
            await append(spool)
        elif what == "drain":
            await drain(spool)
        elif what == "hold":
            say(str(spool.pending))
            await asyncio.Event().wait()
        elif what == "contend":
            async def deliver(records):
                say(*(r.id for r in records))
            await spool.drain(deliver)

asyncio.run(main())
"""


@asynccontextmanager
async def child(what: str, root: Path, cycle: int = 0) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CHILD,
        what,
        str(root),
        str(cycle),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def lines(process: asyncio.subprocess.Process, count: int | None = None) -> list[str]:
    """That many whole lines, or all until the process ends; a torn last line was never said."""
    assert process.stdout is not None
    said: list[str] = []
    while count is None or len(said) < count:
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        if not line.endswith(b"\n"):
            break
        said.append(line.decode().strip())
    return said


@pytest.mark.soak
async def test_nothing_acknowledged_is_lost_doubled_or_reordered_by_kill_9(root: Path) -> None:
    """Each child adopts what the killed ones before it left, and is killed while it appends."""
    dice = random.Random(20)
    acknowledged: list[str] = []
    for cycle in range(KILLS):
        async with child("append", root, cycle) as process:
            acknowledged += await lines(process, dice.randrange(1, 400))
            process.kill()
            acknowledged += await lines(process)
    assert len(folders(root)) == KILLS
    delivered = ids(await recover(root))
    assert set(acknowledged) <= set(delivered)
    assert delivered == sorted(set(delivered))
    assert contents(root) == ["lock"]


async def test_a_crash_between_deliver_and_delete_delivers_again_and_loses_nothing(
    root: Path,
) -> None:
    await leave(root, numbered(100), segment_bytes=1024)
    before = len(segments(root))
    async with child("drain", root) as process:
        first = await lines(process)
    assert first == ids(numbered(len(first)))
    assert 60 < len(first) < 100
    assert len(segments(root)) < before, "what was delivered whole is gone already"
    again = ids(await recover(root))
    assert again == ids(numbered(100))[-len(again) :], "from the start of the segment in doubt"
    assert first[-1] in again
    assert sorted({*first, *again}) == ids(numbered(100))


async def test_the_folder_of_an_adopter_that_died_is_adopted_again(root: Path) -> None:
    await leave(root, numbered(10))
    async with child("hold", root) as process:
        assert await lines(process, 1) == ["10"]
        async with open_spool(root) as spool:
            assert await spool.adopt_dead() == 0, "the first adopter lives"
        process.kill()
        await process.wait()
    assert await recover(root) == numbered(10)


async def test_processes_that_start_at_once_never_adopt_the_same_folder(root: Path) -> None:
    for start in range(0, 60, 2):
        await leave(root, numbered(2, start=start))
    async with (
        child("contend", root) as one,
        child("contend", root) as two,
        child("contend", root) as three,
    ):
        racers = [one, two, three]
        for racer in racers:
            assert await lines(racer, 1) == ["ready"]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(b"go\n")
        taken = await asyncio.gather(*(lines(racer) for racer in racers))
        assert [await racer.wait() for racer in racers] == [0, 0, 0]
    assert sorted(chain(*taken)) == ids(numbered(60)), "every record once"
    assert all(each == sorted(each) for each in taken)
    assert contents(root) == ["lock"]
