"""What each way of failing means: sure failures are repeated, doubts about a write are looked up.

The server is a real one on this machine; the addresses that must not be called never are.
"""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from hub import Secret
from hub.testing import FakeClock, Fault
from hub.testing.clock import START
from normalizer.outcomes import (
    Failure,
    Gone,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unsupported,
)
from normalizer.tickets import Change, NewTicket, Requester, Status, TicketEntry, TicketRef
from plugins.webhook import WebhookBackend
from plugins.webhook.wire import ANSWER_BYTES
from tests.webhook.strict import OTHER_SECRET, SECRET, Strict, strict_receiver
from tests.webhook.support import made

PERSON = Requester(hub_id="cus_1", display_name="李雷")
ENTRY = TicketEntry(
    key="ent_1", author="customer", channel="wechat", occurred_at=START, text="Where is it?"
)
NEW = NewTicket(key="cnv_1", requester=PERSON, subject="Parcel", first=ENTRY)
REF = TicketRef(id="1001")
JSON = {"Content-Type": "application/json"}


async def failure_of(backend: WebhookBackend, call: str) -> Failure | None:
    """Make one call; return what it raised."""
    try:
        match call:
            case "create":
                await backend.create_ticket(NEW, "r-cus_1")
            case "append":
                await backend.append(REF, ENTRY, reopen=True)
            case "find":
                await backend.find_ticket("cnv_1", PERSON)
            case "read":
                await backend.read(REF)
            case "change":
                await backend.change(REF, Change(status=Status.SOLVED))
            case _:
                await backend.ensure_requester(PERSON)
    except Failure as failure:
        return failure
    return None


WRITES, ASKS = ("create", "append"), ("find", "read", "change", "ensure")
TABLE: list[tuple[int, bytes, type[Failure], tuple[str, ...]]] = [
    (301, b"", Misconfigured, WRITES + ASKS),
    (307, b"", Misconfigured, WRITES + ASKS),
    (400, b"{}", Rejected, WRITES + ASKS),
    (401, b"", Misconfigured, WRITES + ASKS),
    (403, b"", Misconfigured, WRITES + ASKS),
    (404, b"<h1>nginx</h1>", Misconfigured, WRITES + ASKS),
    (404, b'{"detail":"Not Found"}', Misconfigured, WRITES + ASKS),
    (404, b'{"code":"no-such-ticket"}', Gone, ("append", "read", "change")),
    (404, b'{"code":"no-such-ticket"}', Misconfigured, ("find", "create", "ensure")),
    (405, b"", Misconfigured, WRITES + ASKS),
    (408, b"", OutcomeUnknown, WRITES),
    (408, b"", Temporary, ASKS),
    (409, b"{}", OutcomeUnknown, WRITES),
    (409, b"{}", Temporary, ASKS),
    (410, b'{"successor":"1002"}', Gone, ("append", "read", "change")),
    (410, b"", Misconfigured, WRITES + ASKS),
    (413, b"", Rejected, WRITES + ASKS),
    (422, b'{"code":"unknown-queue","detail":"no queue sales"}', Rejected, WRITES + ASKS),
    (429, b"", RateLimited, WRITES + ASKS),
    (500, b"", OutcomeUnknown, WRITES),
    (500, b"", Temporary, ASKS),
    (501, b"", Unsupported, WRITES + ASKS),
    (502, b"", OutcomeUnknown, WRITES),
    (503, b"", Temporary, WRITES + ASKS),
    (504, b"", OutcomeUnknown, WRITES),
    (200, b"OK", OutcomeUnknown, WRITES),
    (200, b"OK", Misconfigured, ("find", "read", "change", "ensure")),
    (200, b"[]", Misconfigured, ("find",)),
    (200, b'{"ticket":{"id":""}}', OutcomeUnknown, ("create",)),
    (200, b'{"entry":null}', OutcomeUnknown, ("append",)),
    (200, b'{"ticket":' + b"[" * 5000, Misconfigured, ("find",)),
    (200, b'{"ticket":null}' + b" " * ANSWER_BYTES, Misconfigured, ("find",)),
    (200, b'{"ticket":{"id":"1"}}' + b" " * ANSWER_BYTES, OutcomeUnknown, ("create",)),
]


