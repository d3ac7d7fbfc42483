"""The table of types is what the code tells, the schemas are what is sent, the page is the code's.

The examples in the documents are rendered by the code that renders real events.
"""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

import hub
from hub.documents import AddressDoc, Conversation, Entry, FeedRow
from hub.feed.asyncapi import ENVELOPE, data_schema, document
from hub.feed.events import (
    CHANNEL_EVENT,
    MAX_EVENT_BYTES,
    TYPES,
    CloudEvent,
    EntryData,
    Face,
    Loaded,
    render,
    type_of,
)
from hub.feed.page import feed_page
from normalizer.parts import File, Image, Media, Text
from tests.feed.world import World

BASE = "https://hub.example/omni"
HUB = Path(hub.__file__).parent
PAGE = HUB.parent / "docs" / "reference" / "feed.md"
AREA_VERB = re.compile(r"[a-z]+\.[a-z_]+")
NOW = datetime(2026, 1, 1, 9, 30, tzinfo=UTC)
FACE = Face(space="space", base_url=BASE, generation=7)


# --- the table -----------------------------------------------------------------------------------


def told_types(source: str) -> set[str]:
    """Return every type that a module tells the feed, as the text says it."""
    tree = ast.parse(source)
    tellers = {"tell", "_tell", "append"}
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    if not imported & {"tell", "append"}:
        return set()
    calls = any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in tellers
        for node in ast.walk(tree)
    )
    assert calls
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and AREA_VERB.fullmatch(node.value)
    }


def test_the_table_has_every_type_that_the_code_tells_and_no_other() -> None:
    told: set[str] = set()
    for path in sorted(HUB.rglob("*.py")):
        told |= told_types(path.read_text())
    assert told == set(TYPES)


def test_a_connectors_own_event_is_a_type_in_the_same_form() -> None:
    assert type_of("contact.followed").type == "omniline.contact.followed.v1"
    assert type_of("Odd Näme").type == "omniline.odd_n_me.v1"
    assert type_of("contact.followed").data is EntryData


def test_the_envelope_is_described_as_it_is() -> None:
    assert list(ENVELOPE["properties"]) == list(CloudEvent.__struct_fields__)
    required = {field.name for field in msgspec.structs.fields(CloudEvent) if field.required}
    assert set(ENVELOPE["required"]) == required


# --- the AsyncAPI document -----------------------------------------------------------------------


def test_the_asyncapi_document_has_every_type_in_every_channel() -> None:
    told = document(BASE)
    assert told["asyncapi"] == "3.0.0"
    wanted = {*TYPES, "channel_event"}
    assert set(told["components"]["messages"]) == wanted
    for channel in told["channels"].values():
        assert set(channel["messages"]) == wanted
    for operation in told["operations"].values():
        assert operation["action"] == "send"
    assert told["servers"]["hub"]["host"] == "hub.example"
    assert told["servers"]["hub"]["pathname"] == "/omni"
    for kind in TYPES.values():
        payload = told["components"]["messages"][kind.name]["payload"]
        assert payload["allOf"][1]["properties"]["type"] == {"const": kind.type}


def test_every_reference_of_the_document_leads_somewhere() -> None:
    told = document(BASE)
    refs = re.findall(r'"\$ref":"#/([^"]+)"', msgspec.json.encode(told).decode())
    assert refs
    for ref in set(refs):
        place: Any = told
        for step in ref.split("/"):
            place = place[step]


@pytest.mark.parametrize("name", [*TYPES, "channel_event"])
def test_every_example_is_valid_and_says_something(name: str) -> None:
    told = document(BASE)
    message = told["components"]["messages"][name]
    (example,) = message["examples"]
    schema = {**message["payload"], "components": told["components"]}
    validate(example["payload"], schema)
    assert example["payload"]["data"]
    broken = {**example["payload"], "sequence": "1"}
    with pytest.raises(jsonschema.ValidationError):
        validate(broken, schema)
    without = {**example["payload"], "data": {}}
    with pytest.raises(jsonschema.ValidationError):
        validate(without, schema)


@pytest.mark.parametrize("name", [*TYPES, "contact.followed"])
def test_the_schema_of_the_data_is_where_the_event_says(name: str) -> None:
    told = document(BASE)
    key = name if name in TYPES else "channel_event"
    event = told["components"]["messages"][key]["examples"][0]["payload"]
    found = data_schema(event["type"], BASE)
    assert found is not None
    assert found["$id"] == event["dataschema"]
    validate(event["data"], found)


@pytest.mark.parametrize(
    "name", ["omniline.message.unknown.v1", "omniline.message.received.v2", "x", "", "a.b.v1"]
)
def test_there_is_no_schema_of_what_is_not_told(name: str) -> None:
    assert data_schema(name, BASE) is None


