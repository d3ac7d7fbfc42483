"""The webhook door: what is believed, what is refused, and what becomes of it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from hub.contract import Answer, Connector, Refused, Request, Sample, Verified
from hub.intake import RawRequest
from hub.intake import _raw as raw_request
from hub.replay import believed as believed_then
from hub.testing.clock import START, FakeClock
from hub.testing.connector_checks.drafts import check_draft, check_storable, golden_lines
from hub.testing.connector_checks.forgeries import garbage
from hub.testing.connector_checks.mutations import TooManySteps, counted, mutations
from hub.testing.connector_checks.subject import (
    ACCOUNT,
    Subject,
    believed,
    secrets_of,
    texts_of,
)
from hub.testing.services import FakeServices
from normalizer.addresses import AddressError
from normalizer.drafts import AnyDraft, Message
from normalizer.keys import KeyMissing, dedupe_key
from normalizer.parts import Unsupported

MUTATIONS = 20_000 if os.environ.get("OMNILINE_SCALE") == "full" else 500
STEPS = 200_000  # lines of Python for one body, and for each of its bytes:
STEPS_PER_BYTE = 100
REASONS = 12


class WebhookChecks(Subject):
    """Run on the samples of the connector."""

    # --- what is genuine -----------------------------------------------------------------------

    def test_every_sample_is_believed_and_makes_the_drafts_it_declares(self) -> None:
        self.needs_webhook()
        connector = self.make_connector()
        samples = self.all_samples(connector)
        assert samples, "samples() returns nothing: there is nothing to check the door with"
        names = [sample.name for sample in samples]
        assert len(set(names)) == len(names), "two samples have the same name"
        for sample in samples:
            drafts = connector.parse(self._genuine(connector, sample))
            assert len(drafts) == sample.drafts, f"{sample.name}: another number of drafts"

    def test_every_draft_can_be_stored_routed_and_found_again(self) -> None:
        self.needs_webhook()
        connector = self.make_connector()
        for sample in self.all_samples(connector):
            for draft in connector.parse(self._genuine(connector, sample)):
                check_draft(type(connector), draft)

    def test_every_sample_that_says_something_signs_something(self) -> None:
        self.needs_webhook()
        for sample in self.all_samples():
            assert self.forged(sample), (
                f"{sample.name}: nothing of it is signed, so anybody could send it"
            )
            assert set(sample.signed_headers) <= set(sample.request.headers), (
                f"{sample.name}: a signed header is not in the request (names in lower case)"
            )

    def test_a_signed_url_is_that_of_the_accounts_door(self) -> None:
        """What was signed for another hub's URL is refused: samples ask context.public_url."""
        self.needs_webhook()
        if not self.signs_url:
            pytest.skip("exempt: its signature does not cover the URL")
        connector = self.make_connector()
        elsewhere = self.make_connector(services=FakeServices(public_url="https://b.example/hub"))
        for sample in self.all_samples(elsewhere):
            self._genuine(elsewhere, sample)
            request, theirs = sample.request, elsewhere.context.public_url
            query = f"?{request.query_string}" if request.query_string else ""
            assert request.url == f"{theirs}{request.path}{query}", (
                f"{sample.name}: signed for {request.url}, and its door is {theirs}"
            )
            ours = f"{connector.context.public_url}{request.path}{query}"
            answer = believed(connector, replace(request, url=ours), sample.name)
            assert isinstance(answer, Refused), f"{sample.name}: believed under another URL"

    def test_verify_and_parse_are_pure(self) -> None:
        """The same bytes give equal drafts: again, a day later, and in another process."""
        self.needs_webhook()
        connector = self.make_connector()
        for sample in self.all_samples(connector):
            verified = self._genuine(connector, sample)
            first = connector.parse(verified)
            assert connector.verify(sample.request) == verified
            clock = connector.context.clock
            assert isinstance(clock, FakeClock)
            clock.advance(86_400)
            assert connector.parse(verified) == first, f"{sample.name}: parse asks the clock"
            other = self.make_connector()
            assert other.parse(self._genuine(other, sample)) == first, sample.name

    def test_a_request_that_was_kept_is_read_as_it_was(self) -> None:
        """A dead letter is parsed again from what is kept: payload, facts, some headers."""
        self.needs_webhook()
        connector = self.make_connector()
        secrets = secrets_of(connector.account.settings)
        for sample in self.all_samples(connector):
            verified = self._genuine(connector, sample)
            kept = msgspec.msgpack.decode(raw_request(connector, verified), type=RawRequest)
            shown = repr(kept.headers)
            assert not any(secret in shown for secret in secrets), (
                f"{sample.name}: a secret is kept; take its header out of allowed_headers"
            )
            again = connector.parse(believed_then(kept, sample.request.received_at))
            assert again == connector.parse(verified), (
                f"{sample.name}: parse reads what is not kept. Put it into"
                " request.verified(..., name=value), or its header into allowed_headers"
            )

    def test_a_message_of_an_unknown_type_is_kept_as_unsupported(self) -> None:
        self.needs_webhook()
        connector = self.make_connector()
        found = [sample for sample in self.all_samples(connector) if sample.name == self.unknown]
        if not found:
            pytest.skip(self.reason("unknown"))
        drafts = connector.parse(self._genuine(connector, found[0]))
        parts = [part for draft in drafts if isinstance(draft, Message) for part in draft.parts]
        assert any(isinstance(part, Unsupported) for part in parts), (
            f"the sample {self.unknown!r} has to become a message with an Unsupported part"
        )

    def test_a_hint_is_told_by_a_connector_that_polls_behind_its_webhook(self) -> None:
        self.needs_webhook()
        if not self.connector.polls() or "poll" in self.exempt:
            pytest.skip("exempt: it does not poll")
        connector = self.make_connector()
        hints = [
            connector.hint(self._genuine(connector, sample))
            for sample in self.all_samples(connector)
        ]
        assert any(hints), "no sample makes hint() return a reason to poll"

    # --- what is not ---------------------------------------------------------------------------

    def test_what_was_altered_is_refused(self) -> None:
        """Each signed header, parameter and byte: missing, empty, changed by one character."""
        self.needs_webhook()
        connector = self.make_connector()
        for sample in self.all_samples(connector):
            for told, request in self.forged(sample):
                answer = believed(connector, request, f"{sample.name}: {told}")
                assert isinstance(answer, Refused), f"{sample.name}: believed with {told}"

    def test_what_was_signed_for_another_account_is_refused(self) -> None:
        self.needs_webhook()
        ours, theirs = self.make_connector(), self.make_other()
        for us, them in ((ours, theirs), (theirs, ours)):
            for sample in self.all_samples(us):
                self._genuine(us, sample)
                answer = believed(them, sample.request, sample.name)
                assert isinstance(answer, Refused), f"{sample.name}: believed with another secret"

    def test_what_is_too_old_or_too_new_is_refused(self) -> None:
        """``window_s`` seconds later it is believed, a little more and it is not."""
        self.needs_webhook()
        connector = self.make_connector()
        if self.window_s is None:
            reason = self.reason("window")
            for sample in self.all_samples(connector):
                self._genuine(connector, _later(sample, 86_400), "a day later")
            pytest.skip(reason)
        ahead_s = self.window_s if self.ahead_s is None else self.ahead_s
        for sample in self.all_samples(connector):
            for way, sign, window_s in (("late", 1, self.window_s), ("early", -1, ahead_s)):
                if math.isinf(window_s):
                    continue
                self._genuine(connector, _later(sample, sign * max(0, window_s - 2)), "in time")
                for too_long in (window_s + 2, 86_400.0, 10 * 365 * 86_400.0):
                    late = _later(sample, sign * too_long)
                    answer = believed(connector, late.request, sample.name)
                    assert isinstance(answer, Refused), (
                        f"{sample.name}: believed {too_long:.0f} s too {way}"
                    )

    def test_garbage_is_refused_without_any_other_exception(self) -> None:
        self.needs_webhook()
        connector = self.make_connector()
        for sample in self.all_samples(connector):
            for told, must, request in garbage(sample):
                answer = believed(connector, request, f"{sample.name}: {told}")
                assert not must or isinstance(answer, Refused), f"{sample.name}: believed {told}"

    def test_all_refusals_look_alike_from_outside(self) -> None:
        """Who forges learns nothing from the answer; our reasons are few, as metrics need it."""
        self.needs_webhook()
        connector = self.make_connector()
        for sample in self.all_samples(connector):
            refusals = self._refusals(connector, sample)
            answers = {repr(_seen(connector.refusal(refused))) for refused in refusals}
            if len(answers) > 1 and "refusals" not in self.exempt:
                pytest.fail(f"{sample.name}: answers tell refusals apart: {answers}")
            statuses = {connector.refusal(refused).status for refused in refusals}
            assert all(400 <= status < 500 for status in statuses), statuses
            reasons = {refused.reason for refused in refusals}
            assert len(reasons) <= REASONS, f"reasons are labels of a metric: {sorted(reasons)}"
            assert all(0 < len(reason) <= 60 for reason in reasons), reasons

    def test_an_exempt_webhook_refuses_everything(self) -> None:
        if "webhook" not in self.exempt:
            pytest.skip("exempt: it has a webhook door")
        connector = self.make_connector()
        assert not connector.samples(FakeClock()), "it has samples, so it has a webhook door"
        for method in ("GET", "POST"):
            request = Request(method=method, url="", body=b"{}", received_at=START)
            assert isinstance(believed(connector, request), Refused)

    # --- repeated, rotated, open ---------------------------------------------------------------

    def test_a_repetition_is_believed_and_has_the_same_keys(self) -> None:
        """Vendors repeat what they doubt has arrived: the same key is how the hub notices."""
        self.needs_webhook()
        connector = self.make_connector()
        for sample in self.all_samples(connector):
            first = self._keys(connector, sample)
            assert len(set(first)) == len(first), f"{sample.name}: two of its drafts share a key"
            again = _later(sample, min(60.0, (self.window_s or 60.0) / 2))
            assert self._keys(connector, again) == first, (
                f"{sample.name}: the key of a repetition is another: it would be doubled"
            )

    def test_different_samples_have_different_keys(self) -> None:
        self.needs_webhook()
        connector = self.make_connector()
        keys: dict[str, str] = {}
        for sample in self.all_samples(connector):
            for key in self._keys(connector, sample):
                assert key not in keys, f"{sample.name} and {keys[key]} share a key: one is lost"
                keys[key] = sample.name

    def test_several_secrets_are_valid_while_they_are_rotated(self) -> None:
        self.needs_webhook()
        if not self.both_secrets:
            pytest.skip(self.reason("rotation"))
        both = self.make_connector(self.both_secrets)
        for alone in (self.make_connector(), self.make_other()):
            for sample in self.all_samples(alone):
                self._genuine(both, sample, "with one of two secrets")

    def test_an_account_without_a_secret_says_what_it_lacks_and_believes_nobody(self) -> None:
        self.needs_webhook()
        if "secret" in self.exempt:
            pytest.skip(self.reason("secret"))
        bare = self.make_connector(self._no_secrets())
        complaints = bare.check_settings()
        assert complaints, "check_settings() is content without a secret: anybody could write"
        assert all(isinstance(line, str) and " " in line for line in complaints), complaints
        assert not self.make_connector().check_settings()
        for sample in self.all_samples():
            assert isinstance(believed(bare, sample.request, sample.name), Refused)

    def test_an_insecure_account_without_a_secret_believes_everybody(self) -> None:
        self.needs_webhook()
        if "secret" in self.exempt:
            pytest.skip(self.reason("secret"))
        trial = self.make_connector(self._no_secrets(), insecure=True)
        for sample in self.all_samples():
            self._genuine(trial, sample, "insecure")

    # --- what is believed is never refused for its content -------------------------------------

    def test_mutated_bodies_are_read_or_fail_like_any_code(self) -> None:
        """With a fixed seed: no hang, no exit, nothing that the inbox cannot store."""
        self.needs_webhook()
        connector = self.make_connector()
        samples = self.all_samples(connector)
        with self.nothing_leaks(connector) as told:
            for sample in samples:
                verified = self._genuine(connector, sample)
                seed = f"{connector.channel}/{sample.name}"
                for body in mutations(verified.payload, MUTATIONS // len(samples), seed):
                    self._try(connector, sample, verified, body, told)

    def _try(
        self,
        connector: Connector[Any],
        sample: Sample,
        verified: Verified,
        body: bytes,
        told: list[str],
    ) -> None:
        shown = f"{sample.name}: {body[:300]!r} ({len(body)} bytes)"
        most = STEPS + STEPS_PER_BYTE * len(body)
        request = replace(sample.request, body=body)
        mutated = replace(verified, request=replace(verified.request, body=body), payload=body)
        drafts: Sequence[AnyDraft] = ()
        try:
            answer = counted(lambda: believed(connector, request, shown), most)
            if isinstance(answer, Refused) and not sample.signs_body:
                return  # not even the right format; a genuine request always has one
            drafts = counted(lambda: connector.parse(mutated), most)
            for draft in drafts:
                dedupe_key(connector.channel, ACCOUNT, draft)
        except TooManySteps as error:
            pytest.fail(f"{error}: {shown}")
        except SystemExit:
            pytest.fail(f"a body must not be able to end the process: {shown}")
        except Refused:
            pytest.fail(f"parse refused what verify believed; raise something else: {shown}")
        except MemoryError:
            pytest.fail(f"parse took all memory: {shown}")
        except (KeyMissing, AddressError):
            drafts = ()  # becomes a dead letter that can be replayed
        except Exception as error:  # noqa: BLE001 - so does this
            told += texts_of(error)
            drafts = ()
        try:
            check_storable(connector.channel, drafts)
        except AssertionError as error:
            raise AssertionError(f"{error} {shown}") from error
        told_vendor = connector.answer(mutated, drafts, FakeClock())
        assert 200 <= told_vendor.status < 300, (
            f"a believed request is answered with {told_vendor.status}: {shown}"
        )

    def test_the_answer_is_pure_and_says_that_all_is_well(self) -> None:
        self.needs_webhook()
        connector = self.make_connector()
        for sample in self.all_samples(connector):
            verified = self._genuine(connector, sample)
            for drafts in (connector.parse(verified), ()):
                answer = connector.answer(verified, drafts, FakeClock())
                assert 200 <= answer.status < 300, f"{sample.name}: {answer.status}"
                assert connector.answer(verified, drafts, FakeClock()) == answer, sample.name

    def test_secrets_are_in_no_error_and_no_log(self) -> None:
        self.needs_webhook()
        connector = self.make_connector()
        with self.nothing_leaks(connector) as told:
            for sample in self.all_samples(connector):
                verified = self._genuine(connector, sample)
                drafts = connector.parse(verified)
                told += [repr(verified), repr(connector.answer(verified, drafts, FakeClock()))]
                for refused in self._refusals(connector, sample):
                    told += [*texts_of(refused), repr(connector.refusal(refused))]

    # --- frozen --------------------------------------------------------------------------------

    def test_keys_and_addresses_of_the_samples_are_frozen(self) -> None:
        """They are hashed into ids: ``golden`` says what they have always been."""
        self.needs_webhook()
        self.freeze_lines("webhook", self.golden_of_samples())

    def golden_of_samples(self) -> dict[str, str]:
        connector = self.make_connector()
        lines: dict[str, str] = {}
        for sample in self.all_samples(connector):
            drafts = connector.parse(self._genuine(connector, sample))
            lines |= golden_lines(connector.channel, sample.name, drafts)
        return lines

    # -------------------------------------------------------------------------------------------

    def _no_secrets(self) -> dict[str, Any]:
        return dict(self.no_secrets) or dict.fromkeys(self.other_secrets)

    def _genuine(self, connector: Connector[Any], sample: Sample, how: str = "") -> Verified:
        answer = believed(connector, sample.request, sample.name)
        if isinstance(answer, Refused):
            pytest.fail(f"the sample {sample.name!r} is refused {how}: {answer.reason}")
        return answer

    def _keys(self, connector: Connector[Any], sample: Sample) -> list[str]:
        drafts = connector.parse(self._genuine(connector, sample))
        return [dedupe_key(connector.channel, ACCOUNT, draft) for draft in drafts]

    def _refusals(self, connector: Connector[Any], sample: Sample) -> list[Refused]:
        requests = [request for _, request in self.forged(sample)]
        if self.window_s is not None:
            requests.append(_later(sample, self.window_s + 60).request)
        requests += [request for _, must, request in garbage(sample) if must]
        answers = [believed(connector, request) for request in requests]
        return [answer for answer in answers if isinstance(answer, Refused)]


def _later(sample: Sample, seconds: float) -> Sample:
    at = sample.request.received_at + timedelta(seconds=seconds)
    return replace(sample, request=replace(sample.request, received_at=at))


def _seen(answer: Answer) -> tuple[int, bytes, str, dict[str, str]]:
    return answer.status, answer.body, answer.content_type, dict(answer.headers)