@pytest.mark.parametrize(
    ("status", "body", "kind", "call"),
    [(status, body, kind, call) for status, body, kind, calls in TABLE for call in calls],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value)[:24],
)
async def test_an_answer_means_what_the_table_says(
    backend: WebhookBackend,
    strict: Strict,
    status: int,
    body: bytes,
    kind: type[Failure],
    call: str,
) -> None:
    headers = {**JSON, "Location": "https://elsewhere.example/"}
    strict.answer_all = web.Response(status=status, body=body, headers=headers)
    failure = await failure_of(backend, call)
    assert type(failure) is kind, failure
    assert len(strict.seen) == 1, "no second request by itself, and no redirect followed"


async def test_the_receivers_own_words_reach_the_operator_and_are_bounded(
    backend: WebhookBackend, strict: Strict
) -> None:
    words = b'{"code":"unknown-queue","detail":"no queue ' + b"x" * 900 + b'"}'
    strict.answer_all = web.Response(status=422, body=words, headers=JSON)
    failure = await failure_of(backend, "create")
    assert isinstance(failure, Rejected)
    assert failure.code == "unknown-queue"
    assert "answered 422 to ticket.create: no queue xxx" in failure.reason
    assert len(failure.reason) < 300


async def test_a_merged_ticket_names_its_successor(backend: WebhookBackend, strict: Strict) -> None:
    strict.inner.create_ticket(
        {
            "key": "k1",
            "priority": "low",
            "tags": [],
            "subject": "",
            "entry": {"key": "e1", "text": ""},
        }
    )
    strict.inner.create_ticket(
        {
            "key": "k2",
            "priority": "low",
            "tags": [],
            "subject": "",
            "entry": {"key": "e2", "text": ""},
        }
    )
    strict.inner.agent_merges("1001", "1002")
    failure = await failure_of(backend, "append")
    assert isinstance(failure, Gone)
    assert failure.successor == "1002"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (format_datetime(datetime(2026, 3, 2, 9, 1, tzinfo=UTC), usegmt=True), 60.0),
        (format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True), 1.0),
        ("0", 1.0),
        ("9999999999999", 24 * 3600.0),
    ],
)
async def test_a_receiver_says_when_to_come_again_in_seconds_or_by_a_date(
    strict: Strict, status: int, header: str, seconds: float
) -> None:
    backend = made(strict.url, clock=_Wall())
    await backend.start()
    strict.answer_all = web.Response(status=status, headers={"Retry-After": header})
    failure = await failure_of(backend, "create")
    await backend.stop()
    assert isinstance(failure, RateLimited)
    assert failure.retry_after == pytest.approx(seconds, abs=1.5)


@pytest.mark.parametrize("header", [None, "soon", "-3", "Mon, 99 Foo 2026"])
async def test_a_limit_that_does_not_say_how_long_is_a_while(
    backend: WebhookBackend, strict: Strict, header: str | None
) -> None:
    headers = {} if header is None else {"Retry-After": header}
    strict.answer_all = web.Response(status=429, headers=headers)
    failure = await failure_of(backend, "append")
    assert isinstance(failure, RateLimited)
    assert failure.retry_after == 30
    strict.answer_all = web.Response(status=503, headers=headers)
    assert isinstance(await failure_of(backend, "append"), Temporary)


