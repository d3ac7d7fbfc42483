"""The adapter's fences: each test shows a trap of aioimaplib, sprung by a server, and survived."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aioimaplib import aioimaplib as library

from connectors.mail import imap as adapter
from connectors.mail.imap import AT_ONCE, Imap, tls_context
from connectors.mail.outcomes import LoginRefused
from connectors.mail.settings import MailSettings
from hub import RawTable, parse_settings
from normalizer.outcomes import Failure, Misconfigured, Rejected, Temporary
from tests.mail.fake_imap import PASSWORD, FakeImap, hang_up, says, silence
from tests.mail.mailboxes import mail
from tests.support.scale import scaled


@pytest.fixture
async def server() -> AsyncIterator[FakeImap]:
    async with FakeImap() as fake:
        yield fake


def settings(server: FakeImap, **more: Any) -> MailSettings:
    given = {**server.settings, "limits": {"answer_s": 1.0}, **more}
    given = {name: value for name, value in given.items() if value is not None}
    return parse_settings(MailSettings, RawTable.of(given), "mail:test")


@pytest.fixture
async def imap(server: FakeImap) -> AsyncIterator[Imap]:
    opened = await Imap.open(settings(server), None)
    yield opened
    await opened.close()


@pytest.mark.soak
async def test_thousands_of_untagged_lines_in_one_read(server: FakeImap, imap: Imap) -> None:
    """Trap 1: a stack frame for each line, RecursionError at about a thousand of them."""
    count = scaled(5_000, 100_000)
    flood = "\r\n".join(f"* {number} EXPUNGE" for number in range(1, count))
    server.behave["NOOP"] = says(flood, "TAG OK done")
    await imap.noop()
    assert imap.can("IDLE")


async def test_never_more_than_200_uids_are_asked_for(server: FakeImap, imap: Imap) -> None:
    """Trap 1: and the connector keeps to it."""
    for _ in range(AT_ONCE):
        server.add(b"a: b\n\nc")
    await imap.select("INBOX")
    assert len(await imap.heads(await imap.uids_after(0))) == AT_ONCE
    with pytest.raises(ValueError):
        await imap.heads(range(1, AT_ONCE + 2))


@pytest.mark.parametrize("command", ["LOGIN", "SELECT", "SEARCH", "FETCH", "NOOP", "IDLE"])
async def test_a_lost_connection_ends_every_wait_at_once(server: FakeImap, command: str) -> None:
    """Trap 2: it fails no pending command, and a wait for pushes sleeps on for 29 minutes."""
    server.add(mail())
    server.behave[command] = hang_up
    started = time.monotonic()
    with pytest.raises(Temporary):
        await everything(server, answer_s=30.0)
    assert time.monotonic() - started < 5


async def everything(server: FakeImap, answer_s: float = 1.0) -> None:
    """Use each command once."""
    imap = await Imap.open(settings(server, limits={"answer_s": answer_s}), None)
    try:
        await imap.select("INBOX")
        await imap.uids_after(0)
        await imap.heads([1])
        await imap.noop()
        await imap.uids_after(0)
        await imap.wait_for_news(60.0)
    finally:
        await imap.close()


async def test_a_connection_cut_in_idle_is_noticed_at_once(server: FakeImap, imap: Imap) -> None:
    """Trap 2, where it hurts most."""
    await imap.select("INBOX")
    await imap.uids_after(0)
    waiting = asyncio.ensure_future(imap.wait_for_news(60.0))
    await idling(server)
    started = time.monotonic()
    server.cut()
    with pytest.raises(Temporary):
        await waiting
    assert time.monotonic() - started < 10


async def idling(server: FakeImap) -> None:
    async with asyncio.timeout(5):
        while not any(session.idle for session in server.sessions):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("command", ["LOGIN", "SELECT", "SEARCH", "FETCH", "NOOP", "IDLE"])
async def test_a_silent_server_ends_the_connection(server: FakeImap, command: str) -> None:
    """Trap 3: behind a command that timed out every later one hangs; so there is no later one."""
    server.add(mail())
    server.behave[command] = silence
    started = time.monotonic()
    with pytest.raises(Temporary, match="answer"):
        await everything(server, answer_s=0.3)
    assert time.monotonic() - started < 3
    async with asyncio.timeout(5):
        while server.sessions:  # closed, not left behind
            await asyncio.sleep(0.01)


async def test_a_folder_is_selected_and_peeked_at(server: FakeImap, imap: Imap) -> None:
    """Trap 4: EXAMINE leads to no state that FETCH is allowed in; the fake refuses BODY[]."""
    uid = server.add(mail("你好"))
    selected = await imap.select("INBOX")
    assert (selected.uid_validity, selected.uid_next, selected.exists) == (7, 2, 1)
    raw = await imap.body(uid, 1000)
    assert raw == server.mails[uid]


async def test_a_search_names_no_charset(server: FakeImap, imap: Imap) -> None:
    """Trap 4: some servers answer BADCHARSET to the library's CHARSET utf-8."""
    server.add(mail())
    await imap.select("INBOX")
    assert await imap.uids_after(0) == [1]
    assert await imap.uids_after(1) == [], "the highest comes with n:* although it is below n"


