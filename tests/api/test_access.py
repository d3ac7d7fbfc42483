"""Who may call the API: keys, scopes, limits to accounts, sessions, and those who guess."""

from __future__ import annotations

from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any

import pytest

from hub.api.access import ACCESS, FAILURES
from hub.api.keys import ApiKeyDoc, Keys, create_key, list_keys, revoke_key
from hub.api.sessions import COOKIE, CSRF_HEADER, Sessions, create_signin_link
from hub.store.memory import MemoryStore
from hub.testing.clock import FakeClock
from tests.support.hubs import Answered, RunningHub

HI = {"parts": [{"type": "text", "text": "hi"}]}
SOMEBODY = "/api/v1/customers/cus_" + "0" * 26


# --- keys ----------------------------------------------------------------------------------------


async def test_a_key_is_kept_as_its_hash_only() -> None:
    store, clock = MemoryStore(), FakeClock()
    doc, key = await create_key(store, clock, "shop", ["customers:read"], ["sample:main"])
    assert key.startswith(f"omk_{doc.id.removeprefix('key_')}_")
    kept = await store.table(ApiKeyDoc).get(doc.id)
    assert kept is not None
    assert key.rpartition("_")[2] not in repr(kept)
    found = await Keys(store, clock).find(key)
    assert found is not None
    assert (found.name, found.scopes, found.accounts) == (
        "shop",
        {"customers:read"},
        {"sample:main"},
    )


@pytest.mark.parametrize(
    "broken", ["", "omk", "omk__", "{key}x", "x{key}", "{short}", "omk_{other}_{secret}", "é{key}"]
)
async def test_nothing_but_the_very_key_is_recognized(broken: str) -> None:
    store, clock = MemoryStore(), FakeClock()
    _, key = await create_key(store, clock, "shop", ["admin"])
    other, _ = await create_key(store, clock, "other", ["admin"])
    secret = key.split("_", 2)[2]
    text = broken.format(
        key=key, short=key[:-1], other=other.id.removeprefix("key_"), secret=secret
    )
    assert await Keys(store, clock).find(text) is None
    assert await Keys(store, clock).find(key) is not None


async def test_a_revoked_or_expired_key_ends_within_seconds() -> None:
    store, clock = MemoryStore(), FakeClock()
    keys = Keys(store, clock)
    doc, key = await create_key(store, clock, "shop", ["admin"])
    _, short = await create_key(
        store, clock, "short", ["admin"], expires_at=clock.now() + timedelta(hours=1)
    )
    assert await keys.find(key)
    assert await keys.find(short)
    assert await revoke_key(store, clock, doc.id)
    clock.advance(3.1)
    assert await keys.find(key) is None
    clock.advance(3600)
    assert await keys.find(short) is None
    assert not await revoke_key(store, clock, "key_" + "0" * 26)


async def test_use_is_noted_coarsely_and_brings_no_revoked_key_back() -> None:
    store, clock = MemoryStore(), FakeClock()
    keys = Keys(store, clock)
    doc, key = await create_key(store, clock, "shop", ["admin"])
    await keys.find(key)
    (used,) = await list_keys(store)
    assert used.last_used_at == clock.now()
    first = clock.now()
    clock.advance(60)
    await keys.find(key)
    assert (await list_keys(store))[0].last_used_at == first
    await revoke_key(store, clock, doc.id)
    clock.advance(600)
    assert await keys.find(key) is None
    assert (await list_keys(store))[0].revoked_at is not None


@pytest.mark.parametrize("scopes", [[], ["customers"], ["customers:raed"], ["CUSTOMERS:READ"]])
async def test_a_key_with_a_scope_that_is_none_is_refused(scopes: list[str]) -> None:
    with pytest.raises(ValueError, match="scope"):
        await create_key(MemoryStore(), FakeClock(), "shop", scopes)


async def test_a_key_may_have_a_plugins_scope_and_a_part_of_the_feed() -> None:
    store, clock = MemoryStore(), FakeClock()
    doc, _ = await create_key(store, clock, "shop", ["acme:read", "feed:read:message.*"])
    assert doc.scopes == ("acme:read", "feed:read:message.*")
    with pytest.raises(ValueError, match="account"):
        await create_key(store, clock, "shop", ["admin"], ["everything"])


