"""The plugin host: what it finds, what it refuses, and that one plugin's failure stays its own.

Plugins are real modules; those that must be found lie in files, folders and distributions made for
the test. The clock of suspensions is a fake; deadlines and blocked loops are real.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
import types
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from hub import Connector, RawTable, TicketBackend, hookimpl
from hub.config import load_text
from hub.plugin_host import Answer, HookFailed, PluginError, PluginHost, loop_watch, shadowing
from hub.plugin_host.calls import abbreviated
from hub.plugin_host.loop_watch import LoopWatch, Stall
from hub.plugin_host.strikes import Strikes

HOOK = "ticket_event_seen"


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def host(clock: Clock) -> PluginHost:
    return PluginHost(clock=clock, deadline_s=5)


def plugin(**members: Any) -> types.ModuleType:
    """A plugin module with these members; functions become hook implementations."""
    module = types.ModuleType(f"made_for_test_{id(members)}")
    module.__dict__.update({"omniline_api": 1, **members})
    for name, member in members.items():
        if isinstance(member, types.FunctionType) and not hasattr(member, "omniline_impl"):
            setattr(module, name, hookimpl(member))
    return module


def hearing(act: Callable[[Any], Any]) -> types.ModuleType:
    """A plugin that does ``act(event)`` at the hook that these tests ask."""

    def ticket_event_seen(event: Any) -> Any:
        return act(event)

    return plugin(ticket_event_seen=ticket_event_seen)


def fail(event: Any) -> None:
    raise ValueError("the customer +8613800000000 says hello")


class Moody:
    """A plugin's behaviour that a test switches; counts how often it was called."""

    def __init__(self, act: Callable[[Any], Any]) -> None:
        self.act = act
        self.calls = 0

    def __call__(self, event: Any) -> Any:
        self.calls += 1
        return self.act(event)


async def heard(host: PluginHost) -> list[Answer]:
    return await host.ask(HOOK, event={"id": "1"})


def refused(host: PluginHost, module: object, name: str = "odd") -> str:
    with pytest.raises(PluginError) as error:
        host.add(module, name)
    assert name not in host.plugins()
    assert f'plugin "{name}"' in str(error.value)
    return str(error.value)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Write importable files below a folder on ``sys.path``; they are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def write(path: str, text: str) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


# --- asking ------------------------------------------------------------------------------------


async def test_plugins_are_asked_in_the_order_of_their_tables_and_the_others_follow() -> None:
    host = PluginHost({"third": RawTable.of({}), "second": RawTable.of({})})
    order: list[str] = []
    for name in ("first", "second", "third"):
        host.add(hearing(lambda _, name=name: order.append(name)), name)  # type: ignore[misc]
    answers = await heard(host)
    assert order == ["third", "second", "first"] == [answer.plugin for answer in answers]
    assert host.plugins() == order


async def test_an_implementation_gets_the_arguments_it_declares_and_those_with_defaults(
    host: PluginHost,
) -> None:
    def nothing() -> str:
        return "nothing"

    def with_default(backend: str, entry: str = "default") -> str:
        return f"{backend} {entry}"

    host.add(plugin(render_for_ticket=nothing), "none")
    host.add(plugin(render_for_ticket=with_default), "some")
    answers = await host.ask("render_for_ticket", entry="entry", backend="zammad")
    assert [answer.value for answer in answers] == ["nothing", "zammad entry"]


async def test_a_raising_plugin_is_named_and_does_not_disturb_the_others(host: PluginHost) -> None:
    host.add(hearing(lambda _: "before"), "before")
    host.add(hearing(fail), "broken")
    host.add(hearing(lambda _: "after"), "after")
    with capture_logs() as logs:
        before, broken, after = await heard(host)
    assert (before.value, after.value) == ("before", "after")
    assert broken.value is None
    assert isinstance(broken.error, HookFailed)
    assert (broken.error.plugin, broken.error.hook) == ("broken", HOOK)
    assert isinstance(broken.error.__cause__, ValueError)
    (line,) = logs
    assert (line["event"], line["plugin"], line["hook"]) == ("plugin_hook_failed", "broken", HOOK)
    assert re.fullmatch(r"ValueError at tests\.test_plugin_host:\d+ in fail", line["reason"])
    assert "13800000000" not in f"{logs} {broken.error} {host.states()}"


async def test_what_would_end_the_process_or_the_task_is_a_failure_like_any_other(
    host: PluginHost,
) -> None:
    def raising(error: type[BaseException]) -> Callable[[Any], Any]:
        def act(event: Any) -> None:
            raise error

        return act

    def raising_later(error: type[BaseException]) -> Callable[[Any], Any]:
        async def act(event: Any) -> None:
            raise error

        return act

    kinds: tuple[type[BaseException], ...] = (SystemExit, asyncio.CancelledError, StopIteration)
    for kind in kinds:
        host.add(hearing(raising(kind)), f"{kind.__name__.lower()}")
        host.add(hearing(raising_later(kind)), f"{kind.__name__.lower()}-later")
    host.add(hearing(lambda _: "last"), "last")
    host.owners.add("of these tests", __name__)
    *failed, last = await heard(host)
    assert last.value == "last"
    assert len(failed) == 6
    for answer in failed:
        assert answer.error is not None
        assert " at tests.test_plugin_host:" in answer.error.reason
        assert answer.error.reason.startswith(("SystemExit", "Cancelled", "Stop", "Runtime"))


