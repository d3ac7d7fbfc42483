"""Reads the configuration file and the environment into a `Config`."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from .fields import Field, field_of
from .hub_settings import HubSettings
from .locate import locate
from .problems import ConfigError, KeyPath, Problem
from .reader import Reader
from .secret import Secret, readable_by_everyone
from .sections import Config
from .source import Source

_PREFIX = "OMNILINE_"

_SYNTAX = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|.*)\)$")
_TOML_HELP = "See https://toml.io for how TOML is written."
_SYNTAX_REMEDIES = {
    "Invalid value": "Texts need double quotes; true and false are lower case.",
    "Cannot overwrite a value": "The same key stands here twice, or is a table elsewhere.",
    "Expected newline or end of document after a statement": "Write one key to a line.",
}
_MAX_FILE_BYTES = 4 * 1024 * 1024


def variable_of(setting: str) -> str:
    """The environment variable that overrides a setting of `[hub]`."""
    return _PREFIX + setting.upper()


def load(path: str | Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read the file at `path`; `OMNILINE_<FIELD>` in `environ` overrides a field of `[hub]`.

    `environ` is the process's own by default. Raises `ConfigError` with every problem found.
    """
    file = str(path)
    try:
        with Path(path).open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        remedy = "Create it, or name another one: omniline run --config PATH."
        raise _error(file, "there is no such file", remedy) from None
    except OSError as error:
        remedy = "Let the user that runs Omniline read it, or name another: --config PATH."
        raise _error(file, f"cannot be read: {error.strerror or error}", remedy) from None
    if len(content) > _MAX_FILE_BYTES:
        raise _error(file, "is larger than 4 MiB", "Is it a configuration file?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        broken = error.start
    else:
        folder = Path(path).absolute().parent
        config = load_text(text, environ, file=file, folder=folder)
        config.source.readable_by_everyone = readable_by_everyone(mode)
        return config
    # Raised here, not above: the decoder's error carries the file's content along.
    line = content.count(b"\n", 0, broken) + 1
    raise _error(file, "is not UTF-8 text", "Save it as UTF-8.", line)


def load_text(
    text: str,
    environ: Mapping[str, str] | None = None,
    *,
    file: str = "omniline.toml",
    folder: Path | None = None,
) -> Config:
    """Read a configuration from `text`; relative paths in it start at `folder` (default: here)."""
    values, lines = _parsed(file, text)
    source = Source(
        file,
        folder=(folder or Path()).absolute(),
        environ=os.environ if environ is None else environ,
        lines=lines,
    )
    reader = Reader(source)
    if isinstance(values.setdefault("hub", {}), dict):
        values["hub"] = _overridden(values["hub"], source, reader.problems)
    config = reader.struct(Config, values, (), given={"source": source})
    reader.problems += _twins(values, source)
    if reader.problems:
        raise ConfigError(reader.problems)
    for warning in _doubts(config):
        source.warn(warning)
    return cast(Config, config)


def _parsed(file: str, text: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    try:
        return tomllib.loads(text), locate(text)
    except tomllib.TOMLDecodeError as error:
        wrong = _syntax_error(file, text, str(error))
    except ValueError:  # from int(), which tomllib calls
        wrong = _error(file, "a number in it has too many digits", "Shorten it.")
    except RecursionError:
        wrong = _error(file, "lists or tables are nested too deeply", "Flatten them.")
    # Raised here, not above: a decoder's error may carry the file's content along.
    raise wrong


def _error(file: str, what: str, remedy: str, line: int | None = None) -> ConfigError:
    return ConfigError([Problem(file=file, line=line, what=what, remedy=remedy)])


def _syntax_error(file: str, text: str, said: str) -> ConfigError:
    found = _SYNTAX.match(said)
    if found is None:
        return _error(file, f"not valid TOML: {said}", _TOML_HELP)
    what = found["what"]
    remedy = "The same table header stands here twice."
    if not what.startswith("Cannot declare"):
        remedy = _SYNTAX_REMEDIES.get(what, _TOML_HELP)
    if found["line"] is not None:
        what = f"not valid TOML at column {found['column']}: {what}"
        return _error(file, what, remedy, int(found["line"]))
    last = text.rstrip().count("\n") + 1
    if what.startswith("Cannot "):  # a whole statement that must not be there
        return _error(file, f"not valid TOML: {what}", remedy, last)
    remedy = "Something is not closed: a list, a table or a text."
    return _error(file, "not valid TOML: the file ends too early", remedy, last)


def _overridden(hub: dict[str, Any], source: Source, problems: list[Problem]) -> dict[str, Any]:
    """`[hub]` with what the environment says instead. An empty variable says nothing."""
    values = dict(hub)
    for setting in msgspec.structs.fields(HubSettings):
        variable = variable_of(setting.name)
        text = source.environ.get(variable, "")
        if not text:
            continue
        field = field_of(setting.type)
        if field.entry is not None or field.is_struct:
            what = "a table cannot be set from the environment"
            remedy = f"Write [hub.{setting.name}] in {source.file}."
            problems.append(Problem(file="environment", key=variable, what=what, remedy=remedy))
            continue
        source.overrides["hub", setting.name] = variable
        values[setting.name] = _from_text(field, text, variable)
    return values


def _from_text(field: Field, text: str, variable: str) -> Any:
    """The TOML value that a variable's text stands for; what does not fit is left a text."""
    if field.type is Secret:
        return {"env": variable}
    if field.type is Path:
        return str(Path(text).absolute())
    if field.item is not None:
        parts = [part.strip() for part in text.split(",")]
        return [_from_text(field_of(field.item), part, variable) for part in parts if part]
    if field.type is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if field.type in (int, float):
        try:
            return field.type(text)
        except ValueError:
            return text
    return text


def _twins(values: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    """Accounts, backends and feeds that bear the name of an earlier one."""
    for section, names in (
        ("accounts", ("channel", "key")),
        ("backends", ("name",)),
        ("feeds", ("name",)),
    ):
        tables = values.get(section)
        first: dict[tuple[str, ...], KeyPath] = {}
        for index, table in enumerate(tables if isinstance(tables, list) else ()):
            named = isinstance(table, dict) and all(
                isinstance(table.get(part), str) for part in names
            )
            if not named:
                continue
            name = tuple(str(table[part]) for part in names)
            path = (section, index, names[-1])
            earlier = first.setdefault(name, path)
            if earlier != path:
                what = f'"{":".join(name)}" is already taken in line {source.line(earlier)}'
                yield source.problem(path, what, "Choose another one.")


def _doubts(config: Config) -> Iterator[str]:
    """What is allowed but probably not meant."""
    source = config.source
    for index, account in enumerate(config.accounts):
        if account.insecure:
            line = source.line(("accounts", index, "insecure"))
            yield (
                f"{source.file}:{line}: account {account.name} is insecure: what arrives is not"
                " verified, so anybody can write in a customer's name"
            )
    known = {account.channel for account in config.accounts}
    known |= {account.name for account in config.accounts}
    for name in config.hub.conversations.policy:
        if name not in known:
            line = source.line(("hub", "conversations", "policy", name))
            yield f'{source.file}:{line}: no account for the policy "{name}"; it has no effect'
    variables = [variable_of(name) for name in HubSettings.__struct_fields__]
    for variable in sorted(source.environ):
        if not variable.startswith(_PREFIX) or variable in {*variables, *source.named_variables}:
            continue
        close = difflib.get_close_matches(variable, variables, n=1, cutoff=0.9)
        if close:
            yield f"environment: {variable} is no setting; did you mean {close[0]}?"
