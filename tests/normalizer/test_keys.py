"""Dedupe keys: equal for the same thing told twice, and for nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.addresses import Address, AddressError
from normalizer.drafts import (
    Actor,
    AnyDraft,
    Command,
    Event,
    Message,
    Outcome,
    Scope,
    Sender,
)
from normalizer.keys import KeyMissing, dedupe_key
from normalizer.model import Direction, Role
from normalizer.parts import Text
from normalizer.pipeline import StepContext, normalize
from tests.normalizer.golden_file import golden
from tests.normalizer.samples import FAN, MOBILE, SAMPLES, WEIBO, ZHANG

OTHER_FAN = Address(scheme="wechat", account="shop", kind="openid", id="oHubUser0002")


@pytest.mark.parametrize("name", SAMPLES)
def test_the_key_of_a_sheets_sample_is_the_frozen_one(name: str) -> None:
    channel, account, draft = SAMPLES[name]
    assert dedupe_key(channel, account, draft) == golden("dedupe_keys")[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_normalizing_leaves_the_key_of_a_sample_alone(name: str) -> None:
    channel, account, draft = SAMPLES[name]
    normal = normalize(draft, StepContext(channel=channel, account=account))
    assert dedupe_key(channel, account, normal) == golden("dedupe_keys")[name]


def test_every_line_of_the_golden_file_is_checked_and_no_two_are_equal() -> None:
    frozen = golden("dedupe_keys")
    assert frozen.keys() == SAMPLES.keys()
    assert len(set(frozen.values())) == len(frozen)


def said(key: str, address: Address = FAN, scope: Scope = Scope.SENDER) -> Message:
    return Message(key=key, address=address, scope=scope, parts=(Text(text="在吗"),))


def test_the_same_vendor_id_from_another_sender_is_another_message() -> None:
    assert dedupe_key("wechat", "shop", said("1")) != dedupe_key(
        "wechat", "shop", said("1", OTHER_FAN)
    )


def test_the_same_vendor_id_on_another_account_or_channel_is_another_message() -> None:
    keys = {
        dedupe_key(channel, account, said("1", MOBILE, scope))
        for channel in ("sms", "ivr")
        for account in ("main", "second")
        for scope in (Scope.SENDER, Scope.ACCOUNT)
    }
    assert len(keys) == 8


def test_two_events_of_one_second_with_different_event_keys_are_two() -> None:
    def clicked(event_key: str) -> Event:
        key = f"evt:oHubUser0001:1700000060:CLICK:{event_key}"
        return Event(key=key, address=FAN, name="menu.clicked")

    first, second = clicked("HELP"), clicked("ORDERS")
    assert dedupe_key("wechat", "shop", first) != dedupe_key("wechat", "shop", second)
    assert dedupe_key("wechat", "shop", first) == dedupe_key("wechat", "shop", clicked("HELP"))


def test_account_scope_makes_one_of_two_senders() -> None:
    one, other = (said("1", address, Scope.ACCOUNT) for address in (FAN, OTHER_FAN))
    assert dedupe_key("wechat", "shop", one) == dedupe_key("wechat", "shop", other)
    assert dedupe_key("wechat", "shop", one) != dedupe_key("wechat", "shop-2", one)


def test_channel_scope_makes_one_mail_of_two_boxes() -> None:
    mail = said("mid:<1@qq.com>:ab", ZHANG, Scope.CHANNEL)
    assert dedupe_key("mail", "support", mail) == dedupe_key("mail", "sales", mail)
    assert dedupe_key("mail", "support", mail) != dedupe_key("sms", "support", mail)


@given(st.text("a|%7C:", min_size=1, max_size=8), st.text("a|%7C:", min_size=1, max_size=8))
def test_no_text_of_a_key_or_an_account_reaches_into_another_scope(key: str, account: str) -> None:
    """A stranger who writes the Message-ID must not be able to occupy another's key."""
    keys = [
        dedupe_key("mail", "a", said(key, ZHANG, Scope.CHANNEL)),
        dedupe_key("mail", account, said(key, ZHANG, Scope.ACCOUNT)),
        dedupe_key("mail", account, said(key, ZHANG)),
        dedupe_key("mail", f"{account}|", said(key, ZHANG, Scope.ACCOUNT)),
        dedupe_key("mail", f"{account}%7C", said(key, ZHANG, Scope.ACCOUNT)),
        dedupe_key("mail", "a", said(f"{account}||{key}", ZHANG, Scope.CHANNEL)),
    ]
    assert len(set(keys)) == len(keys)


def test_the_sender_of_an_agents_mail_is_part_of_its_key_not_the_customer() -> None:
    agent = Address(scheme="mail", kind="mailbox", id="agent@example.com")
    sent = Message(
        key="1",
        address=ZHANG,
        parts=(),
        direction=Direction.OUT,
        sender=Sender(role=Role.AGENT, address=agent),
    )
    assert (
        dedupe_key("mail", "support", sent)
        == "entry|mail|support|mail::mailbox:agent@example.com|1"
    )
    unnamed = Message(key="1", address=ZHANG, parts=(), sender=Sender(role=Role.AGENT))
    assert dedupe_key("mail", "support", unnamed) == "entry|mail|support|mail::mailbox:zs@qq.com|1"


@pytest.mark.parametrize(
    ("draft", "key"),
    [
        (Command(key="k", name="note", actor=Actor(kind="agent")), "command|api|hub||k"),
        (Outcome(key="k", job="job_1", kind="send"), "outcome|api|hub||k"),
        (said("k", WEIBO), "entry|api|hub|weibo:shop:uid:5550001234|k"),
    ],
)
def test_things_without_a_sender_leave_its_field_empty(draft: AnyDraft, key: str) -> None:
    assert dedupe_key("api", "hub", draft) == key


def test_a_draft_without_a_key_is_refused_with_the_channels_name() -> None:
    with pytest.raises(KeyMissing, match="entry draft of channel wechat"):
        dedupe_key("wechat", "shop", said(""))


def test_a_draft_from_a_broken_address_is_refused() -> None:
    with pytest.raises(AddressError):
        dedupe_key("wechat", "shop", said("1", Address(scheme="wechat", kind="openid", id="")))
