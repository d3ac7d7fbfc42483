"""Who speaks: tokens with their vectors, every refused login, the upgrade rules, the ways out."""

from __future__ import annotations

import base64
import json
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from connectors.site.errors import SiteError
from connectors.site.settings import IdentityKey
from connectors.site.tokens import (
    new_visitor_token,
    read_identity,
    read_visitor_token,
    user_hash,
    uuid7,
)
from connectors.site.visitors import VisitorDoc
from hub import Secret
from hub.documents import AddressDoc, Customer, Link
from normalizer.addresses import mailbox
from normalizer.drafts import Message
from normalizer.parts import Text
from tests.site.conftest import MakeSite
from tests.site.space import SECRET, SERVER_KEY, SITE, Running, Tab

KEYS = (IdentityKey(kid="k1", alg="HS256", key=Secret(SECRET)),)
NOW = datetime.fromtimestamp(1700000100, UTC)
VECTOR = (
    "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJpc3MiOiJzaXRlLTciLCJzdWIiOiIxMDA4NiIsI"
    "mF1ZCI6Im9tbmlsaW5lIiwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjE3MDAwMDAzMDAsImp0aSI6ImotMSJ9.SBua8CZ2c2"
    "5JSU2IhW4vJidqJoXUYadtIVFncpZ51wg"
)
CLAIMS: dict[str, Any] = {
    "iss": SITE,
    "sub": "10086",
    "aud": "omniline",
    "iat": 1700000000,
    "exp": 1700000300,
    "jti": "j-1",
}


# --- vectors -------------------------------------------------------------------------------------


def test_the_user_hash_is_that_of_the_vector() -> None:
    """HMAC-SHA256 over "user:10086", as the contract's vector has it."""
    assert (
        user_hash(Secret("site-secret-0001"), "10086")
        == "dc3ba66838f5ab978b912ff3e6bac8b097a00c7981525d4cf946dec78bab28ee"
    )


def test_the_identity_token_of_the_vector_is_read_and_made_alike() -> None:
    """The contract's token is accepted, and PyJWT makes the very same bytes of its claims."""
    claims = read_identity(VECTOR, KEYS, SITE, NOW)

    assert (claims.sub, claims.jti, claims.exp) == ("10086", "j-1", 1700000300)
    assert jwt.encode(CLAIMS, SECRET, algorithm="HS256", headers={"kid": "k1"}) == VECTOR


# --- identity tokens -----------------------------------------------------------------------------


def token(*, key: Any = SECRET, alg: str = "HS256", kid: str | None = "k1", **claims: Any) -> str:
    merged = {k: v for k, v in {**CLAIMS, **claims}.items() if v is not None}
    headers = {"kid": kid} if kid else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short keys are what some of these tests are about
        return jwt.encode(merged, key, algorithm=alg, headers=headers)


