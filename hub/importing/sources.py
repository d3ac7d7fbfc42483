"""Making a source from its settings: from the command line, and again when it is resumed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from hub.clock import Clock
from hub.config import Config
from hub.ids import SpaceKey
from hub.importing.accounts import connector_for
from hub.importing.csv_rows import CsvRows
from hub.importing.found import ImportProblem, Source
from hub.importing.json_lines import JsonLines
from hub.importing.mbox_file import MboxFile
from hub.importing.rows import Columns
from hub.importing.vendor_history import VendorHistory
from hub.store.interface import Store


@asynccontextmanager
async def opened(
    kind: str,
    settings: Mapping[str, Any],
    config: Config,
    store: Store,
    key: SpaceKey,
    clock: Clock,
    imported: str,
) -> AsyncIterator[Source]:
    """Give the source; ``imported`` is the import that reads it, "" for a dry run.

    Raises ImportProblem for settings that lead nowhere.
    """
    async with AsyncExitStack() as stack:
        if kind in ("mbox", "history"):
            connector = await stack.enter_async_context(
                connector_for(config, store, key, clock, settings["account"], imported)
            )
            if kind == "mbox":
                path = Path(settings["file"])
                source: Source = MboxFile(path, connector, settings.get("folder", ""))
            else:
                source = VendorHistory(connector, datetime.fromisoformat(settings["since"]))
            await connector.start()
            stack.push_async_callback(connector.stop)
        else:
            columns = msgspec.convert(settings.get("columns", {}), Columns)
            path = Path(settings["file"])
            configured = frozenset(account.name for account in config.accounts)
            if kind == "jsonl":
                source = JsonLines(path, columns, clock, configured)
            elif kind == "csv":
                source = CsvRows(
                    path,
                    columns,
                    clock,
                    configured,
                    encoding=settings.get("encoding", ""),
                    delimiter=settings.get("delimiter", ""),
                )
            else:
                raise ImportProblem(f"there is no source {kind!r}")
        yield source
