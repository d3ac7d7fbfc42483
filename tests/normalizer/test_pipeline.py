"""The steps together: what comes out can be stored, sent, shown and told apart."""

from __future__ import annotations

import sys
import time
import timeit
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import bson
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace

from normalizer.addresses import Address, canonical, mailbox
from normalizer.drafts import (
    Actor,
    Amendment,
    AmendmentKind,
    AnyDraft,
    Command,
    DeliveryState,
    Event,
    Evidence,
    Identity,
    Message,
    Outcome,
    Profile,
    Receipt,
    Sender,
    Target,
)
from normalizer.keys import dedupe_key
from normalizer.model import Role, Trust
from normalizer.parts import (
    AnyPart,
    Audio,
    Button,
    Calendar,
    Card,
    Extension,
    File,
    Form,
    Image,
    Link,
    Location,
    Media,
    QuickReplies,
    Text,
    Transcript,
    Unsupported,
    Video,
)
from normalizer.pipeline import MAX_PARTS, MAX_PARTS_BYTES, STEPS, StepContext, normalize
from tests.normalizer import strategies
from tests.normalizer.samples import FAN, MOBILE, NOON, SAMPLES, ZHANG

WECHAT = StepContext(channel="wechat", account="shop")
SMS = StepContext(channel="sms", account="main")
MAIL = StepContext(channel="mail", account="support")


def said(*parts: AnyPart, **fields: Any) -> Message:
    return Message(**({"key": "1", "address": FAN, "parts": parts} | fields))


def one(part: AnyPart) -> AnyPart:
    draft = normalize(said(part), WECHAT)
    assert isinstance(draft, Message)
    (only,) = draft.parts
    return only


# --- the whole -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_in_which_nothing_is_wrong_is_handed_on_as_the_same_object(name: str) -> None:
    channel, account, draft = SAMPLES[name]
    for step in STEPS:
        assert step(draft, StepContext(channel=channel, account=account)) == draft
    if not name.startswith("mail.1"):  # its profile is written anew, equal
        assert normalize(draft, StepContext(channel=channel, account=account)) is draft


@given(strategies.draft)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_draft_comes_out_storable_and_normalizing_it_again_changes_nothing(
    draft: AnyDraft,
) -> None:
    normal = normalize(draft, SMS)
    assert type(normal) is type(draft)
    assert normalize(normal, SMS) == normal
    stored = msgspec.to_builtins(normal, builtin_types=(datetime,))
    again = bson.decode(bson.encode(stored), bson.CodecOptions(tz_aware=True, tzinfo=UTC))
    assert msgspec.convert(again, AnyDraft) == normal  # type: ignore[arg-type]
    sent = msgspec.json.encode(normal)
    assert msgspec.json.decode(sent, type=AnyDraft) == normal  # type: ignore[arg-type]


def test_the_common_case_costs_a_few_microseconds() -> None:
    """The bar is 6 us on a quiet machine; 60 leave room for a busy one, not for another order."""
    if sys.gettrace() is not None:
        pytest.skip("a tracer is watching every line: this would measure the tracer")
    draft = said(Text(text="hello, is this still available?"), at=NOON, vendor_ids=("1",))
    rounds = timeit.repeat(
        lambda: normalize(draft, WECHAT), timer=time.process_time, number=500, repeat=5
    )
    assert min(rounds) / 500 < 60e-6


def test_steps_run_in_the_order_given_and_can_be_others() -> None:
    def marked(mark: str) -> Any:
        return lambda draft, context: replace(draft, key=f"{draft.key}{mark}{context.channel}")

    draft = normalize(said(Text(text="\x00")), WECHAT, (marked("a:"), marked("|b:")))
    assert draft == said(Text(text="\x00"), key="1a:wechat|b:wechat")
    assert normalize(draft, WECHAT, ()) is draft


