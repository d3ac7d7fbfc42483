"""Whole calls, as a caller and the people called live them, and what the timeline is told.

Twilio is played by `fake_twilio`, which refuses what Twilio would refuse; the menu is the docs'.
"""

from __future__ import annotations

import random
from urllib.parse import urlencode

import pytest
from msgspec.structs import replace

from connectors.ivr.twiml import pieces
from hub import Request
from normalizer.drafts import Amendment, AmendmentKind, Command, Event
from normalizer.parts import Audio, MediaState
from tests.ivr.calling import NIGHT, Desk, example_menu, menu_with_queue, texts
from tests.ivr.fake_twilio import Callback


async def test_the_example_of_the_docs_is_answered_in_mandarin_with_its_voice() -> None:
    """The first question: Mandarin words and voice, keys and speech, an answer to silence."""
    desk = Desk()
    call = await desk.call().rings()
    assert call.heard[0].startswith("您好，查询订单请按1")
    gather = call.waits
    assert gather is not None
    assert gather[0].attrib == {"language": "cmn-CN", "voice": "Polly.Zhiyu"}
    assert gather.attrib["input"] == "dtmf speech"
    assert gather.attrib["language"] == "cmn-Hans-CN"
    assert gather.attrib["actionOnEmptyResult"] == "true"
    assert "订单" in gather.attrib["hints"]
    assert desk.events == ["call.ringing"]


async def test_nine_changes_the_language_and_the_voice() -> None:
    call = await Desk().call().rings()
    await call.presses("9")
    assert call.heard[-1].startswith("For your order")
    assert call.waits is not None
    assert call.waits[0].attrib == {"language": "en-US", "voice": "Polly.Joanna"}


async def test_the_star_says_it_again() -> None:
    call = await Desk().call().rings()
    await call.presses("*")
    assert call.heard[0] == call.heard[1]


async def test_a_transfer_that_nobody_takes_ends_in_the_mailbox() -> None:
    """Menu, two targets, voicemail: the path, a missed call and a message to listen to."""
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("0")
    assert "正在为您转接。" in call.heard
    await call.nobody_answers("no-answer")
    await call.nobody_answers("busy")
    assert call.waits is not None
    assert call.waits.tag == "Record"
    await call.leaves_a_message(34)
    await call.deliver()
    failed = desk.steps("call.transfer_failed")
    assert [(step["reason"], step["agent"]) for step in failed] == [
        ("no_answer", "Mei"),
        ("busy", "Front desk"),
    ]
    assert [step["target"] for step in desk.steps("call.transferred")] == ["mei", "desk"]
    missed, voicemail = desk.messages
    assert (missed.event, voicemail.event) == ("call.missed", "voicemail")
    assert texts([missed]) == ["Missed call: nobody answered (Mei, Front desk)."]
    [audio] = voicemail.parts
    assert isinstance(audio, Audio)
    assert audio.media.vendor_ref == f"RE{1:032x}"
    assert audio.media.state is MediaState.PENDING
    assert audio.media.duration_s == 34
    assert audio.transcript is None
    assert voicemail.data["text"] == "no transcript: no provider configured"
    assert desk.events[-1] == "call.ended"


async def test_silence_three_times_leads_to_people() -> None:
    desk = Desk()
    call = await desk.call().rings()
    await call.says_nothing()
    await call.says_nothing()
    assert call.waits is not None
    assert call.waits.tag == "Gather"
    await call.says_nothing()
    assert call.waits is not None
    assert call.waits.tag == "Dial"
    assert [step["result"] for step in desk.steps("call.input")] == ["silence"] * 3


async def test_wrong_keys_are_told_as_such_and_lead_to_people_too() -> None:
    desk = Desk()
    call = await desk.call().rings()
    for _ in range(3):
        await call.presses("7")
    assert call.heard.count("对不起，没有这个选项。") == 3
    assert call.waits is not None
    assert call.waits.tag == "Dial"


async def test_a_caller_who_hangs_up_while_it_rings_is_a_missed_call() -> None:
    """No action is asked any more: the leg's callback tells it, and the call's own the end."""
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("0")
    await call.hangs_up()
    await call.deliver(order=lambda waiting: waiting.reverse())
    assert texts(desk.messages) == ["Missed call: the caller hung up while it rang."]
    assert "call.ended" in desk.events


