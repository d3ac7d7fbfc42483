"""One-time codes: whoever tells one is the customer that it was made for.

A code is derived from the command that asks for it (:func:`code_of`) and is kept nowhere; its
document is under the HMAC of it. It is good once, for some minutes. What looks like a code and
is none counts against the address that tells it, and against the space: eight digits are few
enough to be guessed by somebody who may try for ever.
"""

from __future__ import annotations

import hmac
import unicodedata
from datetime import datetime, timedelta

from msgspec.structs import replace

from hub.documents import (
    AddressDoc,
    CodeTries,
    Customer,
    Entry,
    EntrySender,
    IdentityCode,
    InboxItem,
)
from hub.ids import SpaceKey
from hub.planning import conversations, identity
from hub.planning.channel_events import IDENTIFIED
from hub.planning.entries import append
from hub.planning.rules import Refusal, Rules
from hub.planning.workspace import Workspace
from normalizer.drafts import Evidence
from normalizer.model import Role, Trust
from normalizer.parts import AnyPart, Text

EVIDENCE = "code"
DIGITS, LEAST_DIGITS, MOST_DIGITS = 8, 6, 12
PERIOD = timedelta(minutes=15)  # over which tries and issues are counted
WRONG_BY_ADDRESS = 5
WRONG_IN_SPACE = 1000
ISSUED_TO_CUSTOMER = 5
ISSUED_IN_SPACE = 2000
TRIES = 5  # of a right code in the wrong place
KEPT = timedelta(days=1)  # after it is over, for whoever looks into it
_SPACE = "space"
_TURNS = 20  # other codes to take when somebody has this one


# --- making --------------------------------------------------------------------------------------


def code_of(key: SpaceKey, command_key: str, turn: int, digits: int) -> str:
    """Return the code that a command made: who knows neither key can tell nothing of it."""
    mac = hmac.new(key.derive("identity/codes"), f"{command_key}|{turn}".encode(), "sha256")
    return f"{int.from_bytes(mac.digest()) % 10**digits:0{digits}}"


def issue(
    ws: Workspace,
    rules: Rules,
    command_key: str,
    customer: Customer,
    address: AddressDoc | None,
    *,
    digits: int,
    valid: timedelta,
    channel: str,
    actor: str,
) -> tuple[IdentityCode, int]:
    """Make a code; return it with its turn. Raises Refusal(rate-limited)."""
    _count_issue(ws, rules, customer, rules.now + valid)
    for turn in range(_TURNS):
        ident = _ident(rules, code_of(rules.key, command_key, turn, digits))
        held = ws.get(IdentityCode, ident)
        if held is not None and _is_open(held, rules.now):
            continue
        made = IdentityCode(
            id=ident,
            customer=customer.id,
            address=address.id if address is not None else "",
            channel=channel,
            issued_at=rules.now,
            expires_at=rules.now + valid,
            actor=actor,
            expire_at=rules.now + valid + KEPT,
        )
        ws.put(made)
        return made, turn
    raise Refusal("rate-limited", "too many codes are open: wait for some to expire", 429)


def _count_issue(ws: Workspace, rules: Rules, customer: Customer, until: datetime) -> None:
    since = rules.now - PERIOD
    recent = ws.find(IdentityCode, ("customer", "=", customer.id), ("issued_at", ">", since))
    space = _tries(ws, rules, _SPACE)
    if len(recent) >= ISSUED_TO_CUSTOMER or space.issued >= ISSUED_IN_SPACE:
        raise Refusal(
            "rate-limited",
            "too many codes were made: wait some minutes",
            429,
            retry_after=int(PERIOD.total_seconds()),
        )
    open_until = max(until, space.open_until or until)
    expire_at = max(open_until, rules.now + PERIOD) + KEPT
    ws.put(replace(space, issued=space.issued + 1, open_until=open_until, expire_at=expire_at))


# --- telling -------------------------------------------------------------------------------------


class Told:
    """What came of telling a code. ``reason`` is "" when it was confirmed."""

    def __init__(self, reason: str, customer: str = "", link: str | None = None) -> None:
        self.reason = reason
        self.customer = customer
        self.link = link


def code_in(parts: tuple[AnyPart, ...]) -> str:
    """Return the code that a message may consist of, "" when it says anything else."""
    if len(parts) != 1 or not isinstance(parts[0], Text):
        return ""
    return digits_of(parts[0].text)


