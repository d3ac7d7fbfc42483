"""A mailbox that logs in by OAuth: one token for all processes and both protocols, for months.

Faked: the token endpoint, the IMAP and the SMTP server, which check what they are sent and take
the endpoint's last token only; the clock. Two connectors over one store stand for two processes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connectors.mail import oauth_tokens, token_endpoint
from connectors.mail.connector import MailConnector
from connectors.mail.oauth_settings import OAuth
from connectors.mail.oauth_state import STATE
from connectors.mail.outcomes import LoginRefused
from connectors.mail.xoauth2 import initial_response, reason_in
from hub import ConfigError, RawTable, parse_settings
from hub.documents import State
from hub.store.interface import Unavailable
from hub.testing import FakeClock, FakeServices, MemoryStore
from normalizer.outcomes import Failure, Misconfigured, RateLimited, Temporary
from tests.mail.fake_imap import USER, FakeImap
from tests.mail.fake_oauth import CONSENT, SECRET, FakeOAuth, Misanswer, held_back, says
from tests.mail.fake_smtp import FakeSmtp
from tests.mail.mailboxes import connector, outgoing

WITHIN_S = 30.0
LONG_AGO = datetime(2019, 1, 1, tzinfo=UTC)


class Provider:
    """Token endpoint, mailbox and submission server of one provider, and processes of the hub."""

    def __init__(self, oauth: FakeOAuth, imap: FakeImap, smtp: FakeSmtp) -> None:
        self.oauth = oauth
        self.imap = imap
        self.smtp = smtp
        self.clock = FakeClock()
        self.store = MemoryStore()
        self.key = FakeServices().key
        self.good = lambda token: token == oauth.token
        imap.takes_token = smtp.takes_token = lambda token: self.good(token)
        self._stack = contextlib.AsyncExitStack()

    async def process(self, **changes: Any) -> MailConnector:
        """Return a connector that shares nothing but the database with the others."""
        http = await self._stack.enter_async_context(aiohttp.ClientSession())
        services = FakeServices(store=self.store, clock=self.clock, key=self.key, http=http)
        given = {
            **self.imap.settings,
            **self.smtp.settings,
            "password": None,
            "oauth": {**self.oauth.settings, **changes},
        }
        given["oauth"] = {name: each for name, each in given["oauth"].items() if each is not None}
        made = connector(given, services, "shop")
        self._stack.push_async_callback(made.stop)
        return made

    async def close(self) -> None:
        await self._stack.aclose()

    async def stored(self) -> str:
        return repr(await self.store.table(State).find({}))


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine may be slow; how long is waited at most is no matter of these tests."""
    monkeypatch.setattr(oauth_tokens, "CALLER_WAITS_S", WITHIN_S)
    monkeypatch.setattr(token_endpoint, "TIMEOUT", aiohttp.ClientTimeout(total=WITHIN_S))


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with FakeOAuth() as oauth, FakeImap() as imap:
        extensions = ("AUTH PLAIN XOAUTH2", "8BITMIME")
        async with FakeSmtp(user=USER, password="", extensions=extensions) as smtp:
            made = Provider(oauth, imap, smtp)
            try:
                yield made
            finally:
                await made.close()


async def send(ours: MailConnector, text: str = "hello") -> None:
    await ours.send(outgoing("ann@example.com", text))


async def read(ours: MailConnector) -> None:
    await ours.history(LONG_AGO, None)


# --- one token -----------------------------------------------------------------------------------


async def test_one_token_serves_both_protocols_and_all_processes(provider: Provider) -> None:
    one, two = await provider.process(), await provider.process()
    await asyncio.gather(*(act(each) for each in (one, two) for act in (send, read, read)))
    assert len(provider.oauth.asked) == 1
    assert provider.oauth.asked[0]["grant_type"] == "refresh_token"
    assert provider.oauth.asked[0]["scope"] == "mail offline_access"
    assert provider.smtp.taken


