"""TwiML: what Twilio is told to do, written with the builder of Twilio's own package.

The builder is fenced, because of what it lets through (seen with twilio 9.13):

- control characters stay in a text and make XML that no parser reads: they are taken out here;
- a misspelt keyword becomes an attribute: every one here is held to the table of what the sheet
  lists, and a document with another is a fault that a test sees;
- nothing is cut: a text of more than 4096 characters (unverified) is said in pieces here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twilio.twiml.voice_response import Dial, Gather, VoiceResponse

from connectors.ivr.menus import Menu, is_recording
from connectors.ivr.script import (
    Ask,
    Back,
    GoOn,
    HangUp,
    Leave,
    Refuse,
    Ring,
    Script,
    Silence,
    Speak,
    TakeMessage,
    Verb,
    WaitInQueue,
)

CONTENT_TYPE = "text/xml; charset=utf-8"
MAX_SAY = 4000  # Twilio's limit is 4096 (unverified)
MAX_HINTS = 100
EVENTS = "initiated ringing answered completed"
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_SENTENCE = re.compile(r"[^.!?。！？；;\n]*[.!?。！？；;\n]\s*|[^.!?。！？；;\n]+\Z")

ALLOWED: dict[str, frozenset[str]] = {
    "Say": frozenset({"language", "voice"}),
    "Play": frozenset(),
    "Pause": frozenset({"length"}),
    "Gather": frozenset(
        {
            "input",
            "num_digits",
            "timeout",
            "speech_timeout",
            "speech_model",
            "finish_on_key",
            "language",
            "hints",
            "action",
            "method",
            "action_on_empty_result",
        }
    ),
    "Dial": frozenset(
        {
            "action",
            "method",
            "timeout",
            "time_limit",
            "answer_on_bridge",
            "caller_id",
            "record",
            "recording_status_callback",
            "recording_status_callback_event",
        }
    ),
    "Number": frozenset({"url", "status_callback", "status_callback_event"}),
    "Client": frozenset({"url", "status_callback", "status_callback_event"}),
    "Sip": frozenset({"url", "status_callback", "status_callback_event"}),
    "Record": frozenset(
        {
            "action",
            "method",
            "max_length",
            "timeout",
            "finish_on_key",
            "play_beep",
            "recording_status_callback",
            "recording_status_callback_event",
        }
    ),
    "Enqueue": frozenset({"action", "method", "wait_url", "wait_url_method"}),
    "Redirect": frozenset({"method"}),
    "Reject": frozenset({"reason"}),
    "Hangup": frozenset(),
    "Leave": frozenset(),
}


def render(script: Script, menu: Menu, url: Callable[[Back], str]) -> bytes:
    """Return the document of a script; ``url`` makes the address that Twilio asks next."""
    response = VoiceResponse()
    for verb in script:
        _write(response, verb, menu, url)
    return str(response).encode()


def clean(text: str) -> str:
    """Return a text that XML can hold, without what no parser reads."""
    return _NOT_XML.sub("", text)


def pieces(text: str, most: int = MAX_SAY) -> list[str]:
    """Return a text in pieces of at most ``most`` characters, cut at sentences where it can be."""
    found = [""]
    for sentence in _SENTENCE.findall(text):
        if len(found[-1]) + len(sentence) > most:
            found.append("")
        for at in range(0, len(sentence), most):
            part = sentence[at : at + most]
            found += [part] if at else []
            found[-1] += "" if at else part
    return [piece for piece in found if piece.strip()]


def _write(parent: Any, verb: Verb, menu: Menu, url: Callable[[Back], str]) -> None:
    match verb:
        case Speak():
            _speak(parent, verb, menu)
        case Silence():
            parent.pause(**_only("Pause", length=verb.seconds))
        case Ask():
            _ask(parent, verb, menu, url)
        case Ring():
            _ring(parent, verb, url)
        case TakeMessage():
            parent.record(
                **_only(
                    "Record",
                    action=url(verb.back),
                    method="POST",
                    max_length=verb.max_s,
                    timeout=5,
                    finish_on_key="#",
                    play_beep=True,
                    recording_status_callback=url(verb.recording),
                    recording_status_callback_event="completed absent",
                )
            )
        case WaitInQueue():
            parent.enqueue(
                verb.queue,
                **_only(
                    "Enqueue",
                    action=url(verb.back),
                    method="POST",
                    wait_url=url(verb.wait),
                    wait_url_method="POST",
                ),
            )
        case GoOn():
            parent.redirect(url(verb.back), **_only("Redirect", method="POST"))
        case Leave():
            parent.leave()
        case HangUp():
            parent.hangup()
        case Refuse():
            parent.reject(**_only("Reject", reason=verb.reason))
        case _:
            raise TypeError(f"there is no TwiML for {type(verb).__name__}")


def _speak(parent: Any, verb: Speak, menu: Menu) -> None:
    if is_recording(verb.text):
        parent.play(clean(verb.text))
        return
    voice = menu.voice(verb.language)
    attributes = {"language": voice.say or verb.language, "voice": voice.voice}
    known = {name: value for name, value in attributes.items() if value}
    for piece in pieces(clean(verb.text)):
        parent.say(piece, **_only("Say", **known))


def _ask(parent: Any, verb: Ask, menu: Menu, url: Callable[[Back], str]) -> None:
    attributes: dict[str, Any] = {
        "input": "dtmf speech" if verb.hears else "dtmf",
        "timeout": verb.wait_s,
        "action": url(verb.back),
        "method": "POST",
        "action_on_empty_result": True,
        "finish_on_key": verb.finish_on,
    }
    if verb.digits:
        attributes["num_digits"] = verb.digits
    if verb.hears:
        voice = menu.voice(verb.language)
        attributes["language"] = voice.hears
        attributes["speech_timeout"] = "auto"
        if voice.speech_model:
            attributes["speech_model"] = voice.speech_model
        if verb.hints:
            attributes["hints"] = clean(",".join(verb.hints[:MAX_HINTS]))
    gather = Gather(**_only("Gather", **attributes))
    for prompt in verb.prompts:
        _speak(gather, prompt, menu)
    parent.append(gather)


def _ring(parent: Any, verb: Ring, url: Callable[[Back], str]) -> None:
    attributes: dict[str, Any] = {
        "action": url(verb.back),
        "method": "POST",
        "timeout": verb.ring_s,
        "time_limit": verb.limit_s,
        "answer_on_bridge": True,
    }
    if verb.caller_id:
        attributes["caller_id"] = verb.caller_id
    if verb.recording is not None:
        attributes["record"] = "record-from-answer-dual"
        attributes["recording_status_callback"] = url(verb.recording)
        attributes["recording_status_callback_event"] = "completed absent"
    dial = Dial(**_only("Dial", **attributes))
    leg: dict[str, Any] = {"status_callback": url(verb.leg), "status_callback_event": EVENTS}
    if verb.screen is not None:
        leg["url"] = url(verb.screen)
    target = verb.target
    if target.number:
        dial.number(clean(target.number), **_only("Number", **leg))
    elif target.client:
        dial.client(clean(target.client), **_only("Client", **leg))
    else:
        dial.sip(clean(target.sip), **_only("Sip", **leg))
    parent.append(dial)


def _only(verb: str, **attributes: Any) -> dict[str, Any]:
    """Return the attributes as they are. Raises TypeError for one that the verb does not have."""
    unknown = set(attributes) - ALLOWED[verb]
    if unknown:
        raise TypeError(f"<{verb}> has no attribute {', '.join(sorted(unknown))}")
    return attributes
