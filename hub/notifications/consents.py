"""The consent ledger: what an address said about each purpose, as the planners write and read it.

Consent belongs to an address and never moves, so that merging customers and undoing it carries
nobody's word over to another. What was said last wins, by the time at which it was said; every
word is kept. A withdrawal holds for its purpose, and one of everything holds for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from hub.documents import AddressDoc, Consent, ConsentChange, Entry
from hub.ids import SpaceKey
from hub.notifications import EVERYTHING, OPTED_IN, OPTED_OUT
from hub.planning.rules import Rules, tell
from hub.planning.workspace import Workspace
from normalizer.drafts import Evidence

State: TypeAlias = Literal["granted", "withdrawn", "unknown"]
GRANTED: State = "granted"
WITHDRAWN: State = "withdrawn"
UNKNOWN: State = "unknown"
MAX_PURPOSE_CHARS = 32


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """Something said about a purpose, and how that is known."""

    purpose: str
    state: State
    at: datetime
    source: str
    evidence: Evidence
    actor: str


def consent_id(key: SpaceKey, address: str, purpose: str) -> str:
    return key.hashed("con", f"{address}|{purpose}")


def objection(
    states: Mapping[str, str], purpose: str, *, needs_grant: bool
) -> Literal["withdrawn", "missing"] | None:
    """Say what stands against a notification. ``states`` are an address's, by purpose.

    An opt-in to everything ends an opt-out of everything; it agrees to no purpose that has to
    be agreed to by name.
    """
    if WITHDRAWN in (states.get(purpose), states.get(EVERYTHING)):
        return "withdrawn"
    if needs_grant and states.get(purpose) != GRANTED:
        return "missing"
    return None


def states_of(ws: Workspace, rules: Rules, address: str, purposes: Iterable[str]) -> dict[str, str]:
    """Return what an address said about these purposes, as far as it said anything."""
    held = {each: ws.get(Consent, consent_id(rules.key, address, each)) for each in purposes}
    return {purpose: consent.state for purpose, consent in held.items() if consent is not None}


def record(
    ws: Workspace, rules: Rules, address: AddressDoc, word: Word, *, cause: str, item: str
) -> None:
    """Append to the ledger. What is older than the last word is kept and changes nothing.

    ``cause`` tells a repetition from a second word; ``item`` is the inbox item it came in.
    """
    change = rules.key.hashed("cch", f"{cause}|{address.id}|{word.purpose}")
    if ws.get(ConsentChange, change) is not None:
        return
    ident = consent_id(rules.key, address.id, word.purpose)
    before = ws.get(Consent, ident)
    if before is None or before.at <= word.at:
        ws.put(
            Consent(
                id=ident,
                address=address.id,
                purpose=word.purpose,
                state=word.state,
                at=word.at,
                source=word.source,
                evidence=word.evidence,
                actor=word.actor,
            )
        )
        tell(
            ws,
            rules,
            "consent.changed",
            customer=address.customer,
            address=address.id,
            ref=ident,
            channel=address.channel,
            account=address.account,
            cause=item,
            data={"purpose": word.purpose, "state": word.state, "source": word.source},
        )
    ws.put(
        ConsentChange(
            id=change,
            address=address.id,
            purpose=word.purpose,
            state=word.state,
            at=word.at,
            recorded_at=rules.now,
            position=ws.position,
            item=item,
            source=word.source,
            evidence=word.evidence,
            actor=word.actor,
        )
    )


def hear(
    ws: Workspace,
    rules: Rules,
    address: AddressDoc,
    entry: Entry,
    purpose: object,
) -> None:
    """Take down what a channel tells by an event: ``contact.opted_out`` or ``contact.opted_in``.

    ``purpose`` is the event's own word for what it is about; without one it is everything. One
    that nobody can read is everything too for an opt-out, and nothing for an opt-in. So is an
    opt-in from an imported history: it may be rolled back, and what it allowed would stay.
    """
    if entry.event not in (OPTED_OUT, OPTED_IN):
        return
    if entry.event == OPTED_IN and entry.historical:
        return
    named = purpose or EVERYTHING
    if not isinstance(named, str) or len(named) > MAX_PURPOSE_CHARS:
        if entry.event == OPTED_IN:
            return
        named = EVERYTHING
    source = f"{entry.channel}:{entry.account}"
    word = Word(
        purpose=named,
        state=WITHDRAWN if entry.event == OPTED_OUT else GRANTED,
        at=entry.at,
        source=source,
        evidence=Evidence(kind=entry.event, ref=entry.id),
        actor=f"channel:{source}",
    )
    record(ws, rules, address, word, cause=entry.id, item=entry.source)


def erase(ws: Workspace, rules: Rules, addresses: tuple[str, ...]) -> None:
    """Keep of erased addresses that they withdrew, and nothing of what they said otherwise.

    The lines of the ledger behind it go with the raw requests; see :mod:`hub.cleaning`.
    """
    for consent in ws.find(Consent, ("address", "in", addresses)):
        stays = consent.state == WITHDRAWN
        ws.put(
            Consent(
                id=consent.id,
                address=consent.address,
                purpose=consent.purpose,
                state=consent.state if stays else UNKNOWN,
                at=consent.at if stays else rules.now,
            )
        )
