"""The connector contract itself: it finds what it is there to find, and nobody escapes it.

The samples pass it in tests/samples/test_contract.py. Here are connectors with one fault each
(the check that must notice it is named), and the rule that every bundled connector has a
contract test.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
import structlog
from msgspec.structs import replace

from connectors.site import SiteConnector
from hub import (
    Answer,
    Connector,
    Deliver,
    Incoming,
    Outgoing,
    Polled,
    Refused,
    Request,
    Sample,
    Verified,
)
from hub.plugin_host import PluginHost
from hub.testing import ConnectorContract, FakeServices, check_golden
from hub.testing.connector_checks.forgeries import forgeries
from hub.testing.connector_checks.mutations import TooManySteps, counted, mutations
from hub.testing.samples.held import SampleHeld
from hub.testing.samples.poll import SamplePoll
from hub.testing.samples.webhook import SampleWebhook, Settings, check_signature, sign
from normalizer.addresses import Address
from normalizer.drafts import AnyDraft, Message
from normalizer.keys import KeyMissing
from normalizer.outcomes import Accepted, Failure, Temporary
from normalizer.parts import Text
from tests.samples import test_contract as samples

TESTS = Path(__file__).parent


# --- the bundled connectors ------------------------------------------------------------------


class TestSite(ConnectorContract):
    """The message door by REST. Its sockets have tests of their own in tests/site."""

    connector = SiteConnector
    settings = {"origins": ["https://www.example.com"], "app_keys": ["an-app-key-of-this-site"]}
    window_s = 15 * 60  # the life of an access token
    ahead_s = math.inf  # the hub dates its tokens itself
    golden = TESTS / "golden" / "site.json"
    exempt = {
        "rotation": "sessions are signed with a key that the hub derives itself",
        "refusals": "the widget has to know what to do next",
        "secret": "a session's secret is the hub's own",
        "unknown": "parts that are not known are refused before they are accepted",
        "recipient": "an answer is in the timeline, which the visitor's page follows",
    }

    def golden_of_samples(self) -> dict[str, str]:
        """A visitor is somebody new in every run."""
        lines = super().golden_of_samples()
        return {name: re.sub(r"visitor:[0-9a-f-]{36}", "visitor:*", lines[name]) for name in lines}

    def make_other(self) -> Connector[Any]:
        connector = self.make_connector()
        account = replace(connector.account, key="other")
        context = FakeServices().connector_context("site", "other")
        return SiteConnector(account, context)


def test_every_bundled_connector_has_a_contract_test() -> None:
    """A subclass of ConnectorContract in tests/ whose ``connector`` is the one registered."""
    host = PluginHost()
    host.discover(entry_points=False)
    for info in host.installed():
        assert info.available, f"{info.name} cannot be checked: {info.reason}"
    contracts = list(_contracts())
    missing = [
        f"{channel}: write class Test{channel.title()}(ConnectorContract) in tests/{channel}/"
        for channel, kind in host.connectors().items()
        if not any(getattr(contract, "connector", None) is kind for contract in contracts)
    ]
    assert host.connectors()
    assert not missing, "\n".join(["connectors without a contract test:", *missing])


def _contracts() -> Iterator[type[ConnectorContract]]:
    for path in sorted(TESTS.rglob("test_*.py")):
        if "ConnectorContract" in path.read_text("utf-8"):
            importlib.import_module(".".join(path.relative_to(TESTS.parent).with_suffix("").parts))
    found = list(ConnectorContract.__subclasses__())
    while found:
        contract = found.pop()
        found += contract.__subclasses__()
        if contract.__name__.startswith("Test"):
            yield contract


# --- connectors with one fault each ----------------------------------------------------------


def _is_the_right_length(request: Request) -> bool:
    return len(request.headers.get("x-sample-signature", "")) == 64


class BelievesEverybody(SampleWebhook):
    def verify(self, request: Request) -> Verified:
        return request.verified()


class LooksAtTheLength(SampleWebhook):
    def verify(self, request: Request) -> Verified:
        if not _is_the_right_length(request):
            raise Refused("signature")
        return request.verified()


class ComparesTheBeginning(SampleWebhook):
    def verify(self, request: Request) -> Verified:
        given = request.headers.get("x-sample-signature", "")
        time = request.headers.get("x-sample-time", "")
        if not sign(self._keys[0], time, request.body).startswith(given[:40]) or not given:
            raise Refused("signature")
        return request.verified()


class SignsTheTimeOnly(SampleWebhook):
    def verify(self, request: Request) -> Verified:
        check_signature(replace(request, body=self._signed), self._keys)
        return request.verified()

    _signed: ClassVar[bytes] = b""

    def samples(self, clock: Any) -> Any:
        found = list(super().samples(clock))[:1]
        type(self)._signed = found[0].request.body
        return found


class ForgetsTheWindow(SampleWebhook):
    def verify(self, request: Request) -> Verified:
        time = request.headers.get("x-sample-time", "")
        at = datetime.fromtimestamp(int(time) if time.isdecimal() and len(time) < 11 else 0, UTC)
        check_signature(replace(request, received_at=at), self._keys)
        return request.verified()


class StumblesOverAMissingHeader(SampleWebhook):
    def verify(self, request: Request) -> Verified:
        if not request.headers["x-sample-time"]:
            raise Refused("timestamp")
        return super().verify(request)


class StumblesOverBytes(SampleWebhook):
    def verify(self, request: Request) -> Verified:
        request.headers.get("x-sample-signature", "").encode()
        return super().verify(request)


class TellsWhy(SampleWebhook):
    def refusal(self, refused: Refused) -> Answer:
        return Answer(status=403, body=refused.reason.encode())


class HasAReasonForEach(SampleWebhook):
    def verify(self, request: Request) -> Verified:
        try:
            return super().verify(request)
        except Refused as refused:
            raise Refused(f"{request.headers.get('x-sample-time', '')[:30]!r}") from refused


class KnowsOneSecret(SampleWebhook):
    def verify(self, request: Request) -> Verified:
        check_signature(request, self._keys[:1])
        return request.verified()


class IsContentWithoutASecret(SampleWebhook):
    def check_settings(self) -> Sequence[str]:
        return ()


class BelievesWithoutASecret(SampleWebhook):
    def verify(self, request: Request) -> Verified:
        return super().verify(request) if self._keys else request.verified()


class RefusesTheInsecure(SampleWebhook):
    def verify(self, request: Request) -> Verified:
        check_signature(request, self._keys)
        return request.verified()


class AsksTheClock(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        now = self.context.clock.now()
        return [replace(draft, at=now) for draft in super().parse(verified)]


class MakesUpKeys(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        return [replace(one, key=str(random.random())) for one in super().parse(verified)]


class TakesTheArrivalForAKey(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        key = verified.request.received_at.isoformat()
        return [replace(one, key=f"{one.key}:{key}") for one in super().parse(verified)]


class TakesTheSecondForAKey(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        key = verified.request.headers["x-sample-time"]
        return [replace(draft, key=key) for draft in super().parse(verified)]


class ReadsWhatIsNotKept(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        sender = verified.request.headers.get("x-sample-time", "nobody")
        address = Address(scheme="sample", account="main", kind="user", id=sender)
        return [replace(draft, address=address) for draft in super().parse(verified)]


class KeepsASecret(SampleWebhook):
    allowed_headers = frozenset({"x-token"})

    def samples(self, clock: Any) -> Any:
        found = list(super().samples(clock))[:1]
        request = found[0].request
        headers = {**request.headers, "x-token": self._keys[0].decode()}
        return [replace(found[0], request=replace(request, headers=headers))]


class HasNoKeys(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        return [replace(draft, key="") for draft in super().parse(verified)]


class WritesNumbersAsTheyCome(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        number = Address(scheme="tel", kind="e164", id="+86 138 0013 8000")
        return [replace(draft, address=number) for draft in super().parse(verified)]


class ForgetsTheAccount(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        address = Address(scheme="sample", kind="user", id="ann")
        return [replace(draft, address=address) for draft in super().parse(verified)]


class HasNoTimeZone(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        at = datetime(2026, 3, 2)  # noqa: DTZ001 - the fault
        return [replace(draft, at=at) for draft in super().parse(verified)]


class DropsAMessage(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        return list(super().parse(verified))[1:]


class IgnoresWhatItDoesNotKnow(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        found = list(super().parse(verified))
        if isinstance(found[0], Message) and not isinstance(found[0].parts[0], Text):
            return [replace(found[0], parts=(Text(text=""),))]
        return found


class RefusesInParse(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        if not verified.payload.startswith(b"{"):
            raise Refused("not mine")
        return super().parse(verified)


class Exits(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        if not verified.payload:
            raise SystemExit("no body")
        return super().parse(verified)


class IsSlow(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        seen = 0
        for first in verified.payload:
            for second in verified.payload[:1000]:
                seen += first == second
        return super().parse(verified)


class TrustsTheTypesOfFields(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        push = json.loads(verified.payload)
        address = Address(scheme="sample", account="main", kind="user", id="ann")
        return [Message(key=push["id"], address=address, parts=(Text(text=push["text"]),))]


class AnswersWithAFailure(SampleWebhook):
    def answer(self, verified: Verified, drafts: Sequence[AnyDraft], clock: Any) -> Answer:
        return Answer() if drafts else Answer(status=400)


class AnswersByChance(SampleWebhook):
    def answer(self, verified: Verified, drafts: Sequence[AnyDraft], clock: Any) -> Answer:
        return Answer(body=str(random.random()).encode())


class LogsItsSecret(SampleWebhook):
    def verify(self, request: Request) -> Verified:
        structlog.get_logger("sample").info("verifying", key=self._keys[0].decode())
        return super().verify(request)


class TellsItsSecretInAnError(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        try:
            return super().parse(verified)
        except msgspec.MsgspecError as error:
            raise ValueError(f"not readable with {self._keys[0].decode()}") from error


class ShowsItsSecret(SampleWebhook):
    def __repr__(self) -> str:
        return f"<SampleWebhook {self._keys}>"


class OpenSettings(msgspec.Struct, frozen=True, kw_only=True):
    secrets: Annotated[list[str], msgspec.Meta(description="Shared secrets.")] = []


class HasAnOpenSecret(SampleWebhook):
    settings = OpenSettings


class MuteSettings(Settings, frozen=True, kw_only=True):
    region: str = "CN"


class DescribesNothing(SampleWebhook):
    settings = MuteSettings


class SendsAnything(SampleWebhook):
    async def send(self, message: Outgoing) -> Accepted:
        return Accepted()


class BringsHistory(SamplePoll):
    async def poll(self, cursor: str | None) -> Polled:
        return await super().poll(cursor or "0")


class ReadsOnePage(SamplePoll):
    async def poll(self, cursor: str | None) -> Polled:
        return replace(await super().poll(cursor), more=False)


class SkipsAfterARestart(SamplePoll):
    first = True

    async def poll(self, cursor: str | None) -> Polled:
        if self.first and cursor is not None:
            cursor = str(int(cursor) + 1)
        self.first = False
        return await super().poll(cursor)


class CountsKeys(SamplePoll):
    count = 0

    def read(self, raw: bytes) -> Sequence[AnyDraft]:
        type(self).count += 1
        return [replace(draft, key=str(self.count)) for draft in super().read(raw)]


class KeepsNoRaw(SamplePoll):
    async def poll(self, cursor: str | None) -> Polled:
        found = await super().poll(cursor)
        return replace(found, items=[replace(item, raw=b"") for item in found.items])


class HidesTrouble(SamplePoll):
    async def poll(self, cursor: str | None) -> Polled:
        try:
            return await super().poll(cursor)
        except Failure:
            return Polled(items=(), cursor=cursor or "")


class SaysAccepted(SamplePoll):
    async def send(self, message: Outgoing) -> Accepted:
        try:
            return await super().send(message)
        except Failure as failure:
            if failure.code:
                return Accepted()
            raise


class SaysTemporary(SamplePoll):
    async def send(self, message: Outgoing) -> Accepted:
        try:
            return await super().send(message)
        except Failure as failure:
            raise Temporary("try again") from failure


class Escapes(SamplePoll):
    async def send(self, message: Outgoing) -> Accepted:
        parts = tuple(
            Text(text=json.dumps(part.text)) if isinstance(part, Text) else part
            for part in message.parts
        )
        return await super().send(replace(message, parts=parts))


class CutsTexts(SamplePoll):
    async def send(self, message: Outgoing) -> Accepted:
        parts = tuple(
            Text(text=part.text[:1000]) if isinstance(part, Text) else part
            for part in message.parts
        )
        return await super().send(replace(message, parts=parts))


class SendsOnce(SamplePoll):
    async def send(self, message: Outgoing) -> Accepted:
        return await super().send(replace(message, key=str(hash(message.parts))))


class StartsLate(SampleHeld):
    """Says where it is only when the first message has come."""

    async def hold(self, cursor: str | None, deliver: Deliver) -> None:
        async def later(items: Sequence[Incoming], behind: str) -> None:
            if items:
                await deliver(items, behind)

        await super().hold(cursor, later)


class Replays(SampleHeld):
    async def hold(self, cursor: str | None, deliver: Deliver) -> None:
        await super().hold(cursor or "0", deliver)


class GoesOn(SampleHeld):
    async def hold(self, cursor: str | None, deliver: Deliver) -> None:
        async def anyway(items: Sequence[Incoming], behind: str) -> None:
            with contextlib.suppress(OSError):
                await deliver(items, behind)

        await super().hold(cursor, anyway)


class DoesNotWait(SampleHeld):
    async def hold(self, cursor: str | None, deliver: Deliver) -> None:
        tasks = set()

        async def soon(items: Sequence[Incoming], behind: str) -> None:
            tasks.add(asyncio.ensure_future(deliver(items, behind)))

        try:
            await super().hold(cursor, soon)
        finally:
            await asyncio.gather(*tasks, return_exceptions=True)


class ForgetsWhereItWas(SampleHeld):
    async def hold(self, cursor: str | None, deliver: Deliver) -> None:
        await super().hold(None, deliver)


class EndsInSilence(SampleHeld):
    async def hold(self, cursor: str | None, deliver: Deliver) -> None:
        with contextlib.suppress(Failure):
            await super().hold(cursor, deliver)


FAULTS: Mapping[type[Connector[Any]], str] = {
    BelievesEverybody: "test_what_was_altered_is_refused",
    LooksAtTheLength: "test_what_was_signed_for_another_account_is_refused",
    ComparesTheBeginning: "test_what_was_altered_is_refused",
    SignsTheTimeOnly: "test_what_was_altered_is_refused",
    ForgetsTheWindow: "test_what_is_too_old_or_too_new_is_refused",
    StumblesOverAMissingHeader: "test_what_was_altered_is_refused",
    StumblesOverBytes: "test_garbage_is_refused_without_any_other_exception",
    TellsWhy: "test_all_refusals_look_alike_from_outside",
    HasAReasonForEach: "test_all_refusals_look_alike_from_outside",
    KnowsOneSecret: "test_several_secrets_are_valid_while_they_are_rotated",
    IsContentWithoutASecret: (
        "test_an_account_without_a_secret_says_what_it_lacks_and_believes_nobody"
    ),
    BelievesWithoutASecret: (
        "test_an_account_without_a_secret_says_what_it_lacks_and_believes_nobody"
    ),
    RefusesTheInsecure: "test_an_insecure_account_without_a_secret_believes_everybody",
    AsksTheClock: "test_verify_and_parse_are_pure",
    MakesUpKeys: "test_verify_and_parse_are_pure",
    TakesTheArrivalForAKey: "test_a_repetition_is_believed_and_has_the_same_keys",
    TakesTheSecondForAKey: "test_different_samples_have_different_keys",
    ReadsWhatIsNotKept: "test_a_request_that_was_kept_is_read_as_it_was",
    KeepsASecret: "test_a_request_that_was_kept_is_read_as_it_was",
    HasNoKeys: "test_every_draft_can_be_stored_routed_and_found_again",
    WritesNumbersAsTheyCome: "test_every_draft_can_be_stored_routed_and_found_again",
    ForgetsTheAccount: "test_every_draft_can_be_stored_routed_and_found_again",
    HasNoTimeZone: "test_every_draft_can_be_stored_routed_and_found_again",
    DropsAMessage: "test_every_sample_is_believed_and_makes_the_drafts_it_declares",
    IgnoresWhatItDoesNotKnow: "test_a_message_of_an_unknown_type_is_kept_as_unsupported",
    RefusesInParse: "test_mutated_bodies_are_read_or_fail_like_any_code",
    Exits: "test_mutated_bodies_are_read_or_fail_like_any_code",
    IsSlow: "test_mutated_bodies_are_read_or_fail_like_any_code",
    TrustsTheTypesOfFields: "test_mutated_bodies_are_read_or_fail_like_any_code",
    AnswersWithAFailure: "test_the_answer_is_pure_and_says_that_all_is_well",
    AnswersByChance: "test_the_answer_is_pure_and_says_that_all_is_well",
    LogsItsSecret: "test_secrets_are_in_no_error_and_no_log",
    TellsItsSecretInAnError: "test_mutated_bodies_are_read_or_fail_like_any_code",
    ShowsItsSecret: "test_secrets_are_in_no_repr",
    HasAnOpenSecret: "test_every_setting_is_described_and_every_secret_is_a_secret",
    DescribesNothing: "test_every_setting_is_described_and_every_secret_is_a_secret",
    SendsAnything: "test_a_part_type_that_is_not_declared_is_refused_and_not_sent",
    BringsHistory: "test_a_new_account_polls_from_its_present_end",
    ReadsOnePage: "test_a_poll_brings_everything_once_and_in_order",
    SkipsAfterARestart: "test_a_cursor_that_is_asked_again_brings_the_same_keys",
    CountsKeys: "test_a_cursor_that_is_asked_again_brings_the_same_keys",
    KeepsNoRaw: "test_polled_items_keep_their_raw_bytes",
    HidesTrouble: "test_a_poll_of_a_vendor_in_trouble_raises_and_says_why",
    SaysAccepted: "test_a_refusal_is_never_told_as_a_success",
    SaysTemporary: "test_a_send_without_an_answer_is_told_as_unknown",
    Escapes: "test_a_text_arrives_as_it_was_written",
    CutsTexts: "test_a_text_of_the_declared_length_arrives_whole",
    SendsOnce: "test_two_sends_with_different_keys_both_arrive",
    StartsLate: "test_a_new_account_holds_from_its_present_end",
    Replays: "test_a_new_account_holds_from_its_present_end",
    GoesOn: "test_a_delivery_that_fails_ends_the_connection",
    DoesNotWait: "test_nothing_is_delivered_while_a_delivery_is_under_way",
    ForgetsWhereItWas: "test_a_held_connection_delivers_in_order_and_resumes",
    EndsInSilence: "test_a_vendor_in_trouble_ends_the_connection_with_a_reason",
}


def _contract_for(kind: type[Connector[Any]]) -> ConnectorContract:
    base = next(
        contract
        for contract in (samples.TestSampleWebhook, samples.TestSamplePoll, samples.TestSampleHeld)
        if issubclass(kind, contract.connector)
    )
    contract: ConnectorContract = type(
        f"Of{kind.__name__}", (base,), {"connector": kind, "patience_s": 0.5}
    )()
    return contract


async def _run(contract: ConnectorContract, check: str) -> None:
    result = getattr(contract, check)()
    if inspect.isawaitable(result):
        await result


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
async def test_the_contract_notices(kind: type[Connector[Any]]) -> None:
    """Each fault fails the check that is there for it."""
    with pytest.raises((AssertionError, KeyMissing, pytest.fail.Exception)):
        await _run(_contract_for(kind), FAULTS[kind])


@pytest.mark.parametrize(
    "base", [samples.TestSampleWebhook, samples.TestSamplePoll, samples.TestSampleHeld]
)
async def test_the_checks_that_notice_pass_without_a_fault(base: type[ConnectorContract]) -> None:
    """Otherwise the test above would prove nothing."""
    checks = {check for kind, check in FAULTS.items() if issubclass(kind, base.connector)}
    assert checks
    for check in checks:
        await _run(base(), check)


def test_an_exemption_needs_to_be_said() -> None:
    """A check that lacks what it needs fails until the test class says why it does not apply."""

    class Silent(samples.TestSampleWebhook):
        exempt: ClassVar[Mapping[str, str]] = {}
        window_s = None

    with pytest.raises(pytest.fail.Exception, match=r'exempt = \{"window"'):
        Silent().test_what_is_too_old_or_too_new_is_refused()


def test_an_exempt_window_has_to_be_true() -> None:
    """Who says that the vendor signs no time must believe yesterday's request."""

    class Wrong(samples.TestSampleWebhook):
        exempt: ClassVar[Mapping[str, str]] = {"window": "its vendor signs no time"}
        window_s = None

    with pytest.raises(pytest.fail.Exception, match="a day later"):
        Wrong().test_what_is_too_old_or_too_new_is_refused()


