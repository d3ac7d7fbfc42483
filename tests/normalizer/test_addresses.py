"""Addresses: the grammar, mailboxes and phone numbers, and the texts that never change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.addresses import (
    MAX_ID_CHARS,
    MAX_TENURE,
    Address,
    AddressError,
    canonical,
    mailbox,
    parse_address,
    phone,
    unverified_mailbox,
)
from tests.normalizer import samples
from tests.normalizer.golden_file import golden

EXAMPLES = {
    "wechat open-id": samples.FAN,
    "wechat open-id in other letters": Address(
        scheme="wechat", account="shop", kind="openid", id="OHUBUSER0001"
    ),
    "weibo uid": samples.WEIBO,
    "site user": samples.USER,
    "site user with a colon and a slash": Address(
        scheme="site", account="shop", kind="user", id="crm:7/李 雷"
    ),
    "site visitor": samples.VISITOR,
    "mailbox": mailbox("Li.Lei+Orders@Example.COM"),
    "mailbox in Chinese": mailbox("李雷@例子.中国"),
    "mailbox that proved nothing": unverified_mailbox("Li.Lei+Orders@Example.COM"),
    "phone, mainland": samples.MOBILE,
    "phone, Hong Kong": samples.HONGKONG,
    "phone, second tenure": Address(scheme="tel", kind="e164", id="+8613800138000", tenure=2),
    "sms short code": Address(scheme="sms", account="main", kind="sender", id="10086"),
    "sms service port": Address(scheme="sms", account="main", kind="sender", id="106575258192144"),
    "sms name": Address(scheme="sms", account="main", kind="sender", id="My Shop"),
    "ivr withheld": samples.WITHHELD,
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_canonical_text_is_the_frozen_one(name: str) -> None:
    assert canonical(EXAMPLES[name]) == str(EXAMPLES[name]) == golden("addresses")[name]


def test_every_line_of_the_golden_file_is_checked() -> None:
    assert golden("addresses").keys() == EXAMPLES.keys()


_words = st.text(min_size=1, max_size=20)


@given(
    _words,
    st.text(max_size=20),
    _words,
    st.text(min_size=1, max_size=40),
    st.integers(1, MAX_TENURE),
)
def test_any_address_reads_back_from_its_canonical_text(
    scheme: str, account: str, kind: str, ident: str, tenure: int
) -> None:
    address = Address(scheme=scheme, account=account, kind=kind, id=ident, tenure=tenure)
    text = canonical(address)
    assert text.isascii()
    assert "|" not in text
    assert parse_address(text) == address


_written = st.from_regex(r"[a-z]{1,3}:[a-z%7C]{0,3}:[a-z]{1,3}:[a-z%:461 ]{1,4}(;[0-9]{1,2})?")


@given(_written)
def test_a_text_parses_only_if_it_is_exactly_what_is_written_again(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert canonical(address) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "scheme:account"),
        ("wechat:shop:openid", "scheme:account"),
        ("wechat:shop:openid:a:b", "scheme:account"),
        ("wechat:shop:openid:a b", "scheme:account"),
        ("wechat:shop:openid:a\n", "scheme:account"),
        ("wechat:shop:openid:李", "scheme:account"),
        (":shop:openid:a", "needs a scheme"),
        ("wechat:shop::a", "needs a kind"),
        ("wechat:shop:openid:", "needs a id"),
        ("wechat:shop:openid:%ff", "UTF-8"),
        ("wechat:shop:openid:%61", "canonical form"),
        ("wechat:shop:openid:%e6%9d%8e", "canonical form"),
        ("wechat:shop:openid:%zz", "canonical form"),
        ("wechat:shop:openid:a;", "canonical form"),
        ("wechat:shop:openid:a;1", "canonical form"),
        ("wechat:shop:openid:a;0", "tenure"),
        ("wechat:shop:openid:a;02", "tenure"),
        ("wechat:shop:openid:a;٢", "tenure"),
        ("wechat:shop:openid:a;" + "9" * 5000, "tenure"),
        ("wechat:shop:openid:a;2;3", "tenure"),
        ("wechat:shop:openid:" + "a" * (MAX_ID_CHARS + 1), "at most 512"),
    ],
)
def test_a_text_that_is_no_canonical_address_is_refused_with_the_reason(
    text: str, why: str
) -> None:
    with pytest.raises(AddressError, match=why):
        parse_address(text)


@pytest.mark.parametrize(
    "address",
    [
        Address(scheme="", kind="uid", id="1"),
        Address(scheme="weibo", kind="", id="1"),
        Address(scheme="weibo", kind="uid", id=""),
        Address(scheme="weibo", kind="uid", id="x" * (MAX_ID_CHARS + 1)),
        Address(scheme="weibo", kind="uid", id="1", tenure=0),
        Address(scheme="weibo", kind="uid", id="1", tenure=MAX_TENURE + 1),
        Address(scheme="weibo", kind="uid", id="\ud800"),
    ],
)
def test_an_address_that_cannot_be_written_is_refused(address: Address) -> None:
    with pytest.raises(AddressError):
        canonical(address)


@pytest.mark.parametrize(
    ("text", "ident"),
    [
        ("li@example.com", "li@example.com"),
        ("  Li@EXAMPLE.com\n", "li@example.com"),
        ("li+orders@example.com", "li+orders@example.com"),
        ("li@example.com.", "li@example.com"),
        ("li@localhost", "li@localhost"),
        ("li@mail_1.example.com", "li@mail_1.example.com"),
        ("李@例子.中国", "李@xn--fsqu00a.xn--fiqs8s"),
        ("li@例子。中国", "li@xn--fsqu00a.xn--fiqs8s"),
        ("li@XN--FSQU00A.xn--fiqs8s", "li@xn--fsqu00a.xn--fiqs8s"),
        ("li@ｅxample.com", "li@example.com"),
        ("re\u0301mi@example.com", "rémi@example.com"),
        ("a@straße.de", "a@xn--strae-oqa.de"),
        ("a@strasse.de", "a@strasse.de"),
        ("o'brien=x!#$%&*/?^`{|}~@example.com", "o'brien=x!#$%&*/?^`{|}~@example.com"),
    ],
)
def test_a_mailbox_has_one_form_whatever_its_letters(text: str, ident: str) -> None:
    assert mailbox(text) == Address(scheme="mail", kind="mailbox", id=ident)
    assert mailbox(ident).id == ident


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "li",
        "li@",
        "@example.com",
        "a@b@example.com",
        "<li@example.com>",
        "Li Lei <li@example.com>",
        "li lei@example.com",
        "a,b@example.com",
        "li\x00@example.com",
        "li\u202e@example.com",
        "\ud800@example.com",
        "li@\ud800.com",
        "li@.com",
        "li@.",
        "li@example..com",
        "li@-example.com",
        "li@exa mple.com",
        "li@example.com:25",
        "li@example.com/x",
        "li@[192.0.2.1]",
        "li@" + "a" * 64 + ".com",
        "li@" + "a." * 130 + "com",
        "l" * 510 + "@example.com",
        "李" * 10 + "@" + "中" * 60 + ".cn",
        "l" * 400 + "@" + "中文域名例子网络信息中心公司测试" * 1 + ".例子" * 20 + ".中国",
        "l" * 400 + "@" + ".".join(["安徽北京重庆福建甘肃广东广西贵州海南"] * 3),
    ],
)
def test_what_is_no_single_mailbox_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        mailbox(text)


_letters = st.characters(categories=("L", "N", "M"))


@given(
    st.text(_letters, min_size=1, max_size=8),
    st.lists(st.text(_letters, min_size=1, max_size=8), min_size=1, max_size=3),
)
def test_a_mailbox_is_its_own_mailbox_and_can_be_written(local: str, labels: list[str]) -> None:
    try:
        address = mailbox(f"{local}@{'.'.join(labels)}")
    except AddressError:
        return  # many of these domains are none
    assert mailbox(address.id) == address
    assert parse_address(canonical(address)) == address


@pytest.mark.parametrize(
    ("text", "e164"),
    [
        ("+8613800138000", "+8613800138000"),
        ("8613800138000", "+8613800138000"),
        ("13800138000", "+8613800138000"),
        ("0086 138 0013 8000", "+8613800138000"),
        ("008613800138000", "+8613800138000"),
        ("+86-138-0013-8000", "+8613800138000"),
        ("(+86) 138 0013 8000", "+8613800138000"),
        ("１３８００１３８０００", "+8613800138000"),
        ("＋８６　１３８　００１３　８０００", "+8613800138000"),
        ("\u202d13800138000\u202c", "+8613800138000"),
        ("tel:+8613800138000", "+8613800138000"),
        ("（021）5555-1234", "+862155551234"),
        ("010–6234 5678", "+861062345678"),
        ("+85291234567", "+85291234567"),
        ("+886912345678", "+886912345678"),
        ("+15005550006", "+15005550006"),
    ],
)
def test_a_persons_number_becomes_one_shared_address(text: str, e164: str) -> None:
    assert phone(text) == Address(scheme="tel", kind="e164", id=e164)


@pytest.mark.parametrize(
    "text",
    [
        # Short codes, hotlines and service ports: contracts/sms.md section 6.
        *("10086", "10000", "110", "12306", "95588", "９５５８８", "96110", "+8695588", "12345"),
        *(
            "021-95588",
            "010-10086",
            "0817-958190",
            "9500314375",
            "4008123123",
            "400-812-3123",
            "8008208820",
        ),
        *("106575258192144", "1069012345678", "１０６５７５２５８１９２１４４"),
        "+18005551212",
        # What stands for a withheld number: contracts/voice.md section 7.
        *("anonymous", "restricted", "unavailable", "unknown", "private", "blocked", ""),
        *("+266696687", "+86282452253", "+8656696", "+2562533", "+7378742833"),
        # Senders by name, other schemes, texts with a number in them.
        *("Apple", "My Shop", "client:agent_12", "sip:+8613800138000@example.com"),
        *("whatsapp:+85291234567", "call 13800138000", "1-800-FLOWERS", "+861380013800a"),
        *("021-62345678转8001", "13800138000 ext 5", "13800138000;ext=5", "13800138000x"),
        *("13800138000/13900139000", "138001380001", "+", "+++", "١", "\ud800", "\x00"),
        "1" * 10_000,
    ],
)
def test_what_is_no_persons_number_never_becomes_one(text: str) -> None:
    assert phone(text) is None


def test_the_region_decides_numbers_without_a_country() -> None:
    assert phone("91234567", "HK") == phone("+85291234567")
    assert phone("91234567", "CN") is None
    assert phone("13800138000", "XX") is None


_numbers = st.one_of(
    st.from_regex(r"(\+?86 ?)?1[3-9][0-9]{9}", fullmatch=True),
    st.from_regex(r"\+(852[569][0-9]{7}|1[2-9][0-9]{9}|49[1-9][0-9]{8})", fullmatch=True),
)


@given(_numbers, st.sampled_from(["CN", "HK", "US", "DE"]))
def test_a_canonical_number_is_its_own_number_in_every_region(text: str, region: str) -> None:
    address = phone(text, region)
    if address is not None:
        assert phone(address.id, "CN") == phone(address.id, "US") == address
        assert parse_address(canonical(address)) == address
