"""Many answers through a vendor that limits, is busy, cuts and loses answers at random.

Real: two hubs on one MongoDB, both sending; HTTP to a strict vendor that counts what arrived.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from hub.cli import cli
from hub.documents import DeadLetter, Entry, Job, Reservation
from hub.outbound.gate import TRIPS_AFTER
from hub.store.interface import StoreError
from hub.testing.samples.webhook import Push, signed_headers
from normalizer.model import Direction
from tests.outbound.vendor import TOKEN, WINDOW_SENDS, StrictVendor
from tests.support.hubs import SECRET, Answered, RunningHub, config_text, running_hub
from tests.support.scale import scaled

ANSWERS = scaled(90, 1000)
EACH = WINDOW_SENDS + 1  # one more than a window lets through
WITHIN_S = scaled(100.0, 900.0)
SETTINGS = {
    "plugin_modules": ["hub.testing.samples.webhook", "tests.outbound.vendor"],
    "space_key": base64.b64encode(b"a space key that both hubs share").decode(),
}


def account(vendor: StrictVendor) -> str:
    return "\n".join(
        [
            "[[accounts]]",
            'channel = "strict"',
            'key = "main"',
            f'secrets = ["{SECRET.decode()}"]',
            f'url = "{vendor.url}"',
            f'token = "{TOKEN}"',
            f"quota = {vendor.quota}",
        ]
    )


@asynccontextmanager
async def hub_with_vendor(
    mongo_url: str, mongo_db_name: str, data: Path, **vendor: Any
) -> AsyncIterator[tuple[StrictVendor, RunningHub]]:
    """A vendor, and a hub that sends through it."""
    async with StrictVendor(**vendor) as strict:
        more = account(strict)
        async with running_hub(mongo_url, mongo_db_name, data, hub=SETTINGS, more=more) as hub:
            yield strict, hub


async def speaks(hub: RunningHub, who: str) -> str:
    """Let a person open the window; return the path of their answers."""
    body = msgspec.json.encode(Push(id=f"m-{who}", sender=who, at=_now_ms(), text="help"))
    headers = signed_headers(SECRET, int(time.time()), body)
    told = await hub.call("POST", "/in/strict/main", key="", headers=headers, data=body)
    assert told.status == 200, told

    async def known() -> Any:
        page = await hub.get("/api/v1/customers", params={"address": f"strict:main:user:{who}"})
        return page["customers"]

    (customer,) = await hub.until(f"{who} to be known", known)
    return f"/api/v1/customers/{customer['id']}"


def _now_ms() -> int:
    return int(time.time() * 1000)


async def asked(hub: RunningHub, path: str, text: str, once: str) -> Answered:
    """Ask for an answer; a hub that is behind says so, and is asked again under the same key."""
    ends = time.monotonic() + WITHIN_S
    body = {"parts": [{"type": "text", "text": text}]}
    while (told := await hub.post(f"{path}/replies", body, once=once)).status == 503:
        assert time.monotonic() < ends, told
        await asyncio.sleep(0.2)
    assert told.status == 202, told
    return told


async def all_sent(hub: RunningHub, within_s: float = WITHIN_S) -> None:
    """Wait until every send and its outcome are done."""
    jobs = hub.hub.store.table(Job)
    async with asyncio.timeout(within_s):
        while await jobs.count({"live": True, "kind": "send"}, limit=1):
            await asyncio.sleep(0.05)
    inbox = hub.hub.store.inbox
    await hub.until("the outcomes to be routed", lambda: _none_open(inbox))


async def _none_open(inbox: Any) -> bool:
    return bool((await inbox.backlog())[0] == 0)


@pytest.mark.soak
@pytest.mark.timeout(WITHIN_S + 60)
async def test_answers_through_a_troubled_vendor_all_end_in_their_right_state(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """Once each, in order, within window and quota, and every place given back that was free."""
    people = [f"{'blind' if n % 4 == 0 else 'p'}-{n}" for n in range(ANSWERS // EACH)]
    quota = len(people) * WINDOW_SENDS - len(people)  # fewer than the windows let through
    async with AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(StrictVendor(seed=7, trouble=0.3, quota=quota))
        hubs = [
            await stack.enter_async_context(
                running_hub(
                    mongo_url,
                    mongo_db_name,
                    tmp_path / name,
                    hub={**SETTINGS, "workers": 8},
                    more=account(vendor),
                )
            )
            for name in ("one", "two")
        ]
        hub = hubs[0]
        paths = {who: await speaks(hub, who) for who in people}
        wanted: dict[str, tuple[str, int]] = {}
        for n in range(EACH):
            for place, who in enumerate(people):
                text = f"{n} refuse me" if n == 1 and place % 5 == 0 else str(n)
                told = await asked(hubs[n % 2], paths[who], text, f"{who}-{n}")
                wanted[told.json["entry_id"]] = (who, n)
        await all_sent(hub)

        store = hub.hub.store
        entries = {
            entry.id: entry
            for entry in await store.table(Entry).find({"direction": str(Direction.OUT)})
        }
        jobs = {job.entry: job for job in await store.table(Job).find({"kind": "send"})}
        places = defaultdict(set)
        for each in await store.table(Reservation).find({}):
            places[each.counter.split("|")[0]].add(each.holder.split("|")[0])
        letters = {letter.ref for letter in await store.table(DeadLetter).find({})}

    assert entries.keys() == wanted.keys()
    assert vendor.violations == []
    assert max(vendor.by_key.values()) == 1, "a message arrived twice"
    assert set(vendor.met) == {"limited", "busy", "reset", "lost"}
    for who in people:
        order = [int(text.split()[0]) for text in vendor.arrived[who]]
        assert order == sorted(set(order)), f"{who} got {order}"
    ends = defaultdict(set)
    for ident, entry in entries.items():
        job, delivery = jobs[ident], entry.delivery
        assert delivery is not None
        arrived = vendor.by_key[job.id]
        ends[str(delivery.state)].add(delivery.code)
        match delivery.state:
            case "accepted":
                assert arrived == 1
            case "unknown":
                assert wanted[ident][0].startswith("blind")
            case _:
                assert delivery.state == "failed", entry
                assert arrived == 0
        took_place = delivery.state in ("accepted", "unknown")
        for counter in ("window", "quota"):
            assert (job.id in places[counter]) is took_place, (counter, entry)
        assert (job.id in letters) is (delivery.state != "accepted")
    assert ends["failed"] >= {"422", "quota_spent"}
    assert len(places["quota"]) == quota, "the quota was not used up"


async def test_windows_are_shown_before_and_refused_after_they_are_spent(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    async with hub_with_vendor(mongo_url, mongo_db_name, tmp_path, quota=100) as (vendor, hub):
        path = await speaks(hub, "ann")
        (limits,) = (await hub.get(path))["limits"]
        (window,) = limits["windows"]
        assert (limits["can_send"], window["name"], window["open"]) == (True, "talk", True)
        assert (window["sends"], window["sends_left"], window["templates_pass"]) == (5, 5, True)
        assert window["open_until"] is not None
        for n in range(WINDOW_SENDS + 1):
            await hub.post(f"{path}/replies", {"parts": [{"type": "text", "text": str(n)}]})
        await all_sent(hub)
        (limits,) = (await hub.get(path))["limits"]
        assert (limits["can_send"], limits["windows"][0]["sends_left"]) == (False, 0)
        (quota,) = limits["quotas"]
        assert (quota["name"], quota["sends"], quota["sends_left"]) == ("all", 100, 95)
        page = await hub.get(f"{path}/timeline")
        assert page["entries"][0]["delivery"]["code"] == "window_spent"
        assert len(vendor.arrived["ann"]) == WINDOW_SENDS


async def test_a_template_is_listed_shown_filled_in_and_sent(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    async with hub_with_vendor(mongo_url, mongo_db_name, tmp_path) as (vendor, hub):
        path = await speaks(hub, "ann")
        listed = await hub.get("/api/v1/accounts/strict:main/templates")
        assert listed == {
            "templates": [
                {"name": "hi", "language": "", "params": ["who"], "preview": "Hello {who}!"}
            ]
        }
        template = {"name": "hi", "params": {"who": "{who} & Ann"}}
        told = await hub.post(f"{path}/replies", {"template": template})
        assert told.status == 202, told
        assert told.json["entry"]["text"] == "Hello {who} & Ann!"
        await all_sent(hub)
        assert vendor.arrived["ann"] == ["Hello {who} & Ann!"]
        kept = (await hub.get(f"/api/v1/entries/{told.json['entry_id']}"))["entry"]["data"]
        assert kept["template"]["params"] == template["params"]

        parts = [{"type": "text", "text": "x"}]
        for body, problem in [
            ({"template": template, "parts": parts}, "bad-request"),
            ({}, "bad-request"),
            ({"template": {"name": "none"}}, "unsupported"),
            ({"template": {"name": "hi", "language": "zh"}}, "unsupported"),
            ({"template": {"name": "hi"}}, "bad-request"),
            ({"template": {"name": "hi", "params": {"who": "a", "x": "b"}}}, "bad-request"),
        ]:
            refused = await hub.post(f"{path}/replies", body)
            assert (refused.status, refused.problem) == (422, problem), (body, refused)
        await hub.message("hello", sender="bob")
        bob = f"/api/v1/customers/{await hub.customer('bob')}/replies"
        refused = await hub.post(bob, {"template": template})
        assert (refused.status, refused.problem) == (422, "unsupported")
        for unknown in ("strict:none", "sample"):
            answered = await hub.call("GET", f"/api/v1/accounts/{unknown}/templates")
            assert answered.status == 404


async def test_a_lost_answer_is_settled_by_a_person_and_never_sent_again_by_itself(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """Nobody can look it up: it is shown as unknown; sent, failed or again is for a person."""
    async with hub_with_vendor(mongo_url, mongo_db_name, tmp_path) as (vendor, hub):
        path = await speaks(hub, "blind-ann")
        vendor.lose = {"one", "two", "three"}
        for text in ("one", "two", "three"):
            await hub.post(f"{path}/replies", {"parts": [{"type": "text", "text": text}]})
        await all_sent(hub)
        assert vendor.arrived["blind-ann"] == ["one", "two", "three"]

        async def shown() -> list[tuple[str, str]]:
            page = await hub.get(f"{path}/timeline")
            return [
                (entry["text"], entry["delivery"]["state"])
                for entry in reversed(page["entries"])
                if entry["direction"] == "out"
            ]

        assert await shown() == [("one", "unknown"), ("two", "unknown"), ("three", "unknown")]
        page = await hub.get("/api/v1/dead-letters")
        letters = [each["id"] for each in reversed(page["dead_letters"])]
        assert {each["stage"] for each in page["dead_letters"]} == {"send:outcome_unknown"}

        base = "/api/v1/dead-letters"
        sent = await hub.post(f"{base}/{letters[0]}/settle", {"outcome": "sent"})
        assert (sent.status, sent.json["state"]) == (200, "settled")
        failed = await hub.post(f"{base}/{letters[1]}/settle", {"outcome": "failed"})
        assert (failed.status, failed.json["state"]) == (200, "settled")
        vendor.lose = set()
        again = await hub.post(f"{base}/{letters[2]}/redrive")
        assert again.status == 202
        await all_sent(hub)
        assert await shown() == [("one", "accepted"), ("two", "failed"), ("three", "accepted")]
        assert vendor.arrived["blind-ann"] == ["one", "two", "three", "three"]
        left = await hub.hub.store.table(Reservation).count({"counter": {"$regex": "^window"}})
        assert left == 3, "one, and three twice: two was not sent"

        assert (await hub.post(f"{base}/{letters[0]}/redrive")).status == 409
        other = await hub.post(f"{base}/{letters[0]}/settle", {"outcome": "failed"})
        assert (other.status, other.problem) == (409, "conflict")
        assert (await hub.post(f"{base}/{letters[2]}/settle", {"outcome": "sent"})).status == 409
        bad = await hub.post(f"{base}/{letters[0]}/settle", {"outcome": "perhaps"})
        assert bad.status == 422
        reader = await hub.make_key("deadletters:read")
        denied = await hub.post(f"{base}/{letters[0]}/settle", {"outcome": "sent"}, key=reader)
        assert denied.status == 403


async def test_an_unknown_answer_is_settled_from_the_command_line(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """The command itself, beside a running hub; what cannot be settled is said in plain words."""
    async with hub_with_vendor(mongo_url, mongo_db_name, tmp_path) as (vendor, hub):
        path = await speaks(hub, "blind-ann")
        vendor.lose = {"one"}
        for text in ("one", "refuse me"):
            await hub.post(f"{path}/replies", {"parts": [{"type": "text", "text": text}]})
        await all_sent(hub)
        page = await hub.get("/api/v1/dead-letters")
        letters = {each["stage"]: each["id"] for each in page["dead_letters"]}
        refused, unknown = letters["send:rejected"], letters["send:outcome_unknown"]
        config = tmp_path / "omniline.toml"
        config.write_text(
            config_text(mongo_url, mongo_db_name, tmp_path, hub=SETTINGS, more=account(vendor))
        )
        config.chmod(0o600)

        async def settle(letter: str, found: str) -> Result:
            args = ["settle", "--config", str(config), letter, "--as", found]
            return await asyncio.to_thread(CliRunner().invoke, cli, args)

        done = await settle(unknown, "failed")
        assert done.exit_code == 0, done.output
        assert done.output == f"{unknown} is settled as failed\n"

        async def failed() -> bool:
            page = await hub.get(f"{path}/timeline")
            states = {
                each["text"]: each["delivery"] for each in page["entries"] if each["delivery"]
            }
            return bool(states["one"]["state"] == "failed" and states["one"]["code"] == "settled")

        await hub.until("the answer to be settled", failed)
        shown = await hub.get(f"/api/v1/dead-letters/{unknown}")
        assert shown["dead_letter"]["state"] == "settled"
        assert await hub.hub.store.table(Reservation).count({}) == 0
        for letter, said in ((refused, "only a send of unknown outcome"), ("ded_x", "there is no")):
            wrong = await settle(letter, "sent")
            assert wrong.exit_code == 1
            assert isinstance(wrong.exception, StoreError)
            assert said in str(wrong.exception)


async def test_an_account_whose_sends_fail_is_shown_degraded_until_they_work_again(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    async with hub_with_vendor(mongo_url, mongo_db_name, tmp_path) as (vendor, hub):
        vendor.away = True
        for n in range(TRIPS_AFTER):
            path = await speaks(hub, f"p-{n}")
            await hub.post(f"{path}/replies", {"parts": [{"type": "text", "text": "hi"}]})

        async def state(wanted: str) -> Any:
            page = await hub.get("/api/v1/accounts")
            (found,) = [each for each in page["accounts"] if each["name"] == "strict:main"]
            return found if found["state"] == wanted else None

        shown = await hub.until("it to be degraded", lambda: state("degraded"))
        assert "sends failed in a row, the last one: busy" in shown["reason"]
        assert shown["next_try_at"] is not None
        vendor.away = False
        await all_sent(hub)
        back = await hub.until("it to be well again", lambda: state("ok"))
        assert (back["reason"], back["next_try_at"]) == ("", None)
        assert sum(vendor.by_key.values()) == TRIPS_AFTER
