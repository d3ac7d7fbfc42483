"""Secrets: values that can be used but not seen."""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from .problems import KeyPath, Refused, did_you_mean
from .source import Source

_MAX_FILE_BYTES = 64 * 1024


class Secret:
    """A password, token or key that only `reveal()` gives away.

    `str`, `repr` and `format` show `***`, msgspec and pickle refuse to encode it,
    and comparing takes the same time wherever two secrets differ.
    `origin` says where the value came from (`env WECHAT_SECRET`), never what it is.
    """

    __slots__ = ("_file", "_value", "origin")

    def __init__(self, value: str, *, origin: str = "", file: Path | None = None) -> None:
        if not isinstance(value, str):
            raise TypeError("a Secret holds a str")
        self._value = value
        self._file = file
        self.origin = origin

    def reveal(self) -> str:
        """The value itself. Call it where it is used, and keep no copy."""
        return self._value

    def reread(self) -> Secret:
        """The secret as its file holds it now; one that came from elsewhere is itself.

        For what something else renews while the hub runs. Reads the disk: call it in a thread.
        Raises `ValueError` with a sentence for the operator when the file cannot be used.
        """
        if self._file is None:
            return self
        try:
            text, _ = _content(self._file)
        except Refused as refused:
            raise ValueError(refused.what) from None
        return Secret(text, origin=self.origin, file=self._file)

    def matches(self, candidate: str | bytes) -> bool:
        """Whether `candidate`, which came from outside, is this secret; in constant time."""
        if isinstance(candidate, str):
            candidate = _bytes(candidate)
        return hmac.compare_digest(_bytes(self._value), candidate)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return self.matches(other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "Secret(***)"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


def _bytes(text: str) -> bytes:
    # Environment variables that are not UTF-8 reach Python as lone surrogates.
    return text.encode("utf-8", "surrogatepass")


def read_secret(value: object, source: Source) -> Secret:
    """Make a `Secret` of what stands in the file: a text, `{ env = .. }` or `{ file = .. }`.

    Raises `Refused` when it has another form, or when what it names is missing or empty.
    """
    if isinstance(value, str):
        if not value:
            raise Refused("the secret is empty", _REMEDY)
        source.note_literal_secret()
        return Secret(value, origin=source.file)
    if not isinstance(value, dict):
        raise Refused("expected a secret", _REMEDY)
    for key in value:
        if key not in ("env", "file"):
            raise Refused("unknown key in a secret", did_you_mean(key, ("env", "file")))
    if len(value) != 1:
        raise Refused("a secret names either env or file, and not both", _REMEDY)
    (kind,) = value
    below: KeyPath = (kind,)
    name = value[kind]
    if not isinstance(name, str) or not name or "\0" in name:
        raise Refused("expected a name in double quotes", _REMEDY, below=below)
    if kind == "env":
        return _from_environment(name, source, below)
    return _from_file(source.path(name), source, below)


_REMEDY = 'Write it as "text", as { env = "NAME" } or as { file = "PATH" }.'


def _from_environment(name: str, source: Source, below: KeyPath) -> Secret:
    value = source.environ.get(name)
    source.named_variables.add(name)
    if value is None:
        raise Refused(f"the environment variable {name} is not set", "Set it.", below=below)
    if not value:
        raise Refused(f"the environment variable {name} is empty", "Give it a value.", below=below)
    return Secret(value, origin=f"env {name}")


def _from_file(path: Path, source: Source, below: KeyPath) -> Secret:
    try:
        text, mode = _content(path)
    except Refused as refused:
        raise Refused(refused.what, refused.remedy, below=below) from None
    if readable_by_everyone(mode):
        source.warn(f"{path}: everybody on this machine can read this secret. chmod o-rwx {path}")
    return Secret(text, origin=f"file {path}", file=path)


def _content(path: Path) -> tuple[str, int]:
    """The file's text without one newline at its end, which editors and `echo` add; its mode."""
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Refused(
            f"cannot read the secret file {path}: {error.strerror or type(error).__name__}",
            "Create it, or let the user that runs Omniline read it.",
        ) from None
    if len(content) > _MAX_FILE_BYTES:
        raise Refused(f"the secret file {path} is larger than 64 KiB")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(
            f"the secret file {path} is not UTF-8 text", "Store binary keys as base64."
        ) from None
    text = text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
    if not text:
        raise Refused(f"the secret file {path} is empty", "Write the secret into it.")
    return text, mode


def readable_by_everyone(mode: int) -> bool:
    # The group's bits are left alone: orchestrators hand secrets to a service by its group.
    return bool(mode & stat.S_IRWXO)
