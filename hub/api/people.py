"""Customers as callers may see them: aliases followed, erased ones gone, accounts kept apart.

A key that is limited to accounts sees the addresses, entries and conversations of those
accounts only; a customer of whom it sees no address is not there for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hub.api.keys import ApiKey
from hub.documents import AddressDoc, Conversation, Customer, Entry
from hub.planning.rules import Refusal
from hub.store.interface import Store

PRIVATE_CHANNEL = "hub"  # of notes and of events about the customer itself


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A customer with the addresses that the caller may see. ``private`` holds its notes."""

    customer: Customer
    addresses: list[AddressDoc]
    private: str | None
    merged_from: str | None


class People:
    """Finds customers for a caller."""

    def __init__(self, store: Store) -> None:
        self._customers = store.table(Customer)
        self._addresses = store.table(AddressDoc)
        self._entries = store.table(Entry)
        self._conversations = store.table(Conversation)

    async def find(self, caller: ApiKey, ident: str) -> Person:
        """Return the customer that answers for ``ident``. Raises Refusal: 404, 410."""
        customer = await self.canonical(ident)
        if customer is None:
            raise Refusal("not-found", f"there is no customer {ident}", 404)
        if customer.erased:
            if caller.limited:
                raise Refusal("not-found", f"there is no customer {ident}", 404)
            raise Refusal("erased", "this customer was erased", 410)
        docs = await self._addresses.get_many(customer.addresses)
        known = [docs[each] for each in customer.addresses if each in docs]
        seen = await self.visible_addresses(caller, [doc for doc in known if not doc.private])
        if caller.limited and not seen:
            raise Refusal("not-found", f"there is no customer {ident}", 404)
        return Person(
            customer=customer,
            addresses=seen,
            private=customer.private or None,
            merged_from=ident if ident != customer.id else None,
        )

    async def canonical(self, ident: str) -> Customer | None:
        """Follow aliases to the customer that answers for an id."""
        customer = await self._customers.get(ident)
        while customer is not None and customer.alias_of is not None:
            customer = await self._customers.get(customer.alias_of)
        return customer

    async def address(self, caller: ApiKey, person: Person, ident: str) -> AddressDoc:
        """Return one of the person's addresses by its id or its text. Raises Refusal(404)."""
        for doc in person.addresses:
            if ident in (doc.id, doc.address):
                return doc
        raise Refusal("not-found", "this customer has no such address", 404)

    # --- what a caller may see -------------------------------------------------------------------

    async def visible_addresses(
        self, caller: ApiKey, docs: Iterable[AddressDoc]
    ) -> list[AddressDoc]:
        return [doc for doc in docs if await self._sees(caller, doc)]

    async def _sees(self, caller: ApiKey, doc: AddressDoc) -> bool:
        if not caller.limited or caller.sees(doc.channel, doc.account):
            return True
        scheme, _, rest = doc.address.partition(":")
        account = rest.partition(":")[0]
        if account:
            return caller.sees(scheme, account)
        # A phone number or a mailbox belongs to no account: it was used on those it wrote to.
        for each in sorted(caller.accounts):
            channel, _, key = each.partition(":")
            here = {"address": doc.id, "channel": channel, "account": key}
            if await self._entries.find(here, limit=1):
                return True
        return False

    async def visible_conversations(
        self, caller: ApiKey, found: Sequence[Conversation]
    ) -> list[Conversation]:
        """Keep the conversations that began or went on at an address the caller sees."""
        if not caller.limited:
            return list(found)
        ends = {end for each in found for end in (each.root, each.last_address) if end}
        docs = await self._addresses.get_many(ends)
        seen = {doc.id for doc in await self.visible_addresses(caller, docs.values())}
        return [each for each in found if {each.root, each.last_address} & seen]

    async def visible_entries(self, caller: ApiKey, found: Sequence[Entry]) -> list[Entry]:
        """Keep the entries of the caller's accounts, and the notes on conversations it sees."""
        if not caller.limited:
            return list(found)
        noted = {
            entry.conversation
            for entry in found
            if entry.channel == PRIVATE_CHANNEL and entry.conversation
        }
        docs = await self._conversations.get_many(noted)
        seen = {each.id for each in await self.visible_conversations(caller, list(docs.values()))}
        return [
            entry
            for entry in found
            if entry.conversation in seen or caller.sees(entry.channel, entry.account)
        ]

    async def entry(self, caller: ApiKey, ident: str) -> Entry:
        """Return an entry that the caller may see. Raises Refusal: 404, 410."""
        entry = await self._entries.get(ident)
        if entry is None or (entry.erased and caller.limited):
            raise Refusal("not-found", f"there is no entry {ident}", 404)
        if entry.erased:
            raise Refusal("erased", "this entry was erased", 410)
        if not await self.visible_entries(caller, [entry]):
            raise Refusal("not-found", f"there is no entry {ident}", 404)
        return entry

    async def conversation(self, caller: ApiKey, ident: str) -> Conversation:
        """Return a conversation that the caller may see. Raises Refusal(404)."""
        found = await self._conversations.get(ident)
        if found is None or not await self.visible_conversations(caller, [found]):
            raise Refusal("not-found", f"there is no conversation {ident}", 404)
        return found
