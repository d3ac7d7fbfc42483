"""A whole hub with a webhook backend: out, back, and where nobody can say, a person decides.

Real: the hub with its HTTP server, MongoDB, the receiver of the documentation. Faked: the channel.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hub import Secret
from hub.cli import cli
from hub.documents import DeadLetter, Entry, Job, TicketMap
from hub.testing import Fault
from normalizer.drafts import DeliveryState
from normalizer.model import Direction
from normalizer.parts import plain_text
from plugins.webhook.signing import Signer
from tests.support.hubs import Answered, RunningHub, config_text, running_hub
from tests.support.scale import scaled
from tests.webhook.strict import SECRET, Strict

pytestmark = pytest.mark.real_mongo


def backend_toml(url: str, **settings: Any) -> str:
    given = {"type": "webhook", "name": "erp", "url": url, "secrets": [SECRET]}
    given |= {"allow_private": True, "timeout_s": 1, **settings}
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
    return "\n".join(["[[backends]]", *lines])


@pytest.fixture
async def hub(
    strict: Strict, mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> AsyncIterator[RunningHub]:
    more = backend_toml(strict.url)
    async with running_hub(mongo_url, mongo_db_name, tmp_path, more=more) as hub:
        yield hub


async def ticket_of(hub: RunningHub, conversation: str) -> TicketMap:
    async def look() -> TicketMap | None:
        found = await hub.hub.store.table(TicketMap).find({"conversation": conversation})
        return found[0] if found else None

    found: TicketMap = await hub.until("its ticket", look)
    return found


async def tell(hub: RunningHub, strict: Strict, event: dict[str, Any]) -> Answered:
    headers, body = strict.inner.signed(event)
    return await hub.call("POST", "/backends/erp/events", key="", headers=headers, data=body)


async def entries(hub: RunningHub, conversation: str) -> list[Entry]:
    where = {"conversation": conversation}
    return await hub.hub.store.table(Entry).find(where, sort=[("position", 1)])


async def test_a_message_becomes_a_ticket_and_its_answer_reaches_the_customer_once(
    hub: RunningHub, strict: Strict
) -> None:
    said = await hub.message("您好，我的订单还没到。")
    assert said.conversation is not None
    known = await ticket_of(hub, said.conversation)
    texts = [each["text"] for each in strict.inner.tickets[known.ticket]["entries"]]
    assert texts == ["您好，我的订单还没到。"]
    answer = strict.inner.agent_writes(known.ticket, "It leaves today.")
    for _ in range(3):  # the receiver lost our 202
        assert (await tell(hub, strict, answer)).status == 202

    async def replied() -> list[Entry]:
        found = await entries(hub, said.conversation or "")
        return [each for each in found if each.direction is Direction.OUT]

    (out,) = await hub.until("the answer", replied)
    assert plain_text(out.parts) == "It leaves today."
    assert out.sender.ref == "hmm"
    second = await hub.message("Thank you", sender="ann")
    await hub.entry(second.id)
    assert len(await replied()) == 1
    jobs = await hub.hub.store.table(Job).find({"entry": out.id, "kind": "ticket"})
    assert jobs == [], "what came from the ticket does not go back to it"


async def test_what_the_receiver_sent_itself_is_an_answer_that_nobody_sends(
    hub: RunningHub, strict: Strict
) -> None:
    said = await hub.message("Where is it?")
    known = await ticket_of(hub, said.conversation or "")
    event = strict.inner.agent_writes(known.ticket, "We have written to you.")
    event["data"]["already_sent"] = True
    assert (await tell(hub, strict, event)).status == 202

    async def kept() -> Entry | None:
        found = await entries(hub, said.conversation or "")
        return next((each for each in found if each.direction is Direction.OUT), None)

    out: Entry = await hub.until("the answer", kept)
    assert out.delivery is not None
    assert out.delivery.state is DeliveryState.ACCEPTED
    assert out.data == {"sent_by": "erp"}
    assert out.address != said.address, "it did not leave by the chat"
    assert await hub.hub.store.table(Job).find({"entry": out.id}) == []


async def test_a_merged_ticket_is_followed_and_its_answers_still_arrive(
    hub: RunningHub, strict: Strict
) -> None:
    said = await hub.message("Where is it?")
    known = await ticket_of(hub, said.conversation or "")
    other = await hub.message("Mine too", sender="bob")
    into = (await ticket_of(hub, other.conversation or "")).ticket
    await hub.until("the link", lambda: linked(hub, said.conversation or "", known.ticket))
    assert (await tell(hub, strict, strict.inner.agent_merges(known.ticket, into))).status == 202
    await hub.until("the new link", lambda: linked(hub, said.conversation or "", into))
    assert (await ticket_of(hub, said.conversation or "")).ticket == into
    more = await hub.message("Hello?")
    texts = strict.inner.tickets[into]["entries"]

    async def there() -> bool:
        return [each["text"] for each in texts] == ["Mine too", "Hello?"]

    await hub.until("the next message on the successor", there)
    assert more.conversation == said.conversation


async def linked(hub: RunningHub, conversation: str, ticket: str) -> bool:
    page = await hub.get(f"/api/v1/conversations/{conversation}")
    return ticket in [each["id"] for each in page["tickets"]]


async def test_forged_stale_and_unreadable_events_do_nothing_and_the_last_is_shown(
    hub: RunningHub, strict: Strict
) -> None:
    said = await hub.message("Where is it?")
    known = await ticket_of(hub, said.conversation or "")
    event = strict.inner.agent_writes(known.ticket, "It leaves today.")
    headers, body = strict.inner.signed(event)
    forged = await hub.call(
        "POST", "/backends/erp/events", key="", headers=headers, data=body + b" "
    )
    assert forged.status == 401
    headers, body = strict.inner.signed(event, at=time.time() - 301)
    stale = await hub.call("POST", "/backends/erp/events", key="", headers=headers, data=body)
    assert stale.status == 401
    body = b"no JSON"
    headers = Signer([Secret(SECRET)]).headers("msg_1", hub.hub.clock.now(), body)
    garbled = await hub.call("POST", "/backends/erp/events", key="", headers=headers, data=body)
    assert (garbled.status, garbled.json["detail"]) == (400, "not JSON")
    event["data"]["text"] = 7
    assert (await tell(hub, strict, event)).status == 202

    async def shown() -> list[DeadLetter]:
        return await hub.hub.store.table(DeadLetter).find({})

    (letter,) = await hub.until("the dead letter", shown)
    assert (letter.channel, letter.account) == ("hub", "erp")
    assert "data.text" in letter.reason or "$.text" in letter.reason
    assert [each.direction for each in await entries(hub, said.conversation or "")] == ["in"]


@pytest.mark.soak
@pytest.mark.parametrize("how", scaled(["api retry"], ["api", "api retry", "command"]))
async def test_where_nobody_can_say_a_person_decides(
    strict: Strict, mongo_url: str, mongo_db_name: str, tmp_path: Path, how: str
) -> None:
    """A fire-and-forget receiver made the ticket and its answer was lost, or it made none."""
    more = backend_toml(strict.url, mode="fire-and-forget")
    strict.plan("create_ticket", Fault.RESETS if how == "api retry" else Fault.LOSES)
    async with running_hub(mongo_url, mongo_db_name, tmp_path, more=more) as hub:
        said = await hub.message("one")
        cnv = said.conversation or ""
        path = f"/api/v1/conversations/{cnv}/tickets"
        await hub.message("two")

        async def unknown() -> Any:
            (shown,) = (await hub.get(path))["tickets"]
            waits = shown["reason"] == "nobody can say what became of it"
            return shown if waits and shown["waiting"] == 1 else None

        shown = await hub.until("the doubt", unknown)
        assert (shown["backend"], shown["state"], shown["ticket"]) == ("erp", "unknown", "")
        assert strict.counts["ticket.create"] == 1, "nothing passes it, nothing is sent again"
        if how == "command":
            text = config_text(mongo_url, mongo_db_name, tmp_path, more=more)
            config = tmp_path / "omniline.toml"
            config.write_text(text)
            words = ["settle-ticket", cnv, "erp", "--ticket", cnv, "--config", str(config)]
            ran = await asyncio.to_thread(CliRunner().invoke, cli, words)
            assert ran.exit_code == 0, ran.output
        else:
            body = {"retry": True} if how == "api retry" else {"ticket": cnv}
            told = await hub.post(f"{path}/erp/settle", body)
            assert told.status == 202, told
            again = await hub.post(f"{path}/erp/settle", body)
            assert again.status in (202, 409)

        async def done() -> bool:
            (shown,) = (await hub.get(path))["tickets"]
            return bool(shown["state"] == "linked" and not shown["waiting"])

        await hub.until("the rest", done)
    (ticket,) = strict.inner.tickets.values()
    assert [each["text"] for each in ticket["entries"]] == ["one", "two"]


async def test_a_decision_that_makes_no_sense_is_refused_with_what_to_do(
    hub: RunningHub, strict: Strict
) -> None:
    said = await hub.message("one")
    await ticket_of(hub, said.conversation or "")
    path = f"/api/v1/conversations/{said.conversation}/tickets/erp/settle"
    assert (await hub.post(path, {})).status == 422
    assert (await hub.post(path, {"ticket": "1001", "retry": True})).status == 422
    nowhere = await hub.post(path, {"ticket": "999"})
    assert (nowhere.status, "no such ticket" in nowhere.json["detail"]) == (422, True)
    calm = await hub.post(path, {"retry": True})
    assert (calm.status, "dead letters" in calm.json["detail"]) == (409, True)
    assert (await hub.post(path.replace("/erp/", "/crm/"), {"retry": True})).status == 404
    assert (await hub.post(path.replace("/erp/", "/E!/"), {"retry": True})).status == 404
    reader = await hub.make_key("conversations:read")
    assert (await hub.post(path, {"retry": True}, key=reader)).status == 403
