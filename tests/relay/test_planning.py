"""Which items are relayed, and in which order their jobs stand."""

from __future__ import annotations

from typing import Any

import pytest

from hub.config import ConfigError
from hub.config.loader import load_text
from hub.documents import InboxItem, Job
from hub.ids import Ulids
from hub.planning.relaying import relay_jobs
from hub.planning.workspace import Workspace
from hub.testing.clock import START
from tests.planners.harness import PlannerHarness

ACCOUNT = '[[accounts]]\nchannel = "chat"\nkey = "shop"\n'


def planned(*items: InboxItem, known: tuple[str, ...] = ()) -> list[Job]:
    """Return the jobs of items, in the order of their lane; ``known`` are there already."""
    rules = PlannerHarness(relays={"chat:shop": ("crm", "old")}).rules
    ws = Workspace()
    ws.begin()
    for item in items:
        for name in ("crm", "old"):
            ident = rules.key.hashed("job", f"{item.id}|relay|{name}")
            there = {ident: Job(id=ident, lane="", kind="", position=0, due_at=START, state="")}
            ws.load(Job, [ident], there if name in known else {})
        relay_jobs(ws, rules, item)
    ws.accept()
    inserts, _ = ws.changes()
    return sorted((doc for doc in inserts if isinstance(doc, Job)), key=lambda job: job.position)


def item(ident: str, **more: Any) -> InboxItem:
    given = {"channel": "chat", "account": "shop", "door": "webhook", **more}
    return InboxItem(id=ident, received_at=START, **given)


def test_each_target_has_a_lane_in_which_items_stand_as_they_came() -> None:
    ids = Ulids()
    idents = [ids.new("in") for _ in range(500)]
    made = planned(*map(item, idents))
    assert {job.lane for job in made} == {"relay:chat:shop:crm", "relay:chat:shop:old"}
    for lane in ("relay:chat:shop:crm", "relay:chat:shop:old"):
        assert [job.args["item"] for job in made if job.lane == lane] == idents
    assert 0 < made[-1].position < 2**62


def test_an_item_that_is_routed_again_is_not_relayed_again() -> None:
    made = planned(item("in_01jnb2f4n0a1b2c3d4e5f6g7h8"), known=("crm",))
    assert [job.args["relay"] for job in made] == ["old"]


@pytest.mark.parametrize(
    "other", [{"door": "poll"}, {"account": "second"}, {"imported": "imp_1"}], ids=str
)
def test_what_did_not_come_by_this_accounts_webhook_is_not_relayed(other: dict[str, str]) -> None:
    assert planned(item("in_01jnb2f4n0a1b2c3d4e5f6g7h8", **other)) == []


def test_relays_are_settings_of_any_account() -> None:
    text = f'{ACCOUNT}relay = [{{ name = "crm", url = "https://crm.example/hook" }}]\ntoken = "x"\n'
    (account,) = load_text(text).accounts
    (relay,) = account.relay
    assert (relay.name, relay.url, relay.allow_private) == (
        "crm",
        "https://crm.example/hook",
        False,
    )
    assert "relay" not in account.settings


@pytest.mark.parametrize(
    ("relay", "told"),
    [
        ('[{ name = "crm" }]', '"url" is missing'),
        ('[{ name = "crm", url = "crm.example" }]', "must start with"),
        ('[{ name = "a", url = "http://x" }, { name = "a", url = "http://y" }]', "named"),
        ('[{ name = "crm", url = "http://x", secret = "y" }]', "unknown key"),
    ],
)
def test_what_is_wrong_with_a_relay_is_told(relay: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_text(f"{ACCOUNT}relay = {relay}\n")
