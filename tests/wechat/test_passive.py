"""The text that a customer gets at once, in the response."""

from __future__ import annotations

from connectors.wechat import crypto
from connectors.wechat.wire import read
from hub.testing import FakeClock
from tests.wechat.fake_wechat import APPID, OPENID
from tests.wechat.support import AES_KEY, TOKEN, connector, request

SAID = "<MsgType>text</MsgType><Content>hi</Content><MsgId>1</MsgId>"
CLICK = "<MsgType>event</MsgType><Event>CLICK</Event><EventKey>k</EventKey>"
RECEIVED = "已收到 ]]> 😀"


def test_a_message_is_answered_with_the_sender_and_receiver_swapped() -> None:
    clock, ours = FakeClock(), connector(passive_reply=RECEIVED)
    verified = ours.verify(request(SAID))
    answer = ours.answer(verified, ours.parse(verified), clock)
    assert answer.content_type == "text/xml; charset=utf-8"
    assert read(answer.body) == {
        "ToUserName": OPENID,
        "FromUserName": "gh_hub000001",
        "CreateTime": str(int(clock.now().timestamp())),
        "MsgType": "text",
        "Content": RECEIVED,
    }


def test_nobody_else_is_answered_with_words() -> None:
    """Not an event, and not what could not be read."""
    clock, ours = FakeClock(), connector(passive_reply=RECEIVED)
    for push in (CLICK, "<MsgType>event</MsgType><Event>unsubscribe</Event>"):
        verified = ours.verify(request(push))
        assert ours.answer(verified, ours.parse(verified), clock).body == b"success"
    verified = ours.verify(request(SAID))
    assert ours.answer(verified, (), clock).body == b"success"


def test_in_safe_mode_the_answer_is_sealed_with_what_opened_the_push() -> None:
    """During a rotation that is the old key and the old token, which WeChat still uses."""
    clock = FakeClock()
    new = "YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk"
    changes = {"mode": "safe", "passive_reply": RECEIVED}
    ours = connector(tokens=["newToken2025", TOKEN], encoding_aes_keys=[new, AES_KEY], **changes)
    verified = ours.verify(request(SAID, mode="safe", plain=False))
    answer = ours.answer(verified, ours.parse(verified), clock)
    outer = read(answer.body)
    assert set(outer) == {"Encrypt", "MsgSignature", "TimeStamp", "Nonce"}
    signed = crypto.signature(TOKEN, outer["TimeStamp"], outer["Nonce"], outer["Encrypt"])
    assert outer["MsgSignature"] == signed
    inner = read(crypto.decrypt(crypto.aes_key(AES_KEY), APPID, outer["Encrypt"]))
    assert (inner["Content"], inner["ToUserName"]) == (RECEIVED, OPENID)
    assert ours.answer(verified, ours.parse(verified), clock) == answer


def test_two_answers_never_share_what_stands_for_random_bytes() -> None:
    """CBC gives away where two texts begin alike under one key and one prefix."""
    clock, ours = FakeClock(), connector(mode="safe", passive_reply=RECEIVED)
    verified = ours.verify(request(SAID, mode="safe", plain=False))
    first = ours.answer(verified, ours.parse(verified), clock)
    clock.advance(1)
    second = ours.answer(verified, ours.parse(verified), clock)
    sealed = [read(answer.body)["Encrypt"] for answer in (first, second)]
    assert sealed[0][:20] != sealed[1][:20]
