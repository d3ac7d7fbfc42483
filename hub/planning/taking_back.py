"""Taking an import back: what only it brought goes, without a trace; what is live stays.

Nothing else in the hub is ever removed from a timeline: erasing leaves tombstones, because what
was erased may come again. An import that was taken back may come again on purpose.

The planner takes a bounded part at a time, in an order in which whatever is left still hangs
together: entries, aliases, threads, addresses with the decisions about them, customers. After
each round a job cleans up outside the transaction and asks for the next one, so that a process
that dies in between is followed by another.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from hub.documents import (
    AddressDoc,
    Alias,
    AmendmentDoc,
    Customer,
    Entry,
    ImportRollback,
    ImportRun,
    Job,
    Link,
    Thread,
)
from hub.planning.media import blobs_in
from hub.planning.rules import Refusal, Rules, tell
from hub.planning.workspace import Workspace

ENTRIES_AT_ONCE = 300
ALIASES_AT_ONCE = 1000
OTHERS_AT_ONCE = 100
THREAD_ENTRIES = 2000  # of threads that may be live; more in them than this, and all stay


def take_back_some(
    ws: Workspace, rules: Rules, import_id: str, cause: str, *, actor: str, cleaned: bool
) -> dict[str, Any]:
    """Take back a part of an import; ``cleaned`` says that its job found nothing left to do.

    Return how far it is. Raises Refusal(not-found) for an unknown import; one that was taken
    back already stays so.
    """
    if ws.get(ImportRun, import_id) is None:
        raise Refusal("not-found", f"there is no import {import_id}", 404)
    held = ws.get(ImportRollback, import_id)
    if held is None:
        held = ImportRollback(id=import_id, state="running", actor=actor, asked_at=rules.now)
        ws.put(held)
    if held.state == "done":
        return _told(held)
    entries, blobs, more = _entries(ws, rules, import_id)
    more = more or _aliases(ws, import_id)
    more = more or _threads(ws, import_id)
    addresses = customers = 0
    if not more:
        addresses, more = _addresses(ws, rules, import_id)
    if not more:
        customers, more = _customers(ws, rules, import_id)
    done = cleaned and not more and not blobs
    held = replace(
        held,
        state="done" if done else "running",
        done_at=rules.now if done else None,
        entries=held.entries + entries,
        addresses=held.addresses + addresses,
        customers=held.customers + customers,
    )
    ws.put(held)
    if not done:
        ws.new(
            Job(
                id=rules.key.hashed("job", f"{cause}|import"),
                lane=f"import:{import_id}",
                kind="import",
                position=ws.position,
                due_at=rules.now,
                live=True,
                state="ready",
                args={"import": import_id, "blobs": blobs, "left": more},
            )
        )
    return _told(held)


def _told(held: ImportRollback) -> dict[str, Any]:
    return {"import": held.id, "state": held.state, "entries": held.entries}


def _entries(ws: Workspace, rules: Rules, import_id: str) -> tuple[int, list[str], bool]:
    """Remove entries with all that was said of them later; return their blobs as well."""
    found = ws.find(Entry, ("imported", "=", import_id), limit=ENTRIES_AT_ONCE)
    if not found:
        return 0, [], False
    blobs: dict[str, None] = {}
    targets = tuple(sorted(entry.id for entry in found))
    for amendment in ws.find(AmendmentDoc, ("target", "in", targets)):
        blobs |= dict.fromkeys(blobs_in(amendment.data))
        ws.remove(amendment)
    places = tuple(sorted({entry.address for entry in found if entry.address}))
    owners = {doc.id: doc.customer for doc in ws.find(AddressDoc, ("id", "in", places))}
    for entry in found:
        blobs |= dict.fromkeys(blobs_in(msgspec.to_builtins((entry.parts, entry.data))))
        ws.remove(entry)
        tell(
            ws,
            rules,
            "message.removed",
            customer=owners.get(entry.address),
            address=entry.address,
            ref=entry.id,
            channel=entry.channel,
            account=entry.account,
            data={"import": import_id},
        )
    return len(found), list(blobs), len(found) == ENTRIES_AT_ONCE


def _aliases(ws: Workspace, import_id: str) -> bool:
    """Remove the vendors' names of entries that are gone; those of live ones are live too."""
    found = ws.find(Alias, ("imported", "=", import_id), limit=ALIASES_AT_ONCE)
    targets = tuple(sorted({alias.entry for alias in found}))
    there = {entry.id for entry in ws.find(Entry, ("id", "in", targets))} if targets else set()
    for alias in found:
        if alias.entry in there:
            ws.put(replace(alias, imported=""))
        else:
            ws.remove(alias)
    return len(found) == ALIASES_AT_ONCE


