"""Section 2 of the sheet: the vectors, and every way of tampering is the same refusal."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from msgspec.structs import replace

from connectors.wechat import crypto
from connectors.wechat.admission import QueryDoc
from connectors.wechat.crypto import NotGenuine
from connectors.wechat.samples import body_of, handshake, push
from hub import Refused, Request
from hub.store.interface import Unavailable
from hub.testing import FakeClock, FakeServices, MemoryStore
from tests.wechat.fake_wechat import APPID
from tests.wechat.support import AES_KEY, SECRETS, TOKEN, connector, settings

TEXT = "<MsgType>text</MsgType><Content>hi</Content><MsgId>1</MsgId>"
SAMPLE_1 = (
    "<xml><ToUserName><![CDATA[gh_hub000001]]></ToUserName><FromUserName><![CDATA[oHubUser0001]]>"
    "</FromUserName><CreateTime>1700000000</CreateTime><MsgType><![CDATA[text]]></MsgType>"
    "<Content><![CDATA[你好😀]]></Content><MsgId>24307213612345678</MsgId></xml>"
).encode()
KEY = crypto.aes_key(AES_KEY)
OTHER_KEY = "YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk"


# --- the vectors ---------------------------------------------------------------------------------


def test_the_vector_of_the_plain_signature() -> None:
    signed = crypto.signature(TOKEN, "1700000000", "482913")
    assert signed == "89202e7db4223b499f0b38e70d31f4c02c0f2d46"


def test_the_vector_of_the_encryption_and_its_signature() -> None:
    assert KEY == b"0123456789abcdef" * 2
    assert len(SAMPLE_1) == 256
    sealed = crypto.encrypt(KEY, APPID, SAMPLE_1, b"0123456789ABCDEF")
    assert (
        hashlib.sha256(sealed.encode()).hexdigest()
        == "32cdc338165284de8dc5bdefe201658bbc8c40cd40653b93a6193f0659b0f73d"
    )
    signed = crypto.signature(TOKEN, "1700000000", "482913", sealed)
    assert signed == "b57eceb7bb99d37725bbd17582890c852b302757"
    assert crypto.decrypt(KEY, APPID, sealed) == SAMPLE_1


def test_the_vector_is_believed_as_a_push() -> None:
    sealed = crypto.encrypt(KEY, APPID, SAMPLE_1, b"0123456789ABCDEF")
    verified = connector(mode="safe").verify(
        Request(
            method="POST",
            url="",
            query_string="signature=89202e7db4223b499f0b38e70d31f4c02c0f2d46&timestamp=1700000000"
            "&nonce=482913&openid=oHubUser0001&encrypt_type=aes"
            "&msg_signature=b57eceb7bb99d37725bbd17582890c852b302757",
            body=f"<xml><ToUserName>gh_hub000001</ToUserName><Encrypt>{sealed}</Encrypt></xml>".encode(),
            received_at=datetime.fromtimestamp(1700000000, UTC),
        )
    )
    assert verified.payload == SAMPLE_1


@pytest.mark.parametrize("length", range(64))
def test_texts_of_every_length_come_back(length: int) -> None:
    """Padding of 1 to 32 bytes, where the usual 16 would refuse half of all messages."""
    text = b"x" * length
    assert crypto.decrypt(KEY, APPID, crypto.encrypt(KEY, APPID, text, b"p" * 16)) == text


# --- what was not encrypted for this account -----------------------------------------------------


def sealed_raw(framed: bytes) -> str:
    encryptor = Cipher(algorithms.AES(KEY), modes.CBC(KEY[:16])).encryptor()
    return base64.b64encode(encryptor.update(framed) + encryptor.finalize()).decode()


def framed(text: bytes = b"hi", *, length: int | None = None, pad: int | None = None) -> bytes:
    length = len(text) if length is None else length
    body = b"p" * 16 + (length % 2**32).to_bytes(4, "big") + text + APPID.encode()
    missing = 32 - len(body) % 32
    return body + bytes([missing if pad is None else pad]) * missing


@pytest.mark.parametrize(
    "sealed",
    [
        pytest.param("", id="empty"),
        pytest.param("%%%", id="no base64"),
        pytest.param("é", id="no ASCII"),
        pytest.param(base64.b64encode(b"x" * 31).decode(), id="no whole blocks"),
        pytest.param(base64.b64encode(b"x" * 48).decode(), id="blocks of 16"),
        pytest.param(sealed_raw(framed(pad=0)), id="padding of 0"),
        pytest.param(sealed_raw(framed(pad=33)), id="padding of 33"),
        pytest.param(sealed_raw(framed()[:-2] + b"\x01\x09"), id="padding of unequal bytes"),
        pytest.param(sealed_raw(framed(length=2**32 - 1)), id="a length beyond the end"),
        pytest.param(sealed_raw(framed(length=1)), id="a length that moves the appid"),
        pytest.param(sealed_raw(b"\x20" * 32), id="nothing but padding"),
        pytest.param(sealed_raw(b"p" * 16 + b"\x10" * 16), id="shorter than its length field"),
        pytest.param(crypto.encrypt(KEY, "wxother00000000000", b"hi", b"p" * 16), id="other appid"),
        pytest.param(crypto.encrypt(KEY, "", b"hi", b"p" * 16), id="no appid"),
        pytest.param(
            crypto.encrypt(crypto.aes_key(OTHER_KEY), APPID, b"hi", b"p" * 16), id="other key"
        ),
    ],
)
def test_what_was_not_encrypted_for_us_fails_in_one_way_only(sealed: str) -> None:
    with pytest.raises(NotGenuine) as failed:
        crypto.decrypt(KEY, APPID, sealed)
    assert str(failed.value) == ""


# --- tampering on every route --------------------------------------------------------------------


def tampered() -> Iterator[tuple[str, Request, dict[str, Any]]]:
    """Yield (what was done, the request, settings that it meets)."""
    clock = FakeClock()
    safe = settings(mode="safe")
    plain = settings(mode="plain", encoding_aes_keys=None)
    body = body_of(plain, clock, TEXT)
    sealed = push(safe, clock, "t", body, plain=False).request
    bare = push(plain, clock, "t", body, plain=True).request
    hello = handshake(plain, clock).request
    safely: dict[str, Any] = {"mode": "safe"}
    plainly: dict[str, Any] = {"mode": "plain", "encoding_aes_keys": None}

    for name, request, met in (
        ("safe", sealed, safely),
        ("plain", bare, plainly),
        ("GET", hello, plainly),
    ):
        signed = "msg_signature" if name == "safe" else "signature"
        query = request.query_string
        yield f"{name}: no signature", _without(request, signed), met
        yield f"{name}: empty", _without(request, signed, f"&{signed}="), met
        yield f"{name}: wrong", _without(request, signed, f"&{signed}={'0' * 40}"), met
        upper = request.query[signed].upper()
        yield f"{name}: upper case", _without(request, signed, f"&{signed}={upper}"), met
        yield f"{name}: another account's", request, {**met, "tokens": ["anotherToken"]}
        yield f"{name}: no query", replace(request, query_string=""), met
        old = replace(request, received_at=clock.now().replace(year=2027))
        yield f"{name}: stale", old, met
        yield f"{name}: other nonce", replace(request, query_string=f"{query}&nonce=1"), met
        yield f"{name}: other method", replace(request, method="PUT"), met

    yield "safe: no body", replace(sealed, body=b""), safely
    yield "safe: other body", replace(sealed, body=body), safely
    other = push(safe, clock, "t", body + b" ", plain=False).request
    yield "safe: another push's body", replace(sealed, body=other.body), safely
    yield "safe: downgraded", bare, safely
    yield (
        "safe: downgraded by name",
        replace(bare, query_string=f"{bare.query_string}&encrypt_type=raw"),
        safely,
    )
    unknown = replace(bare, query_string=f"{bare.query_string}&encrypt_type=rot13")
    yield "safe: unknown encryption", unknown, safely
    yield "plain: unknown encryption", unknown, plainly
    yield "plain: encrypted, and no key", sealed, plainly
    yield "safe: foreign appid", sealed, {**safely, "appid": "wxffffffffffffffff"}
    yield "safe: foreign key", sealed, {**safely, "encoding_aes_keys": [OTHER_KEY]}
    yield "safe: for another account", sealed, {**safely, "original_id": "gh_other00001"}
    yield "plain: for another account", bare, {**plainly, "original_id": "gh_other00001"}
    yield "plain: no body", replace(bare, body=b""), plainly
    yield "plain: neither XML nor JSON", replace(bare, body=b"a=1&b=2"), plainly
    yield "plain: a DOCTYPE", replace(bare, body=b"<!DOCTYPE x><xml><a>1</a></xml>"), plainly
    yield (
        "plain: over 1 MB",
        replace(bare, body=b"<xml><a>" + b"x" * 2**20 + b"</a></xml>"),
        plainly,
    )
    yield "GET: no echo", _without(hello, "echostr"), plainly
    yield "GET: a huge echo", _without(hello, "echostr", "&echostr=" + "1" * 513), plainly
    bad_pad = sealed_raw(framed(pad=33))
    signed = crypto.signature(TOKEN, sealed.query["timestamp"], sealed.query["nonce"], bad_pad)
    yield (
        "safe: bad padding",
        replace(
            _without(sealed, "msg_signature", f"&msg_signature={signed}"),
            body=f"<xml><Encrypt>{bad_pad}</Encrypt></xml>".encode(),
        ),
        safely,
    )


def _without(request: Request, name: str, instead: str = "") -> Request:
    pairs = [pair for pair in request.query_string.split("&") if not pair.startswith(f"{name}=")]
    return replace(request, query_string="&".join(pairs) + instead)


@pytest.mark.parametrize(
    ("request_", "met"), [pytest.param(*rest, id=name) for name, *rest in tampered()]
)
def test_tampering_is_refused_with_one_identical_403(
    request_: Request, met: dict[str, Any]
) -> None:
    ours = connector(**met)
    with pytest.raises(Refused) as refused:
        ours.verify(request_)
    answer = ours.refusal(refused.value)
    assert (answer.status, answer.body, dict(answer.headers)) == (403, b"", {})


def test_compatible_mode_reads_the_encrypted_copy_and_nothing_else() -> None:
    """The plain fields beside it are covered by no signature."""
    clock = FakeClock()
    held = settings(mode="compatible")
    sealed = push(held, clock, "t", body_of(held, clock, TEXT), plain=False).request
    forged = sealed.body.replace(
        b"<xml>", b"<xml><MsgType>text</MsgType><Content>forged</Content><MsgId>9</MsgId>"
    )
    ours = connector(mode="compatible")
    (message,) = ours.parse(ours.verify(replace(sealed, body=forged)))
    assert message.parts[0].text == "hi"  # type: ignore[union-attr]


def test_an_encrypted_push_that_says_nothing_readable_is_believed_and_fails_in_parse() -> None:
    """It is the vendor's: it is acknowledged, and kept as a dead letter."""
    clock = FakeClock()
    ours = connector(mode="safe")
    verified = ours.verify(push(settings(mode="safe"), clock, "t", b"\x00", plain=False).request)
    with pytest.raises(ValueError, match="neither XML nor JSON"):
        ours.parse(verified)
    assert ours.answer(verified, (), clock).body == b"success"


