"""What contracts/voice.md says, row by row: its samples (11), its edge cases (9), its vectors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
import pytest

from connectors._twilio.signature import signature
from connectors.ivr import callers, hearing, requests, twiml
from connectors.ivr.menus import Option
from connectors.ivr.state import BadState, CallState, Sealer
from hub import Refused, Request
from hub.testing import FakeServices
from normalizer.drafts import Amendment, Event, Message
from normalizer.model import Trust
from normalizer.parts import Audio
from tests.ivr.calling import NIGHT, Desk, example_menu, menu_with_queue, texts
from tests.ivr.fake_twilio import DOOR, NUMBER, SCHEMA, sign

CALL = "CA" + "1" * 30 + "01"
LEG = "CA" + "2" * 32
RECORDING = "RE" + "3" * 32


# --- section 11: samples -------------------------------------------------------------------------


async def test_sample_1_ringing() -> None:
    desk = Desk()
    call = desk.call(CallerCity="")
    call.sid = call.fields["CallSid"] = CALL
    await call.rings()
    [draft] = desk.drafts
    assert isinstance(draft, Event)
    assert draft.name == "call.ringing"
    assert draft.key == f"call:{CALL}:ringing"
    assert str(draft.address) == "tel::e164:+8613800138000"
    assert draft.vendor_ids == (CALL,)
    assert draft.data == {"call_id": CALL, "to": NUMBER}
    assert draft.profile is not None
    assert draft.profile.trust is Trust.SEEN


async def test_sample_2_a_key_and_words() -> None:
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("0")
    [pressed, _] = desk.drafts[-2:]
    assert isinstance(pressed, Amendment)
    assert pressed.key == f"call:{call.sid}:step:main:1"
    assert {"event": "call.input", "digits": "0", "menu": "main"}.items() <= pressed.data.items()
    other = await desk.call(2).rings()
    await other.speaks("我要退货", "0.91")
    said = desk.drafts[-1]
    assert isinstance(said, Amendment)
    assert said.data["speech"] == "我要退货"
    assert said.data["confidence"] == 0.91
    assert said.data["parts"] == [{"type": "text", "text": "我要退货", "source": "asr"}]


async def test_sample_3_a_transfer_that_failed() -> None:
    menu = example_menu()
    menu["steps"]["people"]["targets"] = ["desk"]
    del menu["targets"]["mei"]
    desk = Desk(menu=menu)
    call = await desk.call().rings()
    await call.presses("0")
    await call.nobody_answers("no-answer")
    [failed] = desk.steps("call.transfer_failed")
    assert (failed["reason"], failed["agent"]) == ("no_answer", "Front desk")
    assert call.waits is not None
    assert call.waits.tag == "Record", "the answer is the voicemail's document"


async def test_sample_4_a_voicemail_is_ready() -> None:
    desk = Desk(at=NIGHT)
    call = await desk.call().rings()
    await call.leaves_a_message(34)
    callback = next(each for each in call.callbacks if each.name == "recording")
    callback.fields["RecordingSid"] = RECORDING
    desk.drafts.clear()
    await call.notify(callback)
    message, told = desk.drafts
    assert isinstance(message, Message)
    assert message.key == f"rec:{RECORDING}:completed"
    assert message.event == "voicemail"
    [part] = message.parts
    assert isinstance(part, Audio)
    assert (part.media.vendor_ref, part.media.mime, part.media.duration_s) == (
        RECORDING,
        "audio/mpeg",
        34,
    )
    assert part.transcript is None
    assert isinstance(told, Amendment)
    assert told.target.vendor_id == call.sid


async def test_sample_5_withheld() -> None:
    desk = Desk()
    call = await desk.call(caller="+86282452253").rings()
    [draft] = desk.drafts
    assert isinstance(draft, Event)
    assert str(draft.address) == f"ivr:main:anonymous:{call.sid}"
    assert draft.profile is None
    assert draft.data["can_be_called_back"] is False


async def test_sample_6_the_end() -> None:
    desk = Desk()
    call = await desk.call().rings()
    fields = {
        **call.fields,
        "CallStatus": "completed",
        "CallDuration": "126",
        "SequenceNumber": "3",
        "Timestamp": "Wed, 15 Nov 2023 06:13:20 +0000",
    }
    status, _, body = await call.send(f"{DOOR}/status", fields)
    assert (status, body) == (204, b"")
    ended = desk.drafts[-1]
    assert isinstance(ended, Amendment)
    assert ended.key == f"call:{call.sid}:completed"
    assert ended.seq == 3
    assert ended.at == datetime(2023, 11, 15, 6, 13, 20, tzinfo=UTC)
    assert (ended.data["event"], ended.data["state"], ended.data["duration_s"]) == (
        "call.ended",
        "completed",
        126,
    )


# --- section 9: edge cases -----------------------------------------------------------------------


async def test_edge_1_silence_is_asked_about() -> None:
    """Every question asks back when nothing was typed, and leads on even if Twilio does not."""
    desk = Desk()
    call = await desk.call().rings()
    assert call.waits is not None
    assert call.waits.attrib["actionOnEmptyResult"] == "true"
    assert [verb.tag for verb in call.rest] == ["Redirect"]
    await call._run(call.rest)
    assert [step["result"] for step in desk.steps("call.input")] == ["silence"]


async def test_edge_2_a_recording_is_believed_when_its_file_is_ready() -> None:
    """The action makes no message; "completed" does; five silent seconds are Twilio's "absent"."""
    desk = Desk(at=NIGHT)
    call = await desk.call().rings()
    await call.leaves_a_message(34)
    assert not desk.messages
    callback = next(each for each in call.callbacks if each.name == "recording")
    for state in ("in-progress", "absent"):
        callback.fields["RecordingStatus"] = state
        await call.notify(callback)
    assert [message.event for message in desk.messages] == ["call.missed"]


