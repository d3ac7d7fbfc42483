"""Mutated pushes, each with a signature of its own: Weibo's signature says nothing of the body."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from connectors.weibo.admission import NonceDoc
from hub import Request
from hub.testing.clock import START, FakeClock
from hub.testing.connector_checks.mutations import HOSTILE, mutations
from tests.support.hostile import survive
from tests.support.scale import scaled
from tests.weibo.support import make_connector, push

BODIES = scaled(2_000, 200_000)


@pytest.mark.soak
async def test_mutated_pushes_are_read_refused_or_kept_as_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a fixed seed; the memory of signed pairs is among what must not grow."""
    made = make_connector()

    async def kept_elsewhere(table: object, docs: object) -> set[str]:
        return set()  # the store of this process would grow with them, as no database's client does

    monkeypatch.setattr(type(made.context.documents(NonceDoc)), "insert", kept_elsewhere)
    samples = [each for each in made.samples(FakeClock()) if each.request.method == "POST"]
    each = BODIES // len(samples) + 1

    def bodies() -> Iterator[bytes]:
        turns = [mutations(sample.request.body, each, f"weibo/{sample.name}") for sample in samples]
        for _ in range(BODIES // len(turns)):
            for turn in turns:
                yield next(turn)

    def signed(number: int, body: bytes) -> Request:
        return push(made, body, at=START + timedelta(milliseconds=20 * number), nonce=str(number))

    told = await survive(made, signed, bodies(), count=BODIES)
    assert told["read"] > BODIES // 10
    assert told["failed"] > 0
    assert told["refused"] > len(HOSTILE)
