"""What a message or an event becomes, whether it comes now or is imported: whose, and which entry.

Where they differ (threads, conversations, what is told to whom) is said in :mod:`arrivals` and
:mod:`history`.
"""

from __future__ import annotations

from datetime import datetime

from hub.documents import AddressDoc, Customer, Delivery, Entry, EntrySender, InboxItem
from hub.planning import identity
from hub.planning.entries import entry_sender
from hub.planning.rules import Rules
from hub.planning.workspace import Workspace
from normalizer.drafts import DeliveryState, Event, Message
from normalizer.model import Direction, Role


def ensure_writer(
    ws: Workspace, rules: Rules, item: InboxItem, draft: Message | Event, at: datetime
) -> tuple[AddressDoc, Customer]:
    """Return the address that a draft is of, and its customer; made when somebody is new."""
    return identity.ensure_address(
        ws,
        rules,
        draft.address,
        channel=item.channel,
        account=item.account,
        at=at,
        profile=draft.profile,
        imported=item.imported,
    )


def entry_of(
    rules: Rules,
    item: InboxItem,
    draft: Message | Event,
    ident: str,
    address: str,
    at: datetime,
    *,
    thread: str | None,
    conversation: str | None = None,
    seq: int = 0,
    client_id: str = "",
) -> Entry:
    """Return the entry of a draft; its position is given when it is appended.

    ``seq`` and ``client_id`` are a message's: an event takes no place in a counted thread.
    """
    vendor_at = draft.at if draft.at != at else None
    if isinstance(draft, Event):
        return Entry(
            id=ident,
            address=address,
            position=0,
            at=at,
            received_at=item.received_at,
            channel=item.channel,
            account=item.account,
            kind="event",
            sender=EntrySender(role=Role.SYSTEM),
            event=draft.name,
            data={**draft.data, **({"text": draft.text} if draft.text else {})},
            thread=thread,
            conversation=conversation,
            vendor_at=vendor_at,
            source=item.id,
            historical=bool(item.imported),
            imported=item.imported,
        )
    incoming = draft.direction is Direction.IN
    return Entry(
        id=ident,
        address=address,
        position=0,
        at=at,
        received_at=item.received_at,
        channel=item.channel,
        account=item.account,
        direction=draft.direction,
        sender=entry_sender(rules, draft.sender),
        parts=draft.parts,
        subject=draft.subject,
        event=draft.event,
        data=draft.data,
        thread=thread,
        seq=seq,
        conversation=conversation,
        reply_to=draft.reply_to,
        automatic=draft.automatic,
        public=draft.public,
        vendor_at=vendor_at,
        source=item.id,
        client_id=client_id,
        delivery=None if incoming else Delivery(state=DeliveryState.ACCEPTED, at=at),
        historical=bool(item.imported),
        imported=item.imported,
    )