@pytest.mark.parametrize(
    ("command", "answer", "kind"),
    [
        ("LOGIN", "NO [AUTHENTICATIONFAILED] no", LoginRefused),
        ("LOGIN", "NO [UNAVAILABLE] later", Temporary),
        ("LOGIN", "NO [ALERT] Too many simultaneous connections. (Failure)", Temporary),
        ("LOGIN", "NO Temporary authentication failure.", Temporary),
        ("LOGIN", "NO [AUTHENTICATIONFAILED] too many connections with it", LoginRefused),
        ("LOGIN", "NO Login fail. Password is incorrect, login frequency limited", LoginRefused),
        ("LOGIN", "BAD what", Rejected),
        ("SELECT", "NO [NONEXISTENT] none", Misconfigured),
        ("SELECT", "NO Unsafe Login. Please contact", Misconfigured),
        ("SEARCH", "NO [SERVERBUG] oops", Temporary),
        ("FETCH", "NO [LIMIT] enough", Temporary),
        ("FETCH", "BAD what", Rejected),
        ("NOOP", "NO [ALERT] account disabled", LoginRefused),
    ],
)
async def test_no_and_bad_are_failures(
    server: FakeImap, command: str, answer: str, kind: type[Failure]
) -> None:
    """Trap 5: the library returns them like any other answer."""
    server.behave[command] = says(f"TAG {answer}")
    with pytest.raises(kind) as caught:
        await everything(server)
    assert type(caught.value) is kind
    assert caught.value.reason


@pytest.mark.parametrize("text", ["a :( sad", "((((", ")", "(UID 9 BODY[] {3}\r\nabc)\r\nA1 OK"])
async def test_parentheses_in_a_mail_are_its_own(server: FakeImap, imap: Imap, text: str) -> None:
    """Trap 5: in a quoted string they would glue the next answers to this one; literals do not."""
    first = server.add(mail(text, subject=text.partition("\r")[0]))
    second = server.add(mail("the next"))
    await imap.select("INBOX")
    assert await imap.body(first, 1000) == server.mails[first]
    assert await imap.body(second, 1000) == server.mails[second]
    assert await imap.headers(first) == server.mails[first].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert set(await imap.heads([first, second])) == {first, second}