@pytest.mark.parametrize("leg", ["no-answer", "canceled", "busy"])
async def test_nobody_else_is_rung_for_a_caller_who_has_gone(leg: str) -> None:
    """The action may be asked when the call is over: it is missed, whatever became of the leg."""
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("0")
    dial = call.waits
    assert dial is not None
    gone = {"CallStatus": "completed", "DialCallStatus": leg, "DialBridged": "false"}
    await call.send(dial.attrib["action"], {**call.fields, **gone})
    assert texts(desk.messages) == ["Missed call: the caller hung up while it rang."]
    assert desk.events.count("call.transferred") == 1, "no second phone is shown as ringing"


async def test_a_message_that_ends_by_hanging_up_goes_no_further() -> None:
    """Behind a mailbox there may be people: they do not ring for who left a message and went."""
    menu = example_menu()
    menu["steps"]["mailbox"]["next"] = "people"
    menu["steps"]["people"]["failed"] = "hang_up"
    desk = Desk(at=NIGHT, menu=menu)
    call = await desk.call().rings()
    record = call.waits
    assert record is not None
    gone = {"CallStatus": "completed", "Digits": "hangup", "RecordingDuration": "12"}
    await call.send(record.attrib["action"], {**call.fields, **gone})
    assert "call.transferred" not in desk.events
    assert not desk.messages, "the message itself comes with its file"


async def test_a_conversation_is_told_at_once_and_recorded_with_consent() -> None:
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("0")
    assert call.heard[-1] == "为了服务质量，通话将被录音。"
    await call.is_answered(talks_s=60)
    assert call.over == "completed"
    await call.deliver()
    assert desk.events == [
        "call.ringing",
        "call.input",
        "call.transferred",
        "call.answered",
        "call.recorded",
        "call.ended",
    ]
    [recorded] = desk.steps("call.recorded")
    assert recorded["parts"][0]["type"] == "audio"
    assert recorded["parts"][0]["media"]["vendor_ref"] == f"{call.sid}/RE{1:032x}"
    assert recorded["transcript"] == "no transcript: no provider configured"
    assert not desk.messages, "a call that was taken is nobody's work"
    [ended] = desk.steps("call.ended")
    assert (ended["state"], ended["duration_s"], ended["text"]) == (
        "completed",
        126,
        "Ended after 2 min 6 s",
    )


async def test_at_night_a_recorded_prompt_is_played_and_a_message_taken() -> None:
    """Mandarin callers hear the recording; who speaks English the text."""
    desk = Desk(at=NIGHT)
    call = await desk.call().rings()
    assert call.heard[0] == "https://cdn.example.com/closed-zh.mp3"
    assert b"<Play>https://cdn.example.com/closed-zh.mp3</Play>" in call.documents[0]
    await call.leaves_a_message(20, hangs_up=True)
    await call.deliver()
    assert [message.event for message in desk.messages] == ["voicemail"]


async def test_payment_data_is_kept_nowhere_and_nothing_is_recorded_meanwhile() -> None:
    """Neither drafts nor the request that is kept have it, and the digits lead on all the same."""
    card = "4111111111111111"
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("2")
    assert not call.recording
    await call.presses(f"{card}#")
    assert call.waits is not None
    assert call.waits.tag == "Dial"
    assert card not in repr(desk.drafts)
    assert card not in repr(desk.requests)
    assert b"Digits=xxxxxxxxxxxxxxxx" in desk.requests[-1].payload
    assert desk.requests[-1].request.body == desk.requests[-1].payload
    assert desk.steps("call.input")[-1]["text"] == "card: payment data, not kept"
    await call.is_answered()
    assert call.recorded_during == ["conversation"]
    # A repetition of it, or one that says it, is masked as well.
    url, fields = next(each for each in call.sent if each[1].get("Digits") == card)
    await call.send(url, {**fields, "SpeechResult": card, "UnstableSpeechResult": card})
    assert card not in repr(desk.requests)


async def test_a_payment_question_that_was_not_answered_stays_private() -> None:
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("2")
    await call.says_nothing()
    await call.presses("4242#")
    assert "4242" not in repr(desk.requests)


async def test_an_order_number_keeps_its_zeros_and_is_read_back_digit_by_digit() -> None:
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("1")
    await call.presses("00120030")
    assert call.heard[-1] == "0 0 1 2 0 0 3 0"
    await call.presses("2")
    assert call.heard[-1] == "请输入八位订单号。", "not confirmed: asked again"
    await call.presses("00120031")
    await call.presses("1")
    assert call.waits is not None
    assert call.waits.tag == "Dial"
    digits = [step["digits"] for step in desk.steps("call.input") if "digits" in step]
    assert digits == ["1", "00120030", "00120031"]


