"""What channels say about who is who: an address that is somebody known already."""

from __future__ import annotations

from hub.documents import AddressDoc, Alias, Customer, InboxItem
from hub.planning import identity
from hub.planning.arrivals import event
from hub.planning.rules import Refusal, Rules, sane, tell
from hub.planning.workspace import Workspace
from normalizer.addresses import Address
from normalizer.drafts import Event, Identity
from normalizer.keys import dedupe_key
from normalizer.model import Trust


def same_person(ws: Workspace, rules: Rules, item: InboxItem, draft: Identity) -> None:
    """Link two addresses of which a channel says that they are one person's."""
    ident = rules.key.hashed("als", dedupe_key(item.channel, item.account, draft))
    if ws.get(Alias, ident) is not None:
        return
    known, into = _named(ws, rules, item, draft, draft.same_as)
    address, _ = _named(ws, rules, item, draft, draft.address)
    ws.put(Alias(id=ident, entry=known.id))
    before = ws.savepoint()
    try:
        identity.link(
            ws,
            rules,
            address,
            ws.need(Customer, into.id),
            trust=Trust(draft.trust),
            evidence=draft.evidence,
            actor=f"{item.channel}:{item.account}",
        )
    except Refusal as refusal:  # too large: what else the item says must not be lost with it
        ws.roll_back(before)
        tell(
            ws,
            rules,
            "customer.link_suggested",
            customer=into.id,
            address=address.id,
            ref=into.id,
            data={"evidence": draft.evidence.kind, "refused": refusal.error},
        )
    if draft.role_event:
        event(
            ws,
            rules,
            item,
            Event(
                key=f"{draft.key}|{draft.role_event}",
                at=draft.at,
                address=draft.same_as,
                name=draft.role_event,
                data={"evidence": draft.evidence.kind},
            ),
        )


def _named(
    ws: Workspace, rules: Rules, item: InboxItem, draft: Identity, address: Address
) -> tuple[AddressDoc, Customer]:
    """Return an address that is spoken of. Only one of the item's own channel was reached by it."""
    own = address.scheme == item.channel
    return identity.ensure_address(
        ws,
        rules,
        address,
        channel=item.channel if own else "",
        account=item.account if own else "",
        at=sane(draft.at, item.received_at),
        profile=draft.profile if address == draft.same_as else None,
    )
