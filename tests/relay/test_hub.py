"""Relays of a real hub: everything verified goes on, in order, whatever becomes of the target."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from hub.documents import DeadLetter, Job
from hub.testing.samples.webhook import Push
from tests.relay.target import Target, target
from tests.support.hubs import SECRET, RunningHub, running_hub
from tests.support.scale import scaled

COUNT = scaled(15, 400)
MODULES = {"plugin_modules": ["tests.relay.connector", "hub.testing.samples.form"]}


def relays(*targets: tuple[str, Target]) -> str:
    told = [
        f'{{ name = "{name}", url = "{each.url}", allow_private = true }}' for name, each in targets
    ]
    return f"relay = [{', '.join(told)}]\n"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries of a target that was away are up to 16 s apart, and its breaker opens for 10 s."""
    monkeypatch.setattr("tests.support.hubs.WAIT_S", 90.0)


async def _got(hub: RunningHub, served: Target, count: int) -> list[bytes]:
    async def there() -> bool:
        return len(served.got) >= count

    await hub.until(f"{count} pushes at the target", there)
    return [each.body for each in served.got]


def body(ident: str, kind: str = "text") -> bytes:
    at = int(time.time() * 1000)
    return msgspec.json.encode(Push(id=ident, sender="ann", at=at, type=kind, text=ident))


async def test_every_verified_push_goes_on_and_nothing_waits_for_it(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """One target is well; the other is down, and gets everything when it is back."""
    async with target() as well, target() as down:
        down.status = 503
        more = relays(("crm", well), ("old", down))
        async with running_hub(
            mongo_url, mongo_db_name, tmp_path, hub=MODULES, accounts=("main",), more=more
        ) as hub:
            pushes = [body(f"m{count}") for count in range(COUNT)]
            pushes += [
                body("h1", "heartbeat"),
                b"no JSON",
                pushes[0],
            ]  # says nothing; broken; again
            for push in pushes:
                await hub.push(push)
            for count in range(COUNT):
                await hub.entry(hub.entry_id(f"m{count}", "ann"))
            assert await _got(hub, well, len(pushes)) == pushes, "unchanged, in order, each of them"
            assert SECRET.decode() not in repr(well.got)

            async def unread() -> object:
                return await hub.hub.store.table(DeadLetter).find({"stage": "parse"})

            await hub.until("the broken one as a dead letter", unread)
            assert not down.got

            down.status = 200
            assert await _got(hub, down, len(pushes)) == pushes

            handshake = await hub.call("GET", "/in/sample/main?echo=1", key="")
            assert handshake.status == 403, "what is not verified goes nowhere"
            well.status = 400
            await hub.push(body("refused"))

            async def refused() -> object:
                return await hub.hub.store.table(DeadLetter).find({"stage": "relay:rejected"})

            (letter,) = await hub.until("the refused one as a dead letter", refused)
            well.status = 200
            redriven = await hub.post(f"/api/v1/dead-letters/{letter.id}/redrive")
            assert redriven.status == 202, redriven
            await _got(hub, well, len(pushes) + 1)


async def test_what_waits_survives_a_restart_and_handshakes_stay_here(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """The first target's answer is lost after it took the push: twice is better than never."""
    async with target() as served:
        form = '[[accounts]]\nchannel = "sample_form"\nkey = "main"\nsecret = "x"\n'
        more = relays(("crm", served)) + form + relays(("crm", served))
        options = {"hub": MODULES, "accounts": ("main",), "more": more}
        served.status = 500
        async with running_hub(mongo_url, mongo_db_name, tmp_path, **options) as hub:
            for count in range(3):
                await hub.push(body(f"m{count}"))

            async def waiting() -> object:
                return await hub.hub.store.table(Job).count({"kind": "relay", "live": True}) == 3

            await hub.until("three jobs", waiting)
            connector = hub.hub.connectors[("sample_form", "main")]
            for sample in connector.samples(hub.hub.clock):
                request = sample.request
                path = request.url.removeprefix(hub.hub.url)
                answered = await hub.call(
                    request.method, path, key="", headers=request.headers, data=request.body or None
                )
                assert answered.status == 200
        served.status, served.aborts = 200, True
        async with running_hub(mongo_url, mongo_db_name, tmp_path, **options) as hub:

            async def over() -> object:
                return not await hub.hub.store.table(Job).count({"kind": "relay", "live": True})

            await hub.until("all relayed", over)
        told = [each.body for each in served.got]
        ids = [msgspec.json.decode(each)["id"] for each in told if each.startswith(b"{")]
        assert list(dict.fromkeys(ids)) == ["m0", "m1", "m2"]
        assert {each.method for each in served.got} == {"POST"}, "a handshake is nobody else's"
        assert sum(each.startswith(b"id=f1") for each in told) >= 1
