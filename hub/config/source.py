"""Where settings came from, so that an error found later still names file, line and key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .problems import KeyPath, Problem, key_text


class Source:
    """One configuration file and the environment it is read with.

    Keeps the lines of all keys and collects warnings.
    Its repr shows the file's name only: the environment is full of secrets.
    """

    __slots__ = (
        "environ",
        "file",
        "folder",
        "lines",
        "literal_secrets",
        "named_variables",
        "overrides",
        "readable_by_everyone",
        "warnings",
    )

    def __init__(
        self,
        file: str,
        *,
        folder: Path,
        environ: Mapping[str, str],
        lines: Mapping[KeyPath, int] | None = None,
    ) -> None:
        self.file = file
        self.folder = folder
        self.environ = environ
        self.lines = lines or {}
        self.overrides: dict[KeyPath, str] = {}
        self.named_variables: set[str] = set()
        self.literal_secrets = False
        self.readable_by_everyone = False
        self.warnings: list[str] = []

    def __repr__(self) -> str:
        return f"<Source {self.file}>"

    def path(self, text: str) -> Path:
        """A path from the file: relative ones start at the file's own folder."""
        try:
            path = Path(text).expanduser()
        except RuntimeError:  # "~" without a home folder
            path = Path(text)
        return self.folder / path

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def note_literal_secret(self) -> None:
        self.literal_secrets = True

    def line(self, path: KeyPath) -> int | None:
        """The line of a key, or of the nearest table around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None

    def problem(self, path: KeyPath, what: str, remedy: str = "", *, who: str = "") -> Problem:
        """A problem at `path`; `who` (`account wechat:shop`) helps where indexes do not."""
        for length in range(len(path), 0, -1):
            variable = self.overrides.get(path[:length])
            if variable is not None:
                return Problem(file="environment", key=variable, what=what, remedy=remedy)
        shown = key_text(path)
        if who:
            shown = f"{shown} ({who})" if shown else who
        return Problem(file=self.file, line=self.line(path), key=shown, what=what, remedy=remedy)


class RawTable(Mapping[str, Any]):
    """A table of the file whose type is not known yet: a channel's, backend's or plugin's.

    Read-only. `parse_settings` turns it into that channel's settings.
    Its repr shows keys only, because any value might be a secret.
    """

    __slots__ = ("_values", "path", "siblings", "source")

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        source: Source,
        path: KeyPath = (),
        siblings: frozenset[str] = frozenset(),
    ) -> None:
        self._values = dict(values)
        self.source = source
        self.path = path
        # Keys the hub itself took from the same table; they are good suggestions for a typo.
        self.siblings = siblings

    @classmethod
    def of(
        cls,
        values: Mapping[str, Any],
        *,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> RawTable:
        """A table without a file, for programs and tests."""
        source = Source("<settings>", folder=folder or Path(), environ=environ or {})
        return cls(values, source=source)

    def problem(self, key: str | KeyPath, what: str, remedy: str = "", *, who: str = "") -> Problem:
        """A problem with one key of this table (or with a path below it)."""
        below: KeyPath = (key,) if isinstance(key, str) else key
        return self.source.problem((*self.path, *below), what, remedy, who=who)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<RawTable {key_text(self.path)} keys={sorted(self._values)}>"
