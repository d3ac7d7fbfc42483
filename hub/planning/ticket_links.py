"""Which tickets a conversation has, when outcomes and helpdesks tell it in any order.

A ticket that went into another is remembered (``Conversation.merged_tickets``): an outcome from
before the merge may come after it, and must not bring the old ticket back.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from hub.documents import Conversation, TicketLink

MAX_MERGED = 50  # of one conversation; an outcome is never behind by more


def with_outcome(
    conversation: Conversation, told: TicketLink, replaces: Collection[str]
) -> Conversation:
    """Return the conversation after an outcome: its ticket, and those that it ``replaces``.

    An outcome about a ticket that was merged away is late; it counts again only if it takes the
    place of a ticket that the conversation has now.
    """
    gone = {f"{told.backend}|{ticket}" for ticket in replaces} - {_name(told)}
    moves = any(_name(each) in gone for each in conversation.tickets)
    if _name(told) in conversation.merged_tickets and not moves:
        return conversation
    return _with(conversation, told, gone)


def with_merge(
    conversation: Conversation, backend: str, ticket: str, into: str
) -> Conversation | None:
    """Return the conversation after its helpdesk put a ticket into another; None: long known."""
    old = TicketLink(backend=backend, id=ticket)
    held = {_name(each): each for each in conversation.tickets}
    if _name(old) not in held and _name(old) in conversation.merged_tickets:
        return None
    # The merge may be told before the outcome that made the ticket: then nothing is known of it.
    status = held.get(_name(old), old).status
    new = TicketLink(backend=backend, id=into, status=status)
    return _with(conversation, held.get(_name(new), new), {_name(old)} - {_name(new)})


def _with(conversation: Conversation, link: TicketLink, gone: set[str]) -> Conversation:
    others = tuple(each for each in conversation.tickets if _name(each) not in {*gone, _name(link)})
    merged = [name for name in conversation.merged_tickets if name not in {*gone, _name(link)}]
    return replace(
        conversation,
        tickets=(*others, link),
        merged_tickets=tuple([*merged, *sorted(gone)][-MAX_MERGED:]),
    )


def _name(link: TicketLink) -> str:
    return f"{link.backend}|{link.id}"