class _Wall(FakeClock):
    """Signs with the real time, which the receiver checks, and reads dates at 9 o'clock."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    def now(self) -> datetime:
        self._asked += 1
        return datetime.now(UTC) if self._asked == 1 else super().now()


# --- connections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [*WRITES, *ASKS])
@pytest.mark.parametrize("fault", [Fault.LOSES, Fault.LATE, Fault.RESETS])
async def test_a_connection_that_breaks_or_says_nothing_is_a_doubt_about_a_write(
    backend: WebhookBackend, strict: Strict, call: str, fault: Fault
) -> None:
    names = {
        "create": "create_ticket",
        "find": "find_ticket",
        "ensure": "ensure_requester",
    }
    if call in ("append", "read", "change"):
        await backend.create_ticket(NEW, "r-cus_1")
    strict.plan(names.get(call, call), fault)
    failure = await failure_of(backend, call)
    assert type(failure) is (OutcomeUnknown if call in WRITES else Temporary), failure


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


@pytest.mark.parametrize("call", [*WRITES, *ASKS])
async def test_nobody_there_is_surely_not_done(call: str) -> None:
    backend = made(f"http://127.0.0.1:{free_port()}/tickets")
    await backend.start()
    failure = await failure_of(backend, call)
    await backend.stop()
    assert isinstance(failure, Temporary)
    assert "cannot connect to 127.0.0.1" in failure.reason


async def test_a_server_that_speaks_no_tls_is_surely_not_done(strict: Strict) -> None:
    backend = made(strict.url.replace("http://", "https://"))
    await backend.start()
    failure = await failure_of(backend, "create")
    await backend.stop()
    assert isinstance(failure, Temporary)
    assert strict.seen == []


async def test_an_environments_proxy_is_not_used(
    backend: WebhookBackend, strict: Strict, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert await backend.find_ticket("cnv_1", PERSON) is None
    assert strict.counts == {"ticket.find": 1}


async def test_a_configured_proxy_is_used(strict: Strict) -> None:
    backend = made(strict.url, proxy=f"http://127.0.0.1:{free_port()}")
    await backend.start()
    failure = await failure_of(backend, "create")
    await backend.stop()
    assert isinstance(failure, Temporary)
    assert strict.seen == []


# --- addresses that must not be called -----------------------------------------------------------


async def test_a_name_that_leads_to_this_machine_is_not_called(strict: Strict) -> None:
    """The check is part of the connection: a settings check alone could be fooled by DNS."""
    url = strict.url.replace("127.0.0.1", "localhost")
    backend = made(url, allow_private=False)
    await backend.start()
    failure = await failure_of(backend, "create")
    await backend.stop()
    assert isinstance(failure, Temporary)
    assert "not public" in failure.reason
    assert "allow_private" in failure.reason
    assert strict.seen == []


# --- ids and secrets -----------------------------------------------------------------------------


async def test_a_write_has_the_same_id_on_every_try_and_no_other_write_has_it(
    backend: WebhookBackend, strict: Strict
) -> None:
    for _ in range(2):
        await backend.create_ticket(NEW, "r-cus_1")
        await backend.append(REF, replace(ENTRY, key="ent_2"), reopen=False)
    await backend.append(REF, replace(ENTRY, key="ent_3"), reopen=False)
    first, second, again, repeated, third = strict.idents
    assert (first, second) == (again, repeated)
    assert len({first, second, third}) == 3


async def test_an_entry_on_another_ticket_and_another_backend_has_another_id(
    strict: Strict,
) -> None:
    ours, theirs = made(strict.url), made(strict.url)
    theirs.name = "crm"
    idents = {
        backend._named("entry.append", ticket, "ent_1")
        for backend in (ours, theirs)
        for ticket in ("1001", "1002")
    }
    assert len(idents) == 4


async def test_a_receiver_with_the_old_or_the_new_secret_is_served_while_they_are_rotated() -> None:
    for secret in (SECRET, OTHER_SECRET):
        async with strict_receiver(secret) as strict:
            backend = made(strict.url, secrets=(Secret(OTHER_SECRET), Secret(SECRET)))
            await backend.start()
            assert await backend.check() == ()
            await backend.stop()


# --- check ---------------------------------------------------------------------------------------


async def test_check_names_what_is_wrong_and_what_to_do(strict: Strict) -> None:
    async def told(**settings: Any) -> str:
        backend = made(settings.pop("url", strict.url), **settings)
        await backend.start()
        problems = await backend.check()
        await backend.stop()
        return " ".join(problems)

    assert await told() == ""
    assert "the same secret" in await told(secrets=(Secret(OTHER_SECRET),))
    assert "cannot connect" in await told(url=f"http://127.0.0.1:{free_port()}/")
    assert "does url lead to the receiver?" in await told(url=strict.url + "/wrong")
    strict.answer_all = web.Response(status=302, headers={"Location": "/login"})
    assert "redirects are not followed" in await told()


async def test_check_finds_a_receiver_that_believes_everybody(unused_tcp_port: int) -> None:
    async def believe(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/", believe)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    url = f"http://127.0.0.1:{unused_tcp_port}/"
    for mode, count in (("answering", 1), ("fire-and-forget", 0)):
        backend = made(url, mode=mode)
        await backend.start()
        problems = await backend.check()
        await backend.stop()
        assert len(problems) == count
        assert all("wrong signature" in each for each in problems)
    await runner.cleanup()


def test_no_secret_is_in_what_is_shown(backend: WebhookBackend) -> None:
    shown = repr(backend.config) + str(vars(backend))
    assert SECRET not in shown
    assert SECRET.removeprefix("whsec_") not in shown
