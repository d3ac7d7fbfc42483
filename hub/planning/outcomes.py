"""What became of jobs: answers that were sent or not, tickets, files, profiles."""

from __future__ import annotations

from functools import partial

import msgspec
from msgspec.structs import replace

from hub.documents import AmendmentDoc, Conversation, Entry, InboxItem, TicketLink
from hub.planning.arrivals import message
from hub.planning.echoes import decide
from hub.planning.entries import amend, name_entry, settle
from hub.planning.media import KINDS as MEDIA_KINDS
from hub.planning.media_outcome import media_outcome
from hub.planning.profiles import JOB as PROFILE
from hub.planning.profiles import profile_outcome
from hub.planning.returns import came_back
from hub.planning.rules import Rules, sane, tell
from hub.planning.ticket_jobs import ticket_job
from hub.planning.ticket_links import with_outcome
from hub.planning.workspace import Workspace
from normalizer.drafts import AmendmentKind, DeliveryState, Outcome
from normalizer.keys import dedupe_key


def outcome(ws: Workspace, rules: Rules, item: InboxItem, draft: Outcome) -> bool:
    """Say in the timeline what became of a job; return False when the raw copy has to go."""
    if draft.kind == "send":
        _send_outcome(ws, rules, item, draft)
    elif draft.kind == "ticket":
        _ticket_outcome(ws, rules, draft)
    elif draft.kind in MEDIA_KINDS:
        media_outcome(ws, rules, item, draft)
    elif draft.kind == PROFILE:
        profile_outcome(ws, rules, item, draft)
        return False  # an erasure would not find the copy in the inbox: nothing names its person
    return True


def _send_outcome(ws: Workspace, rules: Rules, item: InboxItem, draft: Outcome) -> None:
    if draft.entry is None:
        return
    entry = ws.get(Entry, draft.entry)
    ident = rules.key.hashed("amd", dedupe_key(item.channel, item.account, draft))
    if entry is None or ws.get(AmendmentDoc, ident) is not None:
        return
    result = draft.result
    if entry.erased:  # its echo has to find the tombstone
        for early in name_entry(ws, rules, entry, result.get("vendor_ids", ())):
            ws.put(replace(early, target=entry.id, waiting=False, data={}, by=None))
        return
    data = {name: result[name] for name in ("state", "code", "reason", "round") if result.get(name)}
    amend(
        ws,
        rules,
        ident,
        entry.id,
        AmendmentKind.STATE,
        at=sane(draft.at, item.received_at),
        data=data,
    )
    named, turn = result.get("vendor_ids", ()), int(result.get("round", 0))
    for early in name_entry(ws, rules, entry, named, turn=turn):
        settle(ws, rules, ws.need(Entry, entry.id), early, turn=turn)
    put_in = partial(message, ws, rules, route=None)
    decide(ws, rules, entry.id, result.get("state", ""), named, put_in)
    if result.get("gone") is True:
        came_back(ws, rules, entry, sane(draft.at, item.received_at), gone=True)
    if result.get("state") in (DeliveryState.FAILED, DeliveryState.UNKNOWN):
        _tell_tickets(ws, rules, ws.need(Entry, entry.id), draft)


def _tell_tickets(ws: Workspace, rules: Rules, entry: Entry, draft: Outcome) -> None:
    """A failed or unknown answer reopens its ticket with an internal note."""
    if entry.conversation is None:
        return
    conversation = ws.need(Conversation, entry.conversation)
    for backend in conversation.backends:
        ticket_job(
            ws,
            rules,
            conversation,
            backend,
            "failed_answer",
            f"{draft.job}|{draft.key}|failed|{backend}",
            entry=entry.id,
            args={name: draft.result.get(name, "") for name in ("state", "reason")},
        )


def _ticket_outcome(ws: Workspace, rules: Rules, draft: Outcome) -> None:
    conversation = ws.get(Conversation, draft.conversation or "")
    if conversation is None or "ticket" not in draft.result:
        return
    told = msgspec.convert(draft.result["ticket"], TicketLink)
    same = (
        each for each in conversation.tickets if (each.backend, each.id) == (told.backend, told.id)
    )
    before = next(same, None)
    after = with_outcome(conversation, told, draft.result.get("replaces", ()))
    if set(after.tickets) == set(conversation.tickets):
        return
    ws.put(after)
    changed = before is not None and before.status != told.status
    tell(
        ws,
        rules,
        "ticket.status_changed" if changed else "ticket.linked",
        customer=conversation.customer,
        conversation=conversation.id,
        ref=conversation.id,
        data={"backend": told.backend, "ticket": told.id, "status": told.status},
    )
