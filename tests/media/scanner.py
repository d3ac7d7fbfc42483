"""A scanner that reads the file's own words; it breaks or answers oddly where they say so."""

from __future__ import annotations

import asyncio
from typing import Any, BinaryIO

from hub import PluginContext, ScanVerdict, hookimpl
from normalizer.parts import Media

omniline_api = 1


@hookimpl
async def scan_media(context: PluginContext, media: Media, file: BinaryIO) -> Any:
    assert context.plugin
    words = file.read(4096)
    if b"infected" in words:
        return ScanVerdict(state="infected", threat="EICAR")
    if b"hangs" in words:
        await asyncio.sleep(3600)
    if b"breaks" in words:
        raise RuntimeError("the scanner's database is gone")
    if b"odd" in words:
        return "looks fine to me"
    return ScanVerdict(state="clean") if b"clean" in words else None
