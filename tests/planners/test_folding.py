"""Folding gives the same entry in whatever order amendments arrive, and the right one wins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.documents import AmendmentDoc, Entry
from hub.planning.folding import STATE_RANK, fold
from normalizer.drafts import AmendmentKind, DeliveryState
from normalizer.model import Direction
from normalizer.parts import (
    AnyPart,
    Audio,
    Image,
    Media,
    MediaState,
    Text,
    Transcript,
    plain_text,
)

AT = datetime(2024, 3, 1, tzinfo=UTC)
PARTS: tuple[AnyPart, ...] = (
    Text(text="look"),
    Image(media=Media(vendor_ref="m1", state=MediaState.PENDING)),
    Image(media=Media(name="inline", state=MediaState.PENDING)),
)
ENTRY = Entry(
    id="ent_1",
    address="adr_1",
    position=1,
    at=AT,
    received_at=AT,
    channel="chat",
    account="main",
    direction=Direction.OUT,
    parts=PARTS,
)


def amendment(
    kind: AmendmentKind, position: int = 2, seq: int = 0, minutes: int = 0, **data: Any
) -> AmendmentDoc:
    return AmendmentDoc(
        id=f"amd_{position}",
        target="ent_1",
        kind=kind,
        position=position,
        at=AT + timedelta(minutes=minutes),
        seq=seq,
        data=data,
    )


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def picture(ref: str) -> dict[str, Any]:
    return {"type": "image", "media": {"vendor_ref": ref, "state": "pending"}}


def fetched(blob: str, ref: str | None) -> dict[str, Any]:
    return {"blob": blob, **({"vendor_ref": ref} if ref else {})}


_parts = st.lists(
    st.one_of(st.sampled_from("abc").map(text), st.sampled_from(["m1", "m2"]).map(picture)),
    max_size=3,
)
_data = st.one_of(
    st.tuples(st.just(AmendmentKind.EDIT), st.fixed_dictionaries({"parts": _parts})),
    st.tuples(st.just(AmendmentKind.RECALL), st.just({})),
    st.tuples(
        st.just(AmendmentKind.STATE),
        st.fixed_dictionaries(
            {"state": st.sampled_from(list(DeliveryState))},
            optional={"by": st.just("agent"), "round": st.integers(0, 2)},
        ),
    ),
    st.tuples(
        st.just(AmendmentKind.CALL),
        st.fixed_dictionaries({"step": st.sampled_from(["ringing", "ended"]), "n": st.integers()}),
    ),
    st.tuples(
        st.just(AmendmentKind.MEDIA),
        st.builds(
            lambda index, blob, ref: {"index": index, "media": fetched(blob, ref)},
            st.integers(0, 3),
            st.sampled_from(["blb_1", "blb_2"]),
            st.sampled_from(["m1", "m2", None]),
        ),
    ),
    st.tuples(
        st.just(AmendmentKind.MOVE),
        st.fixed_dictionaries({"conversation": st.sampled_from(["cnv_1", "cnv_2"])}),
    ),
)
_one = st.tuples(_data, st.integers(0, 2), st.integers(0, 2))


@st.composite
def two_orders(draw: st.DrawFn) -> tuple[list[AmendmentDoc], list[AmendmentDoc]]:
    drawn = draw(st.lists(_one, max_size=7))
    amendments = [
        amendment(kind, position, seq, minutes, **data)
        for position, ((kind, data), seq, minutes) in enumerate(drawn, start=2)
    ]
    return amendments, draw(st.permutations(amendments))


@given(two_orders())
def test_folding_does_not_depend_on_the_order(
    orders: tuple[list[AmendmentDoc], list[AmendmentDoc]],
) -> None:
    """Neither on the order nor on the steps: one by one, all at once, some of them twice."""
    amendments, shuffled = orders
    once = fold(ENTRY, amendments)
    one_by_one = ENTRY
    for each in shuffled:
        one_by_one = fold(one_by_one, [each])
    assert one_by_one == once
    again = fold(once, [each for each in shuffled if each.kind != AmendmentKind.EDIT])
    assert again == once


STATES = [str(state) for state in sorted(STATE_RANK, key=lambda state: STATE_RANK[state])]


@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [
        ("accepted", "delivered", "delivered"),
        ("read", "delivered", "read"),
        ("delivered", "failed", "failed"),
        ("failed", "read", "read"),
        ("unknown", "accepted", "accepted"),
        ("sending", "queued", "sending"),
    ],
)
def test_the_greater_state_wins_however_late_it_is(first: str, second: str, wins: str) -> None:
    told = [
        amendment(AmendmentKind.STATE, 2, state=first),
        amendment(AmendmentKind.STATE, 3, state=second, code="c", reason="why"),
    ]
    folded = fold(ENTRY, told)
    assert folded.delivery is not None
    assert folded.delivery.state == wins


def test_every_delivery_state_has_a_rank() -> None:
    assert set(STATE_RANK) == set(DeliveryState)


def test_a_second_round_outranks_all_that_was_said_of_the_first() -> None:
    told = [
        amendment(AmendmentKind.STATE, 2, state="read"),
        amendment(AmendmentKind.STATE, 3, state="sending", round=1),
    ]
    for order in (told, told[::-1]):
        folded = fold(ENTRY, order)
        assert folded.delivery is not None
        assert folded.delivery.state is DeliveryState.SENDING


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"seq": 1, "minutes": 9, "position": 9}, {"seq": 2}),
        ({"minutes": 1, "position": 9}, {"minutes": 2}),
        ({"position": 3}, {"position": 4}),
    ],
    ids=["the vendor's order", "then time", "then position"],
)
def test_of_two_edits_the_later_one_wins(older: dict[str, int], newer: dict[str, int]) -> None:
    edits = [
        amendment(AmendmentKind.EDIT, parts=[text("older")], **older),
        amendment(AmendmentKind.EDIT, parts=[text("newer")], **newer),
    ]
    for order in (edits, edits[::-1]):
        folded = fold(ENTRY, order)
        assert plain_text(folded.parts) == "newer"
        assert folded.rev == 2


def test_what_was_fetched_for_a_part_does_not_turn_up_in_the_part_that_replaced_it() -> None:
    changes = [
        amendment(AmendmentKind.EDIT, 2, parts=[picture("m2"), picture("m1")]),
        amendment(AmendmentKind.MEDIA, 3, index=1, media=fetched("blb_1", "m1")),
    ]
    for order in (changes, changes[::-1]):
        first, second = fold(ENTRY, order).parts
        assert isinstance(first, Image)
        assert isinstance(second, Image)
        assert (first.media.vendor_ref, first.media.blob) == ("m2", None)
        assert (second.media.vendor_ref, second.media.blob) == ("m1", "blb_1")
        assert second.media.state is MediaState.READY


def test_media_without_a_reference_is_found_by_its_place() -> None:
    folded = fold(ENTRY, [amendment(AmendmentKind.MEDIA, index=2, media=fetched("blb_1", None))])
    blobs = [part.media.blob for part in folded.parts if isinstance(part, Image)]
    assert blobs == [None, "blb_1"]


RECORDED = {
    "step": "recording",
    "parts": [{"type": "audio", "media": {"vendor_ref": "RE1", "state": "pending"}}],
}
WRITTEN = {"step": "transcript", "transcript": {"ref": "RE1", "text": "您好", "by": "acme"}}
HEARD = {"step": "path_1", "parts": [{"type": "text", "text": "订单", "source": "asr"}]}


def test_a_call_grows_parts_files_and_words_in_any_order() -> None:
    """What its steps bring, by the steps' names; the file that came and what was said in it."""
    changes = [
        amendment(AmendmentKind.CALL, 2, **HEARD),
        amendment(AmendmentKind.CALL, 3, **RECORDED),
        amendment(AmendmentKind.MEDIA, 4, index=1, media=fetched("blb_1", "RE1")),
        amendment(AmendmentKind.CALL, 5, **WRITTEN),
        amendment(AmendmentKind.CALL, 6, step="ended"),
    ]
    call = replace(ENTRY, kind="event", parts=())
    for order in permutations(changes):
        folded = fold(call, order)
        words, sound = folded.parts
        assert isinstance(words, Text)
        assert isinstance(sound, Audio)
        assert (sound.media.blob, sound.media.state) == ("blb_1", MediaState.READY)
        assert sound.transcript == Transcript(text="您好", by="acme")
        assert folded.rev == 0, "it was not edited"


