"""winmail.dat: what Outlook wraps up where it should not (application/ms-tnef, MS-OXTNEF).

Read are the plain body and the attached files. What is in MAPI properties only (RTF) is not; the
original file is kept beside what was found.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_SIGNATURE = 0x223E9F78
_BODY = 0x0002800C
_RENDERING = 0x00069002  # begins the next attachment
_TITLE = 0x00018010
_DATA = 0x0006800F
_CODEPAGE = 0x00069007
_MAX_ATTRIBUTES = 2_000
_CODEPAGES = {936: "gb18030", 950: "cp950", 932: "cp932", 949: "cp949", 65001: "utf-8"}


class Unwrapped(NamedTuple):
    body: bytes = b""
    files: tuple[tuple[bytes, bytes], ...] = ()  # name, data
    charset: str = ""


def unwrap(raw: bytes) -> Unwrapped | None:
    """Return what is inside, as far as it can be read; None where it is no TNEF."""
    if len(raw) < 6 or struct.unpack_from("<I", raw)[0] != _SIGNATURE:
        return None
    body, charset = b"", ""
    names: list[bytes] = []
    datas: list[bytes] = []
    at = 6
    for _ in range(_MAX_ATTRIBUTES):
        if at + 9 > len(raw):
            break
        kind, length = struct.unpack_from("<II", raw, at + 1)
        start = at + 9
        data = raw[start : start + length]
        at = start + length + 2
        if kind == _BODY:
            body = data.rstrip(b"\0")
        elif kind == _CODEPAGE and len(data) >= 4:
            charset = _CODEPAGES.get(struct.unpack_from("<I", data)[0], "")
        elif kind == _RENDERING:
            names.append(b"")
            datas.append(b"")
        elif kind == _TITLE and names:
            names[-1] = data.rstrip(b"\0")
        elif kind == _DATA and datas:
            datas[-1] = data
    files = tuple((name, data) for name, data in zip(names, datas, strict=True) if data)
    return Unwrapped(body, files, charset)
