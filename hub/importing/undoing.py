"""Between two rounds of taking an import back: what lies outside the timeline goes as well."""

from __future__ import annotations

from hub.documents import DeadLetter, InboxItem, Job
from hub.importing.accounts import MARK
from hub.jobs import Result
from hub.repeatable import Repeatable
from hub.services import HubServices
from hub.store.interface import Store
from hub.strays import delete_blobs
from normalizer.outcomes import Temporary

AT_ONCE = 500


class Undoer(Repeatable):
    """Runs ``import`` jobs."""

    def __init__(self, store: Store, services: HubServices) -> None:
        self._store = store
        self._services = services

    async def run(self, job: Job) -> Result | None:
        ident = str(job.args["import"])
        await delete_blobs(self._store, job.args.get("blobs", ()))
        cleaned = not job.args.get("left")
        if cleaned:
            await self._remove_items(ident)
            await delete_blobs(self._store, await self._store.blobs.marked(MARK, ident))
        answer = await self._services.run_command(
            "take_back_import",
            {"import_id": ident, "cleaned": cleaned},
            key=f"{job.id}|next",
            actor="hub:import",
            wait_s=0.0,
        )
        if answer["state"] == "refused":
            raise Temporary(str(answer["detail"]))
        return None

    async def _remove_items(self, ident: str) -> None:
        """Take the routed inbox items away; one that is routed later leaves nothing by itself."""
        inbox = self._store.table(InboxItem)
        routed = {"imported": ident, "open": {"$exists": False}}
        while items := await inbox.find(routed, limit=AT_ONCE):
            ids = [item.id for item in items]
            await delete_blobs(self._store, [item.raw_blob for item in items if item.raw_blob])
            await self._store.table(DeadLetter).delete({"kind": "inbox", "ref": {"$in": ids}})
            await inbox.delete({"_id": {"$in": ids}})

    async def address_of(self, job: Job) -> tuple[str, str]:
        return "hub", "import"
