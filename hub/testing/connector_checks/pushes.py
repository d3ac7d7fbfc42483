"""Many different pushes, made of a connector's few samples.

A vendor that tells of a thousand things tells of other people and under other ids. So wherever
a sample names its person, its key or its message, another one is put into its place, of the same
length and form; what is read from it then has to be about somebody else, or it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from hub.clock import Clock
from hub.contract import Connector, Refused, Request, Sample
from hub.testing.connector_checks.subject import ACCOUNT
from normalizer.drafts import AnyDraft
from normalizer.keys import dedupe_key

_TAIL = 4  # characters of a name that are counted up: 10 000 different ones
_SHORT = 8  # shorter names get a longer tail: their form is free
_TOKEN = re.compile(r"[A-Za-z0-9]{2,}")


def pushes(connector: Connector[Any], clock: Clock, count: int) -> list[Request]:
    """Return ``count`` requests in the samples' mixture, no two of which say the same.

    The connector has to believe what is not signed, or its bodies not to be signed. Raises
    ``AssertionError`` when no sample can be varied.
    """
    made: list[Request] = []
    keys: set[str] = set()
    usable = True
    nth = 0
    while len(made) < count and usable:
        usable = False
        for sample in connector.samples(clock):
            nth += 1  # samples' own ids differ in their ends only
            found = _varied(connector, sample, nth, keys)
            if found is not None and len(made) < count:
                made.append(found)
                usable = True
    assert len(made) == count, (
        f"{connector.channel}: only {len(made)} different pushes could be made of its samples;"
        " override many_pushes() in its contract test"
    )
    return made


def _varied(connector: Connector[Any], sample: Sample, nth: int, keys: set[str]) -> Request | None:
    """Return a push like the sample that says something new; None when there is no such."""
    before = _drafts(connector, sample.request)
    if not before:
        return None
    for request in (sample.request, *_renamed(sample.request, before, nth)):
        drafts = _drafts(connector, request)
        told = {dedupe_key(connector.channel, ACCOUNT, draft) for draft in drafts}
        if len(drafts) == len(before) and told and not told & keys:
            keys |= told
            return request
    return None


def _drafts(connector: Connector[Any], request: Request) -> Sequence[AnyDraft]:
    try:
        return connector.parse(connector.verify(request))
    except Refused:
        return ()
    except Exception:  # noqa: BLE001 - a name in another form: this variation is left out
        return ()


def _renamed(request: Request, drafts: Sequence[AnyDraft], nth: int) -> Iterator[Request]:
    """Yield the request with other names in it: all of them, then fewer, then in the body only.

    Some names are words of the protocol as well, and some are bound to others by a signature of
    the connector's own.
    """
    people = {name for draft in drafts for name in _tokens(_person(draft))}
    ids = {name for draft in drafts for text in _ids(draft) for name in _tokens(text)}
    numbered = {name for name in ids if any(char.isdigit() for char in name)}
    for names in (people | numbered, people | ids, people, numbered):
        for places in (("body", "query_string"), ("body",)):
            yield _with_names(request, names, places, nth)


def _with_names(request: Request, names: Iterable[str], places: Sequence[str], nth: int) -> Request:
    body, query = request.body, request.query_string
    for name in sorted(names, key=len, reverse=True):
        # "%2B" before a number is its plus in a form.
        whole = rf"(?:(?<![A-Za-z0-9])|(?<=%2B)){re.escape(name)}(?![A-Za-z0-9])"
        new = _another(name, nth)
        if "body" in places:
            body = re.sub(whole.encode(), new.encode(), body)
        if "query_string" in places:
            query = re.sub(whole, new, query)
    url = request.url.partition("?")[0]
    return replace(request, body=body, query_string=query, url=f"{url}?{query}" if query else url)


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _person(draft: AnyDraft) -> str:
    address = getattr(draft, "address", None)
    return address.id if address is not None else ""


def _ids(draft: AnyDraft) -> Iterator[str]:
    yield draft.key
    yield from getattr(draft, "vendor_ids", ())
    target = getattr(draft, "target", None)
    if target is not None and target.vendor_id is not None:
        yield target.vendor_id


def _another(token: str, nth: int) -> str:
    if len(token) < _SHORT:
        return f"{token}{nth}"
    return f"{token[:-_TAIL]}{nth:0{_TAIL}}"