# --- its tools ---------------------------------------------------------------------------------


def test_forgeries_change_the_request() -> None:
    """No forgery is the genuine request, and all have a name that tells them apart."""
    contract = samples.TestSampleWebhook()
    for sample in contract.all_samples():
        found = dict(contract.forged(sample))
        assert len(found) > 70
        assert sample.request not in found.values()


def test_query_and_url_are_forged_together() -> None:
    request = Request(
        method="POST",
        path="/k7",
        url="https://hub.example/in/x/main?signature=ab&timestamp=17",
        query_string="signature=ab&timestamp=17",
        received_at=datetime(2026, 3, 2, tzinfo=UTC),
    )
    sample = Sample(name="q", request=request, signed_query=("signature",), signs_body=False)
    found = dict(forgeries(sample, signs_url=True, signs_path=True))
    assert found["parameter signature missing"].query_string == "timestamp=17"
    altered = found["parameter signature altered to 'bb'"]
    assert altered.query_string == "signature=bb&timestamp=17"
    assert altered.url.endswith("?signature=bb&timestamp=17")
    assert found["another host"].url.startswith("https://xhub.example/")
    assert found["path altered to 'l7'"].path == "/l7"


def test_another_spelling_of_a_signed_form_is_no_forgery() -> None:
    """Twilio signs what a form says: a blank value without its = says the same."""
    request = Request(
        method="POST",
        url="https://hub.example/",
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=b"Body=hi&ToZip=",
        received_at=datetime(2026, 3, 2, tzinfo=UTC),
    )
    sample = Sample(name="form", request=request)
    found = dict(forgeries(sample, spans=((0, len(request.body)),)))
    assert all(forged.body != b"Body=hi&ToZip" for forged in found.values())
    assert "the body grown by a byte" in found


