"""Two hubs, each a process with a space of its own, whose desks answer everything: it ends."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from hub.api.keys import create_key
from hub.clock import SystemClock
from hub.documents import Entry, Job, State
from hub.store.mongo import MongoStore
from normalizer.model import Direction
from normalizer.parts import plain_text
from tests.mail.answering_desk import SAYS
from tests.mail.conftest import MakeBox
from tests.mail.mailboxes import Mailbox, mail, until
from tests.mail.test_end_to_end import account, read
from tests.support.databases import Databases
from tests.support.processes import HubProcess
from tests.support.truth import routed, store_of

pytestmark = [pytest.mark.real_mongo, pytest.mark.timeout(180)]

WITHIN_S = 60.0
BACKEND = '\n[[backends]]\ntype = "answering"\nname = "desk"\n'
MODULES = ("hub.testing.samples.webhook", "tests.mail.answering_desk")


@pytest.fixture
def second_db_name(_databases: Databases) -> Iterator[str]:
    with _databases.fresh() as name:
        yield name


class Side:
    """One hub, its mailbox and its database."""

    def __init__(self, hub: HubProcess, box: Mailbox, store: MongoStore) -> None:
        self.hub = hub
        self.box = box
        self.store = store

    async def entries(self, count: int) -> list[Entry]:
        """Return what was said by mail, in order, once it is so much."""

        async def look() -> list[Entry]:
            found = await self.store.table(Entry).find(
                {"channel": "mail", "kind": {"$exists": False}}, sort=[("position", 1)]
            )
            return found if len(found) >= count else []

        found: list[Entry] = await until(f"{count} entries", look, WITHIN_S)
        return found

    async def ended(self, entry: Entry) -> str:
        """Return how an answer ended."""

        async def look() -> str:
            now = await self.store.table(Entry).get(entry.id)
            assert now is not None
            assert now.delivery is not None
            return now.delivery.state if now.delivery.state in ("accepted", "failed") else ""

        state: str = await until("an answer's end", look, WITHIN_S)
        return state

    async def agent_writes(self, to: Entry, text: str) -> None:
        _, key = await create_key(self.store, SystemClock(), "test", ["admin"], ())
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http:
            async with http.get(f"{self.hub.url}/api/v1/entries/{to.id}") as answer:
                customer = (await answer.json())["customer"]
            body = {"conversation": to.conversation, "parts": [{"type": "text", "text": text}]}
            url = f"{self.hub.url}/api/v1/customers/{customer}/replies"
            async with http.post(url, json=body) as answer:
                assert answer.status in (200, 202), await answer.text()

    async def at_rest(self) -> None:
        """Wait until nothing is left to be done."""

        async def look() -> bool:
            return await self.store.table(Job).count({"live": True}) == 0

        await routed(self.store)
        await until("the last job", look, WITHIN_S)


@asynccontextmanager
async def running(folder: Path, mongo_url: str, database: str, box: Mailbox) -> AsyncIterator[Side]:
    hub = HubProcess(
        folder,
        mongo_url,
        database,
        name=box.user,
        modules=MODULES,
        more=BACKEND + account(box),
        space_key=base64.b64encode(f"a space of its own: {box.user:>12}".encode()).decode(),
    )
    try:
        await hub.start()
        async with store_of(mongo_url, database) as store:

            async def held() -> bool:
                return await store.table(State).get(f"cursor/hold/mail:{box.user}") is not None

            await until("the mailbox to be held", held, WITHIN_S)
            yield Side(hub, box, store)
    finally:
        await hub.close()


async def test_two_hubs_that_answer_everything_stop_after_one_exchange(
    mongo_url: str,
    mongo_db_name: str,
    second_db_name: str,
    tmp_path: Path,
    make_box: MakeBox,
) -> None:
    """A person's mail is answered by a machine, and a machine's mail by nobody."""
    here, there = await make_box(), await make_box()
    async with (
        running(tmp_path / "a", mongo_url, mongo_db_name, here) as a,
        running(tmp_path / "b", mongo_url, second_db_name, there) as b,
    ):
        raw = mail("hello", sender=there.address, to=here.address, subject="hello")
        there.server.submit(raw, sender=there.address, to=here.address)
        asked, notice = await a.entries(2)
        assert (plain_text(notice.parts), await a.ended(notice)) == (SAYS, "accepted")
        (told,) = await b.entries(1)
        assert (told.automatic, told.conversation) == (True, None)

        await a.agent_writes(asked, "Who is there?")
        _, question, answer = await b.entries(3)
        assert (plain_text(question.parts), question.automatic) == ("Who is there?", False)
        assert (plain_text(answer.parts), await b.ended(answer)) == (SAYS, "accepted")
        # The machine's answer is in the conversation that is open, so that this desk answers too.
        *_, machine, refused = await a.entries(5)
        assert (machine.direction, machine.automatic) == (Direction.IN, True)
        assert machine.conversation == asked.conversation
        assert (plain_text(refused.parts), await a.ended(refused)) == (SAYS, "failed")

        await asyncio.gather(a.at_rest(), b.at_rest())
        assert len(await a.entries(5)) == 5
        assert len(await b.entries(3)) == 3
        got_here, got_there = await here.mails(), await there.mails()
        assert [read(each)["Auto-Submitted"] for each in got_here] == [None, "auto-replied"]
        assert [read(each)["Auto-Submitted"] for each in got_there] == ["auto-replied", None]
