"""The scanner on docs/scan-files.md runs as it stands there, against a daemon that checks it."""

from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path
from typing import Any

import pytest

from hub import ScanVerdict
from normalizer.parts import Media

PAGE = Path(__file__).parent.parent.parent / "docs" / "scan-files.md"


async def clamd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak INSTREAM as clamd's manual has it."""
    assert await reader.readexactly(10) == b"zINSTREAM\0"
    data = b""
    while size := int.from_bytes(await reader.readexactly(4)):
        data += await reader.readexactly(size)
    said = b"INSTREAM size limit exceeded. ERROR\0" if len(data) > 500_000 else b"stream: OK\0"
    writer.write(b"stream: Eicar-Test FOUND\0" if b"EICAR" in data else said)
    await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b"x" * 200_000, ScanVerdict(state="clean")),
        (b"x" * 100_000 + b"EICAR", ScanVerdict(state="infected", threat="Eicar-Test")),
        (b"x" * 600_000, None),
    ],
)
async def test_the_scanner_on_the_page_scans(data: bytes, verdict: ScanVerdict | None) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    server = await asyncio.start_server(clamd, "127.0.0.1", 0)
    plugin: dict[str, Any] = {}
    exec(found[1], plugin)
    plugin["PORT"] = server.sockets[0].getsockname()[1]
    try:
        scan = plugin["scan_media"](None, Media(), io.BytesIO(data))
        if verdict is not None:
            assert await scan == verdict
        else:
            with pytest.raises(RuntimeError, match="size limit"):
                await scan
    finally:
        server.close()
        await server.wait_closed()