def _threads(ws: Workspace, import_id: str) -> bool:
    found = ws.find(Thread, ("imports", "=", import_id), limit=OTHERS_AT_ONCE)
    if not found:
        return False
    said = ws.find(
        Entry,
        ("address", "in", tuple(sorted({thread.address for thread in found}))),
        ("thread", "in", tuple(sorted(thread.thread for thread in found))),
        limit=THREAD_ENTRIES,
    )
    in_doubt = len(said) == THREAD_ENTRIES
    live = {entry.thread for entry in said if not entry.imported}
    for thread in found:
        rest = _without(thread.imports, import_id)
        if not thread.borrowed and (thread.thread in live or in_doubt):
            ws.put(replace(thread, imports=()))
        elif rest:
            ws.put(replace(thread, imports=rest))
        else:
            ws.remove(thread)
    return len(found) == OTHERS_AT_ONCE


def _addresses(ws: Workspace, rules: Rules, import_id: str) -> tuple[int, bool]:
    """Remove addresses that nobody else knows, and take them from whoever has them."""
    found = ws.find(AddressDoc, ("imports", "=", import_id), limit=OTHERS_AT_ONCE)
    doomed = {doc.id: doc for doc in found if not _without(doc.imports, import_id)}
    for doc in found:
        if doc.id not in doomed:
            ws.put(replace(doc, imports=_without(doc.imports, import_id)))
        elif doc.erased_up_to is None:
            ws.remove(doc)
        else:  # somebody was erased here before: what keeps them erased stays
            ws.put(
                AddressDoc(
                    id=doc.id,
                    scheme=doc.scheme,
                    created_at=doc.created_at,
                    erased=True,
                    erased_up_to=doc.erased_up_to,
                )
            )
    if doomed:
        for decision in ws.find(Link, ("members", "in", tuple(sorted(doomed)))):
            if decision.subject in doomed:
                ws.remove(decision)
        owners = {doc.customer for doc in doomed.values()} | {doc.home for doc in doomed.values()}
        for customer in ws.find(Customer, ("id", "in", tuple(sorted(filter(None, owners))))):
            _take_from(ws, rules, customer, doomed.keys())
    return len(doomed), len(found) == OTHERS_AT_ONCE


def _take_from(ws: Workspace, rules: Rules, customer: Customer, doomed: Any) -> None:
    rest = tuple(ident for ident in customer.addresses if ident not in doomed)
    if rest == customer.addresses:
        return
    ws.put(replace(customer, addresses=rest))
    if not customer.imports:
        tell(ws, rules, "customer.updated", customer=customer.id, ref=customer.id)


def _customers(ws: Workspace, rules: Rules, import_id: str) -> tuple[int, bool]:
    """Remove customers that nobody else knows and that nothing live belongs to by now."""
    found = ws.find(Customer, ("imports", "=", import_id), limit=OTHERS_AT_ONCE)
    idents = tuple(sorted(customer.id for customer in found))
    answered_for = {
        other.alias_of
        for other in (ws.find(Customer, ("alias_of", "in", idents)) if idents else ())
        if other.addresses or import_id not in other.imports
    }
    doomed: dict[str, Customer] = {}
    for customer in found:
        rest = _without(customer.imports, import_id)
        if rest:
            ws.put(replace(customer, imports=rest))
        elif (
            customer.addresses
            or customer.open
            or customer.last_closed
            or customer.id in answered_for
        ):
            ws.put(replace(customer, imports=()))
        else:
            doomed[customer.id] = customer
    if doomed:
        for decision in ws.find(Link, ("members", "in", tuple(sorted(doomed)))):
            if decision.subject in doomed or decision.into in doomed:
                ws.remove(decision)
    for customer in doomed.values():
        ws.remove(customer)
        tell(
            ws,
            rules,
            "customer.removed",
            customer=customer.id,
            ref=customer.id,
            data={"import": import_id},
        )
    return len(doomed), len(found) == OTHERS_AT_ONCE


def _without(imports: tuple[str, ...], import_id: str) -> tuple[str, ...]:
    return tuple(each for each in imports if each != import_id)