async def test_user_and_folder_are_quoted(server: FakeImap) -> None:
    """Trap 6: the library quotes the password only; nothing becomes a second command."""
    for user in ('a" OK', "a b", "\\"):
        with pytest.raises(LoginRefused):
            await Imap.open(settings(server, user=user), None)
    login = [line for line in server.commands if " LOGIN " in line]
    assert login[0].endswith(f'LOGIN "a\\" OK" "{PASSWORD}"')
    imap = await Imap.open(settings(server), None)
    for folder in ('in"box', "two words", "a\r\nA1 DELETE INBOX", "垃圾邮件"):
        with pytest.raises(Misconfigured):
            await imap.select(folder)
    await imap.close()
    selects = [line.partition(" ")[2] for line in server.commands if "SELECT" in line]
    assert selects[0] == 'SELECT "in\\"box"'
    assert selects[-1] == 'SELECT "&V4NXPpCuTvY-"'
    assert not [line for line in server.commands if line.startswith("A1")]


@pytest.mark.parametrize("at_once", [True, False], ids=["SASL-IR", "in two steps"])
async def test_xoauth2_and_its_refusal(server: FakeImap, at_once: bool) -> None:
    """Trap 6: a refusal is a challenge that waits for an empty line, which nobody sent.

    And it is the only place where the server says why.
    """
    server.at_once = at_once
    token = {"password": None, "access_token": PASSWORD}
    imap = await Imap.open(settings(server, **token), None)
    assert imap.can("IDLE")
    await imap.close()
    with pytest.raises(LoginRefused) as refused:
        await Imap.open(settings(server, **{**token, "access_token": "expired"}), None)
    assert "status 400, schemes Bearer, scope https://mail.google.com/" in refused.value.reason
    assert "expired" not in refused.value.reason
    with pytest.raises(LoginRefused, match="cannot carry"):
        await Imap.open(settings(server, **{**token, "access_token": "with\1fields"}), None)


async def test_a_server_without_xoauth2_is_named(server: FakeImap) -> None:
    """It answers a mechanism that it does not know in any way."""
    server.behave["CAPABILITY"] = says("* CAPABILITY IMAP4rev1 AUTH=PLAIN", "TAG OK done")
    for answer in ("TAG BAD what?", "TAG NO [CANNOT] Unsupported authentication mechanism."):
        server.behave["AUTHENTICATE"] = says(answer)
        with pytest.raises(Misconfigured, match="offers no XOAUTH2") as told:
            await Imap.open(settings(server, password=None, access_token=PASSWORD), None)
        assert not isinstance(told.value, LoginRefused)


async def test_closing_closes_the_transport(server: FakeImap, imap: Imap) -> None:
    """Trap 6: LOGOUT leaves it open."""
    await imap.close()
    async with asyncio.timeout(5):
        while server.sessions:
            await asyncio.sleep(0.01)
    assert imap._client.protocol.transport.is_closing()


async def test_capabilities_are_asked_for_again_after_the_login(imap: Imap) -> None:
    """Many servers tell of IDLE only then."""
    assert imap.can("IDLE")
    assert imap.can("UIDPLUS")


async def test_nothing_of_a_session_is_logged(
    server: FakeImap, caplog: pytest.LogCaptureFixture
) -> None:
    """The library logs every byte, and a password with a quotation mark in clear."""
    with caplog.at_level(logging.DEBUG):
        server.add(mail("a very private text"))
        imap = await Imap.open(settings(server), None)
        await imap.select("INBOX")
        await imap.body(1, 1000)
        await imap.close()
        with pytest.raises(LoginRefused):
            await Imap.open(settings(server, password='with a "quote" in it'), None)
    assert "private" not in caplog.text
    assert "quote" not in caplog.text
    assert PASSWORD not in caplog.text


async def test_news_that_came_beside_another_command_is_not_lost(
    server: FakeImap, imap: Imap
) -> None:
    """The library drops EXISTS there, and IDLE does not repeat it: mail would wait for minutes."""
    await imap.select("INBOX")
    await imap.uids_after(0)
    await imap.noop()  # answers EXISTS
    assert await imap.wait_for_news(60.0) is True
    await imap.uids_after(0)
    assert await imap.wait_for_news(0.1) is False


