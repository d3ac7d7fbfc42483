"""A folder whose mails cannot be fetched: none blocks the others, each ends in a dead letter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from connectors.mail.connector import MailConnector
from connectors.mail.held import Holding
from connectors.mail.positions import TRIES, Position, Positions
from hub import Incoming
from hub.testing.clock import FakeClock
from hub.testing.services import FakeServices
from normalizer.outcomes import Failure, Misconfigured, Temporary
from tests.mail.fake_imap import FakeImap, Session, hang_up, says
from tests.mail.mailboxes import Held, connector, mail, until

SINCE = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def server() -> AsyncIterator[FakeImap]:
    async with FakeImap() as fake:
        yield fake


class Hasty(FakeClock):
    """A minute goes by whenever somebody looks."""

    def monotonic(self) -> float:
        self.advance(61)
        return super().monotonic()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def shop(server: FakeImap, clock: FakeClock) -> AsyncIterator[MailConnector]:
    settings = {**server.settings, "limits": {"answer_s": 1.0, "look_every_s": 0.1}}
    made = connector(settings, FakeServices(clock=clock), "shop")
    yield made
    await made.stop()


async def run(shop: MailConnector, cursor: str | None, up_to: int = 0) -> Held:
    """Hold until the connection ends, or everything up to a UID is taken in."""
    held = Held(shop, cursor)

    def there() -> bool:
        here = Positions.decode(held.cursor).at("INBOX")
        return here is not None and here.uid >= up_to and not here.waiting

    async with asyncio.timeout(30):
        while not (held.task.done() or there()):
            held.changed.clear()
            changed = asyncio.ensure_future(held.changed.wait())
            await asyncio.wait({changed, held.task}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
    await held.close()
    return held


def poison(server: FakeImap, uid: int, how: str) -> None:
    """Make one mail's body impossible to fetch."""
    usual = Session.on_fetch

    async def fetch(session: Session, tag: str) -> None:
        args = server.commands[-1].partition("FETCH ")[2]
        if args.startswith(f"{uid} ") and "BODY" in args:
            await (hang_up if how == "cut" else says("TAG NO [SERVERBUG] broken"))(session, tag)
        else:
            await usual(session, tag, args)

    server.behave["FETCH"] = fetch


@pytest.mark.parametrize("clock", [Hasty()])
@pytest.mark.parametrize("how", ["cut", "no"])
async def test_a_mail_that_cannot_be_fetched_blocks_nobody(
    server: FakeImap, shop: MailConnector, how: str
) -> None:
    """It cuts the connection or is refused: the others come, and it is a dead letter after five."""
    cursor = (await run(shop, None)).cursor
    for text in ("one", "two", "three"):
        server.add(mail(text))
    poison(server, 2, how)
    texts: list[str] = []
    failed: list[str] = []
    runs = 0
    while not failed:
        runs += 1
        assert runs <= 2 * TRIES
        held = await run(shop, cursor, 3)
        cursor = held.cursor
        texts += held.texts
        failed += [item.failed for item in held.items if item.failed]
    assert texts == ["one", "three"]
    assert "UID 2" in failed[0]
    server.behave.clear()
    server.add(mail("four"))
    last = await run(shop, cursor, 4)
    assert last.texts == ["four"]
    assert Positions.decode(last.cursor).folders["INBOX"].gaps == {}


async def test_a_server_out_of_order_for_a_while_costs_no_mail_all_its_tries(
    server: FakeImap, shop: MailConnector, clock: FakeClock
) -> None:
    """Each arrival is a look, and so is every renewal of IDLE: the tries are a minute apart."""
    cursor = (await run(shop, None)).cursor
    server.add(mail("one"))
    poison(server, 1, "no")
    held = Held(shop, cursor)

    async def looked() -> bool:
        return sum("UID SEARCH" in command for command in server.commands) > 3 * TRIES

    await until("many looks", looked)
    assert Positions.decode(held.cursor).folders["INBOX"].gaps == {"1": 1}
    server.behave.clear()
    clock.advance(61)
    await held.until(lambda: "one" in held.texts, "the first")
    await held.close()
    assert not [item.failed for item in held.items if item.failed]


