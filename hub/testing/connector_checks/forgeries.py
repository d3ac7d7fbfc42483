"""Requests that are nearly genuine: a sample with one thing changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import parse_qsl

from msgspec.structs import replace

from hub.contract import Request, Sample

POSITIONS = 64  # of a signature of any length, so many characters are altered in turn
GARBAGE = (
    "",
    " ",
    "\x00",
    "0",
    "-1",
    "nan",
    "1e9",
    "9" * 400,
    "１２３",
    "é",
    "\udcff\udcfe",  # how bytes that are no UTF-8 arrive in a header
    "😀",
    "A" * 100_000,
    "=" * 50,
    ",",
    "sha256=",
    "v1,",
    "%ff%00",
    "' or 1=1 --",
)


def forgeries(
    sample: Sample,
    *,
    signs_url: bool = False,
    signs_path: bool = False,
    spans: Sequence[tuple[int, int]] = (),
) -> Iterator[tuple[str, Request]]:
    """Yield (what was changed, request): every one of them has to be refused."""
    request = sample.request
    for name in sample.signed_headers:
        yield from _of_header(request, name)
    for name in sample.signed_query:
        yield from _of_parameter(request, name)
    if sample.signs_body:
        yield from _of_body(request, spans)
    if signs_url:
        yield from _of_url(request)
    if signs_path:
        yield "the path taken away", replace(request, path="")
        for altered in _altered(request.path[1:]):
            yield f"path altered to {altered[:80]!r}", replace(request, path=f"/{altered}")


def garbage(sample: Sample) -> Iterator[tuple[str, bool, Request]]:
    """Yield (what it is, whether it must be refused, request): none may break ``verify``."""
    request = sample.request
    for value in GARBAGE:
        told = f"{value[:12]!r} of {len(value)} characters"
        for name in {*request.headers, "content-type", "user-agent", *sample.signed_headers}:
            changed = {**request.headers, name: value}
            signed = name in sample.signed_headers
            yield f"header {name} = {told}", signed, replace(request, headers=changed)
        for name in sample.signed_query:
            yield f"parameter {name} = {told}", True, _with_parameter(request, name, value)
        yield f"query = {told}", bool(sample.signed_query), _with_query(request, value)
        yield f"path = {told}", False, replace(request, path=f"/{value}")
    yield "no headers", bool(sample.signed_headers), replace(request, headers={})
    for method in ("GET", "PUT", "OPTIONS"):
        yield f"method {method}", False, replace(request, method=method)


def _of_header(request: Request, name: str) -> Iterator[tuple[str, Request]]:
    without = {key: value for key, value in request.headers.items() if key != name}
    yield f"header {name} missing", replace(request, headers=without)
    yield f"header {name} empty", replace(request, headers={**without, name: ""})
    for altered in _altered(request.headers[name]):
        told = f"header {name} altered to {altered[:80]!r}"
        yield told, replace(request, headers={**without, name: altered})


def _of_parameter(request: Request, name: str) -> Iterator[tuple[str, Request]]:
    yield f"parameter {name} missing", _with_parameter(request, name, None)
    yield f"parameter {name} empty", _with_parameter(request, name, "")
    for altered in _altered(_raw_parameter(request, name)):
        told = f"parameter {name} altered to {altered[:80]!r}"
        yield told, _with_parameter(request, name, altered)


def _of_url(request: Request) -> Iterator[tuple[str, Request]]:
    scheme, _, rest = request.url.partition("://")
    host, slash, path = rest.partition("/")
    yield "another host", replace(request, url=f"{scheme}://x{host}{slash}{path}")
    yield "another path", replace(request, url=f"{scheme}://{host}/x{slash}{path}")
    query = f"{request.query_string}&added=1" if request.query_string else "added=1"
    yield "a parameter added", _with_query(request, query)


def _of_body(request: Request, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[str, Request]]:
    body = request.body
    if not body:
        yield "a body added", replace(request, body=b"x=1")
        return
    yield "the body taken away", replace(request, body=b"")
    for start, end in spans:
        for at in sorted({start, (start + end) // 2, end - 1}):
            changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
            if not _same_form(request, changed):
                yield f"byte {at} of the body altered", replace(request, body=changed)
        if (start, end) == (0, len(body)):
            for told, changed in (("cut", body[:-1]), ("grown", body + b"x")):
                if not _same_form(request, changed):
                    yield f"the body {told} by a byte", replace(request, body=changed)


def _same_form(request: Request, changed: bytes) -> bool:
    """Whether another spelling says the same: forms are signed by what they say."""
    if "form-urlencoded" not in request.headers.get("content-type", ""):
        return False
    try:
        forms = [
            parse_qsl(body.decode(), keep_blank_values=True) for body in (request.body, changed)
        ]
    except ValueError:
        return False
    return forms[0] == forms[1]


def _altered(text: str) -> Iterator[str]:
    step = max(1, len(text) // POSITIONS)
    for at in sorted({*range(0, len(text), step), len(text) - 1} if text else ()):
        yield text[:at] + _other(text[at]) + text[at + 1 :]


def _other(char: str) -> str:
    if char in "9zZ":
        return {"9": "0", "z": "a", "Z": "A"}[char]
    return chr(ord(char) + 1) if char.isascii() and char.isalnum() else "x"


def _raw_parameter(request: Request, name: str) -> str:
    for pair in request.query_string.split("&"):
        if pair.partition("=")[0] == name:
            return pair.partition("=")[2]
    raise AssertionError(f"the sample signs the parameter {name}, and its query has none")


def _with_parameter(request: Request, name: str, value: str | None) -> Request:
    pairs = [
        (pair if pair.partition("=")[0] != name else None if value is None else f"{name}={value}")
        for pair in request.query_string.split("&")
    ]
    return _with_query(request, "&".join(pair for pair in pairs if pair is not None))


def _with_query(request: Request, query: str) -> Request:
    url = request.url.partition("?")[0]
    return replace(request, query_string=query, url=f"{url}?{query}" if query else url)