async def test_a_plugin_whose_objects_misbehave_or_whose_causes_form_a_circle_is_survived(
    host: PluginHost,
) -> None:
    class Trap(list[int]):
        def __len__(self) -> int:
            raise RuntimeError("trap")

        def __iter__(self) -> Iterator[int]:
            raise RuntimeError("trap")

    def circle(messages: Any) -> None:
        error = ValueError("round")
        raise error from error

    host.trace = True
    host.add(plugin(choose_ticket_route=lambda messages: Trap()), "trap")
    host.add(plugin(choose_ticket_route=circle), "circle")
    trap, round_ = await host.ask("choose_ticket_route", items=1, messages=Trap())
    assert trap.error is not None
    assert trap.error.reason.startswith("RuntimeError at tests.test_plugin_host:")
    assert round_.error is not None
    assert round_.error.reason.startswith("ValueError at tests.test_plugin_host:")
    assert (await host.ask("choose_ticket_route", messages=[]))[0].error is None


async def test_answers_may_be_awaitable_and_are_awaited_one_after_the_other(
    host: PluginHost,
) -> None:
    steps: list[str] = []

    class Later:
        def __await__(self) -> Iterator[Any]:
            yield from asyncio.sleep(0).__await__()
            return "later"

    async def slow(event: Any) -> str:
        steps.append("begin")
        await asyncio.sleep(0)
        steps.append("end")
        return "slow"

    host.add(hearing(slow), "one")
    host.add(hearing(slow), "two")
    host.add(hearing(lambda _: Later()), "three")
    assert [answer.value for answer in await heard(host)] == ["slow", "slow", "later"]
    assert steps == ["begin", "end"] * 2


async def test_a_hanging_plugin_is_cut_at_the_deadline_and_may_tidy_up() -> None:
    host = PluginHost(deadline_s=0.05)
    tidied = []

    async def hang(event: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tidied.append(True)

    host.add(hearing(hang), "slow")
    host.add(hearing(lambda _: "well"), "well")
    slow, well = await asyncio.wait_for(heard(host), 10)
    assert slow.error is not None
    assert slow.error.reason == "no answer within 0.05 s"
    assert well.value == "well"
    assert tidied == [True]


async def test_a_single_question_can_have_a_deadline_of_its_own() -> None:
    host = PluginHost(deadline_s=0.01)
    released = asyncio.Event()

    async def wait(event: Any) -> str:
        await released.wait()
        return "done"

    host.add(hearing(wait), "slow")
    asyncio.get_running_loop().call_later(0.1, released.set)
    (answer,) = await host.ask(HOOK, deadline_s=20, event={})
    assert answer.value == "done"


async def test_a_plugin_that_ignores_its_cancellation_is_left_behind(clock: Clock) -> None:
    host = PluginHost(deadline_s=0.01, clock=clock)
    stubborn = asyncio.Event()

    async def ignore(event: Any) -> None:
        while not stubborn.is_set():
            try:
                await stubborn.wait()
            except asyncio.CancelledError:
                continue

    moody = Moody(ignore)
    host.add(hearing(moody), "stubborn")
    with capture_logs() as logs:
        await asyncio.wait_for(heard(host), 10)
        await asyncio.wait_for(heard(host), 10)
    assert [line["event"] for line in logs].count("plugin_ignores_cancellation") == 2
    clock.seconds += 61
    (answer,) = await heard(host)
    assert answer.error is not None
    assert moody.calls == 2, "it is not tried again while its old calls still run"
    stubborn.set()
    await host.aclose()
    moody.act = lambda _: "at last"
    assert [answer.value for answer in await heard(host)] == ["at last"]


async def test_a_cancelled_caller_ends_the_plugins_work_and_blames_nobody(clock: Clock) -> None:
    host = PluginHost(clock=clock)
    began, ended = asyncio.Event(), asyncio.Event()

    async def work(event: Any) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    host.add(hearing(work), "busy")
    asking = asyncio.create_task(heard(host))
    await began.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert ended.is_set()
    assert [state.state for state in host.states()] == ["ok"]


async def test_one_plugin_can_be_asked_alone(host: PluginHost) -> None:
    one, two = Moody(lambda _: "one"), Moody(lambda _: "two")
    host.add(hearing(one), "one")
    host.add(hearing(two), "two")
    answer = await host.ask_one("two", HOOK, event={})
    assert answer == Answer(plugin="two", value="two")
    assert (one.calls, two.calls) == (0, 1)
    assert await host.ask_one("two", "plugin_stopped", context=None) is None


async def test_a_wrong_question_is_the_callers_mistake(host: PluginHost) -> None:
    with pytest.raises(LookupError, match="no hook"):
        await host.ask("ticket_event_sen", event={})
    with pytest.raises(TypeError, match=r"ticket_event_seen takes \(event\), not \(evnt\)"):
        await host.ask(HOOK, evnt={})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([1], "gave 1 answers to 2 questions"),
        ([1, 2, 3], "gave 3 answers to 2 questions"),
        (None, "answered None, not a sequence of 2"),
        ("ab", "answered str of 2, not a sequence of 2"),
        ({1, 2}, "answered set of 2 int, not a sequence of 2"),
        ([1, "x"], "answered str of 1, not int or None"),
    ],
)
async def test_a_batch_needs_as_many_answers_as_questions_and_of_the_right_kind(
    host: PluginHost, answer: Any, reason: str
) -> None:
    host.add(plugin(choose_ticket_route=lambda messages: answer), "wrong")
    host.add(plugin(choose_ticket_route=lambda messages: (1, None)), "right")
    wrong, right = await host.ask("choose_ticket_route", items=2, kind=int, messages=["a", "b"])
    assert wrong.value is None
    assert wrong.error is not None
    assert wrong.error.reason == reason
    assert right.value == [1, None]