def test_drafts_and_contexts_cannot_be_changed_in_place() -> None:
    with pytest.raises((AttributeError, FrozenInstanceError)):
        WECHAT.channel = "sms"  # type: ignore[misc]
    with pytest.raises((AttributeError, FrozenInstanceError)):
        said().key = "2"  # type: ignore[misc]


# --- identifiers and times -------------------------------------------------------------------


def test_keys_that_differ_in_what_cannot_be_encoded_stay_different() -> None:
    keys = {
        dedupe_key("wechat", "shop", normalize(said(key=key), WECHAT))
        for key in ("\ud800", "\ud801", "\ufffd", "\udc00")
    }
    assert len(keys) == 4
    assert all(key.encode() for key in keys)


def test_vendors_ids_are_kept_as_they_are_but_encodable() -> None:
    draft = normalize(
        said(thread=" T\x00", reply_to="<a\ud800@b>", vendor_ids=("<A B>", "\ud800")), WECHAT
    )
    assert isinstance(draft, Message)
    assert (draft.thread, draft.reply_to) == (" T\x00", "<a\\ud800@b>")
    assert draft.vendor_ids == ("<A B>", "\\ud800")


@pytest.mark.parametrize(
    ("at", "kept"),
    [
        (None, None),
        (NOON, NOON),
        (datetime(2023, 11, 15, 6, 13, 20, tzinfo=timezone(timedelta(hours=8))), NOON),
        (NOON.replace(microsecond=123_999), NOON.replace(microsecond=123_000)),
        (datetime(2023, 11, 14), None),  # noqa: DTZ001 - a vendor's time without a zone
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=8))), None),
    ],
)
def test_times_are_utc_in_milliseconds_or_unknown(
    at: datetime | None, kept: datetime | None
) -> None:
    normal = normalize(said(at=at), WECHAT)
    assert normal.at == kept
    if normal.at is not None:
        assert normal.at.tzinfo is UTC


@pytest.mark.parametrize(("seq", "kept"), [(None, None), (3, 3), (2**63, None), (-(2**70), None)])
def test_a_sequence_number_that_cannot_be_stored_is_dropped(
    seq: int | None, kept: int | None
) -> None:
    target = Target(vendor_id="CA11\ud800", up_to_seq=seq)
    step = Amendment(key="1", target=target, kind=AmendmentKind.CALL, seq=seq)
    read = Receipt(key="1", target=target, state=DeliveryState.READ, seq=seq, code="\ud800")
    for draft in (normalize(step, SMS), normalize(read, SMS)):
        assert isinstance(draft, Amendment | Receipt)
        assert draft.seq == draft.target.up_to_seq == kept
        assert draft.target.vendor_id == "CA11\\ud800"
        if isinstance(draft, Receipt):
            assert draft.code == "\\ud800"


