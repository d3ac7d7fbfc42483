"""The REST client: what it sends, how it tells failures apart, that it never sends twice.

The server here is real and checks what it is sent; only its misbehaviour is on demand.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp import web

from connectors._twilio.rest import TwilioRest
from hub import Secret
from normalizer.outcomes import (
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
)

SID = "AC00000000000000000000000000000001"
PASSWORD = "the-api-keys-secret"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """One handler for everything, and what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, list[tuple[str, str]]]] = []
        self.handler: Handler = self.fine
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.asked.append((request.method, request.path_qs, parse_qsl(body, True)))
        expected = base64.b64encode(f"SK1:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            return web.json_response({"code": 20003, "status": 401}, status=401)
        return await self.handler(request)

    async def fine(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"sid": "SM1"}, status=201 if request.method == "POST" else 200)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    served = Api()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", served.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


@contextlib.asynccontextmanager
async def client(url: str, *, password: str = PASSWORD, deadline_s: float = 30.0) -> Any:
    async with aiohttp.ClientSession() as http:
        yield TwilioRest(
            http,
            account_sid=SID,
            user="SK1",
            password=Secret(password),
            api_url=url,
            deadline_s=deadline_s,
        )


async def test_a_form_is_posted_below_the_account_with_repeated_names(api: Api) -> None:
    async with client(api.url) as rest:
        form = [("Body", "你好 +&="), ("MediaUrl", "a"), ("MediaUrl", "b"), ("Empty", "")]
        assert await rest.post("Messages.json", form) == {"sid": "SM1"}
    assert api.asked == [("POST", f"/2010-04-01/Accounts/{SID}/Messages.json", form)]


async def test_a_query_keeps_its_odd_names(api: Api) -> None:
    async with client(api.url) as rest:
        await rest.get("Messages.json", [("To", "+1500"), ("DateSent>", "2026-01-01")])
    path = f"/2010-04-01/Accounts/{SID}/Messages.json?To=%2B1500&DateSent%3E=2026-01-01"
    assert api.asked == [("GET", path, [])]


async def test_pages_are_followed_within_the_account_only(api: Api) -> None:
    own = f"/2010-04-01/Accounts/{SID}/Messages.json?Page=1&PageToken=PA1"
    async with client(api.url) as rest:
        assert await rest.next_page({"next_page_uri": own}) == {"sid": "SM1"}
        assert await rest.next_page({"next_page_uri": None}) is None
        for stray in ("https://evil.example/", "/2010-04-01/Accounts/AC2/Messages.json", "//x/"):
            with pytest.raises(Rejected):
                await rest.next_page({"next_page_uri": stray})
    assert [path for _, path, _ in api.asked] == [own]


@pytest.mark.parametrize(
    ("status", "answer", "kind", "code"),
    [
        (400, {"code": 21610, "message": "unsubscribed"}, Unreachable, "21610"),
        (400, {"code": 21211, "message": "The 'To' number +1500 is not valid"}, Rejected, "21211"),
        (429, {"code": 20429}, RateLimited, "20429"),
        (500, {"code": 20500}, OutcomeUnknown, "20500"),
        (502, "<html>Bad Gateway</html>", OutcomeUnknown, "502"),
        (503, "", OutcomeUnknown, "503"),
        (201, "<html>OK</html>", OutcomeUnknown, ""),
        (201, "[" * 100_000, OutcomeUnknown, ""),
        (400, {"code": "many"}, Rejected, "400"),
        (404, {"code": 20404}, Rejected, "20404"),
    ],
)
async def test_an_answer_is_told_as_what_it_is(
    api: Api, status: int, answer: Any, kind: type[Failure], code: str
) -> None:
    text = answer if isinstance(answer, str) else json.dumps(answer)

    async def say(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers={"Retry-After": "9"})

    api.handler = say
    async with client(api.url) as rest:
        with pytest.raises(Failure) as caught:
            await rest.post("Messages.json", [("To", "+1500")])
    assert type(caught.value) is kind
    assert caught.value.code == code
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 9
    assert len(api.asked) == 1, "nothing is posted twice"


async def test_a_cut_connection_after_the_request_is_in_doubt_and_not_repeated(api: Api) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    api.handler = cut
    async with client(api.url) as rest:
        with pytest.raises(OutcomeUnknown):
            await rest.post("Messages.json", [("To", "+1500")])
        assert len(api.asked) == 1
        with pytest.raises(Temporary):
            await rest.get("Messages.json")


async def test_a_server_that_never_answers_is_left_at_the_deadline(api: Api) -> None:
    """Twilio's own async client waits for ever here."""
    forever = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await forever.wait()
        return web.Response()

    api.handler = hang
    async with client(api.url, deadline_s=0.3) as rest:
        with pytest.raises(OutcomeUnknown):
            await rest.post("Messages.json", [("To", "+1500")])
    assert len(api.asked) == 1
    forever.set()


async def test_an_answer_that_trickles_is_left_at_the_deadline_too(api: Api) -> None:
    forever = asyncio.Event()

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=201)
        await response.prepare(request)
        await response.write(b'{"sid"')
        await forever.wait()
        return response

    api.handler = trickle
    async with client(api.url, deadline_s=0.3) as rest:
        with pytest.raises(OutcomeUnknown):
            await rest.post("Messages.json", [("To", "+1500")])
    forever.set()


async def test_a_refused_connection_is_surely_nothing_done(unused_tcp_port: int) -> None:
    async with client(f"http://127.0.0.1:{unused_tcp_port}") as rest:
        with pytest.raises(Temporary):
            await rest.post("Messages.json", [("To", "+1500")])


async def test_a_redirect_is_not_followed_and_gets_no_credentials(api: Api) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"{api.url}/elsewhere"})

    api.handler = elsewhere
    async with client(api.url) as rest:
        with pytest.raises(Rejected):
            await rest.post("Messages.json", [("To", "+1500")])
    assert len(api.asked) == 1


async def test_deleting_what_is_gone_is_fine(api: Api) -> None:
    async def gone(request: web.Request) -> web.StreamResponse:
        return web.json_response({"code": 20404}, status=404)

    async def done(request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    async with client(api.url) as rest:
        for api.handler in (gone, done):
            await rest.delete("Messages/SM1.json")


async def test_no_credential_and_no_number_is_in_an_error_a_repr_or_the_log(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    encoded = base64.b64encode(f"SK1:{PASSWORD}".encode()).decode()
    wrong = base64.b64encode(b"SK1:wrong-password").decode()

    async def say(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400, text='{"code": 1, "message": "bad +8613800138000"}')

    api.handler = say
    told: list[str] = []
    for password in (PASSWORD, "wrong-password"):
        async with client(api.url, password=password) as rest:
            with pytest.raises(Failure) as caught:
                await rest.post("Messages.json", [("To", "+8613800138000")])
            told += [str(caught.value), repr(caught.value), repr(rest), repr(vars(rest))]
            assert isinstance(caught.value, Misconfigured) is (password != PASSWORD)
    text = "".join([*told, caplog.text])
    for secret in (PASSWORD, "wrong-password", encoded, wrong, "13800138000"):
        assert secret not in text
