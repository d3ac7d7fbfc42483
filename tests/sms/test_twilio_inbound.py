"""What Twilio posts and what becomes of it: the contract's samples and its edge cases by number."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from connectors.sms.twilio_inbound import STATES
from hub import Refused
from hub.testing.clock import FakeClock
from normalizer.addresses import canonical
from normalizer.drafts import AnyDraft, DeliveryState, Event, Message, Receipt
from normalizer.keys import dedupe_key
from normalizer.parts import Audio, File, Image, Location, MediaState, Text, Unsupported, Video
from normalizer.pipeline import StepContext, normalize
from tests.sms.fake_twilio import NUMBER, SID
from tests.sms.making import pairs, posted, said, twilio
from tests.twilio.signing import sign

SAMPLE_1 = (
    b"AccountSid=AC00000000000000000000000000000001&Body=%E4%BD%A0%E5%A5%BD%F0%9F%98%80+%E9%80%80"
    b"%E8%AE%A2%3F&From=%2B85291234567&FromCity=&MessageSid=SM00000000000000000000000000000001"
    b"&NumMedia=0&To=%2B15005550006"
)
MEDIA = f"https://api.twilio.com/2010-04-01/Accounts/{SID}/Messages/MM1/Media/ME"


def got(**fields: str) -> list[AnyDraft]:
    connector = twilio()
    form = {
        "AccountSid": SID,
        "MessageSid": "SM" + "2" * 32,
        "From": "+8613800138000",
        "To": NUMBER,
        "Body": "",
        "NumMedia": "0",
        **fields,
    }
    return said(connector, posted(connector, form))


def one(**fields: str) -> AnyDraft:
    (draft,) = got(**fields)
    return draft


# --- the samples of the contract -----------------------------------------------------------------


def test_sample_1_a_text_with_more_than_the_word() -> None:
    connector = twilio()
    (draft,) = said(connector, posted(connector, SAMPLE_1))
    assert isinstance(draft, Message)
    assert draft.parts == (Text(text="你好😀 退订?"),)
    assert canonical(draft.address) == "tel::e164:+85291234567"
    assert draft.thread == "+15005550006"
    assert draft.key == (
        "twilio:AC00000000000000000000000000000001:SM00000000000000000000000000000001"
    )
    assert draft.at is None, "Twilio gives no time: it is when we received it"


def test_sample_2_stop_is_an_event_of_this_number() -> None:
    draft = one(Body="STOP", OptOutType="STOP")
    assert isinstance(draft, Event)
    assert draft.name == "contact.opted_out"
    assert draft.data["scope"] == NUMBER


def test_sample_3_a_picture_without_words() -> None:
    draft = one(NumMedia="1", MediaUrl0=f"{MEDIA}1", MediaContentType0="image/jpeg")
    assert isinstance(draft, Message)
    (part,) = draft.parts
    assert isinstance(part, Image)
    assert (part.media.vendor_ref, part.media.mime) == (f"{MEDIA}1", "image/jpeg")
    assert part.media.state is MediaState.PENDING


def test_sample_4_a_landline_is_a_permanent_failure() -> None:
    draft = one(MessageSid="SM" + "9" * 32, MessageStatus="undelivered", ErrorCode="30006")
    assert isinstance(draft, Receipt)
    assert draft.target.vendor_id == "SM" + "9" * 32
    assert (draft.state, draft.code, draft.permanent) == (DeliveryState.FAILED, "30006", True)
    assert "landline" in draft.reason


# --- edge cases by their numbers -----------------------------------------------------------------


def test_edge_1_parts_that_come_joined_are_one_message() -> None:
    draft = one(Body="长" * 300, NumSegments="5")
    assert isinstance(draft, Message)
    assert draft.parts == (Text(text="长" * 300),)


def test_edge_2_the_same_words_twice_are_two_messages() -> None:
    connector = twilio()
    first, second = (one(Body="yes please", MessageSid=f"SM{n:032d}") for n in (1, 2))
    keys = {dedupe_key("sms", connector.account.key, draft) for draft in (first, second)}
    assert len(keys) == 2


def test_edge_3_three_files_without_words_are_one_message_of_three_parts() -> None:
    files = {f"MediaUrl{n}": f"{MEDIA}{n}" for n in range(3)}
    draft = one(Body="", NumMedia="3", **files)
    assert isinstance(draft, Message)
    assert len(draft.parts) == 3


def test_edge_4_a_receipt_names_the_message_and_not_an_order_of_arrival() -> None:
    """The hub keeps it until the send has said its id: see tests/sms/test_end_to_end.py."""
    draft = one(MessageStatus="delivered")
    assert isinstance(draft, Receipt)
    assert draft.target.vendor_id == "SM" + "2" * 32
    assert draft.address is None


@pytest.mark.parametrize("sender", ["ACME", "", "10086", "12345", "anonymous"])
def test_edge_5_who_has_no_number_is_kept_apart(sender: str) -> None:
    draft = one(From=sender, Body="hi")
    assert isinstance(draft, Message)
    assert (draft.address.scheme, draft.address.account) == ("sms", "main")


def test_edge_6_a_text_to_a_shared_code_is_a_message_whatever_its_first_word() -> None:
    """Routing decides by the words and by `to`; what matches nothing goes the default way."""
    draft = one(Body="ACME hours?", To="12345")
    assert isinstance(draft, Message)
    assert draft.data["to"] == "12345"
    assert draft.thread == "12345"


@pytest.mark.parametrize(
    ("mime", "kind"),
    [
        ("text/vcard", File),
        ("audio/amr", Audio),
        ("application/pdf", File),
        ("image/gif", Image),
        ("video/3gpp", Video),
        ("IMAGE/PNG", Image),
        ("", File),
        ("nonsense", File),
    ],
)
def test_edge_7_each_type_of_file_is_a_part_of_its_kind(mime: str, kind: type) -> None:
    draft = one(NumMedia="1", MediaUrl0=f"{MEDIA}1", MediaContentType0=mime)
    assert isinstance(draft, Message)
    assert isinstance(draft.parts[0], kind)


def test_edge_8_control_characters_break_neither_the_answer_nor_the_timeline() -> None:
    connector = twilio()
    form = {"MessageSid": "SM1", "From": "+8613800138000", "To": NUMBER, "Body": "a\x00b\x0bc<&]]>"}
    verified = connector.verify(posted(connector, form))
    (draft,) = connector.parse(verified)
    clean = normalize(draft, StepContext(channel="sms", account="main"))
    assert isinstance(clean, Message)
    assert isinstance(clean.parts[0], Text)
    assert "\x00" not in clean.parts[0].text
    assert clean.parts[0].text.endswith("c<&]]>")
    answer = connector.answer(verified, (draft,), FakeClock())
    assert answer.body == b'<?xml version="1.0" encoding="UTF-8"?><Response />'
    assert answer.content_type.startswith("text/xml")


def test_edge_10_one_person_by_two_ways_is_one_contact_with_two_threads() -> None:
    plain = one(Body="hi")
    other = one(
        From="whatsapp:+8613800138000", To=f"whatsapp:{NUMBER}", Body="hi", ProfileName="李"
    )
    assert isinstance(plain, Message)
    assert isinstance(other, Message)
    assert plain.address == other.address
    assert plain.thread != other.thread
    assert other.profile is not None
    assert other.profile.name == "李"
    assert other.data == {"to": NUMBER, "via": "whatsapp"}


# --- words, receipts, odd things -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "told", "names"),
    [
        ("STOP", "", ["contact.opted_out"]),
        ("退订", "", ["contact.opted_out"]),
        ("TD", "", ["contact.opted_out"]),
        ("START", "", ["contact.opted_in"]),
        ("UNSTOP", "START", ["contact.opted_in"]),
        ("YES", "", ["", "contact.opted_in"]),  # it answers questions as well
        ("YES", "START", ["", "contact.opted_in"]),
        ("ARRÊT", "STOP", ["contact.opted_out"]),  # Twilio knows words that we do not
        ("HELP", "HELP", [""]),
        ("INFO", "", [""]),
        ("STOP", "HELP", [""]),  # what Twilio says comes first
        ("Stop calling", "", [""]),
    ],
)
def test_a_wish_is_an_event_and_everything_else_a_message(
    body: str, told: str, names: list[str]
) -> None:
    fields = {"Body": body, **({"OptOutType": told} if told else {})}
    drafts = got(**fields)
    assert [draft.name if isinstance(draft, Event) else "" for draft in drafts] == names
    assert len({dedupe_key("sms", "main", draft) for draft in drafts}) == len(drafts)


@pytest.mark.parametrize(("word", "expected"), STATES.items())
def test_each_status_has_its_state_and_rank(word: str, expected: tuple[DeliveryState, int]) -> None:
    draft = one(MessageStatus=word)
    assert isinstance(draft, Receipt)
    assert (draft.state, draft.seq) == expected
    assert draft.key == f"twilio:SM{'2' * 32}:{word}"


def test_a_status_that_nobody_knows_yet_says_no_more_than_accepted() -> None:
    draft = one(MessageStatus="teleported")
    assert isinstance(draft, Receipt)
    assert (draft.state, draft.seq) == (DeliveryState.ACCEPTED, 0)


@pytest.mark.parametrize(
    ("code", "permanent"), [("30003", False), ("30008", False), ("30007", True), ("39999", True),
                            ("", False), ("x", False), ("9" * 30, False)],
)  # fmt: skip
def test_a_failure_says_whether_it_is_worth_another_try(code: str, permanent: bool) -> None:
    draft = one(MessageStatus="failed", ErrorCode=code)
    assert isinstance(draft, Receipt)
    assert draft.permanent is permanent
    assert draft.reason


def test_a_receipt_that_tells_of_an_opt_out_tells_it_of_the_person() -> None:
    receipt, event = got(
        MessageStatus="failed", ErrorCode="21610", From=NUMBER, To="+8613800138000"
    )
    assert isinstance(receipt, Receipt)
    assert isinstance(event, Event)
    assert canonical(event.address) == "tel::e164:+8613800138000"
    assert (event.name, event.data["scope"]) == ("contact.opted_out", NUMBER)


def test_a_receipt_is_answered_with_nothing() -> None:
    connector = twilio()
    verified = connector.verify(
        posted(connector, {"MessageSid": "SM1", "MessageStatus": "sent"}, "/status")
    )
    answer = connector.answer(verified, connector.parse(verified), FakeClock())
    assert (answer.status, answer.body) == (200, b"")


def test_former_names_of_the_id_are_read_and_none_at_all_is_an_error() -> None:
    connector = twilio()
    form = {"SmsSid": "SM7", "From": "+8613800138000", "To": NUMBER, "Body": "hi"}
    (draft,) = said(connector, posted(connector, form))
    assert isinstance(draft, Message)
    assert draft.vendor_ids == ("SM7",)
    del form["SmsSid"]
    with pytest.raises(ValueError, match="MessageSid"):
        said(connector, posted(connector, form))


def test_nothing_at_all_is_kept_as_an_empty_message() -> None:
    draft = one(Body="")
    assert isinstance(draft, Message)
    assert draft.parts == (Unsupported(what="empty message"),)


@pytest.mark.parametrize("number", ["-1", "x", "99999", "٣", "3e5"])
def test_a_wild_number_of_files_is_bounded(number: str) -> None:
    files = {f"MediaUrl{n}": f"{MEDIA}{n}" for n in range(40)}
    draft = one(Body="hi", NumMedia=number, **files)
    assert isinstance(draft, Message)
    assert len(draft.parts) <= 21


def test_a_place_is_a_place_and_a_wild_one_is_kept_as_such() -> None:
    draft = one(Latitude="31.2", Longitude="121.5")
    assert isinstance(draft, Message)
    assert draft.parts == (Location(lat=31.2, lon=121.5),)
    for wild in ("nan", "inf", "91", "x"):
        draft = one(Latitude=wild, Longitude="1")
        assert isinstance(draft, Message)
        assert draft.parts == (Unsupported(what="location"),)


def test_a_replay_has_the_same_keys_and_a_changed_one_is_refused() -> None:
    connector = twilio()
    request = posted(connector, SAMPLE_1)
    assert said(connector, request) == said(connector, request)
    with pytest.raises(Refused):
        connector.verify(replace(request, body=SAMPLE_1 + b"&x=1"))


def test_a_shared_webhook_key_of_the_settings_is_believed() -> None:
    connector = twilio(shared_keys={"webhooks_sharedkey_1": "the-shared-secret"})
    url = connector.context.public_url
    request = posted(connector, SAMPLE_1)
    given = sign("the-shared-secret", url, pairs(SAMPLE_1), "sha256")
    named = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"
    headers = {
        **request.headers,
        "x-twilio-signature": given,
        "x-twilio-webhooks-signature-settings": named,
    }
    assert said(connector, replace(request, headers=headers))
    with pytest.raises(Refused):
        twilio().verify(replace(request, headers=headers))
    assert twilio(auth_tokens=[]).check_settings()


def test_a_fallback_call_wakes_the_poll() -> None:
    connector = twilio()
    form = {"MessageSid": "SM1", "From": "+8613800138000", "To": NUMBER, "Body": "again"}
    plain = connector.verify(posted(connector, form))
    assert connector.hint(plain) is None
    failed = {**form, "ErrorCode": "11205", "ErrorUrl": "https://x.example/"}
    assert connector.hint(connector.verify(posted(connector, failed)))
