"""Names on the IMAP wire: quoted strings, and the modified UTF-7 of folders (RFC 3501, 5.1.3)."""

from __future__ import annotations

import base64
import binascii
import re

MAX_NAME_CHARS = 1000
_ENCODED = re.compile(rb"&([^-]*)-")
_PLAIN = re.compile(r"[\x20-\x7e]+")


def quoted(text: str) -> str:
    """Return an IMAP quoted string. Raises ``ValueError`` for what none can hold."""
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError("a line break or control character cannot be sent to an IMAP server")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def encode_folder(name: str) -> str:
    """Return a folder's name as the server writes it: ``垃圾邮件`` is ``&V4NXPpCuTvY-``."""
    if len(name) > MAX_NAME_CHARS:
        raise ValueError(f"a folder's name has at most {MAX_NAME_CHARS} characters")
    out = []
    position = 0
    while position < len(name):
        plain = _PLAIN.match(name, position)
        if plain:
            out.append(plain.group().replace("&", "&-"))
            position = plain.end()
            continue
        end = position
        while end < len(name) and not _PLAIN.match(name[end]):
            end += 1
        coded = base64.b64encode(name[position:end].encode("utf-16-be", "surrogatepass"))
        out.append("&" + coded.decode().rstrip("=").replace("/", ",") + "-")
        position = end
    return "".join(out)


def decode_folder(raw: bytes) -> str:
    """Return a folder's name as people write it; what is no modified UTF-7 stays as it is."""

    def decoded(found: re.Match[bytes]) -> bytes:
        coded = found.group(1).replace(b",", b"/")
        if not coded:
            return b"&"
        try:
            text = base64.b64decode(coded + b"=" * (-len(coded) % 4), validate=True)
            return text.decode("utf-16-be").encode()
        except (binascii.Error, ValueError):
            return found.group(0)

    return _ENCODED.sub(decoded, raw[: 8 * MAX_NAME_CHARS]).decode("utf-8", "replace")
