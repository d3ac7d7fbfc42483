"""The access token: one for all processes, fetched once, and what is said when others meddle."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from connectors.wechat import tokens
from connectors.wechat.connector import WechatConnector
from connectors.wechat.token_state import STATE
from connectors.wechat.tokens import LEASE
from hub.documents import State
from hub.store.codec import Codec
from hub.store.driver import open_driver
from hub.store.interface import Unavailable
from hub.store.mongo import MongoStore
from hub.testing import FakeClock, FakeServices, MemoryStore
from normalizer.outcomes import Accepted, Failure, Misconfigured, Temporary
from normalizer.parts import Text
from tests.support.processes import ROOT
from tests.wechat.fake_wechat import APP_SECRET, FakeWechat
from tests.wechat.support import at_work, connector, outgoing

STABLE = "/cgi-bin/stable_token"
SEND = "/cgi-bin/message/custom/send"


async def send(ours: WechatConnector, key: str = "job_1") -> Accepted:
    return await ours.send(outgoing(Text(text="hi"), key=key))


@contextlib.asynccontextmanager
async def two_processes(
    vendor: FakeWechat, store: MemoryStore | MongoStore
) -> AsyncIterator[tuple[WechatConnector, WechatConnector, FakeClock]]:
    """Yield two connectors of one account that share nothing but the database."""
    clock = FakeClock()
    async with aiohttp.ClientSession() as one, aiohttp.ClientSession() as two:
        pair = [
            connector(FakeServices(store=store, clock=clock, http=http), **vendor.settings)
            for http in (one, two)
        ]
        try:
            yield pair[0], pair[1], clock
        finally:
            for ours in pair:
                await ours.stop()


# --- two processes over one real database --------------------------------------------------------


async def test_an_expired_token_with_50_sends_in_flight_in_two_processes_is_fetched_once(
    mongo_url: str, mongo_db_name: str
) -> None:
    """All 50 are refused with the old token, and all arrive, each once, with one and the same."""
    store = MongoStore(await open_driver(mongo_url, mongo_db_name), Codec())
    await store.prepare([State])
    try:
        async with FakeWechat() as vendor, two_processes(vendor, store) as (one, two, _):
            vendor.windows = {"oHubUser0001": 1000}
            await asyncio.gather(send(one), send(two))
            assert (vendor.calls[STABLE], vendor.issued) == (1, 1)
            vendor.expire()
            await asyncio.gather(
                *(send(ours, f"job_{n}") for n in range(25) for ours in (one, two))
            )
            assert (vendor.calls[STABLE], vendor.issued) == (2, 2)
            assert vendor.calls[SEND] > 52  # some were refused first
            assert len(vendor.got()) == 52
            (kept,) = await store.table(State).find({})
            assert vendor.token not in repr(kept), "the token lies open in the database"
            assert APP_SECRET not in repr(kept)
            assert vendor.token not in repr(await one._tokens.held())
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def sending_process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.wechat.sending_process", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def says(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().strip()


async def test_two_real_processes_with_50_sends_in_flight_refresh_an_expired_token_once(
    mongo_url: str, mongo_db_name: str
) -> None:
    """WeChat holds its answers back until all 50 are there, so that each has the old token."""
    async with FakeWechat() as vendor:
        vendor.windows = {"oHubUser0001": 1000}
        arguments = (vendor.url, mongo_url, mongo_db_name)
        async with sending_process(*arguments) as one, sending_process(*arguments) as two:
            assert [await says(each) for each in (one, two)] == ["ready", "ready"]
            assert vendor.issued == 1
            in_flight, all_there = 0, asyncio.Event()

            async def held_back(path: str) -> None:
                nonlocal in_flight
                if path == SEND and not all_there.is_set():
                    in_flight += 1
                    if in_flight == 50:
                        vendor.expire()
                        all_there.set()
                    await all_there.wait()

            vendor.on_call = held_back
            for each in (one, two):
                assert each.stdin is not None
                each.stdin.write(b"25\n")
                await each.stdin.drain()
            assert [await says(each) for each in (one, two)] == ["25", "25"]
        assert vendor.issued == 2, "one refresh"
        assert len(vendor.got()) == 52
        assert vendor.calls[SEND] == 2 + 50 + 50, "each was refused once, and sent once more"


async def test_a_process_that_dies_while_it_fetches_is_followed_by_another() -> None:
    """Its lease ends by the clock, not before."""
    async with FakeWechat() as vendor, two_processes(vendor, MemoryStore()) as (one, two, clock):
        await one._tokens._state.store(
            one._tokens._leased((await one._tokens._state.load())[0], "", clock.now()), 0
        )
        waiting = asyncio.create_task(send(two))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert vendor.calls[STABLE] == 0
        clock.advance(LEASE.total_seconds() + 1)
        await asyncio.wait_for(waiting, 30)
        assert vendor.calls[STABLE] == 1


async def test_who_waits_too_long_for_a_token_has_surely_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The flight goes on without its callers, and the next one finds what it brought."""
    monkeypatch.setattr(tokens, "CALLER_WAITS_S", 0.2)
    async with FakeWechat() as vendor, two_processes(vendor, MemoryStore()) as (one, two, clock):
        kept, rev = await one._tokens._state.load()
        assert await one._tokens._state.store(one._tokens._leased(kept, "", clock.now()), rev)
        with pytest.raises(Temporary, match="not there in time"):
            await send(two)
        clock.advance(LEASE.total_seconds() + 1)
        monkeypatch.setattr(tokens, "CALLER_WAITS_S", 30.0)
        await send(two)
        assert (len(vendor.got()), vendor.calls[STABLE]) == (1, 1)