# --- texts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "cleaned"),
    [
        (Text(text="a\r\n\u202eb", format="html"), Text(text="a\nb")),
        (Text(text="**a**", format="md-lite"), Text(text="**a**", format="md-lite")),
        (
            Text(text="", quoted="\x00> a", source="a\nsr"),
            Text(text="", quoted="> a", source="a sr"),
        ),
        (
            Audio(media=Media(), transcript=Transcript(text="\x00好", by="ven\ndor")),
            Audio(media=Media(), transcript=Transcript(text="好", by="ven dor")),
        ),
        (
            Location(lat=31.2, lon=121.4, label="a\nb", datum="gcj02\n"),
            Location(lat=31.2, lon=121.4, label="a b", datum="gcj02"),
        ),
        (Location(lat=-90, lon=180), Location(lat=-90, lon=180)),
        (Location(lat=91, lon=0, label="家"), Unsupported(what="location", text="家")),
        (Location(lat=0, lon=-181), Unsupported(what="location")),
        (Location(lat=float("nan"), lon=0), Unsupported(what="location")),
        (Location(lat=0, lon=float("inf")), Unsupported(what="location")),
        (
            Card(title="a\nb", text="\x00", buttons=(Button(label="c\nd", value="\x00e"),)),
            Card(title="a b", buttons=(Button(label="c d", value="e"),)),
        ),
        (
            QuickReplies(replies=tuple(Button(label=str(n)) for n in range(60))),
            QuickReplies(replies=tuple(Button(label=str(n)) for n in range(50))),
        ),
        (
            Form(fields=({"$name": "a\x00"},), answers={"a.b": "c\x00"}),
            Form(fields=({"＄name": "a"},), answers={"a．b": "c"}),
        ),
        (Form(fields=({"n": 1},) * 60), Form(fields=({"n": 1},) * 50)),
        (
            Calendar(method="RE\nQUEST", summary="\x00安装", start="x\n", organizer="\u202ey"),
            Calendar(method="RE QUEST", summary="安装", start="x", organizer="y"),
        ),
        (Unsupported(what="a\nb", text="\x00c"), Unsupported(what="a b", text="c")),
        (
            Extension(name="acme\n.coupon", fallback="\x00ten", data={"": 2**64}),
            Extension(name="acme .coupon", fallback="ten", data={"_": "18446744073709551616"}),
        ),
    ],
)
def test_every_text_of_every_part_is_cleaned(part: AnyPart, cleaned: AnyPart) -> None:
    assert one(part) == cleaned
    assert one(cleaned) == cleaned


def test_names_subjects_and_reasons_are_single_lines() -> None:
    draft = normalize(
        said(
            subject="Hi\r\nBcc: a@b.c",
            event="menu\n.option",
            sender=Sender(role=Role.AGENT, name="小\n李", ref="7\ud800"),
            profile=Profile(
                name="张\u202e三" + "x" * 300,
                locale="zh\nCN",
                avatar="https://example.com/a.png",
                attributes={"a.b": "\x00c"},
            ),
        ),
        WECHAT,
    )
    assert isinstance(draft, Message)
    assert draft.sender is not None
    assert draft.profile is not None
    assert (draft.subject, draft.event) == ("Hi Bcc: a@b.c", "menu .option")
    assert (draft.sender.name, draft.sender.ref) == ("小 李", "7\\ud800")
    assert draft.profile.name == "张三" + "x" * 197 + "…"
    assert draft.profile.locale == "zh CN"
    assert draft.profile.attributes == {"a．b": "c"}

    event = normalize(Event(key="1", address=FAN, name="a\nb", text="c\r\nd"), WECHAT)
    assert event == Event(key="1", address=FAN, name="a b", text="c\nd")

    recall = Amendment(
        key="1", target=Target(), kind=AmendmentKind.RECALL, by=Sender(name="小\n李", ref="\ud800")
    )
    recalled = normalize(recall, WECHAT)
    assert isinstance(recalled, Amendment)
    assert recalled.by == Sender(name="小 李", ref="\\ud800")

    receipt = normalize(
        Receipt(key="1", target=Target(), state=DeliveryState.FAILED, reason="user\r\nblocked"),
        WECHAT,
    )
    assert isinstance(receipt, Receipt)
    assert receipt.reason == "user blocked"


def test_commands_evidence_and_outcomes_are_cleaned_as_well() -> None:
    command = normalize(
        Command(
            key="1",
            name="no\nte",
            actor=Actor(kind="ag\nent", id="7\ud800", name="小\n李"),
            args={"text": "a\x00\r\nb", "$x": 1},
        ),
        SMS,
    )
    assert command == Command(
        key="1",
        name="no te",
        actor=Actor(kind="ag ent", id="7\\ud800", name="小 李"),
        args={"text": "a\nb", "＄x": 1},
    )
    identity = normalize(
        Identity(
            key="1",
            address=FAN,
            same_as=MOBILE,
            trust=Trust.ATTESTED,
            evidence=Evidence(kind="co\nde", ref="\ud800", note="a\r\nb"),
            role_event="contact\n.identified",
        ),
        SMS,
    )
    assert isinstance(identity, Identity)
    assert identity.evidence == Evidence(kind="co de", ref="\\ud800", note="a\nb")
    assert identity.role_event == "contact .identified"
    outcome = normalize(
        Outcome(
            key="1", job="job\ud800", kind="send", entry="ent\ud800", result={"reason": "\x00x"}
        ),
        SMS,
    )
    assert outcome == Outcome(
        key="1", job="job\\ud800", kind="send", entry="ent\\ud800", result={"reason": "x"}
    )


