"""The hook for scanners: what they say of a file, and what it means when they say nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import BinaryIO, Literal

import msgspec
import structlog

from hub.media.verdicts import ScanVerdict
from hub.plugin_context import PluginContext
from hub.plugin_host import PluginHost
from normalizer.outcomes import Temporary
from normalizer.parts import Media

log = structlog.get_logger(__name__)


class Scanned(msgspec.Struct, frozen=True, kw_only=True):
    """What all scanners together say. ``reason`` is for the reader of the timeline."""

    state: Literal["clean", "infected", "unscanned"]
    reason: str = ""


class Scanners:
    """Asks every plugin that scans. One that finds something outweighs all others."""

    def __init__(
        self,
        host: PluginHost,
        contexts: Mapping[str, PluginContext],
        *,
        deadline_s: float,
        required: bool,
    ) -> None:
        self._host = host
        self._contexts = contexts
        self._deadline_s = deadline_s
        self._required = required

    async def scan(self, media: Media, file: BinaryIO) -> Scanned:
        """Return what is known of a file now.

        Raises Temporary when files must be scanned and a scanner failed, or there is none.
        """
        clean, failed = False, []
        for plugin, context in self._contexts.items():
            file.seek(0)
            with os.fdopen(os.dup(file.fileno()), "rb") as its_own:  # which it may close
                answer = await self._host.ask_one(
                    plugin,
                    "scan_media",
                    deadline_s=self._deadline_s,
                    context=context,
                    media=media,
                    file=its_own,
                )
            if answer is None or (answer.error is None and answer.value is None):
                continue
            if answer.error is not None or not isinstance(answer.value, ScanVerdict):
                failed.append(plugin)
            elif answer.value.state == "infected":
                log.warning("media_infected", plugin=plugin, threat=answer.value.threat)
                found = answer.value.threat or "something harmful"
                return Scanned(state="infected", reason=f"the scanner {plugin} found {found}")
            else:
                clean = True
        if self._required and (failed or not clean):
            raise Temporary(
                f"the scanner {', '.join(failed)} failed" if failed else "no scanner looked at it"
            )
        if failed:
            names = ", ".join(failed)
            return Scanned(state="unscanned", reason=f"the scanner {names} did not answer")
        return Scanned(state="clean" if clean else "unscanned")