# --- suspension --------------------------------------------------------------------------------


async def test_a_plugin_that_keeps_failing_is_left_alone_and_later_tried_once(
    host: PluginHost, clock: Clock
) -> None:
    moody, well = Moody(fail), Moody(lambda _: "well")
    host.add(hearing(moody), "moody")
    host.add(hearing(well), "well")
    with capture_logs() as logs:
        for _ in range(8):
            await heard(host)
    assert (moody.calls, well.calls) == (5, 8)
    assert [line["event"] for line in logs].count("plugin_suspended") == 1
    state = next(state for state in host.states() if state.plugin == "moody")
    assert (state.state, state.hook, state.failures) == ("suspended", HOOK, 5)
    assert state.retry_in_s == 60
    assert state.reason.startswith("ValueError at ")
    skipped = (await heard(host))[0]
    assert skipped.error is not None
    assert skipped.error.reason.startswith("suspended after: ValueError")

    clock.seconds += 60
    await heard(host)
    await heard(host)
    assert moody.calls == 6, "the trial failed: it is left alone again"

    clock.seconds += 60
    moody.act = lambda _: "recovered"
    with capture_logs() as logs:
        assert (await heard(host))[0].value == "recovered"
    assert [line["event"] for line in logs] == ["plugin_recovered"]
    moody.act = fail
    for _ in range(6):
        await heard(host)
    assert moody.calls == 7 + 5, "after recovery it has all its chances again"


async def test_a_plugin_is_suspended_for_the_failing_hook_only(host: PluginHost) -> None:
    module = hearing(fail)
    module.plugin_stopped = hookimpl(lambda: "bye")  # type: ignore[attr-defined]
    host.add(module, "half")
    for _ in range(6):
        await heard(host)
    assert (await host.ask("plugin_stopped", context=None))[0].value == "bye"


async def test_a_success_in_between_starts_the_count_of_failures_anew(host: PluginHost) -> None:
    moody = Moody(fail)
    host.add(hearing(moody), "moody")
    for act in [fail] * 4 + [lambda _: "well"] + [fail] * 4:
        moody.act = act
        await heard(host)
    assert [state.state for state in host.states()] == ["failing"]


async def test_two_hangs_are_enough(clock: Clock) -> None:
    host = PluginHost(deadline_s=0.01, clock=clock)
    moody = Moody(lambda _: asyncio.Event().wait())
    host.add(hearing(moody), "slow")
    for _ in range(3):
        await heard(host)
    assert moody.calls == 2
    assert [state.state for state in host.states()] == ["suspended"]


async def test_a_plugin_that_blocks_longer_than_the_deadline_keeps_its_answer_and_gets_a_strike(
    host: PluginHost, clock: Clock
) -> None:
    def block(event: Any) -> str:
        clock.seconds += 6
        return "late"

    host.add(hearing(block), "blocking")
    assert [(await heard(host))[0].value for _ in range(3)] == ["late", "late", None]
    (state,) = host.states()
    assert (state.state, state.reason) == ("suspended", "blocked the event loop for 6.0 s")


async def test_only_one_call_at_a_time_tries_a_suspended_plugin(
    host: PluginHost, clock: Clock
) -> None:
    moody = Moody(fail)
    host.add(hearing(moody), "moody")
    for _ in range(5):
        await heard(host)
    clock.seconds += 60
    gate = asyncio.Event()

    async def wait(event: Any) -> str:
        await gate.wait()
        return "well"

    moody.act = wait
    trial = asyncio.create_task(heard(host))
    while moody.calls < 6:
        await asyncio.sleep(0)
    assert (await heard(host))[0].error is not None
    assert [state.state for state in host.states()] == ["trying"]
    gate.set()
    assert (await trial)[0].value == "well"
    assert moody.calls == 6


async def test_a_trial_whose_caller_went_away_can_be_repeated(
    host: PluginHost, clock: Clock
) -> None:
    moody = Moody(fail)
    host.add(hearing(moody), "moody")
    for _ in range(5):
        await heard(host)
    clock.seconds += 60
    moody.act = lambda _: asyncio.Event().wait()
    trial = asyncio.create_task(heard(host))
    while moody.calls < 6:
        await asyncio.sleep(0)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    moody.act = lambda _: "well"
    assert (await heard(host))[0].value == "well"


def test_hangs_are_forgotten_after_five_good_answers_in_a_row(clock: Clock) -> None:
    for good, state in ((4, "suspended"), (5, "failing")):
        strikes = Strikes(clock.monotonic)
        strikes.settle("call", "hung", hang=True)
        for _ in range(good):
            strikes.settle("call")
        strikes.settle("call", "hung", hang=True)
        assert strikes.state == state


def test_a_late_good_answer_does_not_lift_a_suspension(clock: Clock) -> None:
    strikes = Strikes(clock.monotonic)
    for _ in range(5):
        strikes.settle("call", "broken")
    strikes.settle("call")
    assert strikes.state == "suspended"


