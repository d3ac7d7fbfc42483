"""Which customer an address belongs to; link, merge and their undo.

Every address has a ``home``: the customer it was born with. Every later decision is a
:class:`~hub.documents.Link`, kept for ever. Who owns what is the replay of all decisions that
were not undone, in their order; so undoing one, in any order, restores exactly what would be
if it had never been made.

A decision is about the customers that it names, whatever else is undone. So a merge redirects
what comes after it, but a customer that merely lost its last address does not: it answers as
the customer that got that address for as long as it has none, and is itself again when one
comes back. Nothing here waits; see :mod:`hub.planning.workspace`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from msgspec.structs import replace

from hub.documents import AddressDoc, Conversation, Customer, Doc, Link
from hub.planning.adoption import adopt, share
from hub.planning.conversations import MAX_REOPENABLE
from hub.planning.rules import PAST, Refusal, Rules, tell
from hub.planning.workspace import Workspace, hour
from normalizer.addresses import Address, canonical
from normalizer.drafts import Evidence, Profile
from normalizer.model import Trust

D = TypeVar("D", bound=Doc)

MAX_COMPONENT = 500  # addresses and customers that one decision may touch
ERASED = "erased"  # ``undone_by`` of a decision about somebody who was erased
_TRUSTED = {Trust.CLAIMED: 0, Trust.SEEN: 1, Trust.ATTESTED: 2}


# --- finding -------------------------------------------------------------------------------------


def canonical_customer(ws: Workspace, customer_id: str) -> Customer:
    """Follow aliases to the customer that answers. Raises Refusal(not-found)."""
    customer = ws.get(Customer, customer_id)
    if customer is None:
        raise Refusal("not-found", f"there is no customer {customer_id}", 404)
    while customer.alias_of is not None:
        customer = ws.need(Customer, customer.alias_of)
    if customer.erased:
        raise Refusal("erased", "this customer was erased", 410)
    return customer


def once_answering(ws: Workspace, customer: Customer) -> tuple[str, ...]:
    """Return every customer under whose id the feed may have told of one's addresses.

    A row of the feed names the customer of its moment, so what was said before a merge stands
    under the other one, and what was said before its undo too. Beyond ``MAX_COMPONENT`` ids
    the search ends: no decision joins that many.
    """
    docs = _all(ws, AddressDoc, customer.addresses)
    known: set[str] = set()
    waiting = {customer.id, *customer.addresses, *(doc.home for doc in docs if doc.home)}
    while waiting and len(known) < MAX_COMPONENT:
        known |= waiting
        decisions = ws.find(Link, ("joins", "in", tuple(sorted(waiting))))
        waiting = {ident for each in decisions for ident in each.joins} - known
    return tuple(sorted(ident for ident in known if not ident.startswith("adr_")))


def address_id(rules: Rules, address: Address) -> str:
    return rules.key.hashed("adr", canonical(address))


def ensure_address(
    ws: Workspace,
    rules: Rules,
    address: Address,
    *,
    channel: str,
    account: str,
    at: datetime,
    profile: Profile | None = None,
    imported: str = "",
) -> tuple[AddressDoc, Customer]:
    """Return the address and its customer; both are made when somebody is new.

    An empty ``channel`` says that the address was only named, not reached: where it was seen
    last stays as it is. ``imported`` names the import by which it is met: then somebody who is
    there stays as they are.
    """
    ident = address_id(rules, address)
    doc = ws.get(AddressDoc, ident)
    if doc is None or doc.erased or doc.customer is None:
        return _newcomer(ws, rules, ident, address, channel, account, at, profile, imported)
    if doc.imports and not imported:
        adopt(ws, doc)
        doc = ws.need(AddressDoc, ident)
    customer = ws.need(Customer, doc.customer or "")
    if imported:
        return share(ws, doc, customer, imported, at)
    after = doc
    if (
        channel
        and (doc.channel, doc.account) != (channel, account)
        and _answers(rules, doc, channel)
    ):
        after = replace(after, channel=channel, account=account)
    if profile is not None and _tells_more(doc.profile, profile):
        after = replace(after, profile=profile)
    if after is not doc:
        ws.put(after)
    name = customer.name
    if not name and profile is not None and doc.home == customer.id:
        name = profile.name  # not from an address that may leave again
    seen_at = max(hour(at), customer.seen_at) if channel else customer.seen_at
    if (name, seen_at) != (customer.name, customer.seen_at):
        customer = replace(customer, name=name, seen_at=seen_at)
        ws.put(customer)
    return after, customer


def _answers(rules: Rules, doc: AddressDoc, channel: str) -> bool:
    """Say whether answers go by ``channel`` from now on: who calls a number that is also texted
    is answered by text, because a channel that sends nothing cannot be answered on."""
    return bool(rules.capabilities(channel).sends) or not rules.capabilities(doc.channel).sends


def _tells_more(known: Profile | None, told: Profile) -> bool:
    """What somebody merely claims does not replace what is known for sure."""
    return known is None or (told != known and _TRUSTED[told.trust] >= _TRUSTED[known.trust])


def _newcomer(
    ws: Workspace,
    rules: Rules,
    ident: str,
    address: Address,
    channel: str,
    account: str,
    at: datetime,
    profile: Profile | None,
    imported: str,
) -> tuple[AddressDoc, Customer]:
    imports = (imported,) if imported else ()
    customer = ws.new(
        Customer(
            id=ws.new_id("cus"),
            name=profile.name if profile else "",
            addresses=(ident,),
            created_at=rules.now,
            seen_at=hour(at),
            imports=imports,
        )
    )
    before = ws.get(AddressDoc, ident)
    doc = AddressDoc(
        id=ident,
        scheme=address.scheme,
        address=canonical(address),
        channel=channel,
        account=account,
        home=customer.id,
        customer=customer.id,
        profile=profile,
        thread=ws.new_id("thr"),
        created_at=rules.now,
        erased_up_to=before.erased_up_to if before else None,
        imports=imports,
    )
    ws.put(doc)
    tell(
        ws,
        rules,
        "customer.created",
        customer=customer.id,
        address=ident,
        ref=customer.id,
        channel=channel,
        account=account,
    )
    return doc, customer


def private_address(ws: Workspace, rules: Rules, customer: Customer) -> AddressDoc:
    """Return the address that holds the notes and events about a customer itself."""
    if customer.private:
        return ws.need(AddressDoc, customer.private)
    text = canonical(Address(scheme="hub", kind="customer", id=customer.id))
    doc = ws.new(
        AddressDoc(
            id=rules.key.hashed("adr", text),
            scheme="hub",
            address=text,
            home=customer.id,
            customer=customer.id,
            created_at=rules.now,
            private=True,
        )
    )
    current = ws.need(Customer, customer.id)
    ws.put(replace(current, private=doc.id, addresses=(*current.addresses, doc.id)))
    return doc


# --- deciding ------------------------------------------------------------------------------------


def link(
    ws: Workspace,
    rules: Rules,
    address: AddressDoc,
    into: Customer,
    *,
    trust: Trust,
    evidence: Evidence,
    actor: str,
) -> Link | None:
    """Give the address to another customer. Evidence below ``attested`` stays a suggestion.

    Return the decision, or None when the address belongs there already.
    """
    if address.private:
        raise Refusal("bad-request", "a customer's private address cannot be linked", 422)
    if address.customer == into.id:
        return None
    if trust is not Trust.ATTESTED:
        tell(
            ws,
            rules,
            "customer.link_suggested",
            customer=into.id,
            address=address.id,
            ref=into.id,
            data={"trust": trust, "evidence": evidence.kind, "customer": address.customer or ""},
        )
        return None
    decision = _decide(
        ws, rules, "link", address.id, into.id, address.customer, evidence, actor, home=address.home
    )
    _replay(ws, rules, [address.id, into.id], decision)
    return decision


def merge(
    ws: Workspace, rules: Rules, loser: Customer, winner: Customer, evidence: Evidence, actor: str
) -> Link:
    """Make two customers one. ``loser`` answers as ``winner`` from now on."""
    if loser.id == winner.id:
        raise Refusal("bad-request", "both ids are the same customer already", 422)
    decision = _decide(ws, rules, "merge", loser.id, winner.id, None, evidence, actor)
    _replay(ws, rules, [loser.id, winner.id], decision)
    return decision


def separate(
    ws: Workspace, rules: Rules, address: AddressDoc, evidence: Evidence, actor: str
) -> Link:
    """Give an address a new customer of its own (an unlink without a former customer)."""
    owner = ws.need(Customer, address.customer or "")
    if not any(
        other.id != address.id and not other.private
        for other in _all(ws, AddressDoc, owner.addresses)
    ):
        raise Refusal("bad-request", "this is the customer's only address", 422)
    fresh = _empty_customer(ws, rules)
    decision = _decide(
        ws, rules, "link", address.id, fresh.id, owner.id, evidence, actor, home=address.home
    )
    _replay(ws, rules, [address.id, owner.id, fresh.id], decision)
    return decision


def undo(ws: Workspace, rules: Rules, link_id: str, actor: str) -> Link:
    """Take a decision out of the replay. What arrived meanwhile follows its address."""
    decision = ws.get(Link, link_id)
    if decision is None:
        raise Refusal("not-found", f"there is no link {link_id}", 404)
    if decision.undone_by == ERASED:
        raise Refusal("erased", "somebody whom this link joined was erased", 410)
    if decision.undone_at is not None:
        return decision
    undone = replace(decision, undone_at=rules.now, undone_by=actor)
    ws.put(undone)
    _replay(ws, rules, decision.members, undone)
    return undone


def _empty_customer(ws: Workspace, rules: Rules) -> Customer:
    fresh = Customer(id=ws.new_id("cus"), created_at=rules.now, seen_at=hour(rules.now))
    ws.new(fresh)
    tell(ws, rules, "customer.created", customer=fresh.id, ref=fresh.id)
    return fresh


def _decide(
    ws: Workspace,
    rules: Rules,
    kind: str,
    subject: str,
    into: str,
    former: str | None,
    evidence: Evidence,
    actor: str,
    *,
    home: str | None = None,
) -> Link:
    members = tuple(dict.fromkeys(ident for ident in (subject, into, former) if ident))
    joins = members if home is None or home in members else (*members, home)
    decision = Link(
        id=ws.new_id("lnk"),
        kind=kind,
        subject=subject,
        into=into,
        former=former,
        members=members,
        joins=joins,
        order=ws.position + 1,
        trust=Trust.ATTESTED,
        evidence=evidence,
        actor=actor,
        at=rules.now,
    )
    ws.new(decision)
    return decision


# --- replaying -----------------------------------------------------------------------------------


class _Component:
    """All addresses, customers and decisions that hang together with a starting point."""

    def __init__(self, ws: Workspace, start: Iterable[str]) -> None:
        self.addresses: dict[str, AddressDoc] = {}
        self.customers: dict[str, Customer] = {}
        self.links: dict[str, Link] = {}
        self._start = frozenset(start)
        waiting = set(self._start)
        while waiting:
            if len(self.addresses) + len(self.customers) + len(waiting) > MAX_COMPONENT:
                raise Refusal(
                    "too-large", f"this would touch more than {MAX_COMPONENT} addresses", 422
                )
            found = self._visit(ws, sorted(waiting))
            waiting = found - self.addresses.keys() - self.customers.keys()
            waiting = waiting or self._emptied_by_undoing(ws)

    def _visit(self, ws: Workspace, idents: list[str]) -> set[str]:
        """Take these in; return what hangs together with them. Erased customers end the way."""
        found: set[str] = set()
        joints: list[str] = []
        for address in _all(ws, AddressDoc, [i for i in idents if i.startswith("adr_")]):
            self.addresses[address.id] = address
            joints.append(address.id)
            found.update(owner for owner in (address.home, address.customer) if owner)
        for customer in _all(ws, Customer, [i for i in idents if not i.startswith("adr_")]):
            self.customers[customer.id] = customer
            if not customer.erased:
                joints.append(customer.id)
                found.update(customer.addresses)
                found.update([customer.alias_of] if customer.alias_of else [])
        if joints:
            for decision in ws.find(Link, ("joins", "in", tuple(joints))):
                self.links[decision.id] = decision
                found.update(_joined_by(decision))
        return found

    def _emptied_by_undoing(self, ws: Workspace) -> set[str]:
        """Return who had an address of here before an undo, and what those without one had."""
        undone = [each for each in self.links.values() if taken_back(each)]
        others = {each.into for each in undone} - self.customers.keys()
        customers = {**self.customers, **{c.id: c for c in _all(ws, Customer, sorted(others))}}
        found: set[str] = set()
        for decision in undone:
            customer = customers[decision.into]
            may_be_empty = customer.id in self._start or not customer.addresses
            if may_be_empty and not customer.erased:
                found.update((decision.subject, decision.into))
        return found - self.addresses.keys() - self.customers.keys()

    def erased(self, customer: str) -> bool:
        return self.customers[customer].erased


def taken_back(decision: Link) -> bool:
    """Say whether an address was linked and the link undone (not: the person erased)."""
    undone = decision.undone_at is not None and decision.undone_by != ERASED
    return undone and decision.kind == "link"


def _all(ws: Workspace, kind: type[D], idents: Sequence[str]) -> list[D]:
    return ws.find(kind, ("id", "in", tuple(idents))) if idents else []


def _joined_by(decision: Link) -> list[str]:
    """Return what has to be replayed together because of this decision."""
    if decision.undone_at is None:
        return list(decision.members)
    if decision.undone_by == ERASED and decision.former:
        return [decision.former, decision.into]
    return []


class _Replay:
    """The outcome of all standing decisions: each address's owner, and who answers as whom."""

    def __init__(self, component: _Component) -> None:
        self.owner = {ident: address.home for ident, address in component.addresses.items()}
        self.alias: dict[str, str] = {}
        self._component = component
        self._last_went_to: dict[str, str] = {}
        self._taken_back: dict[str, tuple[datetime, int, str]] = {}
        for decision in sorted(component.links.values(), key=lambda each: (each.order, each.id)):
            self._apply(decision)
        self._alias_emptied()

    def answering(self, customer: str) -> str:
        while customer in self.alias:
            customer = self.alias[customer]
        return customer

    def _apply(self, decision: Link) -> None:
        if decision.undone_at is not None:
            if decision.undone_by == ERASED:
                self._left(decision.former, decision.into)
            elif decision.kind == "link":
                # Several at one time: the first decision is what the customer was made for.
                one = (decision.undone_at, -decision.order, decision.subject)
                self._taken_back[decision.into] = max(one, self._taken_back.get(decision.into, one))
            return
        into = self.answering(decision.into)
        if decision.kind == "link":
            before = self.owner[decision.subject]
            self.owner[decision.subject] = into
            self._left(before, into)
            return
        loser = self.answering(decision.subject)
        if loser != into:
            for ident, holder in self.owner.items():
                if holder == loser:
                    self.owner[ident] = into
            self.alias[loser] = into

    def _left(self, former: str | None, into: str) -> None:
        """Note who got an address last; one who is erased by now does not answer for others."""
        if former is not None and former != into and not self._component.erased(into):
            self._last_went_to[former] = into

    def _alias_emptied(self) -> None:
        private = {i for i, address in self._component.addresses.items() if address.private}
        reached = {holder for ident, holder in self.owner.items() if ident not in private}
        for ident, customer in sorted(self._component.customers.items()):
            if customer.erased or ident in reached or ident in self.alias:
                continue
            heir = self._last_went_to.get(ident)
            if heir is None and ident in self._taken_back:  # it was undone that it had one
                heir = self.owner.get(self._taken_back[ident][-1])
            if heir is not None and self.answering(heir) != ident:
                self.alias[ident] = heir
        for ident in private:
            holder = self.owner[ident]
            self.owner[ident] = self.answering(holder) if holder else None


