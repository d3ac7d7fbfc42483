"""``omniline check``: try everything the configuration names, and say what is wrong where."""

from __future__ import annotations

from hub.admin import running_url
from hub.app import Hub
from hub.config import Config
from hub.plugin_host import shadowing


async def check_config(config: Config) -> list[str]:
    """Start every part but the doors, try all credentials, return problems in plain words."""
    problems = [*config.warnings, *shadowing()]
    running = ""
    if config.hub.mongo_url is None:
        running = await running_url(config.hub.data_dir / "mongo")
    hub = Hub(config, role="run", doors=False, mongo_url=running)
    async with hub:
        for connector in hub.connectors.values():
            name = f"{connector.account.channel}:{connector.account.key}"
            problems += [f"account {name}: {each}" for each in connector.check_settings()]
            problems += [f"account {name}: {each}" for each in await connector.check()]
        for backend in hub.backends.values():
            problems += [f"backend {backend.name}: {each}" for each in await backend.check()]
    return problems
