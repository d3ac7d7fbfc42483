"""Calls one plugin's hook: with a deadline, with a record of its failures, and without harm.

Nothing that a plugin does leaves here as an exception: it becomes an `Answer` with an error and a
line in the log, under the plugin's name.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec
import structlog
from pluggy import HookImpl

from hub.clock import Clock
from hub.plugin_host.owners import Owners, Place
from hub.plugin_host.strikes import SUSPENDED_S, Strikes

_GRACE_S = 0.1  # what a call that was cut may use to tidy up

_log = structlog.get_logger(__name__)


class HookFailed(Exception):
    """A plugin did not answer a hook. ``__cause__`` is what it raised, if it raised.

    The text names a line, not the exception's own words: they may quote a customer.
    """

    def __init__(self, plugin: str, hook: str, reason: str) -> None:
        super().__init__(f'plugin "{plugin}", hook {hook}: {reason}')
        self.plugin = plugin
        self.hook = hook
        self.reason = reason


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one plugin said: ``value``, or ``error`` when it failed or is suspended."""

    plugin: str
    value: Any = None
    error: HookFailed | None = None
    suspended: bool = False  # it was not asked, because it failed too often


class HookState(msgspec.Struct, frozen=True, kw_only=True):
    """How a plugin does at one hook. ``failures`` are those in a row, ``reason`` is the last."""

    plugin: str
    hook: str
    state: Literal["ok", "failing", "suspended", "trying"]
    failures: int
    reason: str
    retry_in_s: float


class Wanted(msgspec.Struct, frozen=True):
    """What the hub expects of an answer; see ``PluginHost.ask``."""

    deadline_s: float
    items: int | None = None
    kind: type | tuple[type, ...] | None = None


