"""What is wrong with a configuration, said so that the operator can mend it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

import msgspec

KeyPath = tuple[str | int, ...]
"""Where a value stands: `("accounts", 1, "secret")`. List indexes count from 0."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake: where it is, what is wrong, and what to do about it.

    `file` is the path as the operator gave it, or `environment` for an `OMNILINE_...` variable.
    `line` counts from 1 and is None where there is no line to name.
    No text in here may contain a value that could be a secret.
    """

    file: str
    line: int | None = None
    key: str = ""
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        said = ": ".join(part for part in (place, self.key, self.what) if part)
        return f"{said}. {self.remedy}".rstrip()


class ConfigError(Exception):
    """The configuration cannot be used; `problems` has every reason that could be found.

    Its text is meant for the operator: one problem per paragraph, in the order of the lines.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda one: (one.file, one.line or 0))
        super().__init__("\n\n".join(str(problem) for problem in self.problems))

    @classmethod
    def combine(cls, errors: Iterable[ConfigError]) -> ConfigError:
        """Put several errors (one per account, say) into one, so that all are read at once."""
        return cls(problem for error in errors for problem in error.problems)


class Wrong(msgspec.Struct, frozen=True):
    """What a settings type's own `check` finds: a key (or a path below it), what, and remedy."""

    key: str | KeyPath
    what: str
    remedy: str = ""

    @property
    def path(self) -> KeyPath:
        return (self.key,) if isinstance(self.key, str) else self.key


class Refused(Exception):
    """A single value is not acceptable; the reader adds file, line and key. Internal."""

    def __init__(self, what: str, remedy: str = "", *, below: KeyPath = ()) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.below = below


def key_text(path: KeyPath) -> str:
    """`accounts[1].secret`, the way a key path is written in an error."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if _BARE_KEY.fullmatch(part) else '"' + ascii(part)[1:-1] + '"'
            text += f".{shown}" if text else shown
    return text


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """`Did you mean "secret"?`, or the known names when none is close."""
    known = sorted(set(candidates))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f'Did you mean "{close[0]}"?'
    if not known or len(known) > 12:
        return "Remove it, or look it up in the reference of the settings."
    return f"Known here: {', '.join(known)}."