def test_a_transcript_goes_to_the_sound_of_a_message_and_leaves_its_parts_alone() -> None:
    sound = Audio(media=Media(vendor_ref="RE1", blob="blb_1"))
    message = replace(ENTRY, parts=(*PARTS, sound))
    step = amendment(AmendmentKind.CALL, parts=[text("not here")], **WRITTEN)
    folded = fold(message, [step])
    assert folded.parts[:-1] == PARTS
    assert folded.parts[-1] == replace(sound, transcript=Transcript(text="您好", by="acme"))


def test_a_final_state_of_a_call_is_not_overtaken() -> None:
    """Callbacks come in any order: by the vendor's number, and what is final wins in any case."""
    changes = [
        amendment(AmendmentKind.CALL, 2, seq=3, step="leg", state="completed", final=True),
        amendment(AmendmentKind.CALL, 3, seq=9, step="leg", state="in-progress"),
        amendment(AmendmentKind.CALL, 4, seq=1, step="leg", state="ringing"),
    ]
    for order in permutations(changes):
        assert fold(ENTRY, order).data["call"]["leg"]["state"] == "completed"


def test_an_erased_entry_stays_as_it_is() -> None:
    buried = replace(ENTRY, parts=(), erased=True)
    assert fold(buried, [amendment(AmendmentKind.EDIT, parts=[text("back")])]) == buried
