"""Outcomes: one closed list, and what each means for trying again."""

from __future__ import annotations

import pytest

from normalizer import outcomes
from normalizer.drafts import DeliveryState
from normalizer.outcomes import (
    Accepted,
    Failure,
    Gone,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
    Verdict,
)

# Whether the hub may try again by itself. What surely was not done and may work later: yes.
RETRIED = {
    Temporary: True,
    RateLimited: True,
    Misconfigured: True,
    Rejected: False,
    Unreachable: False,
    Unsupported: False,
    Gone: False,
    OutcomeUnknown: False,
}


def make(kind: type[Failure]) -> Failure:
    if kind is RateLimited:
        return RateLimited("slow down", retry_after=2.5, scope="address", code="45009")
    return kind("that did not work", code="45009")


@pytest.mark.parametrize("kind", RETRIED)
def test_a_failure_says_what_happened_and_whether_to_try_again(kind: type[Failure]) -> None:
    failure = make(kind)
    assert failure.retry is RETRIED[kind]
    assert failure.code == "45009"
    assert str(failure) == failure.reason
    with pytest.raises(Failure):
        raise failure


def test_the_list_is_closed_and_every_verdict_belongs_to_one_outcome() -> None:
    assert set(Failure.__subclasses__()) == set(RETRIED)
    verdicts = [kind.verdict for kind in RETRIED]
    assert sorted([*verdicts, Verdict.ACCEPTED]) == sorted(Verdict)
    for kind in RETRIED:
        words = "".join(word.capitalize() for word in kind.verdict.split("_"))
        assert getattr(outcomes, words) is kind


def test_a_limit_says_how_long_and_what_has_to_pause() -> None:
    limit = make(RateLimited)
    assert isinstance(limit, RateLimited)
    assert (limit.retry_after, limit.scope) == (2.5, "address")
    assert RateLimited("x", retry_after=1).scope == "account"


def test_what_is_gone_may_have_a_successor() -> None:
    assert Gone("merged", successor="78", code="302").successor == "78"
    assert Gone("deleted").successor is None


def test_accepted_names_what_receipts_will_name() -> None:
    accepted = Accepted(vendor_ids=("SM09",))
    assert accepted.state is DeliveryState.ACCEPTED
    assert accepted.at is None