async def test_it_is_renewed_before_its_end_and_not_long_before(provider: Provider) -> None:
    """A quarter of its life before, at most 15 minutes; by one process for all."""
    one, two = await provider.process(), await provider.process()
    await read(one)
    provider.clock.advance(45 * 60 - 1)
    await asyncio.gather(read(one), read(two))
    assert len(provider.oauth.issued) == 1
    provider.clock.advance(1)
    await asyncio.gather(*(read(each) for each in (one, two) * 5))
    assert len(provider.oauth.issued) == 2


async def test_a_held_connection_outlives_its_token_and_the_next_one_is_there(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth_tokens, "RENEWS_EVERY_S", 0.01)
    ours = await provider.process()

    async def deliver(items: Any, cursor: str) -> None:
        held.set()

    held = asyncio.Event()
    holding = asyncio.ensure_future(ours.hold(None, deliver))
    try:
        async with asyncio.timeout(WITHIN_S):
            await held.wait()
            provider.clock.advance(50 * 60)
            while len(provider.oauth.issued) < 2:
                await asyncio.sleep(0.01)
        assert provider.imap.logins == 1
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)


async def test_a_refused_token_is_renewed_once_and_the_login_made_once_more(
    provider: Provider,
) -> None:
    """By whoever is refused first, of both protocols in both processes; the others wait for it."""
    one, two = await provider.process(), await provider.process()
    await asyncio.gather(send(one), send(two), read(one), read(two))
    provider.clock.advance(600)
    provider.oauth.issued[-1] = "taken back"  # the servers take nothing that we have
    provider.smtp.cut()
    await asyncio.gather(*(act(each) for each in (one, two) for act in (send, read) * 3))
    assert len(provider.oauth.asked) == 2
    assert provider.imap.logins > 8


async def test_a_young_token_that_is_refused_lacks_rights_and_is_not_renewed_for_ever(
    provider: Provider,
) -> None:
    """The remedy is told with the server's reason, and accounts are not locked."""
    ours = await provider.process()
    provider.good = lambda token: False
    for act in (read, send) * 4:
        with pytest.raises(LoginRefused, match=r"status 400.*IMAP\.AccessAsApp"):
            await act(ours)
    assert len(provider.oauth.asked) == 1
    assert (provider.imap.logins, provider.smtp.logins) == (3, 3)
    provider.clock.advance(3600)
    for _ in range(3):
        with pytest.raises(LoginRefused):
            await read(ours)
    assert len(provider.oauth.asked) == 2
    assert provider.imap.logins == 4, "one try with the new token"


async def test_a_process_that_dies_while_it_renews_is_followed_by_another(
    provider: Provider,
) -> None:
    """Its lease ends by the clock, not before."""
    one, two = await provider.process(), await provider.process()
    tokens = one._logins._oauth
    assert tokens is not None
    assert await tokens._state.change(tokens._lease(await tokens._state.load()))
    waiting = asyncio.create_task(read(two))
    await asyncio.sleep(0)
    assert not provider.oauth.asked
    provider.clock.advance(oauth_tokens.LEASE.total_seconds() + 1)
    async with asyncio.timeout(WITHIN_S):
        await waiting
    assert len(provider.oauth.asked) == 1


async def test_who_waits_too_long_is_told_and_the_renewal_goes_on(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth_tokens, "CALLER_WAITS_S", 0.05)
    ours, released = await provider.process(), asyncio.Event()
    provider.oauth.answer = held_back(released, provider.oauth)
    with pytest.raises(Temporary, match="not there in time"):
        await send(ours)
    monkeypatch.setattr(oauth_tokens, "CALLER_WAITS_S", WITHIN_S)
    released.set()
    await send(ours)
    assert len(provider.oauth.issued) == 1


