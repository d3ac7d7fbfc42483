"""Taking away what the channel keeps about a person who was erased. Safe to repeat."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from connectors.site.inapp import ItemDoc
from connectors.site.uploads import UploadDoc
from connectors.site.visitors import UserDoc, VisitorDoc
from hub import PluginContext


async def erase(context: PluginContext, addresses: Sequence[str]) -> None:
    """Forget visitors, users, in-app messages and uploads of these addresses (``adr_``).

    What keeps somebody out (blocked, logged out) stays, without anything that names a person.
    """
    mine = {"$in": list(addresses)}
    await context.documents(ItemDoc).delete({"owner": mine})
    await _erase_uploads(context, {"owner": mine})
    users = context.documents(UserDoc)
    for user in await users.find({"address": mine}):
        await _unbind(context, {"account": user.account, "user": user.user})
        if user.blocked:
            await users.put([replace(user, profile=None, mailbox_told="", rev=user.rev + 1)])
        else:
            await users.delete({"_id": user.id})
    visitors = context.documents(VisitorDoc)
    await visitors.delete(
        {"address": mine, "ended": {"$exists": False}, "blocked": {"$exists": False}}
    )
    await _unbind(context, {"address": mine})


async def _erase_uploads(context: PluginContext, where: dict[str, object]) -> None:
    uploads = context.documents(UploadDoc)
    for upload in await uploads.find(where):
        if upload.blob and not upload.used:  # the bytes of a message are the hub's to take away
            await context.blobs.delete(upload.blob)
    await uploads.delete(where)


async def _unbind(context: PluginContext, where: dict[str, object]) -> None:
    """Let visitors be nobody's: the user's id is in their rows."""
    visitors = context.documents(VisitorDoc)
    nobody = {"user": "", "bound_at": None, "spoke": False, "linked": False}
    docs = [doc for doc in await visitors.find(where) if doc.user]
    await visitors.put([replace(doc, **nobody, rev=doc.rev + 1) for doc in docs])
