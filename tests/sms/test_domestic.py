"""Aliyun and Tencent Cloud: signatures, pushes, what their words mean, no repetition."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from connectors.sms import SmsConnector
from connectors.sms.signing import acs3_headers, acs3_query, tc3_headers
from hub import Refused, Request
from hub.testing.clock import START, FakeClock
from hub.testing.connector_checks.mutations import mutations
from normalizer.addresses import canonical
from normalizer.drafts import AnyDraft, DeliveryState, Event, Message, Receipt
from normalizer.keys import dedupe_key
from normalizer.outcomes import (
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
from normalizer.parts import Image, Media, Text
from tests.sms.fake_domestic import PUSH_SECRET, FakeAliyun, FakeDomestic, FakeTencent
from tests.sms.making import at_work, made, message
from tests.support.scale import scaled

VENDORS = [FakeAliyun, FakeTencent]
Kind = type[FakeDomestic]


# --- signatures: the vendors' published examples -------------------------------------------------


def test_aliyuns_published_signature() -> None:
    """ "Request syntax and signature method V3", the example with fixed parameters."""
    query = acs3_query(
        {
            "RegionId": "cn-shanghai",
            "ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd",
        }
    )
    headers = acs3_headers(
        key_id="YourAccessKeyId",
        secret="YourAccessKeySecret",
        host="ecs.cn-shanghai.aliyuncs.com",
        action="RunInstances",
        version="2014-05-26",
        query=query,
        at=datetime(2023, 10, 26, 10, 22, 32, tzinfo=UTC),
        nonce="3156853299f313e23d1673dc12e1703d",
    )
    assert headers["Authorization"] == (
        "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;"
        "x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,"
        "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )


def test_aliyuns_query_is_escaped_by_rfc_3986() -> None:
    assert acs3_query({"b": " *~", "a": "短信+/="}) == "a=%E7%9F%AD%E4%BF%A1%2B%2F%3D&b=%20%2A~"


def test_tencents_published_signature() -> None:
    """ "Signature v3", the example whose credentials are shown as asterisks."""
    body = (
        rb'{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}'
    )
    assert hashlib.sha256(body).hexdigest().startswith("35e9c5b0e3ae6753")
    headers = tc3_headers(
        secret_id="AKID********************************",
        secret_key="********************************",
        host="cvm.tencentcloudapi.com",
        service="cvm",
        action="DescribeInstances",
        version="2017-03-12",
        region="ap-guangzhou",
        body=body,
        at=datetime.fromtimestamp(1551113065, UTC),
    )
    assert headers["Authorization"] == (
        "TC3-HMAC-SHA256 Credential=AKID********************************/2019-02-25/cvm/"
        "tc3_request, SignedHeaders=content-type;host;x-tc-action,"
        " Signature=10b1a37a7301a02ca19a647ad722d5e43b4b3cff309d421d85b46093f6ab6c4f"
    )


# --- pushes --------------------------------------------------------------------------------------


def pushed(
    pushed_by: Kind, kind: str, what: object, **changes: Any
) -> tuple[SmsConnector, Request]:
    connector = made(pushed_by().settings)
    body = what if isinstance(what, bytes) else json.dumps(what).encode()
    request = Request(
        method="POST",
        url=f"https://hub.example/in/sms/main/{PUSH_SECRET}/{kind}",
        path=f"/{PUSH_SECRET}/{kind}",
        headers={"content-type": "application/json"},
        body=body,
        remote="203.0.113.7",
        received_at=START,
    )
    return connector, replace(request, **changes)


def drafts(pushed_by: Kind, kind: str, what: object) -> list[AnyDraft]:
    connector, request = pushed(pushed_by, kind, what)
    return list(connector.parse(connector.verify(request)))


UP_ALIYUN = {
    "phone_number": "13800138000",
    "send_time": "2023-11-15 06:13:20",
    "content": "收到，谢谢",
    "sign_name": "某品牌",
    "dest_code": "1069000007",
    "sequence_id": "77",
}
UP_TENCENT = {
    "extend": "07",
    "mobile": "13800138000",
    "nationcode": "86",
    "sign": "某品牌",
    "text": "收到，谢谢",
    "time": 1700000000,
}


def test_sample_5_a_reply_at_tencent() -> None:
    (draft,) = drafts(FakeTencent, "up", UP_TENCENT)
    assert isinstance(draft, Message)
    assert canonical(draft.address) == "tel::e164:+8613800138000"
    assert draft.thread == "07"
    assert draft.at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert draft.parts == (Text(text="收到，谢谢"),)


def test_a_batch_at_aliyun_is_as_many_messages_in_order() -> None:
    batch = [{**UP_ALIYUN, "sequence_id": str(n), "content": f"text {n}"} for n in range(3)]
    found = drafts(FakeAliyun, "up", batch)
    assert [each.parts for each in found if isinstance(each, Message)] == [
        (Text(text=f"text {n}"),) for n in range(3)
    ]
    assert {each.at for each in found} == {datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)}
    assert {each.thread for each in found if isinstance(each, Message)} == {"1069000007"}


def test_edge_1_parts_that_are_pushed_separately_stay_apart_and_none_is_lost() -> None:
    first, second = (
        drafts(FakeTencent, "up", {**UP_TENCENT, "text": text})[0] for text in ("上半", "下半")
    )
    assert dedupe_key("sms", "main", first) != dedupe_key("sms", "main", second)


def test_edge_2_without_an_id_a_repetition_is_known_by_all_that_it_has() -> None:
    keys = [
        dedupe_key("sms", "main", drafts(FakeTencent, "up", {**UP_TENCENT, **changed})[0])
        for changed in ({}, {}, {"time": 1700000001}, {"text": "收到"}, {"extend": "08"})
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


@pytest.mark.parametrize("word", ["TD", "T", "退订", " td "])
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_wish_is_an_event(vendor: Kind, word: str) -> None:
    up = [{**UP_ALIYUN, "content": word}] if vendor is FakeAliyun else {**UP_TENCENT, "text": word}
    (draft,) = drafts(vendor, "up", up)
    assert isinstance(draft, Event)
    assert draft.name == "contact.opted_out"
    assert draft.data["scope"] in ("1069000007", "07")


def test_receipts_of_aliyun() -> None:
    report = {
        "phone_number": "13800138000",
        "send_time": "2023-11-15 06:13:20",
        "report_time": "2023-11-15 06:13:25",
        "success": True,
        "err_code": "DELIVERED",
        "err_msg": "用户接收成功",
        "biz_id": "9^0",
    }
    failed = {**report, "success": False, "err_code": "MOBILE_NOT_ON_SERVICE", "err_msg": "停机"}
    good, bad = drafts(FakeAliyun, "report", [report, {**failed, "biz_id": "8^0"}])
    assert isinstance(good, Receipt)
    assert isinstance(bad, Receipt)
    assert (good.state, good.target.vendor_id, good.code) == (DeliveryState.DELIVERED, "9^0", "")
    assert good.key == "aliyun:9^0:13800138000"
    assert (bad.state, bad.code, bad.reason) == (
        DeliveryState.FAILED, "MOBILE_NOT_ON_SERVICE", "停机",
    )  # fmt: skip


def test_receipts_of_tencent() -> None:
    report = {
        "user_receive_time": "2023-11-15 06:13:25",
        "nationcode": "86",
        "mobile": "13800138000",
        "report_status": "FAIL",
        "errmsg": "MK:0001",
        "description": "空号",
        "sid": "1000:1",
    }
    (bad,) = drafts(FakeTencent, "report", [report])
    assert isinstance(bad, Receipt)
    assert (bad.state, bad.code, bad.reason) == (DeliveryState.FAILED, "MK:0001", "空号")
    assert bad.key == "tencent:1000:1:13800138000"
    assert bad.at == datetime(2023, 11, 14, 22, 13, 25, tzinfo=UTC)


@pytest.mark.parametrize(
    ("vendor", "acknowledged"),
    [(FakeAliyun, {"code": 0, "msg": "接收成功"}), (FakeTencent, {"result": 0, "errmsg": "OK"})],
)
def test_each_is_told_in_its_own_words_that_all_is_well(
    vendor: Kind, acknowledged: Mapping[str, Any]
) -> None:
    connector, request = pushed(vendor, "up", [])
    verified = connector.verify(request)
    answer = connector.answer(verified, (), FakeClock())
    assert answer.status == 200
    assert json.loads(answer.body) == acknowledged


@pytest.mark.parametrize(
    "changes",
    [
        {"path": f"/{PUSH_SECRET}"},
        {"path": "/up"},
        {"path": ""},
        {"path": f"/{PUSH_SECRET[:-1]}/up"},
        {"path": f"/{PUSH_SECRET}x/up"},
        {"path": f"/{PUSH_SECRET}/down"},
        {"path": f"/x/{PUSH_SECRET}/up"},
        {"path": f"/{PUSH_SECRET}/up/"},
        {"path": "/\udcff/up"},
        {"remote": "203.0.114.7"},
        {"remote": ""},
        {"remote": "::ffff:203.0.114.7"},
        {"remote": "not an address"},
        {"method": "GET"},
        {"body": b""},
        {"body": b"a=b"},
        {"body": b"\xff"},
        {"body": b"[" * 100_000},
    ],
    ids=lambda changes: None,
)
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_push_by_another_path_address_or_format_is_refused(
    vendor: Kind, changes: dict[str, Any]
) -> None:
    connector, request = pushed(vendor, "up", [], **changes)
    with pytest.raises(Refused) as caught:
        connector.verify(request)
    assert caught.value.status == 403


@pytest.mark.parametrize("remote", ["203.0.113.255", "::ffff:203.0.113.7"])
def test_an_allowed_address_is_allowed_in_both_spellings(remote: str) -> None:
    connector, request = pushed(FakeAliyun, "up", [], remote=remote)
    assert connector.verify(request)


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_secret_path_is_not_kept(vendor: Kind) -> None:
    connector, request = pushed(vendor, "up", [])
    assert PUSH_SECRET not in repr(connector.verify(request))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"push_secrets": []}, "push_secrets"),
        ({"push_secrets": ["short"]}, "guessed"),
        ({"push_secrets": ["with/slash/and/more"]}, "guessed"),
        ({"allowed_ips": []}, "allowed_ips"),
    ],
)
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_push_url_that_anybody_could_use_is_complained_about(
    vendor: Kind, changes: dict[str, Any], words: str
) -> None:
    settings = vendor().settings
    name = settings["provider"]
    connector = made({**settings, name: {**settings[name], **changes}})
    assert any(words in told for told in connector.check_settings())


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("kind", ["up", "report"])
def test_mutated_pushes_are_read_or_fail_like_any_code(vendor: Kind, kind: str) -> None:
    """The secret path is gone from what is parsed, so the contract cannot mutate these."""
    connector, request = pushed(vendor, kind, [])
    verified = connector.verify(request)
    sample = next(
        each for each in connector.samples(FakeClock()) if each.request.path.endswith(kind)
    )
    for body in mutations(sample.request.body, scaled(400, 20_000), f"{kind}{vendor.__name__}"):
        try:
            found = connector.parse(replace(verified, payload=body))
        except (ValueError, msgspec.DecodeError, RecursionError):
            continue
        assert all(draft.key for draft in found)
        for draft in found:
            dedupe_key("sms", "main", draft)


# --- out ------------------------------------------------------------------------------------------


def by_template(vendor: FakeDomestic, number: int = 0, **more: Any) -> Any:
    templates = next(iter(vendor.settings[vendor.settings["provider"]]["templates"] for _ in [0]))
    chosen = templates[number]
    values = {"content": "在路上了", "order": "7", "day": "周三"}
    params = {name: values[name] for name in chosen["params"]}
    return message("shown", template=chosen["code"], params={**params, **more})


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_template_is_sent_with_its_blanks_in_their_order(vendor: Kind) -> None:
    async with vendor() as fake, at_work(fake.settings) as (connector, _):
        for number in range(3):
            told = await connector.send(by_template(fake, number))
            assert told.vendor_ids == (fake.taken[-1]["id"],)
        assert [each["params"] for each in fake.taken] == [
            {"content": "在路上了"},
            {"order": "7", "day": "周三"},
            {},
        ]
        assert {each["key"] for each in fake.taken} == {"job_1"}
        expected = "13800138000" if vendor is FakeAliyun else "+8613800138000"
        assert {each["to"] for each in fake.taken} == {expected}
        assert not fake.wrong


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_free_text_is_refused_before_anybody_is_asked_and_told_what_fits(
    vendor: Kind,
) -> None:
    async with vendor() as fake, at_work(fake.settings) as (connector, _):
        codes = [each.name for each in await connector.templates()]
        with pytest.raises(Unsupported, match=f"answer by {codes[0]}$") as caught:
            await connector.send(message("在路上了"))
        assert caught.value.code == "template_needed"
        with pytest.raises(Unsupported, match="fits into none of"):
            await connector.send(message("长" * 36))
        with pytest.raises(Unsupported):
            await connector.send(message(Image(media=Media(blob="b"))))
        assert fake.asked == 0


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_template_that_does_not_fit_is_refused_before_anybody_is_asked(
    vendor: Kind,
) -> None:
    async with vendor() as fake, at_work(fake.settings) as (connector, _):
        with pytest.raises(Rejected, match="other blanks: more"):
            await connector.send(by_template(fake, more="x"))
        with pytest.raises(Rejected, match="takes 35 characters"):
            await connector.send(by_template(fake, content="长" * 36))
        with pytest.raises(Rejected, match="not in the account's settings"):
            await connector.send(message("x", template="SMS_9"))
        with pytest.raises(Unreachable):
            await connector.send(replace(by_template(fake), address="sms:main:sender:10086"))
        assert fake.asked == 0


def aliyun(code: str, status: int = 400) -> tuple[int, Any]:
    return status, {"Code": code, "Message": "m", "RequestId": "r"}


def tencent(code: str) -> tuple[int, Any]:
    return 200, {"Response": {"Error": {"Code": code, "Message": "m"}, "RequestId": "r"}}


def tencent_status(code: str) -> tuple[int, Any]:
    return 200, {"Response": {"SendStatusSet": [{"Code": code, "Message": "m"}], "RequestId": "r"}}


@pytest.mark.parametrize(
    ("vendor", "answer", "kind"),
    [
        (FakeAliyun, aliyun("isv.BUSINESS_LIMIT_CONTROL", 200), RateLimited),
        (FakeAliyun, aliyun("Throttling.User"), RateLimited),
        (FakeAliyun, aliyun("isv.AMOUNT_NOT_ENOUGH", 200), Misconfigured),
        (FakeAliyun, aliyun("SignatureDoesNotMatch"), Misconfigured),
        (FakeAliyun, aliyun("isv.SMS_TEMPLATE_ILLEGAL", 200), Rejected),
        (FakeAliyun, aliyun("isv.SOMETHING_NEW", 200), Rejected),
        (FakeAliyun, aliyun("isp.SYSTEM_ERROR", 200), OutcomeUnknown),
        (FakeAliyun, aliyun("ServiceUnavailable", 503), OutcomeUnknown),
        (FakeAliyun, aliyun("SomethingNew", 500), OutcomeUnknown),
        (FakeAliyun, (502, "<html>"), OutcomeUnknown),
        (FakeAliyun, (200, "[]"), OutcomeUnknown),
        (FakeAliyun, (200, {"Code": "OK"}), OutcomeUnknown),  # which message?
        (FakeAliyun, "lose", OutcomeUnknown),
        (FakeTencent, tencent("AuthFailure.SecretIdNotFound"), Misconfigured),
        (FakeTencent, tencent("InternalError.Timeout"), OutcomeUnknown),
        (FakeTencent, tencent("RequestLimitExceeded"), RateLimited),
        (FakeTencent, tencent_status("LimitExceeded.PhoneNumberDailyLimit"), RateLimited),
        (FakeTencent, tencent_status("FailedOperation.PhoneNumberInBlacklist"), Unreachable),
        (
            FakeTencent,
            tencent_status("FailedOperation.InsufficientBalanceInSmsPackage"),
            Misconfigured,
        ),
        (FakeTencent, tencent_status("FailedOperation.SomethingNew"), Rejected),
        (FakeTencent, (200, {"Response": {"SendStatusSet": []}}), OutcomeUnknown),
        (FakeTencent, (200, {}), OutcomeUnknown),
        (FakeTencent, (500, {"Response": {}}), OutcomeUnknown),
        (FakeTencent, "lose", OutcomeUnknown),
    ],
)
async def test_an_answer_is_told_as_what_it_is_and_never_repeated(
    vendor: Kind, answer: Any, kind: type[Failure]
) -> None:
    async with vendor() as fake, at_work(fake.settings) as (connector, _):
        fake.script = [answer]
        with pytest.raises(Failure) as caught:
            await connector.send(by_template(fake))
        assert type(caught.value) is kind
        assert fake.asked == 1
        if isinstance(caught.value, RateLimited):
            person = "number" in caught.value.reason
            assert caught.value.scope == ("address" if person else "account")


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_vendor_that_hangs_or_is_away(
    vendor: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.sms.calling.DEADLINE_S", 0.3)
    async with vendor() as fake, at_work(fake.settings) as (connector, _):
        fake.script = ["hang"]
        with pytest.raises(OutcomeUnknown):
            await connector.send(by_template(fake))
        assert fake.asked == 1
    monkeypatch.setattr("connectors.sms.calling.DEADLINE_S", 15.0)
    with_nobody = {**fake.settings}
    async with at_work(with_nobody) as (connector, _):
        with pytest.raises(Temporary):
            await connector.send(by_template(fake))
        with pytest.raises(Unsupported):
            await connector.find_sent(by_template(fake))


@pytest.mark.parametrize("vendor", VENDORS)
async def test_check_tries_the_credentials(vendor: Kind) -> None:
    async with vendor() as fake:
        async with at_work(fake.settings) as (connector, _):
            assert not await connector.check()
        name = fake.settings["provider"]
        secret = "access_key_secret" if name == "aliyun" else "secret_key"
        wrong = {"provider": name, name: {**fake.settings[name], secret: "another"}}
        async with at_work(wrong) as (connector, _):
            (problem,) = await connector.check()
            assert "another" not in problem
            assert "secret" in problem


@pytest.mark.parametrize(("vendor", "ident"), [(FakeAliyun, "biz_id"), (FakeTencent, "sid")])
def test_a_receipt_of_nothing_keeps_no_other_of_its_batch_from_being_known(
    vendor: Kind, ident: str
) -> None:
    """Receipts come in batches, and one may be broken; a push of which none is good is kept."""
    good, broken = {ident: "9", "success": True, "report_status": "SUCCESS"}, {"success": True}
    (receipt,) = drafts(vendor, "report", [broken, good, {**good, ident: None}])
    assert isinstance(receipt, Receipt)
    assert (receipt.target.vendor_id, receipt.state) == ("9", DeliveryState.DELIVERED)
    assert drafts(vendor, "report", []) == []
    with pytest.raises(ValueError, match=ident):
        drafts(vendor, "report", [broken])