def validate(value: Any, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(
        value
    )


async def test_what_a_hub_sends_is_valid_and_both_documents_are_served(here: World) -> None:
    await here.say("ann", "hi")
    await here.say("ann", type="followed")
    await here.say("ann", type="hologram")
    await here.routed()
    customer = (await here.all(await here.key()))[0]["partitionkey"]
    await here.command("reply", customer=customer, parts=[{"type": "text", "text": "yes"}])
    await here.command("note", customer=customer, text="seen")
    await here.command("erase", customer=customer)
    await here.say("bob")
    await here.routed()
    status, told = await here.request("GET", "/asyncapi.json", {})
    assert status == 200
    events = await here.all(await here.key())
    assert len({event["type"] for event in events}) >= 6
    for event in events:
        name = event["type"].removeprefix("omniline.").removesuffix(".v1")
        message = told["components"]["messages"].get(name)
        message = message or told["components"]["messages"]["channel_event"]
        validate(event, {**message["payload"], "components": told["components"]})
        path = event["dataschema"].removeprefix("https://hub.example")
        status, schema = await here.request("GET", path, {})
        assert status == 200
        if event["data"] is not None:
            validate(event["data"], schema)
    assert (await here.request("GET", "/schemas/omniline.no.v1.json", {}))[0] == 404


# --- size and secrets ----------------------------------------------------------------------------


def rendered(entry: Entry) -> dict[str, Any]:
    row = FeedRow(
        id=5, type="message.received", at=NOW, recorded_at=NOW, customer="cus_1", ref=entry.id
    )
    address = AddressDoc(id=entry.address, scheme="chat", address="chat:shop:user:+8613800138000")
    loaded = Loaded(entries={entry.id: entry}, addresses={address.id: address})
    body = render(row, loaded, FACE).body
    assert len(body) <= MAX_EVENT_BYTES
    assert body == render(row, loaded, FACE).body
    found: dict[str, Any] = msgspec.json.decode(body)
    return found


def entry(*parts: Any, **fields: Any) -> Entry:
    known: dict[str, Any] = {
        "id": "ent_1",
        "address": "adr_1",
        "position": 5,
        "at": NOW,
        "received_at": NOW,
        "channel": "chat",
        "account": "shop",
        "parts": tuple(parts),
    }
    return Entry(**{**known, **fields})


@pytest.mark.parametrize(
    "large",
    [
        entry(Text(text="字" * 100_000)),
        entry(Text(text="\x01" * 50_000)),
        entry(Text(text="short", quoted="q" * 200_000)),
        entry(*(Text(text=f"{n}" + "x" * 500) for n in range(500))),
        entry(*(Text(text="y" * 30) for n in range(9_000))),
        entry(Text(text="hi"), data={"form": {str(n): "z" * 90 for n in range(3_000)}}),
        entry(Text(text="hi"), subject="s" * 80_000),
        entry(Text(text="😀" * 60_000), subject="😀" * 20_000),
    ],
)
def test_what_is_too_large_is_cut_and_says_where_the_whole_is(large: Entry) -> None:
    event = rendered(large)
    assert event["data"]["truncated"] is True
    assert event["dataref"] == f"{BASE}/api/v1/entries/ent_1"
    assert event["data"]["entry"]["id"] == "ent_1"


def test_the_largest_that_fits_is_whole() -> None:
    small = rendered(entry(Text(text="x")))
    room = (MAX_EVENT_BYTES - len(msgspec.json.encode(small))) // 2
    whole = rendered(entry(Text(text="x" * (room - 5))))
    assert "truncated" not in whole["data"]
    assert "dataref" not in whole
    assert len(whole["data"]["entry"]["text"]) == room - 5
    assert rendered(entry(Text(text="x" * (room + 50))))["data"]["truncated"] is True


def test_media_are_links_and_nothing_tells_a_phone_number_or_a_vendors_reference() -> None:
    image = Media(mime="image/png", blob="blb_1", vendor_ref="https://vendor/secret?token=t")
    event = rendered(
        entry(
            Image(media=image),
            File(media=Media(name="a.pdf", vendor_ref="secret-ref")),
            data={"media": {"secret-ref": msgspec.to_builtins(image)}, "plain": 1},
        )
    )
    shown = event["data"]["entry"]
    assert shown["parts"][0]["media"]["url"] == f"{BASE}/api/v1/attachments/blb_1?entry=ent_1"
    assert shown["data"]["plain"] == 1
    text = msgspec.json.encode(event).decode()
    for secret in ("token=t", "secret-ref", "13800138000", "vendor_ref"):
        assert secret not in text, secret


def test_a_conversation_of_somebody_erased_is_a_tombstone() -> None:
    row = FeedRow(
        id=1,
        type="conversation.opened",
        at=NOW,
        recorded_at=NOW,
        customer="cus_1",
        conversation="cnv_1",
        ref="cnv_1",
    )
    held = Conversation(
        id="cnv_1",
        customer="cus_1",
        root="adr_1",
        policy="customer",
        state="closed",
        opened_at=NOW,
        active_at=NOW,
        closed_by="erased",
    )
    event = msgspec.json.decode(render(row, Loaded(conversations={"cnv_1": held}), FACE).body)
    assert event["data"] is None
    assert event["erased"] is True
    assert event["sequence"] == "00000000000000000001"


# --- the page ------------------------------------------------------------------------------------


def test_the_page_is_made_from_the_code() -> None:
    assert PAGE.read_text() == feed_page(), "python -m hub.feed.page > docs/reference/feed.md"


def test_the_page_names_every_type() -> None:
    for kind in TYPES.values():
        assert f"`{kind.name}`" in PAGE.read_text()
    assert CHANNEL_EVENT.name in PAGE.read_text()