# --- tracing -----------------------------------------------------------------------------------


async def test_tracing_shows_each_call_without_its_contents(host: PluginHost) -> None:
    host.add(plugin(choose_ticket_route=lambda messages: ["private"] * 2), "night")
    host.add(plugin(choose_ticket_route=lambda messages: [1]), "odd")
    host.trace = True
    with capture_logs() as logs:
        await host.ask("choose_ticket_route", items=2, messages=["secret", "+8613800000000"])
    night, odd = [line for line in logs if line["event"] == "plugin_hook_called"]
    assert (night["plugin"], night["hook"]) == ("night", "choose_ticket_route")
    assert night["arguments"] == {"messages": "list of 2 str"}
    assert (night["answer"], night["failure"]) == ("list of 2 str", "")
    assert night["took_ms"] >= 0
    assert (odd["plugin"], odd["failure"]) == ("odd", "gave 1 answers to 2 questions")
    assert not re.search("secret|private|1380000", str(logs))
    host.trace = False
    with capture_logs() as logs:
        await host.ask("choose_ticket_route", items=1, messages=["a"])
    assert "plugin_hook_called" not in str(logs)


def test_values_are_abbreviated_to_types_and_counts() -> None:
    class Model(msgspec.Struct):
        phone: str

    shown = [None, True, 12345, "text", b"raw", {"key": "value"}, (), [1, "x"], Model("+86")]
    assert [abbreviated(value) for value in shown] == [
        "None", "True", "int", "str of 4", "bytes of 3", "dict of 1", "tuple of 0",
        "list of 2 int/str", "Model",
    ]  # fmt: skip


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "words"),
    [
        (None, ["does not say", "has version 1", "Add omniline_api = 1"]),
        (2, ["version 2 ", "has version 1", "Update Omniline"]),
        (0, ["version 0 ", "has version 1", "newer version of the plugin"]),
        ("1", ["version '1' ", "has version 1"]),
        (True, ["version True ", "has version 1"]),
    ],
)
def test_another_version_of_the_interface_is_refused(
    host: PluginHost, api: Any, words: list[str]
) -> None:
    module = hearing(fail)
    module.omniline_api = api  # type: ignore[attr-defined]
    with pytest.raises(PluginError) as error:
        host.add(module, "old", version="3.4")
    assert 'plugin "old" (added by' in str(error.value)
    for word in [*words, " 3.4)"]:
        assert word in str(error.value)
    assert [(info.available, bool(info.reason)) for info in host.installed()] == [(False, True)]


def test_a_misspelt_hook_is_refused_with_the_nearest_one(host: PluginHost) -> None:
    text = refused(host, plugin(choose_tiket_route=lambda messages: []))
    assert 'there is no hook "choose_tiket_route". Did you mean "choose_ticket_route"?' in text


def test_a_misspelt_argument_is_refused(host: PluginHost) -> None:
    text = refused(host, plugin(choose_ticket_route=lambda mesages: []))
    assert "choose_ticket_route" in text
    assert "mesages" in text


def test_an_optional_hook_of_another_version_is_accepted(host: PluginHost) -> None:
    hook = hookimpl(optionalhook=True)(lambda: None)
    host.add(plugin(hook_of_tomorrow=hook, ticket_event_seen=lambda: None), "early")
    assert host.plugins() == ["early"]


async def async_generator(event: Any) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (hookimpl(wrapper=True)(lambda event: (yield)), "is a wrapper"),
        (hookimpl(hookwrapper=True)(lambda event: (yield)), "is a hookwrapper"),
        (hookimpl(tryfirst=True)(lambda event: None), "uses tryfirst"),
        (hookimpl(trylast=True)(lambda event: None), "uses trylast"),
        (hookimpl(lambda event: (yield)), "is a generator"),
        (hookimpl(async_generator), "is a generator"),
    ],
)
def test_what_would_rule_over_other_plugins_or_never_run_is_refused(
    host: PluginHost, function: Any, word: str
) -> None:
    assert f"ticket_event_seen {word}" in refused(host, plugin(ticket_event_seen=function))


def test_a_hook_implemented_twice_or_not_at_all_is_refused(host: PluginHost) -> None:
    again = hookimpl(specname=HOOK)(lambda event: None)
    text = refused(host, plugin(ticket_event_seen=lambda event: None, again=again))
    assert "implements ticket_event_seen twice" in text
    assert "implements no hook" in refused(host, plugin())


