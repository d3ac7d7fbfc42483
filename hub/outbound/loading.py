"""From an entry that is to be sent to what its connector is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.contract import Answered, Outgoing
from hub.documents import AddressDoc, Entry, Job
from hub.store.interface import Store
from normalizer.model import Direction, Role

LOOKED_AT = 50  # entries before the answer among which its question is looked for


async def outgoing(store: Store, entry: Entry, address: AddressDoc, job: Job) -> Outgoing:
    """Return the message of this attempt. Raises StoreError."""
    name, language, params = template_of(entry.data)
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
        answers=await answered(store, entry),
        automatic=entry.automatic or entry.sender.role is not Role.AGENT,
    )


def template_of(data: Mapping[str, Any]) -> tuple[str, str, Mapping[str, str]]:
    """Return (name, language, params) of the template that a reply put into its entry."""
    held = data.get("template")
    if not isinstance(held, dict) or not held.get("name"):
        return "", "", {}
    return str(held["name"]), str(held.get("language", "")), dict(held.get("params", {}))


async def answered(store: Store, entry: Entry) -> Answered | None:
    """Return what the customer said that this answers: what it names, else the last before it.

    An answer that leaves by another address than the question came by answers nothing there.
    """
    entries = store.table(Entry)
    if entry.reply_to is not None and entry.reply_to.startswith("ent_"):
        named = await entries.get(entry.reply_to)
        if named is not None and named.address == entry.address and _asks(named, entry):
            return _answered(named)
    found = await entries.find(
        {"address": entry.address, "at": {"$lte": entry.at}},
        sort=[("at", -1), ("position", -1)],
        limit=LOOKED_AT,
    )
    asked = [each for each in found if _asks(each, entry)]
    by_people = [each for each in asked if not each.automatic]
    for each in (*by_people, *asked):
        return _answered(each)
    return None


def _asks(question: Entry, answer: Entry) -> bool:
    return (
        question.kind == "message"
        and question.direction is Direction.IN
        and not question.erased
        and (not answer.thread or question.thread == answer.thread)
    )


def _answered(entry: Entry) -> Answered:
    return Answered(entry=entry.id, at=entry.at, subject=entry.subject, data=entry.data)