async def test_who_lost_the_lease_does_not_overwrite_what_came_after() -> None:
    async with FakeWechat() as vendor, two_processes(vendor, MemoryStore()) as (one, two, clock):
        kept, rev = await one._tokens._state.load()
        leased = one._tokens._leased(kept, "", clock.now())
        assert await one._tokens._state.store(leased, rev)
        clock.advance(60)
        await send(two)
        assert await one._tokens._fetched(leased, rev + 1, "") is None
        await send(one)
        assert vendor.got()[-1].text == "hi"


# --- its life ------------------------------------------------------------------------------------


async def test_a_token_is_renewed_at_four_fifths_of_its_life_and_not_before() -> None:
    async with FakeWechat() as vendor, two_processes(vendor, MemoryStore()) as (one, two, clock):
        await send(one)
        clock.advance(7200 * 0.8 - 1)
        await send(one)
        await send(two)
        assert vendor.calls[STABLE] == 1
        clock.advance(1)
        await send(one)
        await send(two)
        assert vendor.calls[STABLE] == 2


async def test_a_token_that_cannot_be_renewed_is_used_until_its_end() -> None:
    async with FakeWechat() as vendor, two_processes(vendor, MemoryStore()) as (one, _, clock):
        await send(one)
        clock.advance(7200 * 0.9)
        vendor.off_list = True
        ours = connector(
            FakeServices(store=one.context._services.store, clock=clock, http=one.context.http),
            **vendor.settings,
        )
        with capture_logs() as logged:
            assert await ours._tokens.current() == vendor.token
        assert [each["event"] for each in logged if each["log_level"] == "warning"] == [
            "token_refused",
            "token_not_renewed",
        ]
        clock.advance(7200 * 0.1)
        with pytest.raises(Misconfigured, match=r"203\.0\.113\.9"):
            await ours._tokens.current()
        await ours.stop()


@pytest.mark.parametrize("code", [40001, 40014, 42001])
async def test_a_refused_token_is_fetched_once_and_the_call_made_once_more(code: int) -> None:
    async with at_work() as (ours, vendor, _):
        await send(ours)
        vendor.expire()
        vendor.trouble = [f"error:{code}"]
        await send(ours)
        assert vendor.calls[STABLE] == 2
        assert vendor.calls[SEND] == 3
        assert len(vendor.got()) == 2


async def test_a_token_that_ends_while_the_call_is_under_way_costs_nothing() -> None:
    async with at_work() as (ours, vendor, _):
        vendor.trouble = ["expire"]
        await send(ours)
        assert len(vendor.got()) == 1
        assert vendor.issued == 2