# --- data ------------------------------------------------------------------------------------


def test_data_of_messages_and_events_fits_json_and_bson() -> None:
    message = normalize(said(data={"$a": "b\x00"}), WECHAT)
    event = normalize(Event(key="1", address=FAN, name="x", data={"a.b": 2**64}), WECHAT)
    assert isinstance(message, Message)
    assert isinstance(event, Event)
    assert message.data == {"＄a": "b"}
    assert event.data == {"a．b": str(2**64)}


@pytest.mark.parametrize("as_structs", [True, False])
def test_the_parts_of_an_edit_and_of_a_reply_pass_the_steps_of_a_message(
    as_structs: bool,
) -> None:
    parts: Any = (
        Text(text="a\r\n\u202eb"),
        Link(url="javascript:alert(1)", title="click"),
        File(media=Media(name="../x.pdf", mime="PDF")),
    )
    if not as_structs:
        parts = msgspec.to_builtins(parts)
    cleaned = [
        {"type": "text", "text": "a\nb"},
        {"type": "text", "text": "click\njavascript:alert(1)"},
        {"type": "file", "media": {"name": "x.pdf", "mime": "application/octet-stream"}},
    ]
    edit = normalize(
        Amendment(key="1", target=Target(), kind=AmendmentKind.EDIT, data={"parts": parts}), SMS
    )
    reply = normalize(
        Command(key="1", name="reply", actor=Actor(kind="agent"), args={"parts": parts}), SMS
    )
    assert isinstance(edit, Amendment)
    assert isinstance(reply, Command)
    assert edit.data["parts"] == reply.args["parts"] == cleaned


def test_the_media_of_a_finished_download_is_cleaned_and_nothing_else_of_that_name() -> None:
    def fetched(value: Any) -> Any:
        data = {"index": 0, "media": value}
        draft = Amendment(key="1", target=Target(), kind=AmendmentKind.MEDIA, data=data)
        normal = normalize(draft, SMS)
        assert isinstance(normal, Amendment)
        return normal.data["media"]

    assert fetched(Media(name="../a", size=-1)) == {"name": "a"}
    assert fetched({"name": "../a", "mime": "IMAGE/png"}) == {"name": "a", "mime": "image/png"}
    assert fetched({"name": "../a", "colour": "red"}) == {"name": "../a", "colour": "red"}
    assert fetched("print\x00") == "print"


