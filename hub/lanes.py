"""Everything that leaves the hub, as it runs in one process: lanes by what they may wait for.

main     answers, tickets, erasures, imports that are taken back
media    files from vendors, which may be slow
side     profiles and relays, for which no answer and no ticket may wait
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.accounts import SENDING, StateName
from hub.cleaning import Cleaner
from hub.config import HubSettings
from hub.contract import Connector
from hub.dispatch import Dispatcher
from hub.importing.undoing import Undoer
from hub.jobs import LaneWorkers, TakeIn
from hub.media.fitting import Fitter
from hub.media.running import MediaLanes
from hub.outbound import AccountGate, Sender
from hub.planning.profiles import JOB as PROFILE
from hub.planning.relaying import JOB as RELAY
from hub.plugin_context import PluginContext
from hub.profiles import ProfileWorker
from hub.relay import Relay
from hub.running import Running
from hub.strays import Strays

SIDE_LANES = 4


class Lanes:
    """The workers of a hub, for it to start and stop.

    ``take_outcome`` puts what became of a job into the inbox.
    """

    def __init__(
        self,
        hub: Running,
        contexts: Mapping[str, PluginContext],
        take_outcome: TakeIn,
        *,
        owner: str,
    ) -> None:
        self._hub = hub
        settings = hub.settings
        sending = AccountGate(
            hub.clock,
            pace=self._pace,
            tell=self._tell_sending,
            off=hub.switches.outbound_off,
        )
        sender = Sender(
            hub.store,
            self._connector,
            hub.switches.outbound_on,
            hub.clock,
            sending,
            Fitter.for_hub(
                hub.store.blobs,
                settings.media,
                settings.data_dir,
                Strays(hub.store, hub.clock),
            ).fit,
        )
        dispatcher = Dispatcher(
            hub.store,
            hub.backends,
            hub.host,
            hub.key,
            owner=owner,
            timeline_url=timeline_url(settings),
            files_url=settings.public_url or "",
        )
        cleaner = Cleaner(hub.store, hub.host, hub.services, contexts)
        self.main = LaneWorkers(
            hub.store,
            {
                "send": sender,
                "ticket": dispatcher,
                "erase": cleaner,
                "import": Undoer(hub.store, hub.services),
            },
            take_outcome,
            hub.clock,
            owner=owner,
            lease_s=settings.worker_lease_s,
            at_once=settings.workers,
            gate=sending,
        )
        self.media = MediaLanes(
            hub.store,
            self._connector,
            hub.host,
            contexts,
            take_outcome,
            hub.clock,
            settings.media,
            settings.data_dir,
            owner=owner,
            lease_s=settings.worker_lease_s,
        )
        aside = AccountGate(hub.clock, tell=self._tell_relay)
        profiles = ProfileWorker(
            hub.store,
            self._connector,
            aside,
            hub.clock,
            default_region=settings.default_region,
        )
        self.relay = Relay(
            hub.store,
            {account.name: account.relay for account in hub.config.accounts},
            aside,
            hub.clock,
        )
        self.side = LaneWorkers(
            hub.store,
            {PROFILE: profiles, RELAY: self.relay},
            take_outcome,
            hub.clock,
            owner=owner,
            lease_s=settings.worker_lease_s,
            at_once=SIDE_LANES,
            gate=aside,
        )

    def wake(self) -> None:
        """There are new jobs."""
        self.main.wake.set()
        self.media.wake()
        self.side.wake.set()

    def _connector(self, channel: str, account: str) -> Connector[Any] | None:
        return self._hub.connectors.get((channel, account))

    def _pace(self, account: str) -> float | None:
        channel, _, key = account.partition(":")
        connector = self._hub.connectors.get((channel, key))
        return connector.capabilities.sends_per_second if connector is not None else None

    def _tell_sending(
        self, account: str, state: StateName, reason: str, next_try_s: float | None
    ) -> None:
        """Show how sending does beside what the account's door says."""
        if self._hub.states.get("account", account) is None:
            return
        if state == "ok":
            self._hub.states.clear("account", account, SENDING)
        else:
            self._hub.states.set(
                "account", account, state, reason, next_try_s=next_try_s, aspect=SENDING
            )

    def _tell_relay(
        self, account: str, state: StateName, reason: str, next_try_s: float | None
    ) -> None:
        """Show that a relay is away; what it does not get costs the account nothing else."""
        name, slash, relay = account.partition("/")
        if not slash or self._hub.states.get("account", name) is None:
            return
        aspect = f"relay {relay}"
        if state == "ok":
            self._hub.states.clear("account", name, aspect)
        else:
            told = f"relay {relay}: {reason}"
            self._hub.states.set(
                "account", name, "degraded", told, next_try_s=next_try_s, aspect=aspect
            )


def timeline_url(settings: HubSettings) -> str:
    """Return where the console shows a customer; the id is put behind it."""
    return f"{settings.public_url}/console/customers/" if settings.public_url else ""
