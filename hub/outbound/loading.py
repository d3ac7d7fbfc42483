"""From an entry that is to be sent to what its connector is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.contract import Answered, Outgoing
from hub.documents import AddressDoc, Entry, Job
from hub.notifications import NOTIFICATION
from hub.store.interface import Store
from normalizer.model import Direction, Role

LOOKED_AT = 50  # entries before the answer among which its question is looked for


async def outgoing(
    store: Store, entry: Entry, address: AddressDoc, job: Job, *, threads: bool = True
) -> Outgoing:
    """Return the message of this attempt. Raises StoreError.

    ``threads``: whether the channel has threads of its own (:attr:`Capabilities.threads`).
    """
    name, language, params = template_of(entry.data)
    # Where it has none, an answer that names no thread is one to whatever was said last there:
    # a text to one of our numbers, or by another way, is a thread in the timeline only.
    anywhere = not threads and entry.thread in (None, "", address.thread)
    return Outgoing(
        entry=entry.id,
        key=job.id,
        address=address.address,
        parts=entry.parts,
        thread=entry.thread or "",
        subject=entry.subject,
        reply_to=entry.reply_to,
        event=entry.event,
        data=entry.data,
        sender_name=entry.sender.name,
        attempt=job.attempts,
        template=name,
        language=language,
        params=params,
        answers=await answered(store, entry, anywhere=anywhere and entry.event != NOTIFICATION),
        automatic=entry.automatic or entry.sender.role is not Role.AGENT,
    )


def template_of(data: Mapping[str, Any]) -> tuple[str, str, Mapping[str, str]]:
    """Return (name, language, params) of the template that a reply put into its entry."""
    held = data.get("template")
    if not isinstance(held, dict) or not held.get("name"):
        return "", "", {}
    return str(held["name"]), str(held.get("language", "")), dict(held.get("params", {}))


async def answered(store: Store, entry: Entry, *, anywhere: bool = False) -> Answered | None:
    """Return what the customer said that this answers: what it names, else the last before it.

    An answer that leaves by another address than the question came by answers nothing there.
    It is looked for in the answer's thread; ``anywhere``: in all of the account by which it leaves.
    """
    entries = store.table(Entry)
    if entry.reply_to is not None and entry.reply_to.startswith("ent_"):
        named = await entries.get(entry.reply_to)
        if named is not None and named.address == entry.address and _asks(named, entry, anywhere):
            return _answered(named)
    found = await entries.find(
        {"address": entry.address, "at": {"$lte": entry.at}},
        sort=[("at", -1), ("position", -1)],
        limit=LOOKED_AT,
    )
    asked = [each for each in found if _asks(each, entry, anywhere)]
    by_people = [each for each in asked if not each.automatic]
    for each in (*by_people, *asked):
        return _answered(each)
    return None


def _asks(question: Entry, answer: Entry, anywhere: bool) -> bool:
    said = question.kind == "message" and question.direction is Direction.IN
    if not said or question.erased:
        return False
    if anywhere:
        return (question.channel, question.account) == (answer.channel, answer.account)
    return not answer.thread or question.thread == answer.thread


def _answered(entry: Entry) -> Answered:
    return Answered(entry=entry.id, at=entry.at, subject=entry.subject, data=entry.data)