async def test_a_fresh_token_that_is_refused_as_well_is_told_and_not_tried_for_ever() -> None:
    async with at_work() as (ours, vendor, _):
        vendor.trouble = ["error:40001"] * 10
        vendor.expire()
        with pytest.raises(Misconfigured) as failed:
            await send(ours)
        assert vendor.calls[SEND] == 2
        assert vendor.token not in str(failed.value)


async def test_a_token_that_wechat_refuses_and_still_hands_out_is_forced_once() -> None:
    """The vendor allows 20 forced renewals a day, so the next one waits."""
    async with at_work() as (ours, vendor, services):
        await send(ours)
        vendor.trouble = ["error:40001"]  # refused, though stable_token still gives the same
        await send(ours)
        assert vendor.forced == 1
        vendor.trouble = ["error:40001"]
        with pytest.raises(Misconfigured, match="the very token"):
            await send(ours)
        assert vendor.forced == 1
        assert isinstance(services.clock, FakeClock)
        services.clock.advance(2 * 3600)
        await send(ours)


async def test_three_invalidations_in_ten_minutes_name_another_system_and_the_remedy() -> None:
    async with at_work() as (ours, vendor, services):
        assert isinstance(services.clock, FakeClock)
        await send(ours)
        for _ in range(2):
            services.clock.advance(60)
            vendor.expire()
            await send(ours)
        services.clock.advance(60)
        vendor.expire()
        with pytest.raises(Misconfigured) as told:
            await send(ours)
        assert "another system refreshes this token" in told.value.reason
        assert "token_server" in told.value.reason
        assert told.value.code == "token_contested"
        (problem,) = await ours.check()
        assert "another system refreshes this token" in problem
        services.clock.advance(601)
        assert await ours.check() == ()
        await send(ours)


async def test_a_token_that_ended_in_time_is_no_sign_of_another_system() -> None:
    async with at_work() as (ours, vendor, services):
        assert isinstance(services.clock, FakeClock)
        for _ in range(5):
            await send(ours)
            vendor.expire()
            services.clock.advance(timedelta(hours=2).total_seconds())
        assert not await ours._tokens.contested()


async def test_a_state_that_cannot_be_read_is_no_end() -> None:
    """It was sealed with another key, or written by another release."""
    async with at_work() as (ours, vendor, _):
        await ours.context.set_state(
            STATE, {"sealed": "AAAA" * 12, "renew_at": "2999-01-01T00:00:00Z"}, 0
        )
        await send(ours)
        assert vendor.issued == 1
        _, rev = await ours.context.state(STATE)
        await ours.context.set_state(STATE, {"refused": "nonsense"}, rev)
        assert (await ours._tokens._state.load())[0].sealed == ""


async def test_while_the_database_is_away_nothing_is_sent_and_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*args: object) -> object:
        raise Unavailable("an election")

    async with at_work() as (ours, vendor, _):
        with monkeypatch.context() as patched:
            patched.setattr(ours.context, "set_state", away)
            with pytest.raises(Temporary, match="cannot be kept: an election"):
                await send(ours)
            patched.setattr(ours.context, "state", away)
            with pytest.raises(Temporary, match="cannot be read: an election"):
                await send(ours)
        assert not vendor.calls
        await send(ours)
        assert len(vendor.got()) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"app_secret": "wrong-secret-000"}, "appid or app_secret"),
        ({"app_secret": None}, "app_secret is not set"),
        ({"appid": "wxffffffffffffffff"}, "appid or app_secret"),
    ],
)
async def test_credentials_that_are_wrong_are_told_without_showing_them(
    changes: dict[str, str | None], words: str
) -> None:
    async with at_work(**changes) as (ours, _, _):
        with pytest.raises(Misconfigured, match=words) as failed:
            await send(ours)
        assert "wrong-secret-000" not in str(failed.value)


# --- a token server ------------------------------------------------------------------------------


class TokenServer:
    """Another system that fetches the account's token."""

    def __init__(self, vendor: FakeWechat) -> None:
        self.vendor = vendor
        self.asked = 0
        self.answer: Callable[[], web.Response] | None = None

    async def get(self, request: web.Request) -> web.Response:
        self.asked += 1
        if request.headers.get("Authorization") != "Bearer for-the-hub":
            return web.Response(status=401)
        if self.answer is not None:
            return self.answer()
        self.vendor.issued += not self.vendor.token
        self.vendor.token = self.vendor.token or f"served-{self.vendor.issued}"
        return web.json_response({"access_token": self.vendor.token, "expires_in": 600})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/token", self.get)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/token"
        finally:
            await runner.cleanup()


