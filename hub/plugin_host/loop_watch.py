"""Notices that the event loop does not turn, and names the line that holds it up.

A plugin that blocks (a request without ``await``, a regular expression gone wild) stops every
channel at once. It cannot be cut off, so it is named: in the log while it lasts, and in what
:meth:`LoopWatch.recent` returns.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import datetime

import msgspec
import structlog

from hub.clock import SystemClock
from hub.plugin_host.owners import Owners

_log = structlog.get_logger(__name__)


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    """One time that the event loop stood still, noticed at ``at``; ``seconds``: None = it lasts.

    ``plugin`` is whose code held it up, empty when it was nobody's; ``where`` is the line;
    ``asked`` is the plugin whose hook was being called, empty outside of hooks.
    """

    at: datetime
    plugin: str
    where: str
    asked: str
    seconds: float | None = None

    def __str__(self) -> str:
        whose = f"plugin {self.plugin}, " if self.plugin else ""
        lasted = "still lasting" if self.seconds is None else f"{self.seconds:.1f} s"
        return f"{whose}{self.where} ({lasted}, noticed {self.at:%H:%M:%S} UTC)"


class LoopWatch:
    """A thread that looks for the event loop's signs of life, and tells when none come.

    The loop gives one five times within ``threshold_s``, the time that it may stand still.
    ``asked`` says whose hook is being called, see ``PluginHost.current``; ``keep`` is how many
    stalls :meth:`recent` remembers.
    """

    def __init__(
        self,
        owners: Owners,
        asked: Callable[[], str] = lambda: "",
        *,
        threshold_s: float = 0.5,
        keep: int = 20,
    ) -> None:
        self._owners = owners
        self._asked = asked
        self._threshold_s = threshold_s
        self._pause_s = threshold_s / 5
        self._keep = keep
        self._stalls: tuple[Stall, ...] = ()  # replaced as a whole: two threads look at it
        self._last_turn = 0.0
        self._turned = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Watch the running loop. Call it on the loop's own thread."""
        if self._thread is not None:
            raise RuntimeError("the loop is watched already")
        loop = asyncio.get_running_loop()
        self._stopping.clear()
        self._turn(loop)
        self._thread = threading.Thread(
            target=self._watch,
            args=(loop, threading.get_ident()),
            name="omniline-loop-watch",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns at once, and may be called twice."""
        if self._thread is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._stopping.set()
        self._turned.set()
        self._thread.join()
        self._thread = None

    def recent(self, within_s: float = math.inf) -> tuple[Stall, ...]:
        """The last stalls, oldest first; of those that are over only the ones of ``within_s``."""
        now = SystemClock().now()
        return tuple(
            stall
            for stall in self._stalls
            if stall.seconds is None or (now - stall.at).total_seconds() <= within_s
        )

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._last_turn = time.monotonic()
        self._turned.set()
        self._timer = loop.call_later(self._pause_s, self._turn, loop)

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        while True:
            asleep, cpu = time.monotonic(), time.process_time()
            if self._stopping.wait(self._pause_s) or loop.is_closed():
                return
            now, last_turn = time.monotonic(), self._last_turn
            if now - last_turn <= self._threshold_s or not loop.is_running():
                continue
            # C code that keeps the interpreter's lock makes this thread oversleep as well, and
            # uses the processor meanwhile. If nobody did, the whole process was stopped.
            late = now - asleep - self._pause_s
            if late <= self._threshold_s or time.process_time() - cpu > late / 2:
                self._tell(last_turn, thread)

    def _tell(self, last_turn: float, thread: int) -> None:
        frame = sys._current_frames().get(thread)
        place = self._owners.innermost(traceback.walk_stack(frame) if frame else ())
        stall = Stall(
            at=SystemClock().now(), plugin=place.plugin, where=place.where, asked=self._asked()
        )
        before = (*self._stalls, stall)[-self._keep : -1]
        self._stalls = (*before, stall)
        _log.warning(
            "event_loop_blocked",
            plugin=stall.plugin,
            where=stall.where,
            asked=stall.asked,
            longer_than_s=self._threshold_s,
        )
        self._turned.clear()
        if self._last_turn == last_turn and not self._stopping.is_set():
            self._turned.wait()
        seconds = round(time.monotonic() - last_turn, 3)
        self._stalls = (*before, msgspec.structs.replace(stall, seconds=seconds))
        _log.info("event_loop_turns_again", plugin=stall.plugin, seconds=seconds)
