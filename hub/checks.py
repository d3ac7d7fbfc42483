"""``omniline check``: try everything the configuration names, and say what is wrong where."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import msgspec

from hub.accounts.trying import (
    DEADLINE_S,
    Finding,
    account_name,
    check_account,
    check_backend,
)
from hub.admin import running_url
from hub.app import Hub
from hub.config import Config
from hub.plugin_host import shadowing


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What came of trying everything."""

    general: tuple[str, ...] = ()  # about the file and the installation
    findings: tuple[Finding, ...] = ()

    @property
    def problems(self) -> list[str]:
        """Return everything that is wrong, a sentence each."""
        return [
            *self.general,
            *(f"{each.kind} {each.name}: {p}" for each in self.findings for p in each.problems),
        ]


class UnknownAccount(Exception):
    """The configuration has no such account; the message lists those that it has."""


async def check_config(
    config: Config, accounts: Collection[str] = (), deadline_s: float = DEADLINE_S
) -> Checked:
    """Start every part but the doors and try all credentials, or those of ``accounts`` only.

    Raises UnknownAccount.
    """
    known = [account.name for account in config.accounts]
    for name in accounts:
        if name not in known:
            raise UnknownAccount(
                f"there is no account {name}; there are: {', '.join(known) or 'none'}"
            )
    running = ""
    if config.hub.mongo_url is None:
        running = await running_url(config.hub.data_dir / "mongo")
    hub = Hub(config, role="run", doors=False, mongo_url=running)
    async with hub:
        tries = [
            check_account(connector, deadline_s)
            for connector in hub.connectors.values()
            if not accounts or account_name(connector) in accounts
        ]
        if not accounts:
            tries += [check_backend(backend, deadline_s) for backend in hub.backends.values()]
        findings = await asyncio.gather(*tries)
    general = () if accounts else (*config.warnings, *shadowing())
    return Checked(general=general, findings=tuple(findings))