async def test_a_token_server_is_asked_instead_of_wechat() -> None:
    async with FakeWechat() as vendor:
        server = TokenServer(vendor)
        async with server.running() as url:
            auth = "Bearer for-the-hub"
            changes = {"app_secret": None, "token_server": url, "token_server_auth": auth}
            async with at_work(vendor=vendor, **changes) as (ours, _, _):
                await send(ours)
                await send(ours)
                assert server.asked == 1
                vendor.expire()
                await send(ours)
                assert (server.asked, vendor.calls[STABLE]) == (2, 0)
                assert await ours.check() == ()


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (lambda: web.Response(status=401), Misconfigured),
        (lambda: web.Response(status=503), Temporary),
        (lambda: web.Response(text="no JSON"), Temporary),
        (lambda: web.json_response([]), Temporary),
        (lambda: web.json_response({"access_token": "t"}), Temporary),
        (lambda: web.json_response({"access_token": "", "expires_in": 7200}), Temporary),
        (lambda: web.json_response({"access_token": "t", "expires_in": "soon"}), Temporary),
    ],
    ids=["401", "503", "text", "list", "no life", "empty", "no number"],
)
async def test_a_token_server_in_trouble_is_told_as_what_it_is(
    answer: Callable[[], web.Response], failure: type[Failure]
) -> None:
    async with FakeWechat() as vendor:
        server = TokenServer(vendor)
        server.answer = answer
        async with server.running() as url:
            changes = {"token_server": url, "token_server_auth": "Bearer for-the-hub"}
            async with at_work(vendor=vendor, **changes) as (ours, _, _):
                with pytest.raises(failure) as failed:
                    await send(ours)
                assert "for-the-hub" not in str(failed.value)
                assert not vendor.got()


async def test_a_token_server_that_keeps_handing_out_what_wechat_refuses_is_named() -> None:
    async with FakeWechat() as vendor:
        server = TokenServer(vendor)
        server.answer = lambda: web.json_response({"access_token": "old", "expires_in": 7200})
        vendor.dead.add("old")
        async with server.running() as url:
            changes = {"token_server": url, "token_server_auth": "Bearer for-the-hub"}
            async with at_work(vendor=vendor, **changes) as (ours, _, _):
                with pytest.raises(Misconfigured, match="look at token_server"):
                    await send(ours)


# --- served to others ----------------------------------------------------------------------------


async def test_other_systems_fetch_the_token_with_a_key_of_its_scope() -> None:
    async with at_work(serve_token=True) as (ours, vendor, services):
        assert [route.path for _, route in services.routes] == ["/shop/token"] * 2
        async with serving(services, "wechat:token") as url:
            first = await told(url)
            assert first == {"access_token": vendor.token, "expires_in": 7200}
            vendor.expire()
            second = await told(url, refused=first["access_token"])
            assert second["access_token"] == vendor.token != first["access_token"]
            # A second system that tells the same does not cost another refresh.
            assert await told(url, refused=first["access_token"]) == second
            assert vendor.issued == 2
            await send(ours)
            assert vendor.issued == 2
        async with serving(services, "customers:read") as url, aiohttp.ClientSession() as http:
            async with http.get(url) as answer:
                assert answer.status == 403


async def test_without_the_setting_nothing_is_served() -> None:
    async with at_work() as (_, _, services):
        assert services.routes == []


@contextlib.asynccontextmanager
async def serving(services: FakeServices, *scopes: str) -> AsyncIterator[str]:
    runner = web.AppRunner(services.web_app(*scopes), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1/x/wechat/shop/token"
    finally:
        await runner.cleanup()


async def told(url: str, *, refused: str = "") -> dict[str, str]:
    async with aiohttp.ClientSession() as http:
        call = http.post(url, json={"refused": refused}) if refused else http.get(url)
        async with call as answer:
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "no-store"
            found: dict[str, str] = await answer.json()
            return found