class HookCalls:
    """Makes the calls and remembers how they went, for each plugin and hook."""

    def __init__(self, owners: Owners, clock: Clock) -> None:
        self.trace = False
        self._owners = owners
        self._clock = clock
        self._strikes: dict[tuple[str, str], Strikes] = {}
        self._tasks: dict[asyncio.Task[Any], tuple[str, str]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calling = ""

    async def call(
        self, implementation: HookImpl, hook: str, wanted: Wanted, given: Mapping[str, Any]
    ) -> Answer:
        """Ask one plugin, unless it is suspended. Raises what is not the plugin's: a cancel."""
        plugin = implementation.plugin_name
        strikes = self._strikes.setdefault((plugin, hook), Strikes(self._clock.monotonic))
        admission = strikes.admit()
        if admission == "trial" and (plugin, hook) in self._tasks.values():
            strikes.abandon(admission)  # a call that was cut does not end: one of them is enough
            admission = "skip"
        if admission == "skip":
            reason = f"suspended after: {strikes.reason}"
            skipped = HookFailed(plugin, hook, reason)
            return Answer(plugin=plugin, error=skipped, suspended=True)
        began = self._clock.monotonic()
        value, error, failure, hang = None, None, "", False
        try:
            value, blocked_s = await self._answer(implementation, hook, wanted, given)
        except Exception as raised:  # noqa: BLE001 - logged below under the plugin's name
            failure, hang = self._reason(raised), isinstance(raised, _Hung)
            error = HookFailed(plugin, hook, failure)
            error.__cause__ = raised
        except BaseException:
            strikes.abandon(admission)
            raise
        else:
            hang = blocked_s > wanted.deadline_s
            if hang:  # the answer is there and good, but everybody paid for it
                failure = f"blocked the event loop for {blocked_s:.1f} s"
        took_ms = round((self._clock.monotonic() - began) * 1000, 1)
        turn = strikes.settle(admission, failure, hang=hang)
        if failure:
            _log.warning(
                "plugin_hook_failed", plugin=plugin, hook=hook, reason=failure, took_ms=took_ms
            )
        if turn == "suspended":
            _log.error("plugin_suspended", plugin=plugin, hook=hook, seconds=SUSPENDED_S)
        elif turn == "recovered":
            _log.info("plugin_recovered", plugin=plugin, hook=hook)
        if self.trace:
            _log.info(
                "plugin_hook_called",
                plugin=plugin,
                hook=hook,
                arguments={name: abbreviated(argument) for name, argument in given.items()},
                answer=abbreviated(value),
                failure=failure,
                took_ms=took_ms,
            )
        return Answer(plugin=plugin, value=value, error=error)

    def states(self) -> list[HookState]:
        return [
            HookState(
                plugin=plugin,
                hook=hook,
                state=strikes.state,
                failures=strikes.failures,
                reason=strikes.reason,
                retry_in_s=strikes.retry_in_s,
            )
            for (plugin, hook), strikes in self._strikes.items()
        ]

    @property
    def current(self) -> str:
        """The plugin whose hook is being executed right now; any thread may ask."""
        if self._calling or self._loop is None:
            return self._calling
        task = asyncio.current_task(self._loop)
        whose = self._tasks.get(task) if task else None
        return whose[0] if whose else ""

    async def aclose(self) -> None:
        """Cancel calls that outlived their deadline, and give them a moment to end."""
        await self._cut(list(self._tasks))

    async def _answer(
        self, implementation: HookImpl, hook: str, wanted: Wanted, given: Mapping[str, Any]
    ) -> tuple[Any, float]:
        """Return the answer, and the seconds until the call returned at all."""
        plugin = implementation.plugin_name
        began = self._clock.monotonic()
        self._calling = plugin
        try:
            value = invoke(implementation, given)
        except (SystemExit, asyncio.CancelledError, StopIteration) as raised:
            raise _Stopped from raised
        finally:
            self._calling = ""
        blocked_s = self._clock.monotonic() - began
        if inspect.isawaitable(value):
            value = await self._finished(value, (plugin, hook), wanted.deadline_s)
        return _checked(value, wanted), blocked_s

    async def _finished(
        self, awaitable: Awaitable[Any], whose: tuple[str, str], deadline_s: float
    ) -> Any:
        # In a task of its own, because one that does not let itself be cancelled is left behind.
        self._loop = asyncio.get_running_loop()
        task = self._loop.create_task(_awaited(awaitable), name=f"plugin {' '.join(whose)}")
        self._tasks[task] = whose
        task.add_done_callback(self._done)
        try:
            await asyncio.wait({task}, timeout=deadline_s)
        except asyncio.CancelledError:
            await self._cut([task])
            raise
        if not task.done():
            await self._cut([task])
            raise _Hung(f"no answer within {deadline_s:g} s")
        return task.result()

    async def _cut(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            _, running = await asyncio.wait(tasks, timeout=_GRACE_S)
            for plugin, hook in (self._tasks[task] for task in running):
                _log.error("plugin_ignores_cancellation", plugin=plugin, hook=hook)

    def _done(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]
        if not task.cancelled():
            task.exception()  # fetched, or asyncio would report it a second time

    def _reason(self, raised: Exception) -> str:
        if isinstance(raised, _Hung | _Wrong):
            return str(raised)
        cause = raised.__cause__ if isinstance(raised, _Stopped) and raised.__cause__ else raised
        return describe(cause, self._owners)


class _Hung(Exception):
    """The deadline passed."""


class _Wrong(Exception):
    """The answer is not what the hook must return."""


class _Stopped(Exception):
    """The plugin raised what would stop the task or the process; it stands in the cause."""


def describe(raised: BaseException, owners: Owners) -> str:
    """The exception's type and the plugin's own line, without the exception's words."""
    places: list[Place] = []
    link: BaseException | None = raised
    # Python itself may have put another exception around the plugin's. Causes can form a circle.
    while link is not None and len(places) < 10:
        frames = list(traceback.walk_tb(link.__traceback__))
        places.append(owners.innermost(reversed(frames)))
        link = link.__cause__
    place = next((place for place in places if place.plugin), places[0])
    return f"{type(raised).__name__} at {place.where}"


def invoke(implementation: HookImpl, given: Mapping[str, Any]) -> Any:
    """Call an implementation with those of the arguments that it declares.

    pluggy would leave out the ones that have a default, and the plugin would never see them.
    """
    more = {name: given[name] for name in implementation.kwargnames if name in given}
    return implementation.function(*(given[name] for name in implementation.argnames), **more)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except SystemExit as raised:  # would end the event loop
        raise _Stopped from raised
    except asyncio.CancelledError as raised:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise _Stopped from raised  # the plugin's own doing: nobody has cancelled it


def _checked(value: Any, wanted: Wanted) -> Any:
    """Return the answer, a batch as a list of our own, or raise what is wrong with it."""
    answers = [value]
    if wanted.items is not None:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
            raise _Wrong(f"answered {abbreviated(value)}, not a sequence of {wanted.items}")
        value = answers = list(value)
        if len(answers) != wanted.items:
            raise _Wrong(f"gave {len(answers)} answers to {wanted.items} questions")
    if wanted.kind is not None:
        for answer in answers:
            if answer is not None and not isinstance(answer, wanted.kind):
                kinds = wanted.kind if isinstance(wanted.kind, tuple) else (wanted.kind,)
                expected = " or ".join(kind.__name__ for kind in kinds)
                raise _Wrong(f"answered {abbreviated(answer)}, not {expected} or None")
    return value


_COUNTED = (list, tuple, set, frozenset, dict, str, bytes)  # a plugin's own types may misbehave


def abbreviated(value: Any) -> str:
    """What a value is, without what is in it: logs must not show messages or secrets."""
    if value is None or isinstance(value, bool):
        return str(value)
    kind = type(value)
    if kind not in _COUNTED:
        return kind.__name__
    inside = ""
    if kind not in (dict, str, bytes):
        inside = "/".join(sorted({type(item).__name__ for item in value}))
    return f"{kind.__name__} of {len(value)} {inside}".rstrip()
