"""What a settings type says about its fields: meaning, unit, bounds, secret or not.

A settings type is a msgspec Struct, frozen and keyword-only. Each field is
`Annotated[type, msgspec.Meta(description=..., ge=..., extra={...})]`. In `extra`:

- `unit`: `"s"`, `"ms"`, `"bytes"`, `"days"`, ...
- `expects`: what a good value is, in words, where a pattern would not help the operator.
- `format`: one of `FORMATS`; a further check of a text or secret.

A type may also have a method `check(self)`, yielding `Wrong` for what no single field can see.
"""

from __future__ import annotations

import base64
import binascii
import functools
import ipaddress
import operator
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from .secret import Secret
from .source import RawTable


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field's type taken apart: the bare type, its notes, and whether it may be left out."""

    type: Any
    metas: tuple[msgspec.Meta, ...] = ()
    optional: bool = False

    def note(self, name: str) -> Any:
        """The last word on `ge`, `pattern`, `description`, ...; None when nothing is said."""
        values = [getattr(meta, name) for meta in self.metas]
        return next((value for value in reversed(values) if value is not None), None)

    def extra(self, name: str) -> Any:
        values = [(meta.extra or {}).get(name) for meta in self.metas]
        return next((value for value in reversed(values) if value is not None), None)

    @property
    def is_struct(self) -> bool:
        return isinstance(self.type, type) and issubclass(self.type, msgspec.Struct)

    @property
    def item(self) -> Any:
        """The type of the items of a list or tuple, or None when this is neither."""
        arguments = get_args(self.type)
        if get_origin(self.type) is list:
            return arguments[0]
        if get_origin(self.type) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
            return arguments[0]
        return None

    @property
    def entry(self) -> tuple[Any, Any] | None:
        """The types of a dict's keys and values, or None when this is no dict."""
        arguments = get_args(self.type)
        return (arguments[0], arguments[1]) if get_origin(self.type) is dict else None

    @property
    def is_secret(self) -> bool:
        """Whether a secret is anywhere in it, however deep in lists, tables or unions."""
        return self.type is Secret or any(field_of(a).is_secret for a in get_args(self.type))


def field_of(annotation: Any) -> Field:
    """Take `Annotated[T, Meta(...)] | None` apart, however the layers are nested."""
    metas: list[msgspec.Meta] = []
    optional = False
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            notes = [note for note in annotation.__metadata__ if isinstance(note, msgspec.Meta)]
            metas[:0] = notes
            annotation = annotation.__origin__
        elif origin in (Union, types.UnionType) and type(None) in get_args(annotation):
            optional = True
            kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
            annotation = functools.reduce(operator.or_, kinds)
        else:
            return Field(type=annotation, metas=tuple(metas), optional=optional)


def expected(field: Field) -> str:
    """What a good value for this field is, in the operator's words."""
    in_words = field.extra("expects")
    if in_words:
        return str(in_words)
    if get_origin(field.type) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(field.type))
    if field.item is not None:
        return f"a list; each item: {expected(field_of(field.item))}"
    if field.entry is not None:
        return f"a table; each value: {expected(field_of(field.entry[1]))}"
    if field.is_struct or field.type is RawTable:
        return "a table"
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text in double quotes",
        Path: "a path in double quotes",
        Secret: "a secret",
    }
    return names.get(field.type, "another type") + _bounds(field)


def _bounds(field: Field) -> str:
    low, high, above, below = (field.note(name) for name in ("ge", "le", "gt", "lt"))
    shortest, longest = field.note("min_length"), field.note("max_length")
    words = ""
    if low is not None and high is not None:
        words = f" from {low} to {high}"
    elif low is not None:
        words = f" of at least {low}"
    elif high is not None:
        words = f" of at most {high}"
    if above is not None:
        words += f" above {above}"
    if below is not None:
        words += f" below {below}"
    if shortest is not None and shortest == longest:
        words += f" of {shortest} characters"
    elif shortest is not None and longest is not None:
        words += f" of {shortest} to {longest} characters"
    elif shortest is not None:
        words += f" of at least {shortest} characters"
    elif longest is not None:
        words += f" of at most {longest} characters"
    if field.note("pattern"):
        words += f" matching {field.note('pattern')}"
    return words


# The checks below say what is wrong without repeating the value: it may hold a password.


def _http_url(text: str) -> str | None:
    try:
        url = urlsplit(text)
        _ = url.port  # raises when it is not a number up to 65535
    except ValueError:
        return "not a valid address"
    if url.scheme not in ("http", "https"):
        return 'the address must start with "https://" or "http://"'
    if not url.hostname or any(ord(character) <= 32 for character in text):
        return "the address names no host, or has spaces in it"
    if url.username is not None or url.password is not None:
        return "the address must not contain a user name or password"
    if url.query or url.fragment:
        return 'the address must end before "?" and "#"'
    return None


def _mongodb_url(text: str) -> str | None:
    for scheme in ("mongodb://", "mongodb+srv://"):
        if text.startswith(scheme) and len(text) > len(scheme):
            return None
    return 'the address must start with "mongodb://" or "mongodb+srv://" and name a host'


def _cidr(text: str) -> str | None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            whole = ipaddress.ip_network(text, strict=False)
        except ValueError:
            return 'not an address range such as "10.0.0.0/8"'
        return f'the address has bits set beyond its range; write "{whole}"'
    return None


def _key32(text: str) -> str | None:
    try:
        length = len(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        length = 0
    return None if length == 32 else "not 32 bytes in base64 (openssl rand -base64 32 makes some)"


FORMATS: dict[str, Callable[[str], str | None]] = {
    "http-url": _http_url,
    "mongodb-url": _mongodb_url,
    "cidr": _cidr,
    "key32": _key32,
}
"""Named checks of a text: what is wrong with it, or None."""

HttpUrl = Annotated[
    str, msgspec.Meta(extra={"format": "http-url", "expects": 'an address such as "https://..."'})
]
Cidr = Annotated[
    str, msgspec.Meta(extra={"format": "cidr", "expects": 'an address range such as "10.0.0.0/8"'})
]
Key32 = Annotated[
    Secret, msgspec.Meta(extra={"format": "key32", "expects": "a secret: 32 bytes in base64"})
]
Name = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,31}\Z",
        extra={
            "expects": "1 to 32 lower-case letters, digits, _ and -, the first a letter or a digit"
        },
    ),
]
"""The grammar of account keys, names of backends and feeds, and plugin tables."""
