"""The lines on which a TOML file's keys stand, which `tomllib` does not tell."""

from __future__ import annotations

import re
import tomllib

from .problems import KeyPath

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# A triple-quoted text may end with up to two quotes of its own before the closing three.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def locate(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of every table, key and list item of `text`, by key path.

    `text` must be valid TOML: read it with `tomllib` first.
    A key that several headers pass through gets the line where it was named first.
    """
    return _Scan(text.replace("\r\n", "\n")).run()


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self._counted_to = 0
        self._line = 1
        # How many items each array of tables has so far.
        self._items: dict[KeyPath, int] = {}

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return self.lines
            if self._take("[["):
                table = self._header(item=True)
            elif self._take("["):
                table = self._header(item=False)
            else:
                self._pair(table)

    def _header(self, *, item: bool) -> KeyPath:
        names = self._key()
        line = self._line_here()
        path: KeyPath = ()
        for name in names[:-1]:
            path = self._latest((*path, name))
            self.lines.setdefault(path, line)
        path = (*path, names[-1])
        self.lines.setdefault(path, line)
        if item:
            index = self._items.get(path, 0)
            self._items[path] = index + 1
            path = (*path, index)
            self.lines[path] = line
        self._skip(_SPACE)
        self._take("]]" if item else "]")
        return path

    def _latest(self, path: KeyPath) -> KeyPath:
        """A header below an array of tables speaks of the array's last item."""
        count = self._items.get(path)
        return path if count is None else (*path, count - 1)

    def _pair(self, table: KeyPath) -> None:
        line = self._line_here()
        path = table
        for name in self._key():
            path = (*path, name)
            self.lines.setdefault(path, line)
        self._skip(_SPACE)
        self._take("=")
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        if self._take("["):
            self._list(path)
        elif self._take("{"):
            self._inline_table(path)
        elif self.text[self.at] in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _list(self, path: KeyPath) -> None:
        index = 0
        while True:
            self._skip(_BLANK)
            if self._take("]"):
                return
            if self._take(","):
                continue
            self.lines[(*path, index)] = self._line_here()
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        while True:
            self._skip(_BLANK)
            if self._take("}"):
                return
            if not self._take(","):
                self._pair(path)

    def _key(self) -> list[str]:
        names = []
        while True:
            self._skip(_SPACE)
            if self.text[self.at] in "\"'":
                quoted = self._skip(_STRING)
                names.append(tomllib.loads(f"key = {quoted}")["key"])
            else:
                names.append(self._skip(_BARE))
            self._skip(_SPACE)
            if not self._take("."):
                return names

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise RuntimeError(f"locate() lost its way in line {self._line_here()}")
        self.at = found.end()
        return found.group()

    def _take(self, text: str) -> bool:
        if not self.text.startswith(text, self.at):
            return False
        self.at += len(text)
        return True

    def _line_here(self) -> int:
        self._line += self.text.count("\n", self._counted_to, self.at)
        self._counted_to = self.at
        return self._line