def test_mutations_are_the_same_in_every_run_and_reach_into_values() -> None:
    body = b'{"id": "m1", "data": {"key": [1, 2]}}'
    first = list(mutations(body, 400, "seed"))
    assert first == list(mutations(body, 400, "seed"))
    assert first != list(mutations(body, 400, "other"))
    assert len(first) == 400
    assert any(b": null" in mutated for mutated in first)
    for sample in (b"<xml><Content>hi</Content></xml>", b"From=%2B86&Body=hi"):
        assert len(set(mutations(sample, 200, "seed"))) > 150


def test_steps_are_counted_and_not_caught() -> None:
    """What is counted cannot swallow the end of its time, and an innocent one is let through."""

    def stubborn() -> None:
        while True:
            with contextlib.suppress(Exception):
                sum(range(3))

    with pytest.raises(TooManySteps):
        counted(stubborn, 10_000)
    assert counted(lambda: 7, 10_000) == 7


def test_a_changed_golden_line_needs_a_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "golden" / "acme.json"
    monkeypatch.setenv("OMNILINE_UPDATE_GOLDEN", "1")
    check_golden(path, "webhook", {"text 1 key": "a"})
    check_golden(path, "poll", {"polled 1 key": "p"})
    monkeypatch.delenv("OMNILINE_UPDATE_GOLDEN")
    check_golden(path, "webhook", {"text 1 key": "a"})
    check_golden(path, "poll", {"polled 1 key": "p"})
    with pytest.raises(AssertionError, match="changing a line needs a migration"):
        check_golden(path, "webhook", {"text 1 key": "b"})
    with pytest.raises(AssertionError, match="changing a line needs a migration"):
        check_golden(path, "webhook", {})
    with pytest.raises(AssertionError, match="OMNILINE_UPDATE_GOLDEN=1") as caught:
        check_golden(path, "webhook", {"text 1 key": "a", "image 1 key": "i"})
    assert "migration" not in str(caught.value)


def test_the_public_names_are_there() -> None:
    import hub.testing

    for name in hub.testing.__all__:
        assert getattr(hub.testing, name).__name__ == name
    with pytest.raises(AttributeError):
        hub.testing.Nothing  # noqa: B018 - looking is the test
