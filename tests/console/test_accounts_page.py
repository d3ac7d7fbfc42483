"""The console shows how accounts do, with reason, since and next try, to those who may see them."""

from __future__ import annotations

from tests.console.people import Console

EVIL = "<b>no</b> answer"


async def test_accounts_are_shown_the_worst_first_and_nothing_is_markup(console: Console) -> None:
    console.hub.hub.states.set("account", "sample:second", "down", EVIL, next_try_s=3600)
    agent = await console.agents.sign_in("Mei")
    page = await agent.get("/console/accounts")
    assert page.shown.index("second") < page.shown.index("main")
    assert EVIL in page.shown
    assert EVIL not in page.text
    for words in ("down", "next try", "since", "sample:main"):
        assert words in page.shown
    assert 'href="/console/accounts"' in (await agent.get("/console/")).text


async def test_who_may_not_see_accounts_is_told_so(console: Console) -> None:
    agent = await console.agents.sign_in(scopes=["customers:read"])
    page = await agent.get("/console/accounts", status=403)
    assert "accounts:read" in page.shown
    assert "/console/accounts" not in (await agent.get("/console/")).text
    limited = await console.agents.sign_in(accounts=["sample:second"])
    assert "sample:main" not in (await limited.get("/console/accounts")).text