async def test_edge_3_a_mailbox_does_not_take_a_transfer() -> None:
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("0")
    await call.nobody_answers()
    await call.is_answered(accepts="")
    await call.deliver()
    assert "call.answered" not in desk.events


async def test_edge_4_a_leg_is_not_another_call() -> None:
    """Whatever door its callbacks come by, they change the caller's entry and make none."""
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("0")
    await call.is_answered()
    leg = next(each for each in call.callbacks if each.name == "leg completed")
    await call.deliver()
    assert len({key for key in desk.keys if key.endswith(":ringing")}) == 1
    desk.drafts.clear()
    await call.send(f"{DOOR}/status", leg.fields)
    await call.send(f"{DOOR}/status", {**call.fields, "Direction": "outbound-api"})
    assert not desk.drafts


async def test_edge_5_the_end_before_the_answer_and_twice() -> None:
    """Each state has a place of its own, and the leg's states are ordered by their number."""
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("0")
    await call.is_answered()
    ended = call.callbacks[-1]
    await call.notify(ended)
    await call.notify(ended)
    await call.deliver(order=lambda waiting: waiting.reverse())
    assert desk.keys.count(f"amendment|ivr|main||call:{call.sid}:completed") == 3
    legs = [draft for draft in desk.drafts if isinstance(draft, Amendment)]
    states = {
        draft.data["state"]: (draft.seq, draft.data.get("final"))
        for draft in legs
        if draft.data["step"].startswith("leg_")
    }
    assert states == {"ringing": (1, None), "in-progress": (2, None), "completed": (3, True)}


async def test_edge_6_a_deployment_in_mid_call() -> None:
    """Another process, and one that started later, goes on where the call was."""
    first = Desk()
    call = await first.call().rings()
    await call.presses("1")
    second = Desk(services=first.services)
    call._post = second.post
    await call.presses("00120030")
    assert call.heard[-1] == "0 0 1 2 0 0 3 0"
    stranger = Desk(services=FakeServices(key=_other_key(), public_url="https://hub.example"))
    call._post = stranger.post
    with pytest.raises(Refused, match="state"):
        await call.presses("1")


async def test_edge_7_only_the_status_tells_that_a_caller_hung_up() -> None:
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("1")
    await call.hangs_up()
    assert "call.ended" not in desk.events
    await call.deliver()
    assert desk.events[-1] == "call.ended"


async def test_edge_8_digits_are_text() -> None:
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("1")
    await call.presses("00000007")
    assert desk.steps("call.input")[-1]["digits"] == "00000007"