def test_names_are_taken_once_and_must_fit_into_the_configuration(host: PluginHost) -> None:
    module = hearing(fail)
    host.add(module, "night")
    with pytest.raises(PluginError, match=r"its name is taken by added by made_for_test"):
        host.add(hearing(fail), "night")
    assert 'registered already, as "night"' in refused(host, module, "day")
    assert "cannot stand in the configuration" in refused(host, hearing(fail), "Night shift")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the made-up channel."""


def connector(channel: Any = "pigeon", **members: Any) -> type[Connector[Any]]:
    body = {
        "channel": channel,
        "settings": Settings,
        "verify": lambda self, request: None,
        "parse": lambda self, verified: (),
        **members,
    }
    return type("Pigeon", (Connector,), body)


def backend(kind: str) -> type[TicketBackend]:
    body: dict[str, Any] = dict.fromkeys(TicketBackend.__abstractmethods__, lambda self: None)
    return type("Desk", (TicketBackend,), {**body, "kind": kind, "settings": Settings})


def offering(*classes: Any) -> types.ModuleType:
    return plugin(register_connectors=lambda config: list(classes))


def test_channels_and_backends_are_told_with_the_plugin_they_came_from(host: PluginHost) -> None:
    pigeon, desk = connector(), backend("desk")
    host.add(
        plugin(
            register_connectors=lambda config: [pigeon],
            register_ticket_backends=lambda: (desk,),
        ),
        "birds",
        version="1.2",
    )
    assert host.connectors() == {"pigeon": pigeon}
    assert host.backends() == {"desk": desk}
    assert host.connector_plugin("pigeon") == host.backend_plugin("desk") == "birds"
    (info,) = host.installed()
    assert (info.name, info.version, info.available) == ("birds", "1.2", True)
    assert set(info.hooks) == {"register_connectors", "register_ticket_backends"}
    assert (info.connectors, info.backends) == (("pigeon",), ("desk",))


def test_a_channel_or_backend_kind_is_registered_once_and_both_plugins_are_named(
    host: PluginHost,
) -> None:
    host.add(offering(connector()), "birds")
    text = refused(host, offering(connector("crow"), connector()), "doves")
    assert 'the channel "pigeon" is registered by plugin "birds" already' in text
    assert host.connectors().keys() == {"pigeon"}, "nothing of a refused plugin stays"
    host.add(plugin(register_ticket_backends=lambda: [backend("desk")]), "one")
    text = refused(host, plugin(register_ticket_backends=lambda: [backend("desk")]), "two")
    assert 'the kind "desk" is registered by plugin "one" already' in text
    text = refused(host, offering(connector("owl"), connector("owl")), "owls")
    assert 'the channel "owl" is registered by plugin "owls" already' in text


@pytest.mark.parametrize(
    ("offered", "words"),
    [
        ("pigeon", "an object of type str"),
        (Settings, "Settings, which is no Connector"),
        (backend("desk"), "Desk, which is no Connector"),
        (type("Lame", (Connector,), {"channel": "lame"}), "Lame, which lacks parse, verify"),
        (connector("Pigeon Post"), "without a usable channel"),
        (connector(None), "without a usable channel"),
        (connector(settings=dict), "without settings"),
    ],
)
def test_what_is_no_connector_is_refused(host: PluginHost, offered: Any, words: str) -> None:
    assert words in refused(host, offering(offered))


def test_a_registration_that_is_no_list_or_is_async_or_raises_is_refused(host: PluginHost) -> None:
    async def later(config: Any) -> list[Any]:
        return []

    def broken(config: Any) -> list[Any]:
        raise ValueError(f"bad password {config['password']}")

    assert "Return a list of classes" in refused(
        host, plugin(register_connectors=lambda: Connector)
    )
    assert "is async" in refused(host, plugin(register_connectors=later))
    host = PluginHost({"odd": RawTable.of({"password": "hunter2"})})
    text = refused(host, plugin(register_connectors=broken))
    assert "register_connectors raised ValueError at tests.test_plugin_host" in text
    assert "hunter2" not in text


def test_a_plugin_reads_its_own_table_and_its_mistakes_name_file_and_line(
    host: PluginHost, write: Callable[[str, str], Path]
) -> None:
    write(
        "pickyplugin.py",
        "import msgspec\nfrom hub import hookimpl, parse_settings\nomniline_api = 1\n"
        "class Settings(msgspec.Struct, frozen=True, kw_only=True):\n    depth: int\n"
        "@hookimpl\ndef register_connectors(config):\n"
        "    parse_settings(Settings, config)\n    return []\n",
    )
    config = load_text('[plugins.pickyplugin]\ndepth = "deep"\n', environ={})
    with pytest.raises(PluginError, match=r":2: plugins\.pickyplugin\.depth"):
        PluginHost.for_config(config).discover(["pickyplugin"], bundled=False, entry_points=False)
    config = load_text("[hub]\n", environ={})
    with pytest.raises(PluginError, match=r'plugins\.pickyplugin: "depth" is missing'):
        PluginHost.for_config(config).discover(["pickyplugin"], bundled=False, entry_points=False)
    config = load_text(
        "[hub]\nhook_timeout_s = 0.1\n[plugins.pickyplugin]\ndepth = 3\n", environ={}
    )
    good = PluginHost.for_config(config)
    good.discover(["pickyplugin"], bundled=False, entry_points=False)
    assert good.plugins() == ["pickyplugin"]
    assert dict(good.settings_of("pickyplugin")) == {"depth": 3}


def test_a_table_for_a_plugin_that_is_not_there_is_a_mistake() -> None:
    config = load_text("[plugins.nigth]\nx = 1\n", environ={})
    host = PluginHost.for_config(config)
    host.add(hearing(fail), "night")
    with pytest.raises(PluginError) as error:
        host.discover(bundled=False, entry_points=False)
    assert ':1: plugins.nigth: no plugin has this name. Did you mean "night"?' in str(error.value)


# --- where plugins are found -------------------------------------------------------------------

GOOD = """
from hub import hookimpl
omniline_api = 1
__version__ = "7"
@hookimpl
def ticket_event_seen(event):
    return __name__