# --- scopes --------------------------------------------------------------------------------------


async def test_without_a_key_nothing_is_told(api: RunningHub) -> None:
    answered = await api.call("GET", "/api/v1/customers", key="")
    assert (answered.status, answered.problem) == (401, "unauthorized")
    assert answered.headers["WWW-Authenticate"] == 'Bearer realm="omniline"'
    for header in ("Bearer omk_nonsense", "Basic dTpw", "Bearer"):
        answered = await api.call(
            "GET", "/api/v1/customers", key="", headers={"Authorization": header}
        )
        assert answered.status == 401
        assert 'error="invalid_token"' in answered.headers["WWW-Authenticate"]
    in_url = await api.call("GET", f"/api/v1/customers?access_token={api.key}", key="")
    assert in_url.status == 401


async def test_a_key_does_what_its_scopes_say_and_no_more(api: RunningHub) -> None:
    await api.message("hello")
    customer = await api.customer("ann")
    reader = await api.make_key("customers:read")
    await api.get(f"/api/v1/customers/{customer}", key=reader)
    refused = await api.post(f"/api/v1/customers/{customer}/replies", HI, key=reader)
    assert (refused.status, refused.problem) == (403, "forbidden")
    assert 'scope="replies:write"' in refused.headers["WWW-Authenticate"]


async def test_a_key_makes_keys_within_its_own_rights(api: RunningHub) -> None:
    maker = await api.make_key("keys:write", "customers:read")
    made = await api.post("/api/v1/keys", {"name": "n", "scopes": ["customers:read"]}, key=maker)
    assert made.status == 201, made
    await api.get("/api/v1/customers", key=made.json["secret"])
    for scopes in (["admin"], ["customers:read", "erase:write"]):
        refused = await api.post("/api/v1/keys", {"name": "n", "scopes": scopes}, key=maker)
        assert (refused.status, refused.problem) == (403, "forbidden"), scopes
    unknown = await api.post("/api/v1/keys", {"name": "n", "scopes": ["customers:raed"]})
    assert unknown.status == 422
    listed = await api.get("/api/v1/keys")
    assert made.json["secret"] not in str(listed)
    mine = f"/api/v1/keys/{made.json['key']['id']}"
    assert (await api.call("DELETE", mine)).status == 204
    assert [key["revoked_at"] is None for key in listed["keys"] if key["id"] in mine] == [True]
    again = (await api.get("/api/v1/keys"))["keys"]
    assert [key["revoked_at"] is None for key in again if key["id"] in mine] == [False]


async def test_who_keeps_guessing_has_to_wait_and_others_from_there_need_not(
    api: RunningHub,
) -> None:
    good = await api.make_key("customers:read")
    assert (await api.call("GET", "/api/v1/customers", key=good)).status == 200
    statuses = []
    for number in range(FAILURES + 3):
        guessed = await api.call("GET", "/api/v1/customers", key=f"omk_guess{number}")
        statuses.append(guessed.status)
    assert statuses[:FAILURES] == [401] * FAILURES
    assert statuses[-1] == 429
    assert guessed.problem == "rate-limited"
    assert int(guessed.headers["Retry-After"]) >= 1
    assert (await api.call("GET", "/api/v1/customers", key=good)).status == 200


# --- limits to accounts --------------------------------------------------------------------------


