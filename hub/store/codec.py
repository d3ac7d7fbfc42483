"""Documents to BSON and back: schema versions, and sealed fields where the space encrypts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.documents import Doc
from hub.store.interface import NewerSchema, NotStorable, StoreError

D = TypeVar("D", bound=Doc)
_NATIVE = (datetime, bytes)


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
        except InvalidTag as error:
            raise StoreError(f"a sealed field of {place} does not open with its key") from error
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
        return msgspec.convert(data, kind)