# --- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "address", "text"),
    [
        (WECHAT, FAN, "wechat:shop:openid:oHubUser0001"),
        (
            WECHAT,
            Address(scheme="wechat", account="shop", kind="openid", id=" oHub_User-1\n"),
            "wechat:shop:openid:oHub_User-1",
        ),
        (
            MAIL,
            Address(scheme="mail", account="support", kind="mailbox", id=" Li@EXAMPLE.com "),
            "mail::mailbox:li@example.com",
        ),
        (
            MAIL,
            Address(scheme="mail", kind="mailbox", id="undisclosed recipients"),
            "mail:support:sender:undisclosed%20recipients",
        ),
        (
            MAIL,
            Address(scheme="mail", account="support", kind="unverified", id="li@example.com"),
            "mail:support:unverified:li@example.com",
        ),
        (
            SMS,
            Address(scheme="tel", kind="e164", id="１３８００１３８０００"),
            "tel::e164:+8613800138000",
        ),
        (
            SMS,
            Address(scheme="tel", kind="e164", id="138 0013 8000", tenure=2),
            "tel::e164:+8613800138000;2",
        ),
        (SMS, Address(scheme="tel", kind="e164", id="10086"), "sms:main:sender:10086"),
        (SMS, Address(scheme="tel", kind="e164", id="My Shop"), "sms:main:sender:My%20Shop"),
        (
            SMS,
            Address(scheme="tel", account="second", kind="e164", id="95588"),
            "sms:second:sender:95588",
        ),
        (
            SMS,
            Address(scheme="tel", account="second", kind="e164", id="+8613800138000"),
            "tel::e164:+8613800138000",
        ),
        (
            StepContext(channel="sms", default_region="HK"),
            Address(scheme="tel", kind="e164", id="91234567"),
            "tel::e164:+85291234567",
        ),
        (
            WECHAT,
            Address(scheme="wechat", account="shop", kind="openid", id="o\ud800"),
            "wechat:shop:openid:o%5Cud800",
        ),
    ],
)
def test_every_address_of_a_draft_gets_its_canonical_form(
    context: StepContext, address: Address, text: str
) -> None:
    sender = Sender(address=address)
    message = normalize(said(address=address, sender=sender), context)
    event = normalize(Event(key="1", address=address, name="x"), context)
    identity = normalize(
        Identity(
            key="1",
            address=address,
            same_as=address,
            trust=Trust.SEEN,
            evidence=Evidence(kind="x"),
        ),
        context,
    )
    step = normalize(
        Amendment(key="1", target=Target(), kind=AmendmentKind.CALL, address=address, by=sender),
        context,
    )
    read = normalize(
        Receipt(key="1", target=Target(), state=DeliveryState.READ, address=address), context
    )
    assert isinstance(message, Message)
    assert isinstance(event, Event)
    assert isinstance(identity, Identity)
    assert isinstance(step, Amendment)
    assert isinstance(read, Receipt)
    assert message.sender is not None
    assert step.by is not None
    found = [
        *(message.address, message.sender.address, event.address, identity.address),
        *(identity.same_as, step.address, step.by.address, read.address),
    ]
    assert {canonical(one) for one in found if one is not None} == {text}
    assert None not in found


def test_a_literal_sender_that_is_too_long_is_shortened_and_stays_itself() -> None:
    def sent_by(name: str) -> Address:
        draft = normalize(said(address=Address(scheme="tel", kind="e164", id=name)), SMS)
        assert isinstance(draft, Message)
        return draft.address

    one, other = sent_by("x" * 600), sent_by("x" * 600 + "y")
    assert canonical(one) != canonical(other)
    assert one.id.startswith("x" * 400 + "~")
    again = normalize(said(address=one), SMS)
    assert isinstance(again, Message)
    assert again.address == one


@pytest.mark.parametrize(
    ("claimed", "kept"),
    [
        (("Li@EXAMPLE.com", "138 0013 8000"), ("li@example.com", "+8613800138000")),
        (("li at example", "ask\nme"), ("li at example", "ask me")),
        (("", ""), ("", "")),
        (("a@b@c\x00", "10086"), ("a@b@c", "10086")),
    ],
)
def test_a_profiles_claims_are_canonical_or_kept_as_they_were_written(
    claimed: tuple[str, str], kept: tuple[str, str]
) -> None:
    profile = Profile(mailbox=claimed[0], phone=claimed[1])
    for draft in (said(profile=profile), Event(key="1", address=FAN, name="x", profile=profile)):
        normal = normalize(draft, WECHAT)
        assert isinstance(normal, Message | Event)
        assert normal.profile is not None
        assert (normal.profile.mailbox, normal.profile.phone) == kept


# --- media and links -------------------------------------------------------------------------

_BAD, _GOOD = Media(name="../a.png", size=-1), Media(name="a.png")
_JS = "javascript:alert(1)"


