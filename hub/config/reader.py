"""Turns TOML values into settings types and gathers everything that is wrong on the way."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

import msgspec

from .fields import FORMATS, Field, expected, field_of
from .problems import ConfigError, KeyPath, Problem, Refused, Wrong, did_you_mean
from .secret import Secret, read_secret
from .source import RawTable, Source

T = TypeVar("T", bound=msgspec.Struct)

_BAD: Any = object()
_QUOTED = re.compile(r"'[^']*'")


def parse_settings(settings_type: type[T], table: RawTable, where: str = "") -> T:
    """Read a connector's, backend's or plugin's own settings from its table.

    `settings_type` is a settings type as `hub.config.fields` describes it.
    `where` names the part for the reader of an error (`account wechat:shop`).
    Raises `ConfigError` with every problem found: unknown keys, wrong types, values out of
    bounds, missing secrets, and what the type's own `check` or `__post_init__` refuses.
    """
    reader = Reader(table.source, who=where)
    settings = reader.struct(settings_type, table, table.path, siblings=table.siblings)
    if reader.problems:
        raise ConfigError(reader.problems)
    return cast(T, settings)


class Reader:
    """Reads values of one source; problems are collected, never raised one at a time."""

    def __init__(self, source: Source, *, who: str = "") -> None:
        self.source = source
        self.who = who
        self.problems: list[Problem] = []
        self._revealed: list[str] = []

    def struct(
        self,
        settings_type: type[msgspec.Struct],
        values: Mapping[str, Any],
        path: KeyPath,
        *,
        siblings: frozenset[str] = frozenset(),
        given: Mapping[str, Any] | None = None,
    ) -> Any:
        """An instance, or a marker when something in it is wrong.

        `given` are fields that the program sets itself. A field of type `RawTable` receives
        all keys that no other field takes.
        """
        read = dict(given or {})
        fields = [f for f in msgspec.structs.fields(settings_type) if f.name not in read]
        rest = next((f for f in fields if field_of(f.type).type is RawTable), None)
        named = {f.encode_name: f for f in fields if f is not rest}
        for key, found in named.items():
            if key in values:
                read[found.name] = self.value(field_of(found.type), values[key], (*path, key))
            elif found.required:
                what, remedy = f'"{key}" is missing', f"Add it: {expected(field_of(found.type))}"
                self._wrong(path, what, f"{remedy}.")
                read[found.name] = _BAD
            elif isinstance(found.default, Path):
                read[found.name] = self.source.path(str(found.default))
        unknown = {key: value for key, value in values.items() if key not in named}
        if rest is not None:
            read[rest.name] = RawTable(
                unknown, source=self.source, path=path, siblings=frozenset(named)
            )
        else:
            for key in unknown:
                hint = did_you_mean(key, {*named, *siblings})
                self._wrong((*path, key), "unknown key", hint)
        if any(value is _BAD for value in read.values()) or (unknown and rest is None):
            return _BAD
        return self._build(settings_type, read, path)

    def _build(
        self, settings_type: type[msgspec.Struct], read: dict[str, Any], path: KeyPath
    ) -> Any:
        try:
            built = settings_type(**read)
        except (ValueError, TypeError) as error:  # how a __post_init__ refuses
            self._wrong(path, self._without_secrets(str(error)))
            return _BAD
        # Asked of the type: a setting may be called "check" as well.
        check = getattr(settings_type, "check", None)
        wrongs: list[Wrong] = list(check(built)) if callable(check) else []
        for wrong in wrongs:
            what, remedy = map(self._without_secrets, (wrong.what, wrong.remedy))
            self._wrong((*path, *wrong.path), what, remedy)
        return _BAD if wrongs else built

    def value(self, field: Field, value: Any, path: KeyPath) -> Any:
        """One value read as `field` says, or a marker when it is refused."""
        try:
            return self._value(field, value, path)
        except Refused as refused:
            self._wrong((*path, *refused.below), refused.what, refused.remedy)
            return _BAD

    def _value(self, field: Field, value: Any, path: KeyPath) -> Any:
        if field.is_struct:
            if not isinstance(value, Mapping):
                raise Refused(f"expected a table, got {_kind(value)}", _table_remedy(value, path))
            return self.struct(field.type, value, path)
        if field.type is RawTable:
            if not isinstance(value, Mapping):
                raise Refused(f"expected a table, got {_kind(value)}", _table_remedy(value, path))
            return RawTable(value, source=self.source, path=path)
        if field.item is not None:
            return self._items(field, value, path)
        if field.entry is not None:
            return self._entries(field, value, path)
        if field.type is Secret:
            return self._secret(field, value)
        if field.type is Path:
            if not isinstance(value, str) or not value or "\0" in value:
                raise Refused(f"expected {expected(field)}, got {_kind(value)}")
            return self.source.path(value)
        return self._plain(field, value)

    def _items(self, field: Field, value: Any, path: KeyPath) -> Any:
        inner = field_of(field.item)
        if inner.type is Secret and isinstance(value, str | dict):
            # One secret where several are possible needs no brackets.
            items = [self.value(inner, value, path)]
        elif not isinstance(value, list):
            remedy = f"Write [[{path[-1]}]], with two brackets." if inner.is_struct else ""
            raise Refused(f"expected {expected(field)}, got {_kind(value)}", remedy)
        else:
            items = [self.value(inner, item, (*path, at)) for at, item in enumerate(value)]
        if any(item is _BAD for item in items):
            return _BAD
        _bounded(field, items, list[Any])
        return items if get_origin(field.type) is list else tuple(items)

    def _entries(self, field: Field, value: Any, path: KeyPath) -> Any:
        assert field.entry is not None
        if not isinstance(value, Mapping):
            raise Refused(f"expected {expected(field)}, got {_kind(value)}")
        key_field, inner = map(field_of, field.entry)
        read = {}
        for key, item in value.items():
            try:
                self._plain(key_field, key)
            except Refused:
                what = f"the name does not fit: expected {expected(key_field)}"
                self._wrong((*path, key), what)
                read[key] = _BAD
            else:
                read[key] = self.value(inner, item, (*path, key))
        if any(item is _BAD for item in read.values()):
            return _BAD
        _bounded(field, read, dict[str, Any])
        return read

    def _secret(self, field: Field, value: Any) -> Secret:
        secret = read_secret(value, self.source)
        self._revealed.append(secret.reveal())
        _bounded(field, secret.reveal(), str)
        _check_format(field, secret.reveal())
        return secret

    def _plain(self, field: Field, value: Any) -> Any:
        """Texts, numbers, choices; and whatever else msgspec knows."""
        if get_origin(field.type) is Literal:
            choices = get_args(field.type)
            if not any(type(value) is type(choice) and value == choice for choice in choices):
                raise Refused(f"expected {expected(field)}")
            return value
        try:
            read = msgspec.convert(value, _annotated(field), dec_hook=self._hook)
        except msgspec.ValidationError as error:
            raise Refused(_unfit(field, value, error)) from None
        if isinstance(read, float) and not math.isfinite(read):
            raise Refused(f"expected {expected(field)}, got one without an end")
        if isinstance(read, str):
            _check_format(field, read)
        return read

    def _hook(self, wanted: type, value: Any) -> Any:
        """Secrets and paths inside types that msgspec takes apart by itself."""
        if wanted is Secret:
            return self._secret(Field(type=Secret), value)
        if wanted is Path:
            return self.source.path(msgspec.convert(value, str))
        raise NotImplementedError(f"a setting cannot have the type {wanted!r}")

    def _wrong(self, path: KeyPath, what: str, remedy: str = "") -> None:
        self.problems.append(self.source.problem(path, what, remedy, who=self.who))

    def _without_secrets(self, text: str) -> str:
        """Texts of settings types' own checks may quote what they refuse."""
        for secret in sorted(self._revealed, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def _bounded(field: Field, value: Any, plain_type: Any) -> None:
    """Apply the field's length, pattern and size bounds to an already read value."""
    try:
        msgspec.convert(value, _annotated(field, plain_type))
    except msgspec.ValidationError:
        raise Refused(f"expected {expected(field)}{_bound_words(field)}") from None


def _bound_words(field: Field) -> str:
    if field.item is None and field.entry is None:
        return ""
    shortest, longest = field.note("min_length"), field.note("max_length")
    words = [f"at least {shortest}" if shortest is not None else ""]
    words.append(f"at most {longest}" if longest is not None else "")
    return f" ({', '.join(word for word in words if word)})"


def _annotated(field: Field, plain_type: Any = None) -> Any:
    annotation = field.type if plain_type is None else plain_type
    for meta in field.metas:
        annotation = Annotated[annotation, meta]
    return annotation


def _check_format(field: Field, text: str) -> None:
    name = field.extra("format")
    complaint = FORMATS[name](text) if name else None
    if complaint:
        raise Refused(complaint)


def _unfit(field: Field, value: Any, error: msgspec.ValidationError) -> str:
    if field.type in (bool, int, float, str):
        return f"expected {expected(field)}" + (
            "" if _says_it(field, value) else f", got {_kind(value)}"
        )
    # msgspec quotes values it refuses; they are cut, because any of them might be a secret.
    return _QUOTED.sub("...", str(error))


def _says_it(field: Field, value: Any) -> bool:
    """A text refused by a pattern is not described further: "got a text" helps nobody."""
    return field.type is str and isinstance(value, str)


def _kind(value: Any) -> str:
    """What the value is in TOML's words; numbers are shown, texts never."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 10**15:
        return "a very large number"
    if isinstance(value, int | float):
        return str(value)
    kinds: dict[type, str] = {str: "a text", list: "a list", datetime: "a date"}
    kinds |= {date: "a date", time: "a time", dict: "a table"}
    return kinds.get(type(value), "a table")


def _table_remedy(value: Any, path: KeyPath) -> str:
    names = ".".join(str(part) for part in path)
    return f"Write [{names}], with one bracket." if isinstance(value, list) else ""