@pytest.mark.parametrize(
    ("heard", "key"),
    [
        ("订单。", "1"),
        ("我想查询一下我的订单，谢谢！", "1"),
        ("　订 单　", "1"),
        ("退货", "2"),
        ("我要换货或者退货", "2"),
        ("按二", ""),
        ("Return, please", "2"),
        ("今天天气不错", ""),
        ("", ""),
        ("。。。", ""),
    ],
)
def test_edge_9_words_are_found_in_what_was_heard(heard: str, key: str) -> None:
    options = [
        Option(key="1", next="a", hears={"zh-CN": ["订单", "查询"], "en-US": ["order"]}),
        Option(key="2", next="b", hears={"zh-CN": ["退货", "换货"], "en-US": ["return"]}),
    ]
    language = "en-US" if heard.isascii() and heard else "zh-CN"
    found = hearing.meant(options, heard, language)
    assert (found.key if found else "") == key


@pytest.mark.parametrize(
    ("heard", "key"),
    [
        ("二", "2"),
        ("按二", "2"),
        ("２。", "2"),
        ("幺", "1"),
        ("Nine.", "9"),
        ("二十", ""),
        ("", ""),
    ],
)
def test_edge_9_a_spoken_digit_is_a_key(heard: str, key: str) -> None:
    assert hearing.spoken_key(heard) == key


async def test_edge_10_a_number_that_is_forwarded_to_itself_is_refused() -> None:
    """The second such call within a minute; a repetition and another caller are no loop."""
    desk = Desk()
    first = await desk.call(1, ForwardedFrom=NUMBER).rings()
    assert not first.over
    again = await desk.call(1, ForwardedFrom=NUMBER).rings()
    other = await desk.call(2, caller="+8613900139000", ForwardedFrom=NUMBER).rings()
    assert not again.over
    assert not other.over
    desk.clock.advance(30)
    second = await desk.call(3, ForwardedFrom=NUMBER).rings()
    assert second.over == "busy"
    assert b'<Reject reason="busy"' in second.documents[-1]
    assert "call.refused" in desk.events
    desk.clock.advance(61)
    third = await desk.call(4, ForwardedFrom=NUMBER).rings()
    assert not third.over, "a minute later it is another call"
    elsewhere = await desk.call(5, ForwardedFrom="+8675512345678").rings()
    assert not elsewhere.over


async def test_edge_11_only_what_is_allowed_is_dialled_and_not_for_ever() -> None:
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("0")
    await call.nobody_answers()
    assert call.waits is not None
    assert call.waits[0].text == "+862155551234"
    assert call.waits.attrib["timeLimit"] == "3600"
    # The list was shortened while the hub ran on the old menu: it is looked at before dialling.
    desk.connector.menu = msgspec.structs.replace(desk.connector.menu, allowed_prefixes=[])
    other = await desk.call(2).rings()
    await other.presses("0")
    await other.nobody_answers()
    assert other.waits is not None
    assert other.waits.tag == "Record"


async def test_edge_12_no_text_is_longer_than_twilio_says() -> None:
    menu = example_menu()
    menu["steps"]["main"]["say"]["zh-CN"] = "长" * 9000
    call = await Desk(menu=menu).call().rings()
    assert [len(text) for text in call.heard] == [4000, 4000, 1000]


# --- section 7: withheld numbers -----------------------------------------------------------------


WITHHELD = (
    "anonymous", "Anonymous", "RESTRICTED", "unavailable", "unknown", "private", "blocked", "",
    "+266696687", "266696687", "+86282452253", "+8656696", "+2562533", "+7378742833",
)  # fmt: skip


@pytest.mark.parametrize("caller", WITHHELD)
def test_who_shows_no_number_is_somebody_else_in_each_call(caller: str) -> None:
    assert callers.is_withheld(caller)
    first, second = (callers.caller_address(caller, call, "main") for call in (CALL, LEG))
    assert first != second
    assert first.kind == "anonymous"
    assert callers.can_be_called(caller) == ""


