"""WeChat's signatures and its message encryption (contracts: section 2 of the vendor's page).

Written here and not taken from a library because of what the usual one leaves out: comparing in
constant time, looking at the padding, and failing in one way only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK = 32  # PKCS#7 to 32 bytes, though AES has blocks of 16
PREFIX = 16  # random bytes in front
_LENGTH = 4  # of the text, big-endian


class NotGenuine(Exception):
    """The text was not encrypted for this account. It never says why."""


def signature(*signed: str) -> str:
    """Return the SHA-1 of the sorted texts (in byte order), in lower-case hex.

    Of token, timestamp and nonce for a plain push; with ``Encrypt`` as well it is msg_signature.
    """
    texts = sorted(text.encode(errors="surrogateescape") for text in signed)
    return hashlib.sha1(b"".join(texts), usedforsecurity=False).hexdigest()


def signer(tokens: Sequence[str], given: str, *signed: str) -> int | None:
    """Return which of the tokens signed, None if none did; every one of them is tried."""
    found = None
    told = given.encode(errors="surrogateescape")
    for number, token in enumerate(tokens):
        if hmac.compare_digest(signature(token, *signed).encode(), told):
            found = number
    return found


def aes_key(encoding_aes_key: str) -> bytes:
    """Return the 32 bytes that the 43 characters of EncodingAESKey stand for."""
    key = base64.b64decode(f"{encoding_aes_key}=")
    if len(key) != 32:
        raise ValueError("EncodingAESKey does not stand for 32 bytes")
    return key


def encrypt(key: bytes, appid: str, text: bytes, prefix: bytes) -> str:
    """Return the base64 text that goes into ``Encrypt``; ``prefix`` are 16 bytes."""
    framed = prefix + len(text).to_bytes(_LENGTH, "big") + text + appid.encode()
    pad = BLOCK - len(framed) % BLOCK
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    return base64.b64encode(
        encryptor.update(framed + bytes([pad]) * pad) + encryptor.finalize()
    ).decode()


def decrypt(key: bytes, appid: str, encrypted: str) -> bytes:
    """Return what was encrypted for ``appid``. Raises :class:`NotGenuine` for anything else."""
    try:
        sealed = base64.b64decode(encrypted, validate=True)
    except (binascii.Error, ValueError):
        raise NotGenuine from None
    if not sealed or len(sealed) % BLOCK:
        raise NotGenuine
    decryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).decryptor()
    padded = decryptor.update(sealed) + decryptor.finalize()
    pad = padded[-1]
    if not 1 <= pad <= BLOCK or padded[-pad:] != bytes([pad]) * pad:
        raise NotGenuine
    framed = padded[PREFIX:-pad]
    if len(framed) < _LENGTH:
        raise NotGenuine
    ends = _LENGTH + int.from_bytes(framed[:_LENGTH], "big")
    if ends > len(framed) or not hmac.compare_digest(framed[ends:], appid.encode()):
        raise NotGenuine
    return framed[_LENGTH:ends]