async def test_pushes_that_are_no_news_end_no_wait(server: FakeImap, imap: Imap) -> None:
    await imap.select("INBOX")
    await imap.uids_after(0)
    waiting = asyncio.ensure_future(imap.wait_for_news(60.0))
    await idling(server)
    (session,) = server.sessions
    session.write("* OK Still here", "* 1 EXPUNGE", "* 2 FETCH (FLAGS (\\Seen))")
    await session.writer.drain()
    await asyncio.wait({waiting}, timeout=0.2)
    assert not waiting.done()
    session.write("* 1 EXISTS")
    assert await waiting is True


async def test_a_goodbye_is_heard(server: FakeImap, imap: Imap) -> None:
    await imap.select("INBOX")
    await imap.uids_after(0)
    waiting = asyncio.ensure_future(imap.wait_for_news(60.0))
    await idling(server)
    (session,) = server.sessions
    session.write("* BYE Server shutting down.")
    with pytest.raises(Temporary, match="goodbye"):
        await waiting


@pytest.mark.parametrize(
    "greeting", ["* BYE too many connections", "220 this is SMTP", "* OK [ALERT", ""]
)
async def test_whatever_greets_there_is_an_end(
    server: FakeImap, greeting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "CONNECT_S", 0.5)
    server.behave["GREETING"] = says(greeting) if greeting else hang_up
    if greeting.startswith("* OK"):
        await (await Imap.open(settings(server), None)).close()
        return
    with pytest.raises(Failure):
        async with asyncio.timeout(15):
            await Imap.open(settings(server), None)


async def test_answers_that_are_no_imap_end_the_connection(server: FakeImap, imap: Imap) -> None:
    server.behave["NOOP"] = says("A99 OK somebody else's", "TAG OK done")
    with pytest.raises(Temporary):
        await imap.noop()


async def test_a_large_mail_comes_whole(server: FakeImap, imap: Imap) -> None:
    """Pieces of 4 KB: a literal is put together in time that grows with its size only."""
    uid = server.add(b"a: b\n\n" + b"x" * 76 + (b"\n" + b"y" * 76) * 100_000)
    await imap.select("INBOX")
    started = time.monotonic()
    raw = await imap.body(uid, len(server.mails[uid]))
    assert raw == server.mails[uid]
    assert time.monotonic() - started < 5


async def test_a_mail_that_is_gone_is_none(server: FakeImap, imap: Imap) -> None:
    await imap.select("INBOX")
    assert await imap.body(5, 100) is None
    assert await imap.heads([5]) == {}


async def test_folders_are_listed_with_their_uses(server: FakeImap, imap: Imap) -> None:
    server.behave["LIST"] = says(
        '* LIST (\\HasNoChildren) "/" "INBOX"',
        '* LIST (\\HasNoChildren \\Sent) "/" "&XfJT0ZAB-"',
        "* LIST () NIL plain",
        '* LIST () "/" {8}\r\na "b" c.',
        "TAG OK done",
    )
    found = {folder.name: folder.uses for folder in await imap.folders()}
    assert "\\sent" in found["已发送"]
    assert {"INBOX", "plain", 'a "b" c.'} <= set(found)


async def test_a_refused_connection_is_temporary() -> None:
    async with FakeImap() as gone:
        pass
    with pytest.raises(Temporary, match="no connection"):
        await Imap.open(settings(gone), None)


async def test_a_server_without_tls_is_not_spoken_to_in_clear(server: FakeImap) -> None:
    with pytest.raises(Temporary):
        await Imap.open(settings(server), tls_context(""))
    assert server.logins == 0


def test_the_library_still_has_its_traps() -> None:
    """When it loses them, fences can go: look at the adapter then."""
    assert library.IMAP4.uid_search.__kwdefaults__ == {"charset": "utf-8"}
    assert "EXAMINE" in library.IMAP4ClientProtocol.simple_commands