@pytest.mark.parametrize(
    ("caller", "address"),
    [
        ("+8613800138000", "tel::e164:+8613800138000"),
        ("client:agent_12", "ivr:main:client:client%3Aagent_12"),
        ("sip:li@example.com", "ivr:main:sip:sip%3Ali@example.com"),
        ("+8610086", "ivr:main:caller:+8610086"),
        ("10086", "ivr:main:caller:10086"),
        ("13800138000", "ivr:main:caller:13800138000"),
    ],
)
def test_callers_have_an_address_each(caller: str, address: str) -> None:
    """A number without its country is not completed: of whom would it be?"""
    assert str(callers.caller_address(caller, CALL, "main")) == address


# --- section 2: authenticity ---------------------------------------------------------------------


def test_the_vectors_of_the_sheet_are_what_this_fake_signs() -> None:
    fields = [
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+14158675309"),
        ("Digits", "1234"),
        ("From", "+14158675309"),
        ("To", "+18005551212"),
    ]
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert sign(url, fields, "12345") == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


async def test_every_tamper_class_is_refused_on_every_route() -> None:
    """Signature missing or wrong, URL, body, method, account, state: and nothing is parsed."""
    desk, queueing = Desk(), Desk(menu=menu_with_queue())
    call = await desk.call().rings()
    await call.presses("0")
    await call.nobody_answers()  # the second target is asked whether it takes the call
    await call.is_answered()
    await call.deliver()
    other = await desk.call(7).rings()
    queued = await queueing.call(8).rings()
    await queued.presses("0")
    await queued.waits_in_queue(10)
    routes = {
        urlsplit(url).path: (made, url, fields)
        for made, played in ((queueing, queued), (desk, call))
        for url, fields in played.sent
    }
    door = urlsplit(DOOR).path
    assert routes.keys() == {
        door,
        *(f"{door}/{each}" for each in ("next", "screen", "wait", "leg", "recording", "status")),
    }
    for desk, url, fields in routes.values():
        for name, request in _tampered(url, fields, other.sid):
            with pytest.raises(Refused) as refused:
                desk.connector.verify(request)
            assert refused.value.status == 403, name
        desk.connector.verify(_request(url, fields))


def _request(url: str, fields: dict[str, str], **changes: Any) -> Request:
    place = urlsplit(url)
    signed = changes.pop("signature", None)
    values: dict[str, Any] = {
        "method": "POST",
        "url": url,
        "path": place.path.removeprefix(urlsplit(DOOR).path),
        "query_string": place.query,
        "headers": {
            "content-type": "application/x-www-form-urlencoded",
            "x-twilio-signature": sign(url, list(fields.items())) if signed is None else signed,
        },
        "body": urlencode(fields).encode(),
        "received_at": datetime(2026, 3, 2, 2, 0, tzinfo=UTC),
    }
    return Request(**{**values, **changes})


def _tampered(url: str, fields: dict[str, str], another: str) -> list[tuple[str, Request]]:
    stranger = {**fields, "AccountSid": "AC" + "9" * 32}
    place = urlsplit(url)
    found = [
        ("no signature", _request(url, fields, signature="")),
        ("wrong signature", _request(url, fields, signature="A" * 28)),
        ("another token", _request(url, fields, signature=sign(url, list(fields.items()), "x"))),
        ("another body", _request(url, fields, body=b"CallSid=CA1")),
        ("another account", _request(url, stranger)),
        ("another host", _request(url.replace("hub.example", "b.example"), fields,
                                  signature=sign(url, list(fields.items())))),
        ("GET", _request(url, fields, method="GET")),
        ("another path", _request(url, fields, path="/elsewhere")),
    ]  # fmt: skip
    if place.query:
        [(name, state)] = parse_qsl(place.query)
        for told, changed in (
            ("state missing", ""),
            ("state altered", f"{name}={state[:-2]}{'A' if state[-2] != 'A' else 'B'}{state[-1]}"),
            ("state cut", f"{name}={state[:20]}"),
            ("state of nobody", f"{name}={'A' * 60}"),
        ):
            moved = place._replace(query=changed).geturl()
            found.append((told, _request(moved, fields)))
        elsewhere = {**fields, "CallSid": another}
        elsewhere.pop("ParentCallSid", None)
        found.append(("state of another call", _request(url, elsewhere)))
    return found