@pytest.mark.parametrize(
    ("part", "cleaned"),
    [
        (Image(media=_BAD), Image(media=_GOOD)),
        (Audio(media=_BAD), Audio(media=_GOOD)),
        (File(media=_BAD), File(media=_GOOD)),
        (Video(media=_BAD, thumbnail=_BAD), Video(media=_GOOD, thumbnail=_GOOD)),
        (Image(media=Media(vendor_ref="m-1")), Image(media=Media(vendor_ref="m-1"))),
        (Link(url="https://example.com"), Link(url="https://example.com")),
        (Link(url=" https://example.com/ "), Link(url="https://example.com/")),
        (Link(url=_JS, title="点我", text="好"), Text(text=f"点我\n好\n{_JS}")),
        (Link(url=""), Text(text="")),
        (
            Card(title="a", image=_BAD, buttons=(Button(label="b", url=_JS, value="v"),)),
            Card(title="a", image=_GOOD, buttons=(Button(label=f"b ({_JS})", value="v"),)),
        ),
        (
            QuickReplies(replies=(Button(label="b", url="tel:10086\n"), Button(label="c"))),
            QuickReplies(replies=(Button(label="b", url="tel:10086"), Button(label="c"))),
        ),
    ],
)
def test_files_and_links_of_every_part_are_safe_and_bad_links_stay_readable(
    part: AnyPart, cleaned: AnyPart
) -> None:
    assert one(part) == cleaned
    assert one(cleaned) == cleaned


@pytest.mark.parametrize(
    ("avatar", "kept"),
    [("https://example.com/a.png", "https://example.com/a.png"), (_JS, ""), ("/a.png", "")],
)
def test_an_avatar_is_a_link_to_the_web_or_none(avatar: str, kept: str) -> None:
    profile = Profile(name="张三", avatar=avatar)
    drafts: list[AnyDraft] = [
        said(profile=profile),
        Event(key="1", address=FAN, name="x", profile=profile),
        Identity(
            key="1",
            address=FAN,
            same_as=ZHANG,
            trust=Trust.SEEN,
            evidence=Evidence(kind="x"),
            profile=profile,
        ),
    ]
    for draft in drafts:
        normal = normalize(draft, WECHAT)
        assert isinstance(normal, Message | Event | Identity)
        assert normal.profile == Profile(name="张三", avatar=kept)


# --- limits ----------------------------------------------------------------------------------


def test_a_hundred_parts_are_kept_and_more_are_counted() -> None:
    whole = said(*(Text(text=str(n)) for n in range(MAX_PARTS)))
    assert normalize(whole, WECHAT) is whole
    draft = normalize(said(*(Text(text=str(n)) for n in range(MAX_PARTS + 7))), WECHAT)
    assert isinstance(draft, Message)
    assert len(draft.parts) == MAX_PARTS
    assert draft.parts[:-1] == whole.parts[:-1]
    assert draft.parts[-1] == Unsupported(what="parts", text="[8 more parts]")
    assert normalize(draft, WECHAT) is draft


def test_parts_are_bounded_in_size_together() -> None:
    """Each part is within its own bound, and all of them would not fit into one document."""
    draft = normalize(said(*[Text(text="字" * 65_000, quoted="字" * 65_000)] * 60), WECHAT)
    assert isinstance(draft, Message)
    assert 9 < len(draft.parts) < 20
    assert draft.parts[-1] == Unsupported(
        what="parts", text=f"[{61 - len(draft.parts)} more parts]"
    )
    assert len(msgspec.json.encode(draft)) < MAX_PARTS_BYTES + 1000
    assert normalize(draft, WECHAT) is draft


def test_the_pipeline_agrees_with_what_connectors_make_themselves() -> None:
    """A connector may call `mailbox` and `phone`, or leave it to the pipeline: same address."""
    raw = normalize(said(address=Address(scheme="mail", kind="mailbox", id="ZS@QQ.com")), MAIL)
    assert isinstance(raw, Message)
    assert raw.address == mailbox("zs@qq.com") == ZHANG
