"""Documents to BSON and back: schema versions, and sealed fields where the space encrypts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from bson.int64 import Int64
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.documents import Doc, InboxItem
from hub.store.interface import NewerSchema, NotStorable, StoreError

D = TypeVar("D", bound=Doc)
_NATIVE = (datetime, bytes)

MAX_ITEM_BYTES = 12 * 1024 * 1024  # well under BSON's 16 MiB: one too large would fail its group


def unstorable(item: InboxItem) -> NotStorable | None:
    """Say why an inbox item can never be stored, before it joins a group or the spool."""
    size = len(item.raw) + len(item.drafts)
    if size > MAX_ITEM_BYTES:
        return NotStorable(f"{item.id} has {size} bytes, the inbox takes {MAX_ITEM_BYTES}")
    try:
        msgspec.json.encode((item.channel, item.account, item.door, item.failed, item.addresses))
    except UnicodeEncodeError as error:
        return NotStorable(f"{item.id} has a text that is no Unicode: {error}")
    return None


def plain(value: Any) -> Any:
    """Make plain integers of bson's ``Int64`` (all above 32 bits), which no encoder of ours takes.

    Changes ``value`` in place. The driver could do it (``type_registry``), but hands out raw
    documents in replies then.
    """
    if isinstance(value, dict):
        for name, each in value.items():
            if type(each) in _MAY_HOLD:
                value[name] = plain(each)
        return value
    if isinstance(value, list):
        value[:] = [plain(each) if type(each) in _MAY_HOLD else each for each in value]
        return value
    return int(value)


_MAY_HOLD = frozenset({Int64, dict, list})


class FieldCipher:
    """AES-256-GCM with named keys. New values use ``current``; old ones stay readable.

    A sealed value is ``{k: key id, c: nonce + ciphertext}``, bound to its collection and field,
    so that it cannot be moved elsewhere.
    """

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        if current not in keys:
            raise ValueError(f"encryption key {current!r} is not among the configured keys")
        self._keys = {name: AESGCM(key) for name, key in keys.items()}
        self._current = current

    def seal(self, value: Any, place: str) -> dict[str, Any]:
        nonce = os.urandom(12)
        plain = msgspec.msgpack.encode(value)
        box = self._keys[self._current].encrypt(nonce, plain, place.encode())
        return {"k": self._current, "c": nonce + box}

    def open(self, sealed: Mapping[str, Any], place: str) -> Any:
        key = self._keys.get(sealed["k"])
        if key is None:
            raise StoreError(
                f"a field of {place} is encrypted with key {sealed['k']!r}:"
                " add that key to hub.encryption_keys"
            )
        box = sealed["c"]
        try:
            plain = key.decrypt(box[:12], box[12:], place.encode())
        except (InvalidTag, ValueError) as error:  # ValueError: cut so short that it has no nonce
            raise StoreError(
                f"a sealed field of {place} does not open with its key {sealed['k']!r}: it was"
                " changed or moved, or that key id has another key now. Restore it from a backup"
            ) from error
        return msgspec.msgpack.decode(plain)

    def seal_bytes(self, plain: bytes) -> bytes:
        """Seal a whole record (a spool record), key id included."""
        return msgspec.msgpack.encode(self.seal(plain, "record"))

    def open_bytes(self, record: bytes) -> bytes:
        opened: bytes = self.open(msgspec.msgpack.decode(record), "record")
        return opened


class Codec:
    """Turns documents into what is stored. Without a cipher, fields stay readable."""

    def __init__(self, cipher: FieldCipher | None = None) -> None:
        self._cipher = cipher

    def encode(self, doc: Doc) -> dict[str, Any]:
        """Return the stored form. Raises :class:`NotStorable` for what BSON cannot hold."""
        try:
            data: dict[str, Any] = msgspec.to_builtins(doc, builtin_types=_NATIVE)
        except (TypeError, ValueError) as error:
            raise NotStorable(f"{doc.collection} {doc.id}: {error}") from error
        if self._cipher is not None:
            for name in doc.sealed:
                if name in data:
                    data[name] = self._cipher.seal(data[name], f"{doc.collection}.{name}")
        data["v"] = doc.schema
        return data

    @property
    def seals(self) -> bool:
        """Whether this space encrypts what is personal."""
        return self._cipher is not None

    def seal_blob(self, data: bytes, blob: str) -> bytes:
        """Seal a whole blob under its id. Only where the space encrypts (:attr:`seals`)."""
        assert self._cipher is not None
        return msgspec.msgpack.encode(self._cipher.seal(data, f"blobs.{blob}"))

    def open_blob(self, data: bytes, blob: str) -> bytes:
        if self._cipher is None:
            raise StoreError(
                f"the blob {blob} is encrypted and no key is configured: set hub.encryption_keys"
            )
        opened: bytes = self._cipher.open(msgspec.msgpack.decode(data), f"blobs.{blob}")
        return opened

    def decode(self, kind: type[D], data: dict[str, Any]) -> D:
        """Read a stored document. Raises :class:`NewerSchema` for one of a later release."""
        version = data.pop("v", 1)
        if version > kind.schema:
            raise NewerSchema(
                f"{kind.collection} {data['_id']} has schema {version}, this release knows"
                f" {kind.schema}: run the newer release, or restore the backup made before it"
            )
        for name in kind.sealed:
            value = data.get(name)
            if isinstance(value, dict) and value.keys() == {"k", "c"}:
                if self._cipher is None:
                    raise StoreError(
                        f"{kind.collection}.{name} is encrypted and no key is configured:"
                        " set hub.encryption_keys"
                    )
                data[name] = self._cipher.open(value, f"{kind.collection}.{name}")
        try:
            return msgspec.convert(plain(data), kind)
        except msgspec.ValidationError as error:
            raise StoreError(
                f"{kind.collection} {data.get('_id')} is not what this release writes: {error}"
            ) from error
