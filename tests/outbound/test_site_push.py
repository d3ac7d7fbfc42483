"""A send to the site whose answer is lost: the visitor sees one message, whatever is tried again.

Real: the hub, MongoDB, the site's socket. Faked: the loss.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.clock import SystemClock
from hub.contract import Outgoing
from hub.documents import Entry, Job
from normalizer.outcomes import Accepted, OutcomeUnknown
from tests.site.space import SITE, Browsers
from tests.site.test_real_hub import ACCOUNT, answer
from tests.support.hubs import RunningHub, running_hub

pytestmark = pytest.mark.real_mongo


@pytest.fixture
async def hub(mongo_url: str, mongo_db_name: str, tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(
        mongo_url, mongo_db_name, tmp_path, accounts=("main",), more=ACCOUNT
    ) as running:
        yield running


async def test_a_lost_answer_after_a_site_push_shows_the_visitor_one_message(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = hub.hub.connectors[("site", SITE)]
    sends: list[str] = []
    send = connector.send

    async def loses(message: Outgoing) -> Accepted:
        sends.append(message.key)
        accepted = await send(message)
        if len(sends) == 1:
            raise OutcomeUnknown("the answer was lost")
        return accepted

    monkeypatch.setattr(connector, "send", loses)
    async with aiohttp.ClientSession() as http:
        browsers = Browsers(f"{hub.hub.url}/site/{SITE}", http, SystemClock())
        tab = await (await browsers.visitor()).connect()
        new = await tab.sends("hello?", "message-one")
        entry = await hub.entry(new["server_msg_id"])
        await answer(hub, entry, "first")

        async def settled() -> Any:
            return await hub.hub.store.table(Job).find({"kind": "send", "state": "done"})

        await hub.until("the doubt to be settled", settled)
        await answer(hub, entry, "and second")
        shown = [await tab.expect("msg.new"), await tab.expect("msg.new")]
        await browsers.close()
    texts = [(each["seq"], each["parts"][0]["text"]) for each in shown]
    assert texts == [("2", "first"), ("3", "and second")]
    assert sends[0] == sends[1], "the doubt was cleared up by the same key"
    assert len(await hub.hub.store.table(Entry).find({"direction": "out"})) == 2
