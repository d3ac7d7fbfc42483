"""The command for an answer that the customer has got already: the helpdesk itself sent it."""

from __future__ import annotations

from hub.documents import AddressDoc, Customer, Delivery, Entry, EntrySender
from hub.planning import identity
from hub.planning.commands.handling import standing
from hub.planning.commands.registry import (
    Args,
    Context,
    Result,
    command,
    command_entry_id,
)
from hub.planning.commands.saying import made_before
from hub.planning.entries import append, tickets_for
from hub.planning.rules import Refusal, Rules
from hub.planning.workspace import Workspace
from normalizer.drafts import DeliveryState
from normalizer.model import Direction, Role
from normalizer.parts import Text


class SentElsewhere(Args, frozen=True, kw_only=True):
    """What ``backend`` told the customer by itself. It is kept, and never sent again."""

    text: str
    conversation: str
    backend: str
    agent: str = ""
    agent_name: str = ""


@command("sent_elsewhere", SentElsewhere)
def _sent_elsewhere(ws: Workspace, rules: Rules, context: Context, args: SentElsewhere) -> Result:
    if not args.text.strip():
        raise Refusal("bad-request", "an answer needs text", 422)
    known = made_before(ws, rules, context)
    if known is not None:
        return known
    conversation = standing(ws, args.conversation)
    customer = identity.canonical_customer(ws, conversation.customer)
    address = _where_it_went(ws, rules, customer)
    entry = Entry(
        id=command_entry_id(rules.key, context.key),
        address=address.id,
        position=0,
        at=context.item.received_at,
        received_at=context.item.received_at,
        channel=address.channel or "hub",
        account=address.account,
        direction=Direction.OUT,
        sender=EntrySender(role=Role.AGENT, name=args.agent_name, ref=args.agent),
        parts=(Text(text=args.text),),
        data={"sent_by": args.backend},
        conversation=conversation.id,
        source=context.item.id,
        delivery=Delivery(state=DeliveryState.ACCEPTED, at=rules.now),
    )
    entry = append(ws, rules, entry, ws.need(AddressDoc, address.id), "message.sent")
    tickets_for(ws, rules, entry, customer.id, come_from=args.backend)
    return {"entry": entry.id, "conversation": conversation.id, "customer": customer.id}


def _where_it_went(ws: Workspace, rules: Rules, customer: Customer) -> AddressDoc:
    """Helpdesks write mails: to the newest mailbox that is known, else nobody knows where to.

    Not to the address that spoke last: a message in a chat's thread would be shown there.
    """
    docs = {doc.id: doc for doc in ws.find(AddressDoc, ("id", "in", customer.addresses))}
    for ident in reversed(customer.addresses):
        doc = docs.get(ident)
        if doc is not None and doc.scheme == "mail" and doc.channel and not doc.private:
            return doc
    return identity.private_address(ws, rules, customer)