async def test_a_shared_signing_key_is_believed_by_its_name_only() -> None:
    """The newer scheme: the header names the key and its algorithm."""
    desk = Desk(auth_tokens=None, signing_keys={"SK1": "shared-secret"})
    fields = desk.call().fields
    given = signature("shared-secret", DOOR, list(fields.items()), "HMAC_SHA256")
    request = _request(DOOR, fields, signature=given)
    for named, believed in (
        ("key=SK1,algorithm=HMAC_SHA256", True),
        ("key=SK2,algorithm=HMAC_SHA256", False),
        ("key=SK1,algorithm=NONE", False),
        ("", False),
    ):
        headers = {**request.headers, "x-twilio-webhooks-signature-settings": named}
        changed = msgspec.structs.replace(request, headers=headers)
        if believed:
            desk.connector.verify(changed)
        else:
            with pytest.raises(Refused):
                desk.connector.verify(changed)


def test_a_state_says_nothing_to_who_reads_it_and_is_one_calls() -> None:
    """Neither the number nor the step can be read in a URL, and equal states are equal texts."""
    sealer = Sealer(b"k" * 32)
    state = CallState(call=CALL, began=1, step="main", awaits="menu", caller="+8613800138000")
    text = sealer.seal(state)
    assert text == Sealer(b"k" * 32).seal(state)
    assert "138" not in text
    assert sealer.open(text, CALL) == state
    assert sealer.open(text, LEG, CALL) == state
    for wrong in ("", "=", "é", text + "A", text[:-1], "A" * 3000, text + "="):
        with pytest.raises(BadState):
            sealer.open(wrong, CALL)
    with pytest.raises(BadState, match="another call"):
        sealer.open(text, LEG)
    with pytest.raises(BadState):
        Sealer(b"x" * 32).open(text, CALL)


# --- reading -------------------------------------------------------------------------------------


def test_odd_fields_are_read_with_tolerance() -> None:
    """Of a repeated name the first counts; what is no number, time or word is not there."""
    read = requests.read(
        requests.read_form(
            f"CallSid={CALL}&CallSid={LEG}&Confidence=nan&CallDuration=-1&SequenceNumber=x"
            "&Timestamp=yesterday&CallStatus=<b>&DialBridged=TRUE&Digits=".encode()
        )
    )
    assert read.call == CALL
    assert (read.confidence, read.call_duration, read.sequence, read.timestamp) == (None,) * 4
    assert read.status == ""
    assert read.dial_bridged is True
    assert read.digits == ""


def test_a_document_cannot_have_an_attribute_that_twilio_does_not_know() -> None:
    """The builder writes down whatever it is given; each attribute of ours is Twilio's."""
    with pytest.raises(TypeError, match="<Say> has no attribute langage"):
        twiml._only("Say", langage="zh-CN")
    for verb, names in twiml.ALLOWED.items():
        for name in names:
            first, *rest = name.split("_")
            assert first + "".join(word.title() for word in rest) in SCHEMA[verb], (verb, name)


def test_masking_keeps_the_form_and_takes_what_was_typed_and_said() -> None:
    kept = requests.masked(b"CallSid=CA1&Digits=4111&SpeechResult=four+one&From=%2B86&Empty=")
    assert parse_qsl(kept.decode(), keep_blank_values=True) == [
        ("CallSid", "CA1"),
        ("Digits", "xxxx"),
        ("SpeechResult", "xxxxxxxx"),
        ("From", "+86"),
        ("Empty", ""),
    ]


async def test_a_call_that_ended_before_it_was_taken_is_missed() -> None:
    """Even if its first request never came: the entry is made by the end."""
    desk = Desk()
    call = desk.call()
    await call.send(f"{DOOR}/status", {**call.fields, "CallStatus": "no-answer"})
    assert [draft.key for draft in desk.drafts] == [
        f"call:{call.sid}:ringing",
        f"call:{call.sid}:no-answer",
        f"call:{call.sid}:missed",
    ]
    assert texts(desk.messages) == ["Missed call: it ended before it was taken (no-answer)."]


def _other_key() -> Any:
    return FakeServices().key.__class__(b"another key for tests, 32 bytes.." * 2)
