"""A space's key is made once, kept safely, and a database made with another one is refused.

Real: files and their modes, threads that race. Faked: the store is the in-memory one; that the real
one refuses as well is in ``tests/store``.
"""

from __future__ import annotations

import base64
import os
import stat
import threading
from pathlib import Path

import pytest

from hub.config import load_text
from hub.config.hub_settings import HubSettings
from hub.documents import AddressDoc, State
from hub.ids import SpaceKey
from hub.space import (
    KEY_FILE,
    SpaceKeyError,
    claim_space,
    codec,
    field_cipher,
    space_key,
)
from hub.store.interface import WrongSpace
from hub.store.memory import MemoryStore

ROOT = base64.b64encode(b"r" * 32).decode()


def settings(folder: Path, more: str = "") -> HubSettings:
    return load_text(f'[hub]\ndata_dir = "{folder}"\n{more}').hub


def test_the_first_start_makes_a_key_that_only_its_owner_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    made = space_key(settings(folder))
    assert space_key(settings(folder)).fingerprint == made.fingerprint
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == [KEY_FILE], "nothing is left beside it"
    assert len(base64.b64decode((folder / KEY_FILE).read_bytes())) == 32
    assert space_key(settings(tmp_path / "other")).fingerprint != made.fingerprint


def test_processes_that_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    config = settings(tmp_path / "data")
    start = threading.Barrier(8)
    found: list[str] = []

    def begin() -> None:
        start.wait()
        found.append(space_key(config).fingerprint)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_what_a_crash_left_behind_does_not_block_the_next_start(tmp_path: Path) -> None:
    """In a container every process has the same id."""
    (tmp_path / f"space.{os.getpid()}").write_text("half a key")
    assert space_key(settings(tmp_path))


def test_a_configured_key_wins_and_no_file_is_made(tmp_path: Path) -> None:
    key = space_key(settings(tmp_path, f'space_key = "{ROOT}"'))
    assert key.fingerprint == SpaceKey(b"r" * 32).fingerprint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "not base64!", base64.b64encode(b"short").decode()])
def test_a_broken_key_file_says_what_to_do_and_is_left_as_it_is(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / KEY_FILE
    path.write_text(content)
    with pytest.raises(SpaceKeyError, match=r"restore it from\s+the backup, or set hub\.space_key"):
        space_key(settings(tmp_path))
    assert path.read_text() == content


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpaceKeyError, match="file/data"):
        space_key(settings(tmp_path / "file" / "data"))


# --- key and database ----------------------------------------------------------------------------


async def test_a_new_database_is_claimed_and_known_again() -> None:
    store = MemoryStore()
    key = SpaceKey(b"1" * 32)
    await claim_space(store, key, "none")
    await claim_space(store, key, "none")
    held = await store.table(State).get("space")
    assert held is not None
    assert held.value == {"key": key.fingerprint, "encrypt": "none"}
    assert b"1" * 32 not in str(held).encode()


async def test_another_key_or_another_mode_is_refused() -> None:
    store = MemoryStore()
    await claim_space(store, SpaceKey(b"1" * 32), "addresses")
    with pytest.raises(WrongSpace, match="another space key"):
        await claim_space(store, SpaceKey(b"2" * 32), "addresses")
    with pytest.raises(WrongSpace, match=r"'addresses', the configuration\s+says 'none'"):
        await claim_space(store, SpaceKey(b"1" * 32), "none")


async def test_a_database_that_keeps_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()

    class Forgetful:
        async def insert(self, docs: object) -> set[str]:
            return set()

        async def get(self, ident: str) -> None:
            return None

    monkeypatch.setattr(store, "table", lambda kind: Forgetful())
    with pytest.raises(WrongSpace, match="does not keep what is written"):
        await claim_space(store, SpaceKey(b"1" * 32), "none")


# --- how documents are written -------------------------------------------------------------------


ENCRYPTED = """
encrypt = "addresses"
encryption_key = "k2"
encryption_keys = {{ k1 = "{0}", k2 = "{0}" }}
""".format(ROOT)  # noqa: UP032 - TOML has braces of its own


def test_fields_are_sealed_where_the_space_says_so(tmp_path: Path) -> None:
    doc = AddressDoc(id="adr_1", scheme="tel", address="tel:+1")
    sealed = codec(settings(tmp_path, ENCRYPTED)).encode(doc)
    assert sealed["address"]["k"] == "k2"
    assert codec(settings(tmp_path)).encode(doc)["address"] == "tel:+1"
    assert field_cipher(settings(tmp_path)) is None
