"""Erasing a customer takes away what the channel keeps beside the timeline."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.site import customer_erased
from connectors.site.inapp import ItemDoc
from connectors.site.uploads import UploadDoc
from connectors.site.visitors import UserDoc, VisitorDoc
from tests.site.space import SERVER_KEY, Running
from tests.site.test_inapp import order
from tests.site.test_uploads import begin, upload

KINDS = (VisitorDoc, UserDoc, ItemDoc, UploadDoc)


async def everything(running: Running) -> str:
    """Return all that the channel's own collections hold."""
    tables = [running.space.store.table(kind) for kind in KINDS]
    return repr([await table.find({}) for table in tables])  # type: ignore[attr-defined]


@pytest.mark.parametrize("times", [1, 2])
async def test_nothing_that_names_the_person_is_left(running: Running, times: int) -> None:
    """Visitor, user, in-app messages and uploads go; another user's stay. Twice is as once."""
    tab = await (await running.visitor()).connect()
    await tab.sends("hello", "message-one")
    await upload(tab, b"never sent", "text/plain", "passport.txt")
    re = await tab.say(
        "auth.identify", identity_token=running.identity("user-of-interest", name="李雷")
    )
    await tab.expect("ack", re=re)
    await order(running, "user-of-interest", "somebody-else")
    visitors = running.site.visitors
    addresses = [
        running.connector.context.address_id(address)
        for address in (
            visitors.user_address("user-of-interest"),
            visitors.visitor_address(tab.visitor),
        )
    ]
    for told in ("user-of-interest", "李雷", tab.visitor, "passport.txt"):
        assert told in await everything(running)

    for _ in range(times):
        await customer_erased(running.space.context("site"), addresses)

    left = await everything(running)
    for told in ("user-of-interest", "李雷", tab.visitor, "passport.txt"):
        assert told not in left
    assert await running.space.store.table(ItemDoc).count({}) == 1
    assert running.space.store.blobs._blobs == {}  # type: ignore[attr-defined]


async def test_an_erasure_between_two_steps_of_an_upload_leaves_no_bytes(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are stored, and the row that would name them is gone by then."""
    tab = await running.visitor()
    begun = await begin(tab, b"passport", "text/plain")
    address = running.connector.context.address_id(
        running.site.visitors.visitor_address(tab.visitor)
    )
    put = running.space.store.blobs.put

    async def put_and_erase(*args: Any, **more: Any) -> str:
        blob = await put(*args, **more)
        await customer_erased(running.space.context("site"), [address])
        return blob

    monkeypatch.setattr(running.space.store.blobs, "put", put_and_erase)
    await running.call("PUT", begun.json["put_url"], data=b"passport")

    assert running.space.store.blobs._blobs == {}  # type: ignore[attr-defined]
    assert await running.space.store.table(UploadDoc).count({}) == 0


async def test_a_visitor_who_logged_out_before_stays_out(running: Running) -> None:
    """The row that makes the old token worthless stays, without the user's id."""
    tab = await running.user("user-of-interest")
    await tab.call("POST", "/logout", json={})
    address = running.connector.context.address_id(
        running.site.visitors.user_address("user-of-interest")
    )

    await customer_erased(running.space.context("site"), [address])

    assert "user-of-interest" not in await everything(running)
    again = await running.visitor(visitor_token=tab.visitor_token)
    assert again.visitor != tab.visitor


async def test_a_blocked_user_stays_blocked(running: Running) -> None:
    """Erasing is no way back in: the block stays, the profile goes."""
    await running.visitor(identity_token=running.identity("spammer", name="李雷"))
    headers = {"Authorization": f"Bearer {SERVER_KEY}"}
    body = {"user_ids": ["spammer"]}
    await running.call("POST", "/server/block", origin=None, headers=headers, json=body)
    address = running.connector.context.address_id(running.site.visitors.user_address("spammer"))

    await customer_erased(running.space.context("site"), [address])

    assert "李雷" not in await everything(running)
    token = running.identity("spammer")
    refused = await running.call("POST", "/sessions", json={"identity_token": token})
    assert refused.code == "visitor_blocked"