"""


@pytest.fixture
def bundle(
    write: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], Path]]:
    """Bundled folders made for the test, in the place of the real ones."""
    kept = {n: m for n, m in sys.modules.items() if n.split(".")[0] in ("connectors", "plugins")}
    for name in kept:
        del sys.modules[name]
    for package in ("connectors", "plugins"):
        stand_in = types.ModuleType(package)
        stand_in.__path__ = [str(tmp_path / package)]
        monkeypatch.setitem(sys.modules, package, stand_in)
        (tmp_path / package).mkdir()
    yield write
    for name in [n for n in sys.modules if n.split(".")[0] in ("connectors", "plugins")]:
        del sys.modules[name]
    sys.modules.update(kept)


async def test_every_bundled_folder_is_a_plugin_under_its_own_name(
    bundle: Callable[[str, str], Path],
) -> None:
    bundle("connectors/pigeon/__init__.py", GOOD)
    bundle("plugins/night/__init__.py", GOOD)
    bundle("plugins/_shared/__init__.py", "raise RuntimeError('not a plugin')")
    bundle("connectors/_vendor/__init__.py", "raise RuntimeError('not a plugin')")
    bundle("plugins/module.py", "raise RuntimeError('not a plugin')")
    host = PluginHost()
    host.discover(entry_points=False)
    assert [(info.name, info.origin) for info in host.installed()] == [
        ("pigeon", "bundled connectors.pigeon"),
        ("night", "bundled plugins.night"),
    ]
    answers = await heard(host)
    assert [answer.value for answer in answers] == ["connectors.pigeon", "plugins.night"]
    assert host.owners.of("connectors.pigeon.reading") == "pigeon"
    assert host.owners.of("connectors.pigeons") == ""


def test_a_bundled_folder_without_its_dependency_stops_the_start_only_if_it_is_used(
    bundle: Callable[[str, str], Path],
) -> None:
    bundle("connectors/pigeon/__init__.py", "import carrier_pigeon_client\n" + GOOD)
    bundle("plugins/night/__init__.py", GOOD)
    host = PluginHost()
    host.discover(entry_points=False)
    assert host.plugins() == ["night"]
    pigeon = host.installed()[0]
    assert (pigeon.name, pigeon.available) == ("pigeon", False)
    assert pigeon.reason.startswith("not available: install omniline[pigeon]")
    assert "carrier_pigeon_client" in pigeon.reason

    config = load_text('[[accounts]]\nchannel = "pigeon"\nkey = "roof"\n', environ={})
    with pytest.raises(PluginError, match=r'"pigeon" is configured, .* omniline\[pigeon\]'):
        PluginHost.for_config(config).discover(entry_points=False)


def test_a_bundled_folder_that_is_broken_stops_the_start(
    bundle: Callable[[str, str], Path],
) -> None:
    bundle("connectors/crow/__init__.py", "from connectors.crow import nothing")
    bundle("connectors/dove/__init__.py", "1 / 0")
    bundle("plugins/night/__init__.py", GOOD)
    host = PluginHost()
    with pytest.raises(PluginError) as error:
        host.discover(entry_points=False)
    crow, dove = error.value.problems
    assert 'plugin "crow" (bundled connectors.crow' in crow
    assert "ImportError" in crow
    assert "ZeroDivisionError" in dove
    assert [info.name for info in host.installed()] == ["crow", "dove", "night"]


def test_an_installation_may_bundle_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("connectors", "plugins"):
        monkeypatch.setitem(sys.modules, package, None)
    host = PluginHost()
    host.discover(entry_points=False)
    assert host.installed() == []


def distribution(write: Callable[[str, str], Path], points: str, *, version: str = "2.1") -> None:
    folder = f"acme_birds-{version}.dist-info"
    write(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: acme-birds\nVersion: {version}\n")
    write(f"{folder}/entry_points.txt", f"[omniline]\n{points}\n")


def test_installed_packages_are_found_by_their_entry_points(
    write: Callable[[str, str], Path],
) -> None:
    write("acme_birds/__init__.py", "")
    write("acme_birds/plugin.py", GOOD)
    write("acme_bees/__init__.py", GOOD)
    distribution(write, "birds = acme_birds.plugin\nbees = acme_bees")
    host = PluginHost()
    host.discover(bundled=False)
    infos = {info.name: info for info in host.installed()}
    assert infos.keys() >= {"birds", "bees"}
    assert (infos["birds"].origin, infos["birds"].version) == ("distribution acme-birds", "2.1")
    assert infos["birds"].hooks == (HOOK,)
    assert host.owners.of("acme_birds.helpers") == "birds"
    assert host.owners.of("acme_bees.helpers") == "bees"


def test_an_installed_package_that_cannot_be_used_is_named_with_its_version(
    write: Callable[[str, str], Path],
) -> None:
    write("acme_birds.py", GOOD.replace("omniline_api = 1", "omniline_api = 2"))
    distribution(write, "birds = acme_birds\ngone = acme_gone")
    with pytest.raises(PluginError) as error:
        PluginHost().discover(bundled=False)
    assert len(error.value.problems) == 2
    assert 'plugin "birds" (distribution acme-birds 2.1): it is written for' in str(error.value)
    assert 'plugin "gone" (distribution acme-birds 2.1): it cannot be imported' in str(error.value)


def test_two_plugins_of_one_name_are_both_named(write: Callable[[str, str], Path]) -> None:
    write("acme_birds.py", GOOD)
    write("birds.py", GOOD)
    distribution(write, "birds = acme_birds")
    with pytest.raises(PluginError) as error:
        PluginHost().discover(["birds"], bundled=False)
    assert 'plugin "birds" (module birds 7)' in str(error.value)
    assert "taken by distribution acme-birds" in str(error.value)


def test_a_module_may_name_its_plugin_because_two_may_end_alike(
    write: Callable[[str, str], Path],
) -> None:
    write("first/__init__.py", "")
    write("first/birds.py", GOOD)
    write("second/__init__.py", "")
    write("second/birds.py", GOOD + '\nomniline_name = "more-birds"\n')
    host = PluginHost()
    host.discover(["first.birds", "second.birds"], bundled=False, entry_points=False)
    assert sorted(host.plugins()) == ["birds", "more-birds"]


async def test_a_named_plugin_may_be_an_object_in_a_module(
    write: Callable[[str, str], Path],
) -> None:
    write(
        "local_things.py",
        "from hub import hookimpl\nclass Plugin:\n    omniline_api = 1\n"
        "    @hookimpl\n    def ticket_event_seen(self, event):\n        return event['id']\n"
        "night = Plugin()\n",
    )
    host = PluginHost()
    host.discover(["local_things:night"], bundled=False, entry_points=False)
    assert [(answer.plugin, answer.value) for answer in await heard(host)] == [("night", "1")]


def test_the_plugins_of_this_checkout_can_all_be_registered() -> None:
    """A bundled plugin that the host refuses would keep every hub from starting."""
    host = PluginHost()
    host.discover(entry_points=False)
    assert {info.name for info in host.installed() if info.available} == set(host.plugins())


class Stranger(metadata.Distribution):
    """A foreign distribution that has installed ``files`` below ``root``."""

    def __init__(self, root: Path, *files: str) -> None:
        self.root = root
        self.record = "".join(f"{file},,\n" for file in files)

    def read_text(self, filename: str) -> str | None:
        texts = {"METADATA": "Name: lookalike\nVersion: 0.9\n", "RECORD": self.record}
        return texts.get(filename)

    def locate_file(self, path: Any) -> Path:  # type: ignore[override]
        return self.root / path


def test_a_stranger_in_the_place_of_our_packages_is_named(
    write: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Path(__file__).parent.parent
    assert shadowing([]) == []
    assert shadowing([Stranger(tmp_path, "hub/__init__.py")]) == [], "it is not the one imported"

    (told,) = shadowing([Stranger(ours, "hub/other.py", "else.py")])
    assert told.startswith('the distribution lookalike 0.9 shadows the package "hub" of Omniline.')
    assert "environment of its own" in told

    write("normalizer/__init__.py", "")
    monkeypatch.delitem(sys.modules, "normalizer")
    (told,) = shadowing([Stranger(tmp_path, "normalizer/__init__.py")])
    assert told.startswith('the distribution lookalike 0.9 shadows the package "normalizer"')
    (told,) = shadowing([])
    assert told.startswith(f"something in {(tmp_path / 'normalizer').resolve()} shadows")


# --- a blocked event loop ----------------------------------------------------------------------


@asynccontextmanager
async def watching(watch: LoopWatch) -> AsyncIterator[LoopWatch]:
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


async def ended(watch: LoopWatch, within_s: float = 20) -> tuple[Stall, ...]:
    """The stalls, once the last of them is over."""
    async with asyncio.timeout(within_s):
        while not watch.recent() or watch.recent()[-1].seconds is None:
            await asyncio.sleep(0.01)
    return watch.recent()


BLOCKING = """
import threading
from hub import hookimpl
omniline_api = 1
gate = threading.Event()