@pytest.mark.parametrize("answers", [True, False])
async def test_a_hub_that_stops_does_not_lose_a_renewal_under_way(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """What comes within its patience is kept; else the next process need not wait for the lease."""
    if not answers:
        monkeypatch.setattr(oauth_tokens, "CLOSE_S", 0.05)
    one, released = await provider.process(), asyncio.Event()
    provider.oauth.answer = held_back(released, provider.oauth)
    reading = asyncio.ensure_future(read(one))
    async with asyncio.timeout(WITHIN_S):
        while not provider.oauth.asked:
            await asyncio.sleep(0.01)
        stopping = asyncio.ensure_future(one.stop())
        await asyncio.sleep(0)
        if answers:
            released.set()
        await stopping
        await asyncio.gather(reading, return_exceptions=True)
        provider.oauth.answer = None
        await read(await provider.process())
    assert len(provider.oauth.issued) == 1
    released.set()


async def test_a_refused_token_that_cannot_be_renewed_does_not_lock_the_account(
    provider: Provider,
) -> None:
    ours = await provider.process()
    await read(ours)
    provider.clock.advance(600)
    provider.good = lambda token: False
    provider.oauth.answer = says(503, text="")
    for _ in range(3):
        with pytest.raises(Temporary, match="status 503"):
            await read(ours)
    with pytest.raises(LoginRefused):
        await read(ours)
    assert provider.imap.logins == 1 + 3


# --- the refresh token ---------------------------------------------------------------------------


async def test_a_rotated_refresh_token_is_kept_sealed_and_wins_over_the_configured_one(
    provider: Provider,
) -> None:
    """Also in a process that starts later; the database alone gives nothing away."""
    for expected in (CONSENT, "consent-1", "consent-2"):
        await read(await provider.process())
        assert provider.oauth.asked[-1]["refresh_token"] == expected
        stored = await provider.stored()
        assert not [each for each in (CONSENT, "consent-", "access-", SECRET) if each in stored]
        provider.clock.advance(3600)


async def test_a_newly_configured_refresh_token_wins_and_the_former_is_not_disturbed(
    provider: Provider,
) -> None:
    """During a rolling restart two processes have two consents: neither spends the other's."""
    old = await provider.process()
    await read(old)
    provider.clock.advance(3600)
    rotated, provider.oauth.refresh = provider.oauth.refresh, "a new consent"
    new = await provider.process(refresh_token="a new consent")
    await read(new)
    assert provider.oauth.asked[-1]["refresh_token"] == "a new consent"
    provider.oauth.refresh = rotated
    await read(old)
    assert provider.oauth.asked[-1]["refresh_token"] == rotated
    assert len(provider.oauth.issued) == 3


async def test_an_answer_that_comes_after_the_lease_does_not_undo_what_came_since(
    provider: Provider,
) -> None:
    one, two, released = await provider.process(), await provider.process(), asyncio.Event()

    async def late(request: Any) -> Any:
        provider.oauth.answer = None
        answer = await provider.oauth._post(request)
        provider.oauth.refresh = CONSENT  # this provider forgives a second use
        answered.set()
        await released.wait()
        return answer

    provider.oauth.answer, answered = late, asyncio.Event()
    reading = asyncio.ensure_future(read(one))
    async with asyncio.timeout(WITHIN_S):
        await answered.wait()
        provider.clock.advance(oauth_tokens.LEASE.total_seconds() + 1)
        await read(two)
        released.set()
        await asyncio.gather(reading, return_exceptions=True)
    provider.clock.advance(3600)
    await read(one)
    assert provider.oauth.asked[-1]["refresh_token"] == "consent-2"


async def test_a_rotated_refresh_token_that_the_database_does_not_take_is_tried_again(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token works meanwhile, and the operator is told not to stop the hub."""
    ours = await provider.process()
    provider.oauth.answer = breaks_the_database(provider, ours, monkeypatch)
    await read(ours)
    [said] = ours.warnings()
    assert "do not stop the hub" in said
    await read(ours)
    assert ours.warnings()
    monkeypatch.undo()
    await read(ours)
    assert not ours.warnings()
    provider.clock.advance(3600)
    await read(await provider.process())
    assert [each["refresh_token"] for each in provider.oauth.asked] == [CONSENT, "consent-1"]


def breaks_the_database(
    provider: Provider, ours: MailConnector, monkeypatch: pytest.MonkeyPatch
) -> Misanswer:
    """Take the database away when the token is asked for, so that the lease still is stored."""

    async def away(*args: object) -> bool:
        raise Unavailable("an election")

    async def answer(request: Any) -> Any:
        monkeypatch.setattr(ours.context, "set_state", away)
        provider.oauth.answer = None
        provider.oauth.asked.pop()
        return await provider.oauth._post(request)

    return answer


async def test_while_the_database_is_away_a_token_that_holds_is_used(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: object) -> Any:
        raise Unavailable("an election")

    ours = await provider.process()
    await read(ours)
    provider.clock.advance(50 * 60)
    monkeypatch.setattr(ours.context, "state", away)
    await read(ours)
    provider.clock.advance(10 * 60)
    with pytest.raises(Temporary, match="cannot be read: an election"):
        await read(ours)


async def test_a_state_that_cannot_be_read_is_no_end(provider: Provider) -> None:
    ours = await provider.process()
    await ours.context.set_state(STATE, {"consents": "nonsense"}, 0)
    await read(ours)
    assert len(provider.oauth.issued) == 1


async def test_an_app_without_a_user_logs_in_by_its_own_rights(provider: Provider) -> None:
    ours = await provider.process(refresh_token=None, scope="https://example.com/.default")
    await asyncio.gather(read(ours), send(ours))
    [asked] = provider.oauth.asked
    assert asked["grant_type"] == "client_credentials"
    assert asked["scope"] == "https://example.com/.default"


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "words", "next_s"),
    [
        (says(400, {"error": "invalid_grant"}), Misconfigured, "consent again", 60),
        (says(401, {"error": "invalid_client"}), Misconfigured, "oauth.client_secret", 60),
        (says(400, {"error": "unauthorized_client"}), Misconfigured, "administrator", 60),
        (says(400, {"error": "invalid_scope"}), Misconfigured, "oauth.scope", 60),
        (says(400, {"error": "no such word"}), Misconfigured, "settings in oauth", 60),
        (says(429, {}, headers={"Retry-After": "90"}), RateLimited, "had enough", 90),
        (says(429, {}, headers={"Retry-After": "Thu, 01 Jan"}), RateLimited, "had enough", 60),
        (says(503, text="<html>"), Temporary, "status 503", 2),
        (says(400, {"error": "temporarily_unavailable"}), Temporary, "temporarily", 2),
        (says(302, headers={"Location": "/elsewhere"}), Misconfigured, "the place itself", 60),
        (says(307, headers={"Location": "/elsewhere"}), Misconfigured, "the place itself", 60),
        (says(404, text="<html>"), Misconfigured, "look at oauth.token_url", 60),
        (says(200, text="<html>"), Misconfigured, "look at oauth.token_url", 60),
        (says(200, ["no", "object"]), Misconfigured, "look at oauth.token_url", 60),
        (says(200, text="[" * 20_000), Misconfigured, "look at oauth.token_url", 60),
        (says(200, {"access_token": "a\1b"}), Temporary, "no login can carry", 2),
        (says(200, {"access_token": "a b"}), Temporary, "no login can carry", 2),
        (says(200, {"access_token": 7}), Temporary, "no login can carry", 2),
        (says(200, {"access_token": "a-token", "token_type": "mac"}), Misconfigured, "Bearer", 60),
        (says(200, {"access_token": "a-token", "pad": "x" * 65_536}), Temporary, "no answer", 2),
    ],
)
async def test_each_refusal_has_its_meaning_and_is_not_asked_for_again_before_its_time(
    provider: Provider, answer: Misanswer, kind: type[Failure], words: str, next_s: int
) -> None:
    """In any process, and by either protocol."""
    provider.oauth.answer = answer
    one, two = await provider.process(), await provider.process()
    for act, ours in ((read, one), (send, one), (read, two)):
        with pytest.raises(kind, match=words):
            await act(ours)
    provider.clock.advance(next_s - 1)
    with pytest.raises(kind, match=words):
        await read(two)
    assert (len(provider.oauth.asked), provider.imap.logins) == (1, 0)
    provider.oauth.answer = None
    provider.clock.advance(1)
    await asyncio.gather(read(one), send(two))
    assert len(provider.oauth.asked) == 2


async def test_tries_become_rarer_and_other_settings_are_tried_at_once(provider: Provider) -> None:
    provider.oauth.answer = says(503, text="")
    ours = await provider.process()
    for wait_s in (2, 4, 8, 16):
        with pytest.raises(Temporary):
            await read(ours)
        provider.clock.advance(wait_s)
    assert len(provider.oauth.asked) == 4
    with pytest.raises(Temporary):
        await read(ours)
    provider.oauth.answer = None
    provider.oauth.client_secret = "mended"
    await read(await provider.process(client_secret="mended"))
    await read(await provider.process(client_secret="mended"))
    assert len(provider.oauth.issued) == 1
    await read(await provider.process(client_secret="mended", scope="more"))
    assert provider.oauth.asked[-1]["scope"] == "more"
    assert provider.oauth.asked[-1]["refresh_token"] == "consent-1", "consent is the same"


async def test_no_secret_that_an_answer_quotes_is_told(provider: Provider) -> None:
    """The fake's refusals hold the secret and the refresh token they were sent."""
    ours = await provider.process()
    provider.oauth.refresh = "another"
    with pytest.raises(Misconfigured) as first:
        await read(ours)
    provider.clock.advance(60)
    provider.oauth.client_secret = "another"
    with pytest.raises(Misconfigured) as second:
        await read(ours)
    assert "reused or revoked: ***" in first.value.reason
    assert "no such client: ***" in second.value.reason
    assert not [each for each in (CONSENT, SECRET) if each in await provider.stored()]
    provider.clock.advance(120)
    provider.oauth.answer = says(400, {"error": "x", "error_description": SECRET * 400})
    with pytest.raises(Misconfigured) as third:
        await read(ours)
    assert "the-secret" not in third.value.reason


async def test_a_token_that_cannot_be_renewed_is_used_until_its_end_and_that_is_told(
    provider: Provider,
) -> None:
    one, two = await provider.process(), await provider.process()
    await asyncio.gather(read(one), read(two))
    provider.oauth.refresh = "taken back"
    provider.clock.advance(50 * 60)
    for ours in (one, two):
        assert not ours.warnings()
        await asyncio.gather(read(ours), send(ours))
        [said] = ours.warnings()
        assert "ends at 2026-03-02 10:00 UTC" in said
        assert "consent again" in said
    assert len(provider.oauth.asked) == 2
    provider.clock.advance(10 * 60)
    for ours in (one, two):
        with pytest.raises(Misconfigured, match="consent again"):
            await read(ours)
        [said] = ours.warnings()
        assert "there is none: " in said, "a held connection may go on"


async def test_a_hiccup_of_the_endpoint_is_no_warning(provider: Provider) -> None:
    ours = await provider.process()
    await read(ours)
    provider.clock.advance(50 * 60)
    provider.oauth.answer = says(503, text="")
    for warned in (False, False, True):
        await read(ours)
        assert bool(ours.warnings()) is warned
        provider.clock.advance(8)
    provider.oauth.answer = None
    await read(ours)
    assert not ours.warnings()


@pytest.mark.parametrize(
    ("told", "renewed_after_s"),
    [(None, 45 * 60), ("1200", 900), (7200, 6300), (1, 45), (10**12, 24 * 3600 - 900)],
)
async def test_lives_of_any_length_are_understood(
    provider: Provider, told: Any, renewed_after_s: int
) -> None:
    ours = await provider.process()
    provider.oauth.life_s = told
    await read(ours)
    provider.clock.advance(renewed_after_s - 1)
    await read(ours)
    assert len(provider.oauth.issued) == 1
    provider.clock.advance(1)
    await read(ours)
    assert len(provider.oauth.issued) == 2


# --- omniline check ------------------------------------------------------------------------------


async def test_check_tries_a_renewal_and_says_once_what_is_wrong(provider: Provider) -> None:
    """Also while the old token still works, and whatever was tried a moment ago."""
    ours = await provider.process()
    assert list(await ours.check()) == []
    provider.clock.advance(600)
    provider.oauth.refresh = "taken back"
    [said] = await ours.check()
    assert said.startswith("OAuth: 127.0.0.1:")
    assert "consent again" in said
    provider.clock.advance(3600)
    [said] = await (await provider.process()).check()
    assert said.startswith("OAuth: ")
    provider.oauth.refresh = "consent-1"
    assert list(await ours.check()) == []


async def test_a_server_without_xoauth2_is_named(provider: Provider) -> None:
    provider.smtp.extensions = ("AUTH PLAIN",)
    ours = await provider.process()
    [said] = await ours.check()
    assert said.startswith("SMTP: ")
    assert "XOAUTH2" in said


# --- a token that something else renews ----------------------------------------------------------


async def test_a_token_in_a_file_is_read_anew_at_each_login(
    provider: Provider, tmp_path: Path
) -> None:
    """A file that is written anew lifts the brake; one that is away leaves the last token."""
    path = tmp_path / "token"
    path.write_text("first\n")
    path.chmod(0o600)
    services = FakeServices(clock=provider.clock)
    given = {**provider.imap.settings, **provider.smtp.settings, "password": None}
    ours = connector({**given, "access_token": {"file": str(path)}}, services, "shop")
    good = "first"
    provider.good = lambda token: token == good
    await asyncio.gather(read(ours), send(ours))
    good = "second"
    provider.smtp.cut()
    for _ in range(4):
        with pytest.raises(LoginRefused) as refused:
            await read(ours)
        assert "first" not in refused.value.reason
    assert provider.imap.logins == 1 + 3, "the brake holds"
    path.write_text("second\n")
    await asyncio.gather(read(ours), send(ours))
    assert not ours.warnings()
    path.write_text("")
    await read(ours)
    [said] = ours.warnings()
    assert f"the secret file {path} is empty" in said
    assert "read before is used" in said
    assert list(await ours.check()) == [said]
    path.write_text("second\n")
    await read(ours)
    assert not ours.warnings()
    await ours.stop()


async def test_a_token_that_was_renewed_between_reading_and_login_costs_nothing(
    provider: Provider, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")

    def good(token: str) -> bool:
        path.write_text("second\n")
        return token == "second"

    services = FakeServices(clock=provider.clock)
    given = {**provider.imap.settings, "password": None, "access_token": {"file": str(path)}}
    ours = connector(given, services, "shop")
    provider.good = good
    await read(ours)
    assert provider.imap.logins == 2
    await ours.stop()


# --- the exchange --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("challenge", "said"),
    [
        (b'{"status":"401","schemes":"bearer","scope":"mail"}', "status 401, schemes bearer"),
        (b'{"error": "invalid_token", "more": {"a": 1}, "n": 7}', "error invalid_token, n 7"),
        (rb'{"status":"a\r\nb"}', "status a b"),
        (b"no json", ""),
        (b"[1]", ""),
        (b"\xff\xfe", ""),
        (b"[" * 6000, ""),
        (b'{"a":"' + b"x" * 9000 + b'"}', ""),
    ],
)
def test_a_challenge_is_read_as_a_line_or_not_at_all(challenge: bytes, said: str) -> None:
    read_as = reason_in(base64.b64encode(challenge))
    assert read_as.startswith(said) if said else read_as == ""
    assert reason_in("no base64!") == reason_in("") == ""


@pytest.mark.parametrize("token", ["a\1b", "a\nb", "a\x7fb"])
def test_nothing_in_a_token_makes_a_field_of_its_own(token: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        initial_response("shop", token)
    with pytest.raises(ValueError, match="control character"):
        initial_response(token, "a")


# --- settings ------------------------------------------------------------------------------------

APP = {"client_id": "app", "client_secret": "x"}
USERS = {"client_id": "app", "refresh_token": "x"}


@pytest.mark.parametrize(
    ("given", "sends", "url", "scope"),
    [
        (
            {"provider": "microsoft", "tenant": "t-1", **USERS},
            True,
            "https://login.microsoftonline.com/t-1/oauth2/v2.0/token",
            "https://outlook.office.com/IMAP.AccessAsUser.All https://outlook.office.com/SMTP.Send"
            " offline_access",
        ),
        (
            {"provider": "microsoft", "tenant": "t-1", **USERS},
            False,
            "https://login.microsoftonline.com/t-1/oauth2/v2.0/token",
            "https://outlook.office.com/IMAP.AccessAsUser.All offline_access",
        ),
        (
            {"provider": "microsoft", "tenant": "shop.example", **APP},
            True,
            "https://login.microsoftonline.com/shop.example/oauth2/v2.0/token",
            "https://outlook.office365.com/.default",
        ),
        ({"provider": "google", **USERS}, True, "https://oauth2.googleapis.com/token", ""),
        (
            {"token_url": "https://id.example/token", "scope": "mail", **USERS},
            True,
            "https://id.example/token",
            "mail",
        ),
    ],
)
def test_a_provider_sets_what_is_known_of_it(
    given: dict[str, Any], sends: bool, url: str, scope: str
) -> None:
    oauth = parse_settings(OAuth, RawTable.of(given), "mail:shop")
    assert (oauth.url, oauth.scope_for(sends=sends)) == (url, scope)
    assert "x" not in repr(oauth.client_secret) + repr(oauth.refresh_token)


GOOD = {
    "provider": "microsoft",
    "tenant": "t",
    "client_id": "c",
    "refresh_token": "a-refresh-token",
}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"oauth": GOOD, "password": "a-password"}, "there is one way to log in"),
        ({"access_token": "a-token", "password": "a-password"}, "there is one way to log in"),
        ({"oauth": GOOD, "access_token": "a-token"}, "there is one way to log in"),
        ({"oauth": {**GOOD, "tenant": ""}}, "oauth.tenant"),
        ({"oauth": {**GOOD, "tenant": "../common"}}, "oauth.tenant"),
        ({"oauth": {**GOOD, "provider": "google"}}, "oauth.tenant"),
        ({"oauth": {**GOOD, "client_id": ""}}, "oauth.client_id"),
        ({"oauth": {"client_id": "c", "refresh_token": "a-refresh-token"}}, "oauth.token_url"),
        ({"oauth": {"provider": "google", **APP}}, "oauth.refresh_token"),
        ({"oauth": {**GOOD, "refresh_token": None}}, "oauth.client_secret"),
        ({"oauth": {**GOOD, "token_url": "http://id.example/t"}}, "is not https"),
        ({"oauth": {**GOOD, "token_url": "https://a:b@id.example/t"}}, "user name or password"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], words: str) -> None:
    oauth = {name: each for name, each in given.get("oauth", {}).items() if each is not None}
    given = {**given, "oauth": oauth} if oauth else given
    with pytest.raises(ConfigError, match=words):
        connector(
            {"address": "a@b.test", "imap_host": "h", **given}, FakeServices(), "shop"
        ).check_settings()


def test_a_token_server_in_clear_wants_insecure_and_this_machine() -> None:
    url = {"oauth": {**GOOD, "token_url": "http://127.0.0.1:9/t"}}
    ours = connector({"address": "a@b.test", "imap_host": "h", **url}, FakeServices(), "shop")
    [said] = ours.check_settings()
    assert "insecure = true" in said
    assert not connector(
        {"address": "a@b.test", "imap_host": "h", "oauth": GOOD}, FakeServices(), "shop"
    ).check_settings()