async def test_a_code_is_handed_to_the_hub_and_the_caller_learns_nothing() -> None:
    """One command for each try; too few digits are asked again; the path does not show it."""
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("4")
    await call.presses("407#")
    await call.presses("40718293")
    assert call.waits is not None
    assert call.waits.tag == "Dial", "it goes on, right or wrong"
    [command] = [draft for draft in desk.drafts if isinstance(draft, Command)]
    assert command.name == "identity.code.confirm"
    assert command.key == f"ivr:main:{call.sid}:code:3"
    assert command.actor.kind == "connector"
    assert command.args == {"code": "40718293", "address": "tel::e164:+8613800138000"}
    assert "40718293" not in repr(desk.steps())


async def test_words_lead_where_keys_do() -> None:
    desk = Desk()
    call = await desk.call().rings()
    await call.speaks("我想查一下，订单。", confidence="0.0")
    assert call.heard[-1] == "请输入八位订单号。"
    [step] = desk.steps("call.input")
    assert (step["speech"], step["confidence"]) == ("我想查一下，订单。", 0.0)
    assert step["parts"] == [{"type": "text", "text": "我想查一下，订单。", "source": "asr"}]


async def test_a_call_back_to_the_callers_own_number_is_a_message_to_answer() -> None:
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("3")
    await call.presses("1#")
    [request] = desk.messages
    assert request.event == "call.callback_requested"
    assert texts([request]) == ["Please call back +8613800138000 (the number they called from)."]
    await call.presses("2")
    edits = [
        draft
        for draft in desk.drafts
        if isinstance(draft, Amendment) and draft.kind is AmendmentKind.EDIT
    ]
    assert [edit.data["parts"][0]["text"] for edit in edits] == [
        "Please call back +8613800138000, in the afternoon."
    ]
    assert edits[0].target.vendor_id in request.vendor_ids
    assert call.over


async def test_a_call_back_to_another_number_is_read_back_and_has_to_be_allowed() -> None:
    """A number abroad would be dialled at our cost; one that is no number cannot be called."""
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("3")
    await call.presses("0019005551234#")
    assert not desk.messages
    await call.presses("02155554321#")
    assert call.heard[-1] == "8 6 2 1 5 5 5 5 4 3 2 1"
    await call.presses("1")
    assert texts(desk.messages) == ["Please call back +862155554321 (the number they typed)."]
    await call.hangs_up()  # while it is asked for a time: the request stands


async def test_who_withholds_the_number_is_led_to_the_mailbox_instead() -> None:
    desk = Desk()
    call = await desk.call(caller="anonymous").rings()
    await call.presses("3")
    assert call.waits is not None
    assert call.waits.tag == "Record"
    await call.leaves_a_message(10)
    await call.deliver()
    [voicemail] = desk.messages
    assert str(voicemail.address) == f"ivr:main:anonymous:{call.sid}"


async def test_a_silent_message_is_a_missed_call_and_no_voicemail() -> None:
    desk = Desk(at=NIGHT)
    call = await desk.call().rings()
    await call.leaves_a_message(1)
    await call.deliver()
    assert [message.event for message in desk.messages] == ["call.missed"]


async def test_a_mailbox_that_picks_up_does_not_get_the_caller() -> None:
    """The second target is screened: nobody presses 1, so the caller is not let through."""
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("0")
    await call.nobody_answers()
    await call.is_answered(accepts=None)
    assert call.waits is not None
    assert call.waits.tag == "Record"
    assert "call.answered" not in desk.events
    assert [step["reason"] for step in desk.steps("call.transfer_failed")] == [
        "no_answer",
        "not_accepted",
    ]


async def test_whoever_presses_one_gets_the_caller() -> None:
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("0")
    await call.nobody_answers()
    await call.is_answered(accepts="1")
    [answered] = desk.steps("call.answered")
    assert (answered["target"], answered["text"]) == ("desk", "Answered by Front desk")
    assert call.over == "completed"


async def test_delivered_twice_and_shuffled_everything_is_told_once() -> None:
    """The same keys for whatever Twilio repeats, and the same drafts in any order."""
    seen = []
    for seed in range(4):
        desk = Desk()
        call = await desk.call().rings()
        await call.presses("0")
        await call.nobody_answers()
        await call.is_answered()
        chance = random.Random(seed)

        def twice(waiting: list[Callback], chance: random.Random = chance) -> None:
            waiting += list(waiting)
            chance.shuffle(waiting)

        await call.deliver(order=twice)
        for url, fields in list(call.sent):
            await call.send(url, fields)
        drafts = [replace(draft, at=None) for draft in desk.drafts]  # the entry's is a guess
        once = dict(zip(desk.keys, drafts, strict=True))
        for key, draft in zip(desk.keys, drafts, strict=True):
            assert once[key] == draft, "one key, two things"
        seen.append(once)
    assert all(each == seen[0] for each in seen)
    entries = [draft for draft in seen[0].values() if isinstance(draft, Event)]
    assert len(entries) == 1, "one entry for the call and its legs"


