"""The workers of media jobs: lanes of their own, so that a slow download holds up no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from hub.clock import Clock
from hub.config import MediaSettings
from hub.jobs import LaneWorkers, TakeIn
from hub.media.pictures import Pictures, files_folder
from hub.media.scanning import Scanners
from hub.media.worker import Find, MediaWorker
from hub.planning.media import IMPORT_JOB, JOB
from hub.plugin_context import PluginContext
from hub.plugin_host import PluginHost
from hub.store.interface import Store


class MediaLanes:
    """Files of new messages, and beside them those of imported ones, which may wait."""

    def __init__(
        self,
        store: Store,
        connector: Find,
        host: PluginHost,
        contexts: Mapping[str, PluginContext],
        take_in: TakeIn,
        clock: Clock,
        settings: MediaSettings,
        data_dir: Path,
        *,
        owner: str,
        lease_s: float,
    ) -> None:
        folder = files_folder(data_dir)
        pictures = Pictures.for_hub(settings, data_dir)
        scanners = Scanners(
            host,
            contexts,
            deadline_s=settings.scan_timeout_s,
            required=settings.scan_required,
        )
        self._worker = MediaWorker(store, connector, scanners, pictures, settings, folder)
        # A lane cuts an attempt at half of its lease; each part of it ends by itself before.
        attempt_s = settings.timeout_s + settings.scan_timeout_s + settings.picture_timeout_s
        self._lanes = [
            LaneWorkers(
                store,
                {kind: self._worker},
                take_in,
                clock,
                owner=owner,
                lease_s=2 * attempt_s + lease_s,
                at_once=at_once,
            )
            for kind, at_once in ((JOB, settings.workers), (IMPORT_JOB, -(-settings.workers // 2)))
        ]

    async def run(self) -> None:
        """Work until :meth:`stop`; files at hand are begun anew by whoever is next."""
        await asyncio.gather(*(lanes.run() for lanes in self._lanes))

    def told_of_dead_letters(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called for every file that is given up."""
        for lanes in self._lanes:
            lanes.gave_up = tell

    def wake(self) -> None:
        for lanes in self._lanes:
            lanes.wake.set()

    def stop(self) -> None:
        self._worker.stop()
        for lanes in self._lanes:
            lanes.stop()