def unsigned(**header: Any) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'kid': 'k1', 'typ': 'JWT', **header})}.{part(CLAIMS)}."


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def pem(private: Any) -> str:
    return (
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def hmac_with(secret: str, **claims: Any) -> str:
    """Sign with HMAC by hand: PyJWT refuses to use a public key as a secret."""
    import hashlib
    import hmac

    head, body, _ = token(**claims).split(".")
    mac = hmac.new(secret.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


SHORT = (IdentityKey(kid="k1", alg="HS256", key=Secret("only-31-bytes-long-1234567890ab")),)
RSA_KEYS = (IdentityKey(kid="k1", alg="RS256", key=Secret(pem(RSA))),)
EC_KEYS = (IdentityKey(kid="k1", alg="ES256", key=Secret(pem(EC))),)

REFUSED: dict[str, tuple[str, tuple[IdentityKey, ...]]] = {
    "alg none": (unsigned(alg="none"), KEYS),
    "alg none in capitals": (unsigned(alg="NONE"), KEYS),
    "alg of another family": (token(alg="HS512"), KEYS),
    "the public key used as a secret": (hmac_with(pem(RSA)), RSA_KEYS),
    "RS256 where ES256 is set": (token(key=RSA, alg="RS256"), EC_KEYS),
    "another secret": (token(key="x" * 40), KEYS),
    "no kid": (token(kid=None), KEYS),
    "an unknown kid": (token(kid="k9"), KEYS),
    "a short secret": (token(key=SHORT[0].key.reveal()), SHORT),
    "another audience": (token(aud="somebody"), KEYS),
    "no audience": (token(aud=None), KEYS),
    "another site": (token(iss="site-8"), KEYS),
    "no issuer": (token(iss=None), KEYS),
    "an integer as subject": (token(sub=10086), KEYS),
    "an empty subject": (token(sub=""), KEYS),
    "no subject": (token(sub=None), KEYS),
    "a subject over 128 characters": (token(sub="x" * 129), KEYS),
    "no exp": (token(exp=None), KEYS),
    "no iat": (token(iat=None), KEYS),
    "iat in the future": (token(iat=1700000200, exp=1700000300), KEYS),
    "nbf in the future": (token(nbf=1700000200), KEYS),
    "valid for over an hour": (token(exp=1700003601), KEYS),
    "attrs over 4 KB": (token(attrs={"a": "x" * 5000}), KEYS),
    "attrs that are no object": (token(attrs=[1]), KEYS),
    "a name that is no text": (token(name=5), KEYS),
    "not a token": ("abc", KEYS),
    "two parts": (VECTOR.rpartition(".")[0], KEYS),
    "a changed claim": (VECTOR.replace("IxMDA4NiI", "IxMDA4NyI"), KEYS),
    "no keys at all": (VECTOR, ()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_identity_token_is_refused(name: str) -> None:
    """Whatever is wrong with it, the code is identity_invalid."""
    text, keys = REFUSED[name]
    assert text != VECTOR or not keys
    with pytest.raises(SiteError) as refused:
        read_identity(text, keys, SITE, NOW)
    assert refused.value.code == "identity_invalid"


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_short_secret_is_refused_by_its_length_and_not_by_chance() -> None:
    """The very same token passes with a long secret: the length is what is refused."""
    long = (IdentityKey(kid="k1", alg="HS256", key=Secret("32-bytes-are-long-enough-4-it-ok")),)
    assert read_identity(token(key=long[0].key.reveal()), long, SITE, NOW).sub == "10086"


@pytest.mark.parametrize(("late_s", "fine"), [(59, True), (61, False)])
def test_expiry_has_a_leeway_of_a_minute_and_a_code_of_its_own(late_s: int, fine: bool) -> None:
    """identity_expired lets the client ask the site for a new token."""
    moment = datetime.fromtimestamp(1700000300, UTC) + timedelta(seconds=late_s)
    if fine:
        assert read_identity(VECTOR, KEYS, SITE, moment).sub == "10086"
    else:
        with pytest.raises(SiteError) as refused:
            read_identity(VECTOR, KEYS, SITE, moment)
        assert refused.value.code == "identity_expired"


@pytest.mark.parametrize(
    ("private", "alg", "keys"), [(RSA, "RS256", RSA_KEYS), (EC, "ES256", EC_KEYS)]
)
def test_public_keys_work(private: Any, alg: str, keys: tuple[IdentityKey, ...]) -> None:
    """RS256 and ES256 tokens are read with the public key alone."""
    assert read_identity(token(key=private, alg=alg), keys, SITE, NOW).sub == "10086"


def test_two_keys_work_side_by_side_during_a_rotation() -> None:
    """The kid says which one; neither works under the other's name."""
    old = IdentityKey(kid="old", alg="HS256", key=Secret("o" * 32))
    both = (*KEYS, old)
    assert read_identity(VECTOR, both, SITE, NOW).sub == "10086"
    assert read_identity(token(key="o" * 32, kid="old"), both, SITE, NOW).sub == "10086"
    with pytest.raises(SiteError):
        read_identity(token(key="o" * 32, kid="k1"), both, SITE, NOW)


# --- visitor tokens ------------------------------------------------------------------------------


def test_a_uuid7_carries_its_moment_and_sorts() -> None:
    """Version, variant and time are where RFC 9562 has them."""
    made = uuid7(NOW)
    assert (made[14], made[19] in "89ab") == ("7", True)
    assert int(made.replace("-", "")[:12], 16) == 1700000100000
    assert uuid7(NOW) < uuid7(NOW + timedelta(milliseconds=1))


def test_a_visitor_token_is_believed_by_its_own_site_only() -> None:
    """Any changed character, another secret or a time in the future makes it a stranger's."""
    made = new_visitor_token(b"a" * 32, NOW)
    read = read_visitor_token(b"a" * 32, made.text, NOW)

    assert read == made
    assert read_visitor_token(b"b" * 32, made.text, NOW) is None
    assert read_visitor_token(b"a" * 32, made.text, NOW - timedelta(hours=1)) is None
    for at in [*range(0, len(made.text), 7), len(made.text) - 1]:
        changed = "A" if made.text[at] != "A" else "B"
        other = made.text[:at] + changed + made.text[at + 1 :]
        assert read_visitor_token(b"a" * 32, other, NOW) is None
    for text in ("", "x", "é", made.text + "AA"):
        assert read_visitor_token(b"a" * 32, text, NOW) is None


async def test_the_visitor_token_itself_is_never_stored(running: Running) -> None:
    """Only its SHA-256 is, so a copy of the database opens nobody's session."""
    tab = await (await running.visitor()).connect()
    await tab.sends("hello", "first-message")

    stored = repr(running.space.store._collections)  # type: ignore[attr-defined]
    assert tab.visitor_token not in stored
    assert tab.token not in stored
    (doc,) = await running.space.store.table(VisitorDoc).find({})
    assert doc.token in stored


async def test_a_visitor_comes_back_with_its_token(running: Running) -> None:
    """The same visitor, no new token; without or with a broken one somebody new."""
    first = await running.visitor()
    again = await running.visitor(visitor_token=first.visitor_token)
    broken = await running.visitor(visitor_token=first.visitor_token[::-1])

    assert again.visitor == first.visitor
    assert "visitor_token" not in again.session
    assert broken.visitor != first.visitor
    assert broken.visitor_token


async def test_a_visitor_token_slides_for_180_days(running: Running) -> None:
    """Whoever comes back in time stays the same; after 180 days of silence it is over."""
    silent = await running.visitor()
    spoke = await running.visitor()
    await spoke.post_text("hello", "first-message")
    for _ in range(3):
        running.clock.advance(100 * 86400)
        again = await running.visitor(visitor_token=spoke.visitor_token)
        assert again.visitor == spoke.visitor
    (doc,) = await running.space.store.table(VisitorDoc).find({})
    assert doc.expire_at == running.clock.now() + timedelta(days=180)
    gone = await running.visitor(visitor_token=silent.visitor_token)
    assert gone.visitor != silent.visitor


# --- the upgrade ---------------------------------------------------------------------------------


async def address_of(running: Running, kind: str, ident: str) -> AddressDoc | None:
    from normalizer.addresses import Address

    address = Address(scheme="site", account=SITE, kind=kind, id=ident)
    ident = running.connector.context.address_id(address)
    return await running.space.store.table(AddressDoc).get(ident)


async def customers(running: Running) -> list[Customer]:
    found = await running.space.store.table(Customer).find({})
    return [customer for customer in found if customer.alias_of is None]


async def identify(running: Running, tab: Tab, user: str, **claims: Any) -> dict[str, Any]:
    re = await tab.say("auth.identify", identity_token=running.identity(user, **claims))
    ack = await tab.expect("ack", re=re)
    tab.token, tab.visitor = ack["access_token"], ack["visitor_id"]
    tab.visitor_token = ack.get("visitor_token", tab.visitor_token)
    return ack


async def logged_in(running: Running, verified: bool = True) -> Tab:
    token = running.identity("10086", email="Li@Example.com", email_verified=verified)
    return await running.visitor(identity_token=token)


@pytest.mark.parametrize("verified", [True, False])
async def test_a_verified_mailbox_is_the_users_own(running: Running, verified: bool) -> None:
    """Told once, when the user speaks; a claim that is not verified links nothing."""
    tab = await (await logged_in(running, verified)).connect()
    assert await running.space.store.table(Customer).find({}) == [], "a login makes no customer"
    await tab.sends("hello", "message-one")
    await (await logged_in(running, verified)).connect()

    user = await address_of(running, "user", "10086")
    ident = running.connector.context.address_id(mailbox("li@example.com"))
    box = await running.space.store.table(AddressDoc).get(ident)
    links = await running.space.store.table(Link).find({})
    assert user is not None
    if not verified:
        assert (box, links) == (None, [])
        return
    assert box is not None
    assert box.customer == user.customer
    (link,) = links
    assert (link.evidence.kind, link.evidence.note) == ("identity_token", "email_verified")


async def test_a_mailbox_that_wrote_before_is_linked_at_the_login(running: Running) -> None:
    """Whoever mailed is known on the site before they say a word there."""
    box = mailbox("li@example.com")
    wrote = Message(key="m", address=box, parts=(Text(text="by mail"),))
    await running.space.take_in("mail", "main", [wrote], door="test")

    (before,) = await running.space.store.table(Customer).find({})

    await logged_in(running)

    user = await address_of(running, "user", "10086")
    assert user is not None
    assert user.customer == before.id, "who is known stays who they are"
    (after,) = await running.space.store.table(Customer).find({"alias_of": None})
    assert (after.id, len(after.addresses)) == (before.id, 2)


async def test_a_link_to_a_mailbox_that_was_undone_stays_undone(running: Running) -> None:
    tab = await (await logged_in(running)).connect()
    await tab.sends("hello", "message-one")
    (link,) = await running.space.store.table(Link).find({})
    await running.space.agent("unlink", link=link.id)

    await (await logged_in(running)).connect()

    (link,) = await running.space.store.table(Link).find({})
    assert link.undone_at is not None


async def test_rule_a_links_the_visitor_to_the_user_and_moves_nothing(running: Running) -> None:
    """One customer with two addresses and two threads; the evidence is the token's jti."""
    tab = await (await running.visitor()).connect()
    before = await tab.sends("before the login", "message-one")
    visitor = tab.visitor

    ack = await identify(running, tab, "10086", name="李雷", email="li@example.com")
    after = await tab.sends("after the login", "message-two")

    assert ack["user"] == {"id": "10086", "verified": True}
    assert "visitor_token" not in ack
    assert after["conversation_id"] != before["conversation_id"]
    anonymous = await address_of(running, "visitor", visitor)
    user = await address_of(running, "user", "10086")
    assert anonymous is not None
    assert user is not None
    assert anonymous.customer == user.customer
    first, second = await running.space.entries(kind="message")
    assert (first.address, second.address) == (anonymous.id, user.id)
    assert (first.data["level"], second.data["level"]) == ("anonymous", "verified")
    (link,) = await running.space.store.table(Link).find({})
    assert (link.evidence.kind, link.evidence.ref, link.trust) == (
        "identity_token",
        "j-10086",
        "attested",
    )
    assert user.profile is not None
    assert (user.profile.name, user.profile.trust) == ("李雷", "attested")
    (event,) = await running.space.entries(event="contact.identified")
    assert event.address == user.id


async def test_after_the_login_both_threads_are_seen_from_every_device(running: Running) -> None:
    """The user's own thread and what the linked visitor said; on another computer as well."""
    tab = await (await running.visitor()).connect()
    before = await tab.sends("before the login", "message-one")
    await identify(running, tab, "10086")
    after = await tab.sends("after the login", "message-two")

    elsewhere = await running.user("10086")

    threads = {c["conversation_id"]: c for c in elsewhere.session["conversations"]}
    assert threads.keys() == {before["conversation_id"], after["conversation_id"]}
    assert threads[after["conversation_id"]]["primary"] is True
    page = await elsewhere.call("GET", f"/conversations/{before['conversation_id']}/messages")
    assert page.json["messages"][0]["parts"][0]["text"] == "before the login"


async def test_rule_b_makes_a_new_visitor_for_another_user_of_the_computer(
    running: Running,
) -> None:
    """B logs in where A was: nothing of A's is seen or linked, and B gets a token of its own."""
    tab = await (await running.visitor()).connect()
    await tab.sends("I am A", "message-one")
    await identify(running, tab, "A")
    visitor, token = tab.visitor, tab.visitor_token

    ack = await identify(running, tab, "B")
    new = await tab.sends("I am B", "message-two")

    assert ack["visitor_id"] != visitor
    assert ack["visitor_token"] != token
    assert ack["conversations"] == []
    assert new["seq"] == "1"
    a, b = await address_of(running, "user", "A"), await address_of(running, "user", "B")
    assert a is not None
    assert b is not None
    assert a.customer != b.customer
    assert len(await running.space.store.table(Link).find({})) == 1


async def test_rule_b_holds_when_a_session_is_opened_with_anothers_visitor_token(
    running: Running,
) -> None:
    """The same by REST: the visitor token in the shared browser is A's, the login is B's."""
    a = await running.user("A")
    b = await running.user("B", visitor_token=a.visitor_token)

    assert b.visitor != a.visitor
    assert b.visitor_token not in ("", a.visitor_token)


async def test_rule_c_keeps_the_users_conversation_as_the_primary_one(running: Running) -> None:
    """The user talks on the phone; at the computer the visitor's chat is linked beside it."""
    phone = await (await running.user("10086")).connect()
    first = await phone.sends("from the phone", "message-one")
    tab = await (await running.visitor()).connect()
    anonymous = await tab.sends("from the computer", "message-two")

    ack = await identify(running, tab, "10086")
    new = await tab.sends("still me", "message-three")

    primary = [c["conversation_id"] for c in ack["conversations"] if c["primary"]]
    assert primary == [first["conversation_id"]]
    assert {c["conversation_id"] for c in ack["conversations"]} == {
        first["conversation_id"],
        anonymous["conversation_id"],
    }
    assert (new["conversation_id"], new["seq"]) == (first["conversation_id"], "2")
    await phone.expect("msg.new", client_msg_id="message-three")
    assert len(await customers(running)) == 1


async def test_a_login_without_a_word_before_it_links_nothing(running: Running) -> None:
    """A visitor that never spoke has no address, and gets none by logging in."""
    tab = await (await running.visitor()).connect()
    visitor = tab.visitor
    await identify(running, tab, "10086", name="李雷")
    await tab.sends("hello", "message-one")

    assert await address_of(running, "visitor", visitor) is None
    assert await running.space.store.table(Link).find({}) == []
    user = await address_of(running, "user", "10086")
    assert user is not None
    assert user.profile is not None
    assert user.profile.name == "李雷"


async def test_a_login_that_was_cut_off_is_completed_by_the_next(running: Running) -> None:
    """Bound, and then nothing could be stored: the same login later tells the hub."""
    tab = await (await running.visitor()).connect()
    await tab.sends("before the login", "message-one")
    running.space.overloaded = True
    await tab.say("auth.identify", identity_token=running.identity("10086"))
    assert (await tab.expect("error"))["code"] == "unavailable"
    running.space.overloaded = False

    await identify(running, tab, "10086")

    assert len(await running.space.store.table(Link).find({})) == 1


async def test_identifying_again_links_once(running: Running) -> None:
    """Every page load identifies: one link, one event."""
    tab = await (await running.visitor()).connect()
    await tab.sends("hello", "message-one")
    for _ in range(3):
        await identify(running, tab, "10086")
        running.clock.advance(60)

    assert len(await running.space.store.table(Link).find({})) == 1
    assert len(await running.space.entries(event="contact.identified")) == 1


async def test_what_was_sent_before_the_login_and_repeated_after_it_is_one_message(
    running: Running,
) -> None:
    """The outbox resends what was not acknowledged in time; the login in between is no excuse."""
    tab = await (await running.visitor()).connect()
    first = await tab.sends("only once", "message-one")
    await identify(running, tab, "10086")
    running.site.desk._recent.clear()

    re = await tab.text("only once", "message-one")

    assert (await tab.expect("ack", re=re))["server_msg_id"] == first["server_msg_id"]
    assert len(await running.space.entries(kind="message")) == 1
    running.site.desk._recent.clear()
    shown = await tab.post_text("only once", "message-one")
    assert (shown.status, shown.json["server_msg_id"]) == (201, first["server_msg_id"])


async def test_naming_the_visitors_thread_after_the_login_speaks_as_the_user(
    running: Running,
) -> None:
    """What a verified user says is said at the verified address, wherever the client put it."""
    tab = await (await running.visitor()).connect()
    before = await tab.sends("before", "message-one")
    await identify(running, tab, "10086")

    new = await tab.sends("after", "message-two", conversation_id=before["conversation_id"])

    assert new["conversation_id"] != before["conversation_id"]
    entries = await running.space.entries(kind="message")
    assert entries[1].data["level"] == "verified"


async def test_an_anonymous_session_of_the_same_browser_sees_nothing_verified(
    running: Running,
) -> None:
    """Without a valid identity token only what the visitor itself said is shown."""
    tab = await (await running.visitor()).connect()
    before = await tab.sends("before", "message-one")
    await identify(running, tab, "10086")
    after = await tab.sends("verified history", "message-two")

    anonymous = await running.visitor(visitor_token=tab.visitor_token)

    assert [c["conversation_id"] for c in anonymous.session["conversations"]] == [
        before["conversation_id"]
    ]
    page = await anonymous.call("GET", f"/conversations/{after['conversation_id']}/messages")
    assert page.status == 404


async def test_other_channels_of_the_customer_are_never_shown(running: Running) -> None:
    """An agent links a mailbox to the customer: the site session does not see its mails."""
    from normalizer.parts import Text

    tab = await (await running.user("10086")).connect()
    await tab.sends("hello", "message-one")
    mail = Message(
        key="mail-1", address=mailbox("li@example.com"), parts=(Text(text="private mail"),)
    )
    await running.space.take_in("mail", "box", [mail], door="test")
    user = await address_of(running, "user", "10086")
    assert user is not None
    await running.space.agent(
        "link",
        customer=user.customer,
        address="mail::mailbox:li@example.com",
        evidence={"kind": "agent"},
    )

    again = await running.user("10086")

    assert len(again.session["conversations"]) == 1
    assert "private mail" not in json.dumps(tab.seen + tab.kept)
    (mail_entry,) = [e for e in await running.space.entries(kind="message") if e.channel == "mail"]
    page = await again.call("GET", f"/conversations/{mail_entry.thread}/messages")
    assert page.status == 404


# --- the ways out --------------------------------------------------------------------------------


async def test_logout_leaves_nothing_for_the_next_person(running: Running) -> None:
    """A new visitor and token, an empty history; the old tokens and tabs are over."""
    tab = await (await running.visitor()).connect()
    await tab.sends("mine", "message-one")
    await identify(running, tab, "10086")
    old_token, old_visitor, old_visitor_token = tab.token, tab.visitor, tab.visitor_token
    second = Tab(running, {**tab.session, "access_token": old_token, "visitor_id": old_visitor})
    await second.connect()

    re = await tab.say("auth.logout")
    ack = await tab.expect("ack", re=re)
    await tab.settle()
    new = await tab.sends("somebody else", "message-two")

    assert ack["visitor_id"] != old_visitor
    assert ack["visitor_token"] not in ("", old_visitor_token)
    assert "user" not in ack
    assert (ack["conversations"], new["seq"]) == ([], "1")
    assert await second.closed() == 4401
    assert (await running.call("GET", "/conversations", token=old_token)).code == "auth_required"
    stranger = await running.visitor(visitor_token=old_visitor_token)
    assert stranger.visitor != old_visitor


async def test_logout_works_by_rest(running: Running) -> None:
    """For clients without a socket."""
    tab = await running.user("10086")
    answer = await tab.call("POST", "/logout", json={})

    assert answer.status == 201
    assert answer.json["visitor_token"]
    assert "user" not in answer.json
    assert (await tab.call("GET", "/conversations")).code == "auth_required"


async def test_signing_a_user_out_everywhere_ends_all_its_sessions(running: Running) -> None:
    """Two devices are closed and their tokens are over; a new login works, others are left."""
    one = await (await running.user("10086")).connect()
    two = await (await running.user("10086")).connect()
    other = await (await running.user("10010")).connect()
    running.clock.advance(1)

    headers = {"Authorization": f"Bearer {SERVER_KEY}"}
    answer = await running.call(
        "POST", "/server/sign-out", origin=None, headers=headers, json={"user_id": "10086"}
    )

    assert answer.status == 204
    assert [await one.closed(), await two.closed()] == [4401, 4401]
    assert (await one.call("GET", "/conversations")).code == "auth_required"
    await other.settle()
    running.clock.advance(1)
    await (await running.user("10086")).connect()


async def test_server_calls_need_the_server_key(running: Running) -> None:
    """Neither no key, nor a wrong one, nor a visitor's token opens the server's paths."""
    visitor = await running.visitor()
    for path in ("/server/sign-out", "/server/block", "/inbox"):
        for token in ("", "wrong", visitor.token):
            answer = await running.call("POST", path, token=token, origin=None, json={})
            assert (answer.status, answer.code) == (401, "auth_required")


async def test_a_session_is_refreshed_on_the_open_socket(running: Running) -> None:
    """auth.refresh keeps the socket alive beyond the first token's fifteen minutes."""
    tab = await (await running.visitor()).connect()
    running.clock.advance(14 * 60)
    fresh = await running.visitor(visitor_token=tab.visitor_token)
    re = await tab.say("auth.refresh", access_token=fresh.token)
    await tab.expect("ack", re=re)
    running.clock.advance(5 * 60)

    assert (await tab.sends("still here", "message-one"))["seq"] == "1"


async def test_a_session_does_not_outlive_the_login(running: Running) -> None:
    """An identity token of two minutes makes an access token of two minutes, not fifteen."""
    now = int(running.clock.now().timestamp())
    tab = await running.visitor(identity_token=running.identity("10086", exp=now + 120))
    running.clock.advance(121)
    assert (await tab.call("GET", "/conversations")).code == "token_expired"


async def test_the_legacy_user_hash_is_off_unless_it_is_set(
    make_site: MakeSite, running: Running
) -> None:
    """Off: refused with the right hash. On: the right hash logs in, a wrong one does not."""
    good = user_hash(Secret("site-secret-0001"), "10086")
    body = {"user_id": "10086", "user_hash": good}
    off = await running.call("POST", "/sessions", json=body)
    on = await make_site(user_hash_secret=Secret("site-secret-0001"))
    right = await on.call("POST", "/sessions", json=body)
    wrong = await on.call("POST", "/sessions", json={**body, "user_id": "10087"})

    assert off.code == "identity_invalid"
    assert (right.status, right.json["user"]["id"]) == (201, "10086")
    assert wrong.code == "identity_invalid"