def digits_of(text: str) -> str:
    """Return a text of digits only in ASCII, whatever keyboard they come from, else ""."""
    text = text.strip()
    if not LEAST_DIGITS <= len(text) <= MOST_DIGITS or not text.isdecimal():
        return ""
    return "".join(str(unicodedata.decimal(char)) for char in text)


def tell_code(
    ws: Workspace, rules: Rules, item: InboxItem, code: str, address: AddressDoc, actor: str
) -> Told:
    """Link the address that told a code to whom the code was made for, and say so.

    Wrong, expired and used codes look alike from outside. Raises nothing.
    """
    space = _tries(ws, rules, _SPACE)
    if space.open_until is None or rules.now >= space.open_until:
        return Told("wrong")  # no code is open: there is nothing to guess, and nothing to count
    mine = _tries(ws, rules, address.id)
    if mine.wrong >= WRONG_BY_ADDRESS or space.wrong >= WRONG_IN_SPACE:
        return Told("rate-limited")
    held = ws.get(IdentityCode, _ident(rules, code))
    if held is None or not _is_open(held, rules.now):
        ws.put(replace(mine, wrong=mine.wrong + 1))
        ws.put(replace(space, wrong=space.wrong + 1))
        return Told("wrong")
    customer = _customer_of(ws, held)
    elsewhere = held.channel not in ("", address.channel)
    if customer is None or elsewhere or address.id == held.address:
        return _missed(ws, held, "wrong")
    before = ws.savepoint()
    try:
        link = identity.link(
            ws,
            rules,
            address,
            customer,
            trust=Trust.ATTESTED,
            evidence=Evidence(kind=EVIDENCE, ref=held.id),
            actor=actor,
        )
    except Refusal as refusal:
        ws.roll_back(before)
        return _missed(ws, held, refusal.error)
    ws.put(replace(held, used_at=rules.now, used_by=address.id))
    _say_so(ws, rules, item, held, ws.need(AddressDoc, address.id), link.id if link else None)
    return Told("", customer.id, link.id if link else None)


def _missed(ws: Workspace, held: IdentityCode, reason: str) -> Told:
    """A right code in the wrong place: some times, and it is good for nothing any more."""
    ws.put(replace(held, tries=held.tries + 1))
    return Told(reason)


def _customer_of(ws: Workspace, held: IdentityCode) -> Customer | None:
    """Return whose code it is now; None when that person was erased since."""
    ident = held.customer
    if held.address:
        address = ws.need(AddressDoc, held.address)
        reborn = address.erased_up_to is not None and address.erased_up_to >= held.issued_at
        if address.erased or reborn or address.customer is None:
            return None
        ident = address.customer
    try:
        return identity.canonical_customer(ws, ident)
    except Refusal:
        return None


def _say_so(
    ws: Workspace,
    rules: Rules,
    item: InboxItem,
    held: IdentityCode,
    address: AddressDoc,
    link: str | None,
) -> None:
    """Put a line into the timeline of the address that told the code."""
    customer = ws.need(Customer, address.customer or "")
    conversation = conversations.place(
        ws,
        rules,
        customer,
        address,
        thread=address.thread or "",
        channel=address.channel,
        account=address.account,
        at=item.received_at,
        wakes=False,
    )
    issued = int(held.issued_at.timestamp() * 1000)
    entry = Entry(
        id=rules.key.hashed("ent", f"code|{held.id}|{issued}"),
        address=address.id,
        position=0,
        at=item.received_at,
        received_at=item.received_at,
        channel=address.channel,
        account=address.account,
        kind="event",
        sender=EntrySender(role=Role.SYSTEM),
        event=IDENTIFIED,
        data={"evidence": EVIDENCE, **({"link": link} if link else {})},
        thread=address.thread,
        conversation=conversation.id if conversation else None,
        source=item.id,
    )
    append(ws, rules, entry, address, IDENTIFIED)


# --- counting ------------------------------------------------------------------------------------


def _ident(rules: Rules, code: str) -> str:
    return rules.key.hashed("cod", code)


def _is_open(held: IdentityCode, now: datetime) -> bool:
    return held.used_at is None and held.tries < TRIES and now < held.expires_at


def _tries(ws: Workspace, rules: Rules, whose: str) -> CodeTries:
    """Return the counts of this period, begun anew when the last one is over."""
    ident = rules.key.hashed("cot", whose)
    held = ws.get(CodeTries, ident)
    if held is not None and rules.now < held.since + PERIOD:
        return held
    open_until = held.open_until if held is not None else None
    expire_at = max(open_until or rules.now, rules.now + PERIOD) + KEPT
    return CodeTries(id=ident, since=rules.now, open_until=open_until, expire_at=expire_at)