async def test_a_limited_key_sees_its_accounts_only(api: RunningHub) -> None:
    """The rest is not there: not in lists, not in a merged timeline, not by id."""
    own = await api.message("for main", sender="ann", account="main")
    other = await api.message("for second", sender="bob", account="second")
    ann, bob = await api.customer("ann"), await api.customer("bob", "second")
    key = await api.make_key("admin", accounts=["sample:main"])

    async def status(path: str) -> int:
        return (await api.call("GET", path, key=key)).status

    listed = await api.get("/api/v1/customers", key=key)
    assert [each["id"] for each in listed["customers"]] == [ann]
    by_address = {"address": str(api.address("bob", "second"))}
    assert (await api.get("/api/v1/customers", key=key, params=by_address))["customers"] == []
    assert await status(f"/api/v1/customers/{ann}/timeline") == 200
    assert await status(f"/api/v1/customers/{bob}") == 404
    assert await status(f"/api/v1/customers/{bob}/timeline") == 404
    assert await status(f"/api/v1/entries/{own.id}") == 200
    assert await status(f"/api/v1/entries/{other.id}") == 404
    assert await status(f"/api/v1/trace/{other.id}") == 404
    assert await status(f"/api/v1/conversations/{own.conversation}") == 200
    assert await status(f"/api/v1/conversations/{other.conversation}") == 404
    page = await api.get("/api/v1/conversations", key=key)
    assert [each["id"] for each in page["conversations"]] == [own.conversation]
    accounts = await api.get("/api/v1/accounts", key=key)
    assert [each["name"] for each in accounts["accounts"]] == ["sample:main"]


async def test_of_a_merged_customer_a_limited_key_sees_its_part(api: RunningHub) -> None:
    await api.message("for main", sender="ann", account="main")
    await api.message("for second", sender="bob", account="second")
    ann, bob = await api.customer("ann"), await api.customer("bob", "second")
    assert (await api.post(f"/api/v1/customers/{ann}/merge", {"other": bob})).status == 200
    key = await api.make_key("admin", accounts=["sample:second"])
    detail = await api.get(f"/api/v1/customers/{ann}", key=key)
    assert [each["account"] for each in detail["customer"]["addresses"]] == ["second"]
    page = await api.get(f"/api/v1/customers/{ann}/timeline", key=key)
    said = [each["text"] for each in page["entries"] if each["kind"] == "message"]
    assert said == ["for second"]
    replied = await api.post(f"/api/v1/customers/{ann}/replies", HI, key=key)
    assert replied.json["entry"]["account"] == "second"
    elsewhere = {**HI, "address": str(api.address("ann"))}
    refused = await api.post(f"/api/v1/customers/{ann}/replies", elsewhere, key=key)
    assert refused.status == 404


async def test_a_limited_key_writes_and_reads_notes_on_its_conversations(
    api: RunningHub,
) -> None:
    entry = await api.message("hello", account="main")
    customer = f"/api/v1/customers/{await api.customer('ann')}"
    key = await api.make_key("admin", accounts=["sample:main"])
    await api.post(f"{customer}/notes", {"text": "about the person"})
    conversation = f"/api/v1/conversations/{entry.conversation}"
    noted = await api.post(f"{conversation}/note", {"text": "about the case"}, key=key)
    assert noted.status == 200, noted
    page = await api.get(f"{customer}/timeline", key=key)
    assert [each["text"] for each in page["entries"]] == ["about the case", "hello"]
    everything = await api.get(f"{customer}/timeline")
    assert len(everything["entries"]) == 3


async def test_a_limited_key_does_not_decide_who_is_who(api: RunningHub) -> None:
    await api.message("hello")
    customer = f"/api/v1/customers/{await api.customer('ann')}"
    key = await api.make_key("admin", accounts=["sample:main"])
    for method, path, body in (
        ("POST", f"{customer}/merge", {"other": "cus_" + "0" * 26}),
        ("POST", f"{customer}/links", {"address": "sample:main:user:bob"}),
        ("DELETE", customer, None),
        ("GET", "/api/v1/keys", None),
        ("PUT", "/api/v1/switches", {"name": "all", "outbound": "off"}),
    ):
        refused = await api.call(method, path, body, key=key)
        assert (refused.status, refused.problem) == (403, "forbidden"), path
    made = await api.post("/api/v1/keys", {"name": "n", "scopes": ["admin"]}, key=key)
    assert made.status == 403


# --- people --------------------------------------------------------------------------------------


