"""Whose code is this? Finds the plugin's own line in a stack, for logs that name the culprit."""

from __future__ import annotations

from collections.abc import Iterable
from types import FrameType
from typing import NamedTuple


class Place(NamedTuple):
    """A line of code: ``connectors.sms.reading:12 in parse``, and the plugin it belongs to."""

    plugin: str
    where: str


class Owners:
    """Knows which modules belong to which plugin."""

    def __init__(self) -> None:
        self._plugins: dict[str, str] = {}

    def add(self, plugin: str, home: str) -> None:
        """Say that the module ``home``, and all modules below it, are this plugin's."""
        self._plugins[home] = plugin

    def of(self, module: str) -> str:
        """Return the plugin that a module belongs to, or an empty text."""
        while module:
            if module in self._plugins:
                return self._plugins[module]
            module = module.rpartition(".")[0]
        return ""

    def innermost(self, frames: Iterable[tuple[FrameType, int]]) -> Place:
        """Return the first place that is a plugin's; failing that, the first of all.

        ``frames`` go from the innermost outwards, each with its line.
        """
        first: Place | None = None
        for frame, line in frames:
            module = str(frame.f_globals.get("__name__", "?"))
            plugin = self.of(module)
            if plugin or first is None:
                place = Place(plugin, f"{module}:{line} in {frame.f_code.co_name}")
                if plugin:
                    return place
                first = place
        return first or Place("", "unknown")