def _replay(ws: Workspace, rules: Rules, start: Iterable[str], decision: Link) -> None:
    component = _Component(ws, start)
    replay = _Replay(component)
    moved = {
        ident: holder
        for ident, holder in replay.owner.items()
        if component.addresses[ident].customer != holder
    }
    for ident, holder in moved.items():
        if holder is not None and component.erased(holder):
            raise Refusal("erased", "the customer this address would go back to was erased", 410)
        ws.put(replace(component.addresses[ident], customer=holder))
    _move_conversations(ws, moved)
    listed = _Listed(ws, rules, component)
    for ident in sorted(component.customers):
        if not component.erased(ident):
            _settle_customer(ws, rules, ident, component, replay, listed, decision)


def _move_conversations(ws: Workspace, moved: dict[str, str | None]) -> None:
    """Let conversations follow the address of their first entry."""
    if not moved:
        return
    for conversation in ws.find(Conversation, ("root", "in", tuple(sorted(moved)))):
        holder = moved[conversation.root]
        before = conversation.closed_by == ERASED  # it was somebody else's, at the same address
        if holder is not None and conversation.customer != holder and not before:
            ws.put(replace(conversation, customer=holder))


class _Listed:
    """The conversations that customers list: the open ones, and those that may reopen."""

    def __init__(self, ws: Workspace, rules: Rules, component: _Component) -> None:
        owners = tuple(sorted(component.customers))
        lately = rules.now - rules.reopen - PAST
        held = [i for each in component.customers.values() for i in (*each.open, *each.last_closed)]
        self._all = {
            conversation.id: conversation
            for conversation in (
                *_all(ws, Conversation, sorted(held)),
                *ws.find(Conversation, ("customer", "in", owners), ("state", "=", "open")),
                *ws.find(Conversation, ("customer", "in", owners), ("closed_at", ">", lately)),
            )
            if not conversation.final
        }

    def open(self, customer: str) -> tuple[str, ...]:
        mine = [each for each in self._of(customer) if each.state == "open"]
        return tuple(each.id for each in sorted(mine, key=lambda each: (each.opened_at, each.id)))

    def closed(self, customer: str) -> tuple[str, ...]:
        mine = [(each.closed_at, each.id) for each in self._of(customer) if each.closed_at]
        return tuple(ident for _, ident in sorted(mine)[-MAX_REOPENABLE:])

    def _of(self, customer: str) -> list[Conversation]:
        return [each for each in self._all.values() if each.customer == customer]


def _settle_customer(
    ws: Workspace,
    rules: Rules,
    ident: str,
    component: _Component,
    replay: _Replay,
    listed: _Listed,
    decision: Link,
) -> None:
    """Write what follows for one customer, and tell the feed what became of it."""
    before = component.customers[ident]
    addresses = tuple(
        sorted(
            (each for each, holder in replay.owner.items() if holder == ident),
            key=lambda each: (component.addresses[each].created_at or rules.now, each),
        )
    )
    after = replace(
        before,
        addresses=addresses,
        alias_of=replay.alias.get(ident),
        open=listed.open(ident),
        last_closed=listed.closed(ident),
    )
    if after == before:
        return
    ws.put(after)
    if after.alias_of and after.alias_of != before.alias_of:
        kind = "customer.merged"
    elif before.alias_of and not after.alias_of:
        kind = "customer.split"
    else:
        kind = "customer.updated"
    data = {"link": decision.id}
    if after.alias_of:
        data["into"] = after.alias_of
    tell(ws, rules, kind, customer=ident, ref=ident, data=data)
