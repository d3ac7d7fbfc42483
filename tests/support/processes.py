"""Hubs as processes of their own: started, killed at any moment, started again."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parent.parent.parent
READY_S = 30.0
SECRET = "load-test-secret"
SPACE_KEY = base64.b64encode(b"load-test-space-key-of-32-bytes!").decode()

CONFIG = """
[hub]
port = 0
data_dir = "{data_dir}"
mongo_url = "{mongo_url}"
database = "{database}"
space_key = "{space_key}"
plugin_modules = [{modules}]
disk_reserve_bytes = 0
router_lease_s = {lease_s}
worker_lease_s = {worker_lease_s}
log_level = "info"
log_format = "json"
{extra}

[[accounts]]
channel = "sample"
key = "main"
secrets = ["{secret}"]
"""


class HubProcess:
    """One ``omniline run`` on a database of the test's."""

    def __init__(
        self,
        folder: Path,
        mongo_url: str,
        database: str,
        *,
        name: str = "hub",
        lease_s: float = 1.0,
        modules: tuple[str, ...] = ("hub.testing.samples.webhook",),
        extra: str = "",
        more: str = "",
        space_key: str = SPACE_KEY,
    ) -> None:
        self.name = name
        self.data_dir = folder / "data"
        self.log_path = folder / f"{name}.log"
        self.config_path = folder / f"{name}.toml"
        folder.mkdir(parents=True, exist_ok=True)
        text = CONFIG.format(
            data_dir=self.data_dir,
            mongo_url=mongo_url,
            database=database,
            space_key=space_key,
            modules=", ".join(f'"{module}"' for module in modules),
            lease_s=lease_s,
            worker_lease_s=max(3.0, lease_s * 3),
            secret=SECRET,
            extra=extra,
        )
        self.config_path.write_text(text + more)
        self.config_path.chmod(0o600)
        self.url = ""
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, env: Mapping[str, str] | None = None) -> HubProcess:
        """Start it and wait until it is ready. Raises RuntimeError with its log if it dies."""
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *os.environ.get("CHILD", "-m hub.cli").split(),
                "run",
                "--config",
                str(self.config_path),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(env or {})},
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(READY_S):
                async for line in self._process.stdout:
                    text = line.decode().strip()
                    if text.startswith("ready url="):
                        self.url = text.removeprefix("ready url=")
                        return self
        except TimeoutError:
            self._process.kill()
        await self._process.wait()
        raise RuntimeError(f"{self.name} did not become ready:\n{self.log()[-4000:]}")

    async def drained(self, within_s: float = 90.0) -> None:
        """Wait until nothing of this process' is in the spool any more, as /readyz tells."""
        async with asyncio.timeout(within_s), aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{self.url}/readyz") as answer:
                    if not any("spooling" in each for each in (await answer.json())["problems"]):
                        return
                await asyncio.sleep(0.05)

    def kill(self) -> None:
        """kill -9: no goodbye."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)

    async def died(self, within_s: float = 30.0) -> int:
        assert self._process is not None
        async with asyncio.timeout(within_s):
            code = await self._process.wait()
        return code

    async def stop(self) -> int:
        """SIGTERM; return the exit code."""
        if self.running:
            os.kill(self.pid, signal.SIGTERM)
        return await self.died()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    async def close(self) -> None:
        self.kill()
        if self._process is not None:
            await self._process.wait()


@contextlib.asynccontextmanager
async def hub_process(*args: object, **options: object) -> AsyncIterator[HubProcess]:
    """A started hub that is killed at the end whatever happens."""
    process = HubProcess(*args, **options)  # type: ignore[arg-type]
    try:
        yield await process.start()
    finally:
        await process.close()
