"""The space: its root key, and the proof that key and database belong together."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

import structlog

from hub.config import HubSettings
from hub.documents import State
from hub.ids import SpaceKey
from hub.store.codec import Codec, FieldCipher
from hub.store.interface import Store, WrongSpace

log = structlog.get_logger(__name__)

KEY_FILE = "space.key"


class SpaceKeyError(Exception):
    """The space's key cannot be read or made; the message says what to do."""


def space_key(settings: HubSettings) -> SpaceKey:
    """Return the configured root key, or the one in ``data_dir``, made at the first start."""
    if settings.space_key is not None:
        return SpaceKey(base64.b64decode(settings.space_key.reveal()))
    path = settings.data_dir / KEY_FILE
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _make_key(path)
    except OSError as error:
        raise SpaceKeyError(
            f"the folder {settings.data_dir} cannot be made or written to: {error.strerror}. Let"
            " the user that runs Omniline write there, or name another hub.data_dir"
        ) from error
    try:
        return SpaceKey(base64.b64decode(path.read_bytes().strip(), validate=True))
    except (OSError, ValueError) as error:
        raise SpaceKeyError(
            f"the space key in {path} cannot be used: {error}. It holds 32 bytes in base64; restore"
            " it from the backup, or set hub.space_key"
        ) from error


def _make_key(path: Path) -> None:
    """Write a new key durably; of two processes that start at once only one makes it."""
    temporary = path.with_suffix(f".{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, base64.b64encode(secrets.token_bytes(32)) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(temporary, path)
        _fsync(path.parent)
        log.info("space_key_made", path=str(path), advice="keep a copy of it with your backups")
    except FileExistsError:
        log.debug("space_key_was_there", path=str(path))
    finally:
        temporary.unlink()


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def codec(settings: HubSettings) -> Codec:
    """Return how documents are written: with sealed fields where the space encrypts."""
    cipher = field_cipher(settings)
    return Codec(cipher)


def field_cipher(settings: HubSettings) -> FieldCipher | None:
    if settings.encrypt == "none":
        return None
    keys = {
        name: base64.b64decode(secret.reveal()) for name, secret in settings.encryption_keys.items()
    }
    return FieldCipher(keys, settings.encryption_key or next(iter(keys)))


async def claim_space(store: Store, key: SpaceKey, encrypt: str) -> None:
    """Write the key's fingerprint into a new database, or compare it with the one there.

    Raises WrongSpace for a database that was made with another key or another mode: its ids
    could not be made again, so everything would be doubled.
    """
    table = store.table(State)
    mine = State(id="space", value={"key": key.fingerprint, "encrypt": encrypt}, rev=1)
    await table.insert([mine])
    held = await table.get("space")
    if held is None:
        raise WrongSpace("the database does not keep what is written to it")
    if held.value["key"] != key.fingerprint:
        raise WrongSpace(
            "this database was made with another space key. Restore that key (data_dir/space.key"
            " or hub.space_key), or use an empty database"
        )
    if held.value["encrypt"] != encrypt:
        raise WrongSpace(
            f"this database was made with encrypt = {held.value['encrypt']!r}, the configuration"
            f" says {encrypt!r}. The mode of a space cannot be changed in place"
        )