async def test_a_sent_folder_that_is_lost_now_and_then_is_followed_at_once(
    shop: MailConnector, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers cut connections every half hour: the wait grows with failures in a row only."""
    holding = Holding(shop._mailbox, shop._taker, None, never)
    holding._inbox_is_open.set()
    waits: list[float] = []
    for followed_s, longest in ((1800.0, 1.0), (1.0, 300.0)):
        waits.clear()
        monkeypatch.setattr("connectors.mail.held.asyncio", Sleepless(waits))

        async def follow(which: str, followed_s: float = followed_s) -> None:
            clock.advance(followed_s)
            raise Temporary("the connection was lost")

        monkeypatch.setattr(holding, "_follow", follow)
        with pytest.raises(asyncio.CancelledError):
            await holding._keep("sent")
        assert longest / 2 <= max(waits) <= longest


class Sleepless:
    """Stands for asyncio: notes how long somebody would sleep, and ends with the twelfth."""

    def __init__(self, waits: list[float]) -> None:
        self._waits = waits

    async def sleep(self, seconds: float) -> None:
        self._waits.append(seconds)
        if len(self._waits) == 12:
            raise asyncio.CancelledError


async def never(items: Sequence[Incoming], cursor: str) -> None:
    raise AssertionError("nothing is delivered here")


async def test_a_mail_that_failed_once_comes_in_its_place(
    server: FakeImap, shop: MailConnector
) -> None:
    """A connection lost in the middle is no reason to change the order."""
    cursor = (await run(shop, None)).cursor
    for text in ("one", "two"):
        server.add(mail(text))
    poison(server, 1, "cut")
    first = await run(shop, cursor, 2)
    assert first.texts == []
    server.behave.clear()
    assert (await run(shop, first.cursor, 2)).texts == ["one", "two"]


async def test_a_burst_is_fetched_in_bounded_steps(server: FakeImap, shop: MailConnector) -> None:
    cursor = (await run(shop, None)).cursor
    for number in range(450):
        server.add(mail(f"text {number}"))
    held = Held(shop, cursor)
    await held.until(lambda: len(held.items) == 450, "all", within_s=60)
    await held.close()
    assert held.texts == [f"text {number}" for number in range(450)]
    assert server.most_uids == 200


async def test_a_mail_that_vanishes_is_passed(server: FakeImap, shop: MailConnector) -> None:
    cursor = (await run(shop, None)).cursor
    for text in ("one", "two", "three"):
        server.add(mail(text))
    del server.mails[2]
    held = await run(shop, cursor, 3)
    assert held.texts == ["one", "three"]


async def test_a_mail_that_is_deleted_while_it_is_fetched_is_no_dead_letter(
    server: FakeImap, shop: MailConnector
) -> None:
    """As Dovecot does when another session deletes: it is listed, and its text is NIL."""
    cursor = (await run(shop, None)).cursor
    for text in ("one", "two", "three"):
        server.add(mail(text))
    usual = Session.on_fetch

    async def fetch(session: Session, tag: str) -> None:
        args = server.commands[-1].partition("FETCH ")[2]
        if args.startswith("2 ") and "BODY" in args:
            del server.mails[2]
            session.write("* 2 FETCH (UID 2 BODY[] NIL)", f"{tag} OK done")
        else:
            await usual(session, tag, args)

    server.behave["FETCH"] = fetch
    held = await run(shop, cursor, 3)
    assert held.texts == ["one", "three"]
    assert [item.failed for item in held.items if item.failed] == []
    assert Positions.decode(held.cursor).folders["INBOX"].gaps == {}


async def test_what_a_lost_push_would_have_told_is_found_by_looking(
    server: FakeImap, shop: MailConnector
) -> None:
    held = Held(shop, (await run(shop, None)).cursor)
    async with asyncio.timeout(5):
        while not any(session.idle for session in server.sessions):
            await asyncio.sleep(0.01)
    uid, server.next_uid = server.next_uid, server.next_uid + 1
    server.mails[uid] = mail("silently").replace(b"\n", b"\r\n")  # nobody is told
    await held.until(lambda: held.items, "the mail")
    await held.close()


async def test_a_server_without_idle_is_asked(shop: MailConnector) -> None:
    async with FakeImap("ID") as old:
        settings = {**old.settings, "limits": {"look_every_s": 0.1}}
        made = connector(settings, FakeServices(), "shop")
        held = await Held(made, None).open()
        old.add(mail("hello"))
        await held.until(lambda: held.items, "the mail")
        await held.close()
        await made.stop()


async def test_a_mail_of_the_hubs_own_is_passed(server: FakeImap, shop: MailConnector) -> None:
    """A copy in the inbox, or a check's mail to itself, is no customer's message."""
    cursor = (await run(shop, None)).cursor
    own = {"sender": "shop@hub.test", "X_Hub_Instance": shop._taker.box.instance}
    server.add(mail("ours", **own))
    server.add(mail("theirs"))
    held = await run(shop, cursor, 2)
    assert held.texts == ["theirs"]
    assert Positions.decode(held.cursor).folders["INBOX"].uid == 2


async def test_files_are_stored_before_the_mail_is_delivered(
    server: FakeImap, shop: MailConnector
) -> None:
    cursor = (await run(shop, None)).cursor
    raw = (
        b"From: ann@example.com\nTo: shop@hub.test\nMessage-ID: <a@b>\nMIME-Version: 1.0\n"
        b'Content-Type: multipart/mixed; boundary="x"\n\n--x\nContent-Type: text/plain\n\nsee\n'
        b'--x\nContent-Type: application/pdf\nContent-Disposition: attachment; filename="a.pdf"\n'
        b"Content-Transfer-Encoding: base64\n\nJVBERi0xLjQ=\n--x--\n"
    )
    server.add(raw)
    held = await run(shop, cursor, 1)
    (draft,) = held.drafts
    media = draft.parts[1].media  # type: ignore[union-attr]
    assert await shop.context.blobs.read(media.blob) == b"%PDF-1.4"
    assert media.name == "a.pdf"


async def test_a_position_from_another_time_is_misconfigured(shop: MailConnector) -> None:
    with pytest.raises(Misconfigured):
        Positions.decode("{")
    assert Positions.decode(None).folders == {}
    here = Position(validity=1, uid=5, since=SINCE).failed(7).failed(7)
    assert Positions.decode(Positions().moved("INBOX", here).encode()).folders["INBOX"] == here
    assert (here.tries(7), here.waiting) == (2, [])
    assert here.set_aside(7).waiting == [7]
    assert here.passed(7).gaps == {}


async def test_a_server_that_goes_away_ends_the_door_with_a_reason(
    server: FakeImap, shop: MailConnector
) -> None:
    held = await Held(shop, None).open()
    server.cut()
    error = await held.ended()
    assert isinstance(error, Temporary)
    assert isinstance(error, Failure)
    assert error.reason


@pytest.mark.parametrize(
    ("listed", "sent"),
    [
        ('(\\HasNoChildren) "/" "Sent Messages"', "Sent Messages"),
        ('(\\HasNoChildren) "/" "&XfJT0ZAB-"', "已发送"),
        ('(\\HasNoChildren) "." "INBOX.Sent"', "INBOX.Sent"),
        ('(\\Noselect) "/" "Sent"', ""),
        ('(\\HasNoChildren) "/" "Sent to lawyers"', ""),
    ],
)
async def test_a_sent_folder_without_a_flag_is_known_by_its_usual_names(
    server: FakeImap, shop: MailConnector, listed: str, sent: str
) -> None:
    """QQ and older servers flag none (RFC 6154); one that is flagged goes first."""
    server.behave["LIST"] = says(f"* LIST {listed}", "TAG OK done")
    imap = await shop._mailbox.open()
    try:
        assert await shop._mailbox.sent_folder(imap) == sent
        flagged = '* LIST (\\HasNoChildren \\Sent) "/" "Out"'
        server.behave["LIST"] = says(f"* LIST {listed}", flagged, "TAG OK done")
        assert await shop._mailbox.sent_folder(imap) == "Out"
    finally:
        await imap.close()
