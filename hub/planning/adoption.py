"""Whom only imports know, and how they become everybody's.

An address, a customer or a thread that an import made names it in ``imports``; a second import
that meets it there adds itself. Undoing an import takes its name out again, and what no other
import names goes. The first live thing about it empties the list: then it stays for good.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from msgspec.structs import replace

from hub.documents import AddressDoc, Customer, Thread
from hub.planning.workspace import Workspace, hour

T = TypeVar("T", AddressDoc, Customer, Thread)


def adopt(ws: Workspace, address: AddressDoc) -> None:
    """Something live is about this address: it stays, and so do those it belongs to."""
    if not address.imports:
        return
    ws.put(replace(ws.need(AddressDoc, address.id), imports=()))
    for ident in dict.fromkeys((address.customer, address.home)):
        customer = ws.get(Customer, ident) if ident else None
        if customer is not None and customer.imports:
            ws.put(replace(customer, imports=()))


def share(
    ws: Workspace, address: AddressDoc, customer: Customer, imported: str, at: datetime
) -> tuple[AddressDoc, Customer]:
    """An import met an address that is there. What is live stays exactly as it is."""
    address = noted(ws, address, imported)
    if customer.imports:
        customer = noted(ws, customer, imported)
        if hour(at) > customer.seen_at:
            customer = replace(customer, seen_at=hour(at))
            ws.put(customer)
    return address, customer


def noted(ws: Workspace, doc: T, imported: str) -> T:
    """Write the import into what only imports know."""
    if doc.imports and imported not in doc.imports:
        doc = replace(doc, imports=(*doc.imports, imported))
        ws.put(doc)
    return doc
