"""After an erasure: raw requests, blobs and plugins' copies go, and the next round is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from hub.documents import Conversation, InboxItem, Job
from hub.jobs import Result
from hub.media.keeping import fitted_copy
from hub.notifications.erasing import consent_items, forget
from hub.plugin_context import PluginContext
from hub.plugin_host import PluginHost
from hub.repeatable import Repeatable
from hub.services import HubServices
from hub.store.interface import Store
from hub.strays import delete_blobs
from normalizer.outcomes import Temporary

CHUNK = 500


class Cleaner(Repeatable):
    """Runs ``erase`` jobs. Everything it does may be done twice."""

    def __init__(
        self,
        store: Store,
        host: PluginHost,
        services: HubServices,
        contexts: Mapping[str, PluginContext],
    ) -> None:
        self._store = store
        self._host = host
        self._contexts = contexts
        self._services = services

    async def run(self, job: Job) -> Result | None:
        if job.task == "blobs":  # files that no entry names, or not any more
            await self._delete_blobs(job)
            return None
        sources: Sequence[str] = job.args.get("sources", ())
        for start in range(0, len(sources), CHUNK):
            await self._redact({"_id": {"$in": list(sources[start : start + CHUNK])}})
        await self._delete_blobs(job)
        if job.args.get("left"):
            await self._next_round(job)
            return None
        addresses = list(job.args.get("addresses", ()))
        # Repeated deliveries have raw copies of their own. Only routed ones may lose them, and
        # only those from before: the address may have a new life by now.
        await self._redact(
            {
                "addresses": {"$in": addresses},
                "open": {"$exists": False},
                "received_at": {"$lte": datetime.fromisoformat(job.args["asked_at"])},
            }
        )
        items = await consent_items(self._store, addresses, job.args["up_to"])
        for start in range(0, len(items), CHUNK):
            await self._redact({"_id": {"$in": items[start : start + CHUNK]}})
        await forget(self._store, addresses, job.args["up_to"])
        await self._tell_plugins(job, addresses)
        return None

    async def _delete_blobs(self, job: Job) -> None:
        doomed: list[str] = []
        for blob in job.args.get("blobs", ()):
            doomed += (blob, fitted_copy(blob))  # in this order: see Fitter
        await delete_blobs(self._store, doomed)

    async def _redact(self, where: dict[str, object]) -> None:
        doomed = await self._store.table(InboxItem).find({**where, "raw_blob": {"$exists": True}})
        await delete_blobs(self._store, [item.raw_blob for item in doomed if item.raw_blob])
        await self._store.inbox.redact(where)

    async def _next_round(self, job: Job) -> None:
        answer = await self._services.run_command(
            "erase",
            {
                "customer": job.customer,
                "addresses": job.args["addresses"],
                "up_to": job.args["up_to"],
                "asked_at": job.args["asked_at"],
            },
            key=f"{job.id}|next",
            actor="hub:erase",
            wait_s=0.0,
        )
        if answer["state"] == "refused":
            raise Temporary(str(answer["detail"]))

    async def _tell_plugins(self, job: Job, addresses: list[str]) -> None:
        conversations = await self._store.table(Conversation).find({"customer": job.customer})
        failed = []
        for plugin, context in self._contexts.items():
            answer = await self._host.ask_one(
                plugin,
                "customer_erased",
                context=context,
                addresses=addresses,
                conversations=[conversation.id for conversation in conversations],
            )
            if answer is not None and answer.error is not None:
                failed.append(plugin)
        if failed:
            raise Temporary(f"plugins have not erased their copies yet: {', '.join(failed)}")

    async def address_of(self, job: Job) -> tuple[str, str]:
        return "hub", "erase"