async def test_a_queue_lets_wait_and_gives_up_in_time() -> None:
    desk = Desk(menu=menu_with_queue())
    call = await desk.call().rings()
    await call.presses("0")
    assert call.waits is not None
    assert (call.waits.tag, call.waits.text) == ("Enqueue", "support")
    assert await call.waits_in_queue(10) == ["Say", "Pause"]
    assert await call.waits_in_queue(120) == ["Leave"]
    await call.leaves_the_queue("leave", 120)
    assert call.waits is not None
    assert call.waits.tag == "Record"
    assert [message.event for message in desk.messages] == ["call.missed"]
    other = await desk.call(2).rings()
    await other.presses("0")
    await other.leaves_the_queue("bridged", 20)
    assert other.over == "completed"
    assert "call.answered" not in desk.events, "it was answered minutes ago"


async def test_a_queue_ends_though_twilio_does_not_say_how_long_it_takes() -> None:
    """QueueTime is unverified; without it a caller would hear the same words for ever."""
    desk = Desk(menu=menu_with_queue())
    call = await desk.call().rings()
    await call.presses("0")
    assert await call.waits_in_queue(None) == ["Say", "Pause"]
    desk.clock.advance(120)
    assert await call.waits_in_queue(None) == ["Leave"]


async def test_long_prompts_are_said_in_pieces_that_twilio_takes() -> None:
    text = "请听好。" * 3000
    assert all(len(piece) <= 4000 for piece in pieces(text))
    assert "".join(pieces(text)).replace(" ", "") == text
    menu = example_menu()
    menu["steps"]["main"]["say"]["zh-CN"] = text
    call = await Desk(menu=menu).call().rings()
    assert "".join(call.heard).replace(" ", "") == text


async def test_control_characters_in_a_menu_leave_a_document_that_can_be_read() -> None:
    menu = example_menu()
    menu["steps"]["main"]["say"]["zh-CN"] = "a\x0bb\x00c <&> \ud800"
    call = await Desk(menu=menu).call().rings()
    assert call.heard == ["abc <&> "]


async def test_a_step_that_went_away_in_mid_call_begins_the_menu_anew() -> None:
    """A new version of the menu is deployed while somebody is in the old one."""
    old = Desk()
    call = await old.call().rings()
    await call.presses("1")
    menu = example_menu()
    del menu["steps"]["order"]
    menu["steps"]["main"]["options"][0]["next"] = "card"
    new = Desk(menu=menu, services=old.services)
    new.clock = old.clock
    call._post = new.post
    await call.presses("12345678")
    assert call.waits is not None
    assert call.waits.tag == "Gather"
    assert call.heard[-1].startswith("您好")


async def test_a_state_that_is_too_old_begins_the_menu_anew_and_changes_nothing() -> None:
    """It may as well be an old request that somebody sends again."""
    desk = Desk()
    call = await desk.call().rings()
    await call.presses("1")
    desk.clock.advance(6 * 3600 - 60)  # 15:59 in Shanghai
    before = len(desk.drafts)
    await call.presses("12345678")
    assert call.heard[-1].startswith("您好")
    assert len(desk.drafts) == before


async def test_a_caller_who_never_stops_pressing_is_hung_up_on() -> None:
    desk = Desk()
    call = await desk.call().rings()
    for _ in range(150):
        if call.over:
            break
        await call.presses("*")
    assert call.over
    assert call.heard[-1] == "感谢您的来电，再见。"


async def test_a_request_that_cannot_be_read_is_answered_in_words() -> None:
    """parse fails, so that it is kept as a dead letter, and the caller hears a sentence."""
    desk = Desk()
    call = desk.call()
    call.fields["CallSid"] = "nonsense"
    with pytest.raises(ValueError, match="CallSid"):
        await call.rings()
    url, fields = call.sent[-1]
    given = Request(
        method="POST",
        url=url,
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=urlencode(fields).encode(),
        received_at=desk.clock.now(),
    )
    answer = desk.connector.answer(given.verified(), (), desk.clock)
    assert answer.status == 200
    assert "感谢您的来电，再见。" in answer.body.decode()
    assert b"<Hangup" in answer.body
