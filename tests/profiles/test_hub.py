"""A vendor's profiles through a real hub: the message is there first, the name follows."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hub.documents import AddressDoc, InboxItem, Job
from hub.testing.samples.webhook import Push
from normalizer.drafts import Profile
from normalizer.outcomes import Rejected, Temporary
from tests.profiles.connector import ASKED, TOLD
from tests.support.hubs import running_hub


async def test_names_follow_messages_and_never_hold_them_up(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor that is busy is asked again; one that refuses costs nothing but the name."""
    monkeypatch.setattr("tests.support.hubs.WAIT_S", 30.0)
    TOLD.clear()
    ASKED.clear()
    TOLD["ann"] = [Temporary("busy"), Profile(name="Ann from the vendor")]
    TOLD["bob"] = [Rejected("this user tells nothing")]
    modules = {"plugin_modules": ["tests.profiles.connector"]}
    async with running_hub(
        mongo_url, mongo_db_name, tmp_path, hub=modules, accounts=("main",)
    ) as hub:
        await hub.message("hello", sender="ann")
        await hub.message("hello", sender="bob")

        async def named() -> object:
            page = await hub.get(f"/api/v1/customers/{await hub.customer('ann')}")
            return page["customer"] if page["customer"]["name"] else None

        page = await hub.until("the name", named)
        assert page["name"] == "Ann from the vendor"
        assert page["addresses"][0]["profile"]["name"] == "Ann from the vendor"

        async def over() -> object:
            jobs = await hub.hub.store.table(Job).find({"kind": "profile"})
            return len(jobs) == 2 and not any(job.live for job in jobs)

        await hub.until("both jobs over", over)
        jobs = await hub.hub.store.table(Job).find({"kind": "profile"})
        assert {job.state for job in jobs} == {"done"}
        assert "Ann from" not in repr(jobs), "a job that is over keeps no profile"
        items = await hub.hub.store.table(InboxItem).find({"door": "worker"})
        assert "Ann from" not in repr(items), "nor does the inbox, once it is routed"

        asked = len(ASKED)
        at = int(time.time() * 1000)
        await hub.push(Push(id="f1", sender="ann", at=at, type="followed"))
        await hub.message("again", sender="ann")
        assert len(ASKED) == asked, "once a day is enough"
        doc = await hub.hub.store.table(AddressDoc).get(hub.address_id("bob"))
        assert doc is not None
        assert doc.profile is None