def hold_up():
    gate.wait(30)

@hookimpl
{}def ticket_event_seen(event):
    hold_up()
"""


@pytest.mark.parametrize("keyword", ["", "async "])
async def test_a_plugin_that_blocks_the_loop_is_named_with_its_line_while_it_lasts(
    write: Callable[[str, str], Path], keyword: str
) -> None:
    write("blocker.py", BLOCKING.format(keyword))
    host = PluginHost(deadline_s=60)
    host.add(hearing(lambda _: None), "innocent")
    host.discover(["blocker"], bundled=False, entry_points=False)
    gate = sys.modules["blocker"].gate

    def asked() -> str:
        name = host.current
        gate.set()  # only now may the loop go on: the watch has seen it blocked
        return name

    with capture_logs() as logs:
        async with watching(LoopWatch(host.owners, asked, threshold_s=0.05)) as watch:
            await heard(host)
            first = (await ended(watch))[0]
    assert (first.plugin, first.asked) == ("blocker", "blocker")
    assert first.where == "blocker:8 in hold_up"
    assert first.seconds is not None
    assert first.seconds >= 0.05
    line = next(line for line in logs if line["event"] == "event_loop_blocked")
    assert (line["plugin"], line["where"]) == ("blocker", "blocker:8 in hold_up")
    assert "event_loop_turns_again" in [line["event"] for line in logs]
    assert host.current == ""


def wild(n: int) -> float:
    """Seconds that a regular expression gone wild takes for n letters."""
    began = time.perf_counter()
    assert re.match(r"(a+)+$", "a" * n + "b") is None
    return time.perf_counter() - began


async def test_a_stall_that_keeps_all_threads_waiting_is_told_once_and_named(
    write: Callable[[str, str], Path],
) -> None:
    """A regular expression holds the interpreter's lock, so that the watch sleeps as well."""
    size = next(n for n in range(16, 60) if wild(n) > 0.3)
    write(
        "wildplugin.py",
        "import re\nfrom hub import hookimpl\nomniline_api = 1\n@hookimpl\n"
        "def ticket_event_seen(event):\n"
        f"    re.compile(r'(a+)+$').match('a' * {size} + 'b')\n    return None\n",
    )
    host = PluginHost(deadline_s=60)
    host.discover(["wildplugin"], bundled=False, entry_points=False)
    stalls: list[Stall] = []
    async with watching(LoopWatch(host.owners, threshold_s=0.05)) as watch:
        for _ in range(10):  # a process that others keep from running is not told of
            await heard(host)
            with suppress(TimeoutError):
                stalls = [stall for stall in await ended(watch, within_s=1) if stall.plugin]
            if stalls:
                break
    assert [stall.plugin for stall in stalls] == ["wildplugin"]
    assert stalls[0].where == "wildplugin:6 in ticket_event_seen"


