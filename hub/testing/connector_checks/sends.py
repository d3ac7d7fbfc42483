"""Sending: what is declared works, what is not declared is refused, and nothing lies."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hub.contract import Outgoing
from hub.testing.connector_checks.subject import Subject
from hub.testing.fake_vendor import FakeVendor, Mood
from normalizer.drafts import DeliveryState
from normalizer.outcomes import (
    Accepted,
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
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
    Video,
)
from normalizer.parts import Unsupported as UnsupportedPart

_MEDIA = Media(blob="blob-1", mime="application/octet-stream", name="a.bin", size=3)
PARTS: tuple[AnyPart, ...] = (
    Text(text="a text"),
    Image(media=_MEDIA),
    Audio(media=_MEDIA),
    Video(media=_MEDIA),
    File(media=_MEDIA),
    Location(lat=31.23, lon=121.47),
    Link(url="https://example.com/"),
    Card(title="a card"),
    QuickReplies(replies=(Button(label="yes"),)),
    Form(answers={"a": "b"}),
    Calendar(method="REQUEST"),
    UnsupportedPart(what="hologram"),
    Extension(name="acme.coupon", fallback="a coupon"),
)
HARD_TEXT = '你好😀 "quoted" <b>&amp;</b> %41 + line\nbreak \\u4f60'


class SendChecks(Subject):
    """``send`` of what the capabilities declare, and of what they do not."""

    def _needs_text(self) -> None:
        can = self.make_connector().capabilities
        if "text" not in can.sends:
            pytest.skip("exempt: it sends no texts")
        if not can.free_text:
            pytest.skip("exempt: it sends templates only")
        if not self.recipient:
            pytest.skip(self.reason("recipient"))

    def _outgoing(self, *parts: AnyPart, key: str = "job_1") -> Outgoing:
        address = self.recipient or f"{self.connector.channel}:main:user:ann"
        return Outgoing(entry="ent_1", key=key, address=address, parts=parts)

    async def test_a_part_type_that_is_not_declared_is_refused_and_not_sent(self) -> None:
        connector = self.make_connector()
        for part in PARTS:
            kind = part.__struct_config__.tag
            if kind in connector.capabilities.sends:
                continue
            for parts in ((part,), (Text(text="with it"), part)):
                with pytest.raises((Unsupported, Rejected)) as caught:
                    await connector.send(self._outgoing(*parts))
                assert caught.value.reason.strip(), f"the refusal of {kind} says nothing"

    async def test_a_text_arrives_as_it_was_written(self) -> None:
        self._needs_text()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            accepted = await connector.send(self._outgoing(Text(text=HARD_TEXT)))
            assert isinstance(accepted, Accepted)
            assert [got.text for got in vendor.got()] == [HARD_TEXT]
            assert accepted.state is not DeliveryState.FAILED
            if connector.capabilities.delivery_receipts:
                assert accepted.vendor_ids, "receipts name a vendor id: Accepted(vendor_ids=...)"

    async def test_a_text_of_the_declared_length_arrives_whole(self) -> None:
        self._needs_text()
        longest = self.make_connector().capabilities.max_text_chars
        if longest is None:
            pytest.skip("exempt: it declares no longest text")
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            await connector.send(self._outgoing(Text(text="长" * longest)))
            assert "".join(got.text for got in vendor.got()) == "长" * longest

    async def test_a_refusal_is_never_told_as_a_success(self) -> None:
        self._needs_text()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            _play(vendor, Mood.REFUSES)
            with pytest.raises(Failure) as caught:
                await connector.send(self._outgoing(Text(text="no")))
            assert not isinstance(caught.value, OutcomeUnknown), "a refusal is a clear answer"
            assert caught.value.reason.strip(), "an operator reads the reason"
            assert not vendor.got()
            with self.nothing_leaks(connector) as told:
                told.append(str(caught.value))

    async def test_a_send_without_an_answer_is_told_as_unknown(self) -> None:
        """Said to be retried, it would arrive twice, unless the vendor drops repetitions."""
        self._needs_text()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            _play(vendor, Mood.SWALLOWS)
            with pytest.raises(Exception) as caught:  # noqa: PT011 - anything else is unknown, too
                await connector.send(self._outgoing(Text(text="perhaps")))
            assert not isinstance(caught.value, Failure) or isinstance(caught.value, OutcomeUnknown)
            with self.nothing_leaks(connector) as told:
                told.append(str(caught.value))
            if connector.capabilities.dedupes_sends:
                vendor.mood = Mood.WELL
                await connector.send(self._outgoing(Text(text="perhaps")))
            assert [got.text for got in vendor.got()] == ["perhaps"]

    async def test_a_vendor_that_takes_nothing_at_the_moment_is_tried_again(self) -> None:
        self._needs_text()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            _play(vendor, Mood.AWAY)
            with pytest.raises((Temporary, RateLimited, Misconfigured)) as caught:
                await connector.send(self._outgoing(Text(text="later")))
            with self.nothing_leaks(connector) as told:
                told.append(str(caught.value))

    async def test_two_sends_with_different_keys_both_arrive(self) -> None:
        """The same words twice are two messages."""
        self._needs_text()
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            for key in ("job_1", "job_2"):
                await connector.send(self._outgoing(Text(text="yes"), key=key))
            assert [got.text for got in vendor.got()] == ["yes", "yes"]

    async def test_where_only_templates_leave_a_free_text_is_refused_and_names_them(self) -> None:
        """Before the vendor is asked; a template arrives with its blanks filled in."""
        if self.make_connector().capabilities.free_text:
            pytest.skip("exempt: it sends what people type")
        async with self.vendor() as vendor, self.at_work(vendor) as connector:
            listed = await connector.templates()
            assert listed, "give the account under test a template"
            with pytest.raises(Unsupported) as caught:
                await connector.send(self._outgoing(Text(text="short")))
            assert any(each.name in caught.value.reason for each in listed), (
                "the refusal has to name the templates that fit"
            )
            assert not vendor.got()
            chosen = listed[0]
            outgoing = replace(
                self._outgoing(Text(text="shown")),
                template=chosen.name,
                language=chosen.language,
                params=dict.fromkeys(chosen.params, "42"),
            )
            accepted = await connector.send(outgoing)
            assert accepted.state is not DeliveryState.FAILED
            assert len(vendor.got()) == 1
            for mood, kinds in _TROUBLES.items():
                if mood in vendor.moods:
                    vendor.mood = mood
                    with pytest.raises(kinds) as failed:
                        await connector.send(outgoing)
                    with self.nothing_leaks(connector) as told:
                        told.append(str(failed.value))


_TROUBLES: dict[Mood, type[Failure] | tuple[type[Failure], ...]] = {
    Mood.REFUSES: (Rejected, Misconfigured, RateLimited, Unsupported, Unreachable),
    Mood.SWALLOWS: OutcomeUnknown,
    Mood.AWAY: (Temporary, RateLimited, Misconfigured),
}


def _play(vendor: FakeVendor, mood: Mood) -> None:
    if mood not in vendor.moods:
        pytest.skip(f"exempt: the fake vendor does not play {mood!r}")
    vendor.mood = mood