def test_the_console_gets_its_echo_back_to_the_letter() -> None:
    ours = connector()
    clock = FakeClock()
    for mode in ("plain", "safe"):
        verified = connector(mode=mode).verify(handshake(settings(), clock).request)
        answer = ours.answer(verified, (), clock)
        assert (answer.status, answer.body) == (200, b"5837397520665436492")
        assert answer.content_type == "text/plain"
        assert ours.parse(verified) == ()


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"encoding_aes_keys": ["short"]}, "43 letters and digits"),
        ({"encoding_aes_keys": ["!" * 43]}, "43 letters and digits"),
        ({"serve_token": True, "token_server": "https://t.example/"}, "beside token_server"),
        ({"passive_reply": "长" * 700}, "at most 600"),
        ({"appid": "gh_hub000001"}, "wx and letters"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_their_remedy(
    changes: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(Exception, match=wrong):
        settings(**changes)


def test_safe_mode_without_a_key_says_what_it_lacks() -> None:
    assert not list(connector(mode="safe").check_settings())
    (lacking,) = connector(mode="safe", encoding_aes_keys=None).check_settings()
    assert "encoding_aes_keys is empty" in lacking
    assert SECRETS["tokens"][0] not in lacking


# --- plain mode: one query for one body ----------------------------------------------------------


def plain_push(text: str = "hi") -> Request:
    clock, held = FakeClock(), settings(encoding_aes_keys=None)
    inner = f"<MsgType>text</MsgType><Content>{text}</Content><MsgId>1</MsgId>"
    return push(held, clock, "t", body_of(held, clock, inner), plain=True).request


async def test_a_plain_query_is_good_for_one_body_in_every_process() -> None:
    """A repetition with the same bytes passes; other words, and another method, do not."""
    store = MemoryStore()
    one, two = (connector(FakeServices(store=store)) for _ in range(2))
    for ours in (one, two):
        await ours.start()
    genuine, forged = plain_push(), plain_push("forged")
    assert genuine.query_string == forged.query_string
    for ours in (one, one, two):
        await ours.admit(ours.verify(genuine))
    for ours in (one, two):
        with pytest.raises(Refused, match="replayed"):
            await ours.admit(ours.verify(forged))
        await ours.admit(ours.verify(genuine))
    hello = replace(
        genuine, method="GET", body=b"", query_string=f"{genuine.query_string}&echostr=1"
    )
    with pytest.raises(Refused, match="replayed"):
        await two.admit(two.verify(hello))
    (kept,) = await store.table(QueryDoc).find({})
    assert "oHubUser" not in repr(kept)


async def test_while_the_database_is_away_a_process_knows_its_own_pushes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What customers say is taken, and a second body for a query all the same refused."""
    services = FakeServices()
    ours = connector(services)
    asked = 0

    async def away(docs: object) -> object:
        nonlocal asked
        asked += 1
        raise Unavailable("an election")

    table = services.store.table(QueryDoc)
    monkeypatch.setattr(type(table), "insert", lambda self, docs: away(docs))
    await ours.admit(ours.verify(plain_push()))
    with pytest.raises(Refused, match="replayed"):
        await ours.admit(ours.verify(plain_push("forged")))
    assert asked == 1


async def test_encrypted_pushes_and_open_accounts_are_not_remembered() -> None:
    services, clock = FakeServices(), FakeClock()
    safe = connector(services, mode="safe")
    sealed = push(settings(mode="safe"), clock, "t", b"<xml><a>1</a></xml>", plain=False).request
    await safe.admit(safe.verify(sealed))
    trial = connector(services, insecure=True, tokens=None, encoding_aes_keys=None)
    for text in ("one", "two"):
        await trial.admit(trial.verify(plain_push(text)))
    assert await services.store.table(QueryDoc).find({}) == []
