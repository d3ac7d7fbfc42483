"""The router's cache: what it keeps between batches, and for how many."""

from __future__ import annotations

import pytest

from hub.documents import AddressDoc
from hub.planning.workspace import NotLoaded, Workspace

KEEP = 5


def commit(ws: Workspace, *idents: str) -> None:
    for ident in idents:
        ws.new(AddressDoc(id=ident, scheme="tel"))
    ws.accept()
    ws.changes()
    ws.committed()


def known(ws: Workspace, ident: str) -> bool:
    try:
        return ws.get(AddressDoc, ident) is not None
    except NotLoaded:
        return False


def test_the_newest_stay_and_the_oldest_are_asked_for_again() -> None:
    ws = Workspace(keep=KEEP)
    commit(ws, "adr_0", "adr_1", "adr_2", "adr_3")
    commit(ws, "adr_4", "adr_5", "adr_6")
    assert [known(ws, f"adr_{n}") for n in range(7)] == [False, False] + [True] * 5


def test_a_batch_larger_than_the_cache_leaves_no_more_than_fits() -> None:
    ws = Workspace(keep=KEEP)
    commit(ws, *(f"adr_{n}" for n in range(3 * KEEP)))
    assert [n for n in range(3 * KEEP) if known(ws, f"adr_{n}")] == list(range(2 * KEEP, 3 * KEEP))


def test_what_fell_out_is_taken_in_again_when_it_was_loaded() -> None:
    ws = Workspace(keep=1)
    commit(ws, "adr_0", "adr_1")
    with pytest.raises(NotLoaded):
        ws.get(AddressDoc, "adr_0")
    ws.load(AddressDoc, ["adr_0"], {"adr_0": AddressDoc(id="adr_0", scheme="tel")})
    assert known(ws, "adr_0")