async def sign_in(api: RunningHub, **more: Any) -> str:
    """Follow a fresh sign-in link; return the cookie's value."""
    link = await create_signin_link(api.hub.store, api.hub.clock, api.hub.url, name="Li", **more)
    answered = await api.call("GET", link.removeprefix(api.hub.url), key="")
    assert answered.status == 200, answered
    return SimpleCookie(answered.headers["Set-Cookie"])[COOKIE].value


async def with_cookie(
    api: RunningHub, cookie: str, method: str, path: str, body: Any = None, **headers: str
) -> Answered:
    sent = {"Cookie": f"{COOKIE}={cookie}", **headers}
    return await api.call(method, path, body, key="", headers=sent)


async def test_a_sign_in_link_works_once(api: RunningHub) -> None:
    link = await create_signin_link(api.hub.store, api.hub.clock, api.hub.url)
    path = link.removeprefix(api.hub.url)
    first = await api.call("GET", path, key="")
    cookie = SimpleCookie(first.headers["Set-Cookie"])[COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    assert not cookie["secure"]  # the test's hub is reached by http
    assert "/console/" in first.body.decode()
    again = await api.call("GET", path, key="")
    assert again.status == 401
    assert "Set-Cookie" not in again.headers
    assert "omniline signin" in again.body.decode()


async def test_a_sign_in_link_is_good_for_a_quarter_of_an_hour() -> None:
    store, clock = MemoryStore(), FakeClock()
    link = await create_signin_link(store, clock, "https://hub.example/prefix/")
    assert link.startswith("https://hub.example/prefix/console/signin?token=")
    clock.advance(15 * 60)
    assert await Sessions(store, clock).sign_in(link.partition("token=")[2]) is None


async def test_the_api_takes_the_cookie_with_the_sessions_scopes(api: RunningHub) -> None:
    cookie = await sign_in(api, scopes=["customers:read"])
    assert (await with_cookie(api, cookie, "GET", "/api/v1/customers")).status == 200
    told = (await with_cookie(api, cookie, "GET", "/api/v1/session")).json
    assert (told["kind"], told["name"], told["scopes"]) == ("session", "Li", ["customers:read"])
    refused = await with_cookie(api, cookie, "GET", "/api/v1/dead-letters")
    assert refused.status == 403


async def test_another_sites_page_cannot_use_the_cookie(api: RunningHub) -> None:
    """A write needs our own Origin, or a header that other sites cannot set."""
    cookie = await sign_in(api)

    async def status(**headers: str) -> int:
        body = {"name": "all", "outbound": "on"}
        return (await with_cookie(api, cookie, "PUT", "/api/v1/switches", body, **headers)).status

    assert await status() == 403
    assert await status(Origin="https://evil.example") == 403
    assert await status(Origin="null", **{CSRF_HEADER: "1"}) == 403
    assert await status(Origin=api.hub.url) == 200
    assert await status(**{CSRF_HEADER: "1"}) == 200


async def test_signing_out_ends_the_session(api: RunningHub) -> None:
    cookie = await sign_in(api)
    out = await with_cookie(api, cookie, "DELETE", "/api/v1/session", **{CSRF_HEADER: "1"})
    assert out.status == 204
    assert (await with_cookie(api, cookie, "GET", "/api/v1/session")).status == 401


async def test_pages_of_others_can_ask_who_is_signed_in(api: RunningHub) -> None:
    """The console and plugins' pages use the application's one Access."""
    assert (await api.app[ACCESS].keys.find(api.key)) is not None


async def test_answers_are_not_cached_and_ids_that_are_none_are_not_there(
    api: RunningHub,
) -> None:
    answered = await api.call("GET", SOMEBODY)
    assert (answered.status, answered.problem) == (404, "not-found")
    assert answered.headers["Cache-Control"] == "no-store"
    for path in ("/api/v1/customers/ann", "/api/v1/entries/ent_1", "/api/v1/nothing"):
        answered = await api.call("GET", path)
        assert (answered.status, answered.problem) == (404, "not-found")
    wrong_method = await api.call("PUT", SOMEBODY)
    assert (wrong_method.status, wrong_method.problem) == (405, "method-not-allowed")
    assert "GET" in wrong_method.headers["Allow"]