async def test_a_stall_outside_of_plugins_names_the_line_and_nobody(host: PluginHost) -> None:
    gate = threading.Event()

    def asked() -> str:
        gate.set()
        return host.current

    async with watching(LoopWatch(host.owners, asked, threshold_s=0.05)) as watch:
        gate.wait(30)
        first = (await ended(watch))[0]
    assert (first.plugin, first.asked) == ("", "")
    assert first.where.startswith("threading:")


async def test_only_the_last_stalls_are_kept(host: PluginHost) -> None:
    gate = threading.Event()

    def asked() -> str:
        gate.set()
        return str(len(asked_so_far))

    asked_so_far: list[int] = []
    async with watching(LoopWatch(host.owners, asked, threshold_s=0.02, keep=2)) as watch:
        for number in range(4):
            asked_so_far.append(number)
            gate.clear()
            gate.wait(30)
            await ended(watch)
    assert len(watch.recent()) == 2
    assert watch.recent()[-1].asked == "4"


def test_a_stall_that_is_over_is_forgotten_after_a_while_and_reads_as_a_line(
    host: PluginHost,
) -> None:
    watch = LoopWatch(host.owners)
    noticed = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
    stall = Stall(at=noticed, plugin="sms", where="connectors.sms:3 in parse", asked="")
    assert str(stall) == (
        "plugin sms, connectors.sms:3 in parse (still lasting, noticed 12:30:00 UTC)"
    )
    watch._stalls = (stall,)
    assert watch.recent(within_s=60) == (stall,)
    over = msgspec.structs.replace(stall, plugin="", seconds=1.25)
    assert str(over) == "connectors.sms:3 in parse (1.2 s, noticed 12:30:00 UTC)"
    watch._stalls = (over,)
    assert watch.recent(within_s=60) == ()
    assert watch.recent() == (over,)


async def test_a_loop_that_turns_is_not_complained_about(
    host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    turned_often = asyncio.Event()
    turns: list[float] = []
    call_later = loop.call_later

    def counted(delay: float, *callback: Any) -> Any:
        turns.append(delay)
        if len(turns) == 4:
            turned_often.set()
        return call_later(delay, *callback)

    monkeypatch.setattr(loop, "call_later", counted)
    async with watching(LoopWatch(host.owners, threshold_s=1)) as watch:
        await asyncio.wait_for(turned_often.wait(), 20)
    assert watch.recent() == ()


async def test_a_process_that_was_stopped_is_not_a_blocked_loop(
    host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps, and no processor time has passed: nobody is to blame."""
    seen = threading.Event()
    jumps: list[float] = []

    def monotonic() -> float:
        jumps.append(100.0)
        if len(jumps) == 8:  # so the watch has looked a few times, and the loop never turned
            seen.set()
        return sum(jumps)

    stopped = types.SimpleNamespace(monotonic=monotonic, process_time=lambda: 1.0)
    monkeypatch.setattr(loop_watch, "time", stopped)
    async with watching(LoopWatch(host.owners, threshold_s=0.02)) as watch:
        assert seen.wait(30)
    assert watch.recent() == ()


async def test_the_watch_starts_and_stops_cleanly(host: PluginHost) -> None:
    def threads() -> list[str]:
        return [one.name for one in threading.enumerate() if one.name == "omniline-loop-watch"]

    watch = LoopWatch(host.owners, threshold_s=10)
    watch.stop()
    for _ in range(2):
        watch.start()
        with pytest.raises(RuntimeError, match="watched already"):
            watch.start()
        assert len(threads()) == 1
        began = time.monotonic()
        watch.stop()
        watch.stop()
        assert time.monotonic() - began < 5, "it does not sit out its threshold"
        assert threads() == []


def test_the_watch_of_a_closed_loop_ends_by_itself(host: PluginHost) -> None:
    watch = LoopWatch(host.owners, threshold_s=0.05)

    async def forget_to_stop() -> threading.Thread:
        watch.start()
        return next(one for one in threading.enumerate() if one.name == "omniline-loop-watch")

    thread = asyncio.run(forget_to_stop())
    thread.join(20)
    assert not thread.is_alive()
    assert watch.recent() == ()
