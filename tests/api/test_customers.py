"""Finding customers, deciding who is who, notes, erasing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.hubs import RunningHub, running_hub


async def test_a_customer_is_found_by_id_and_text_of_an_address(api: RunningHub) -> None:
    await api.message("hello")
    customer = await api.customer("ann")
    for params in (
        {"address": api.address_id("ann")},
        {"address": str(api.address("ann"))},
        {"q": str(api.address("ann"))},
    ):
        page = await api.get("/api/v1/customers", params=params)
        assert [each["id"] for each in page["customers"]] == [customer], params
    assert (await api.get("/api/v1/customers", params={"address": "a@b.example"}))[
        "customers"
    ] == []
    broken = await api.call("GET", "/api/v1/customers", params={"address": "sample:main"})
    assert (broken.status, broken.problem) == (422, "bad-request")


async def test_pages_of_customers_hold_each_once(api: RunningHub) -> None:
    for number in range(7):
        await api.message("hello", sender=f"s{number}")
    merged = await api.customer("s1")
    await api.post(f"/api/v1/customers/{await api.customer('s0')}/merge", {"other": merged})
    found: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = await api.get("/api/v1/customers", params=params)
        found += [each["id"] for each in page["customers"]]
        assert len(page["customers"]) <= 2
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert len(found) == len(set(found)) == 6
    assert merged not in found


async def test_parameters_that_nobody_knows_are_refused(api: RunningHub) -> None:
    for query in (
        "?name=ann",
        "?limit=0",
        "?limit=201",
        "?limit=ten",
        "?limit=1&limit=2",
        "?q=%00",
    ):
        answered = await api.call("GET", f"/api/v1/customers{query}")
        assert (answered.status, answered.problem) == (422, "bad-request"), query


async def test_a_customers_page_shows_what_can_be_done(api: RunningHub) -> None:
    entry = await api.message("hello")
    found = await api.get(f"/api/v1/customers/{await api.customer('ann')}")
    (address,) = found["customer"]["addresses"]
    assert address["address"] == str(api.address("ann"))
    assert address["can_reply"] is True
    assert address["capabilities"]["max_text_chars"] == 2000
    assert [each["id"] for each in found["conversations"]] == [entry.conversation]
    assert found["merged_from"] is None
    await api.call("PUT", "/api/v1/switches", {"name": "sample:main", "outbound": "off"})
    off = await api.get(f"/api/v1/customers/{await api.customer('ann')}")
    assert off["customer"]["addresses"][0]["can_reply"] is False
    replies = f"/api/v1/customers/{await api.customer('ann')}/replies"
    queued = await api.post(replies, {"parts": [{"type": "text", "text": "hi"}]})
    told = await api.get(f"/api/v1/trace/{queued.json['entry_id']}")
    assert "sending is switched off for sample:main" in str(told)


async def test_names_are_not_searched_where_they_are_encrypted(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    more = {"encrypt": "addresses", "encryption_key": "k1"}
    keys = '[hub.encryption_keys]\nk1 = "' + "A" * 43 + '="\n'
    async with running_hub(mongo_url, mongo_db_name, tmp_path, hub=more, more=keys) as api:
        await api.message("hello")
        refused = await api.call("GET", "/api/v1/customers", params={"q": "an"})
        assert (refused.status, refused.problem) == (422, "unsupported")
        assert await api.customer("ann")


# --- who is who ----------------------------------------------------------------------------------


async def test_a_merge_is_undone_exactly(api: RunningHub) -> None:
    await api.message("hello", sender="ann")
    await api.message("hello", sender="bob")
    ann, bob = await api.customer("ann"), await api.customer("bob")
    merged = await api.post(
        f"/api/v1/customers/{ann}/merge",
        {"other": bob, "evidence": {"kind": "agent", "note": "same voice"}},
    )
    assert merged.status == 200, merged
    link = merged.json["link"]
    assert (link["kind"], link["into"], link["evidence"]["note"]) == ("merge", ann, "same voice")
    asked = await api.get(f"/api/v1/customers/{bob}")
    assert (asked["customer"]["id"], asked["merged_from"]) == (ann, bob)
    listed = await api.get(f"/api/v1/customers/{bob}/links")
    assert [each["id"] for each in listed["links"]] == [link["id"]]
    undone = await api.post(f"/api/v1/customers/{ann}/unmerge", {"link": link["id"]})
    assert undone.status == 200, undone
    assert undone.json["link"]["undone_at"] is not None
    assert (await api.get(f"/api/v1/customers/{bob}"))["merged_from"] is None
    assert await api.customer("bob") == bob


async def test_an_address_is_linked_separated_and_given_back(api: RunningHub) -> None:
    await api.message("hello", sender="ann")
    await api.message("hello", sender="bob")
    ann, bob = await api.customer("ann"), await api.customer("bob")
    address = str(api.address("bob"))
    suggested = await api.post(
        f"/api/v1/customers/{ann}/links", {"address": address, "trust": "seen"}
    )
    assert (suggested.status, suggested.json["link"]) == (200, None)
    assert await api.customer("bob") == bob
    linked = await api.post(f"/api/v1/customers/{ann}/links", {"address": address})
    assert linked.json["customer"] == ann
    assert await api.customer("bob") == ann
    separated = await api.post(f"/api/v1/customers/{ann}/separate", {"address": address})
    assert separated.status == 200, separated
    assert await api.customer("bob") not in (ann, bob)
    for decision in (separated, linked):
        undone = await api.call("DELETE", f"/api/v1/links/{decision.json['link']['id']}")
        assert undone.status == 200, undone
    assert await api.customer("bob") == bob
    unknown = await api.call("DELETE", "/api/v1/links/lnk_" + "0" * 26)
    assert (unknown.status, unknown.problem) == (404, "not-found")


async def test_a_note_is_for_colleagues_and_sends_nothing(api: RunningHub) -> None:
    entry = await api.message("hello")
    customer = f"/api/v1/customers/{await api.customer('ann')}"
    body = {"text": "call back", "conversation": entry.conversation, "agent_name": "Li"}
    noted = await api.post(f"{customer}/notes", body, once="n1")
    assert noted.status == 201, noted
    assert noted.json["entry"]["direction"] == "internal"
    assert noted.json["entry"]["conversation"] == entry.conversation
    again = await api.post(f"{customer}/notes", body, once="n1")
    assert again.json["entry_id"] == noted.json["entry_id"]
    assert api.connector.sent == []
    other = await api.message("hello", sender="bob")
    foreign = await api.post(f"{customer}/notes", {"text": "x", "conversation": other.conversation})
    assert (foreign.status, foreign.problem) == (404, "not-found")


async def test_an_erased_customer_is_gone_and_says_so(api: RunningHub) -> None:
    entry = await api.message("my secret")
    customer = f"/api/v1/customers/{await api.customer('ann')}"
    erased = await api.call("DELETE", customer)
    assert erased.status == 202, erased
    operation = await api.get(erased.headers["Location"])
    assert (operation["state"], operation["name"]) == ("done", "erase")
    for path in (customer, f"{customer}/timeline", f"/api/v1/entries/{entry.id}"):
        gone = await api.call("GET", path)
        assert (gone.status, gone.problem) == (410, "erased"), path
    reply = {"parts": [{"type": "text", "text": "hi"}]}
    assert (await api.post(f"{customer}/replies", reply)).status == 410
    found = await api.get("/api/v1/customers", params={"address": str(api.address("ann"))})
    assert found["customers"] == []
    story = await api.get(f"/api/v1/trace/{entry.id}")
    assert "my secret" not in str(story)
