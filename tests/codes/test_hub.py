"""Codes through a real hub: made by the API, told by a message, sent as an answer."""

from __future__ import annotations

from pathlib import Path

from tests.support.hubs import running_hub


async def test_a_code_from_the_api_links_whoever_sends_it(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    async with running_hub(mongo_url, mongo_db_name, tmp_path) as hub:
        await hub.message("hello", sender="ann")
        await hub.message("hello", sender="bob", account="second")
        ann = await hub.customer("ann")
        path = f"/api/v1/customers/{ann}/codes"
        made = await hub.post(path, {}, once="one")
        assert made.status == 201, made
        assert made.headers["Cache-Control"] == "no-store"
        code = made.json["code"]
        assert (await hub.post(path, {}, once="one")).json == made.json
        operation = await hub.get(f"/api/v1/operations/{made.json['operation']}")
        assert code not in repr(operation)

        await hub.message(code, sender="bob", account="second")
        assert await hub.customer("bob", "second") == ann

        links = (await hub.get(f"/api/v1/customers/{ann}/links"))["links"]
        assert [link["evidence"]["kind"] for link in links] == ["code"]
        page = await hub.get(f"/api/v1/customers/{ann}/timeline")
        assert [e["event"] for e in page["entries"] if e.get("event")] == ["contact.identified"]

        sent = await hub.post(
            path, {"address": hub.address_id("ann"), "send": True, "text": "your code: {code}"}
        )
        assert (sent.status, sent.json["code"]) == (201, None)

        async def left() -> object:
            return hub.connector.sent

        (message,) = await hub.until("the sent code", left)
        assert message.entry == sent.json["entry_id"]
        word = message.parts[0].text.removeprefix("your code: ")
        assert len(word) == 8
        assert word.isdecimal()

        reader = await hub.make_key("customers:read")
        assert (await hub.post(path, {}, key=reader)).status == 403
        assert (await hub.post(path, {"digits": 3})).status == 422
        assert (await hub.post(path, {"address": "adr_none"})).status == 404
