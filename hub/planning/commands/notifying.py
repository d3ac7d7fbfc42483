"""Commands about telling customers something they did not ask for: notify, cancel, consent.

All is decided in the router's transaction: two notifications cannot take the last place under a
cap, and none is made after the withdrawal that stands before it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from hub.documents import (
    AddressDoc,
    Customer,
    Delivery,
    Entry,
    EntrySender,
    Job,
    Notice,
    Thread,
)
from hub.notifications import EVERYTHING, NOTIFICATION
from hub.notifications.caps import possible_at, take
from hub.notifications.consents import State, Word, objection, record, states_of
from hub.notifications.policy import Purpose
from hub.notifications.quiet import NONE, zone_of
from hub.planning import identity
from hub.planning.commands.registry import Args, Context, Result, command, command_entry_id
from hub.planning.commands.saying import reaches, refuse_unsayable
from hub.planning.entries import append
from hub.planning.returns import refuse_gone
from hub.planning.rules import Refusal, Rules
from hub.planning.workspace import Workspace
from normalizer.addresses import AddressError, parse_address
from normalizer.drafts import DeliveryState, Evidence
from normalizer.model import Direction, Role, milliseconds
from normalizer.parts import AnyPart, Text

Moment: TypeAlias = Annotated[datetime, Meta(tz=True)]

PRIVATE_CHANNEL = "hub"
ZONE_ATTRIBUTES = ("time_zone", "zoneinfo")  # ours; OpenID Connect's
KEPT = timedelta(days=90)  # a notice, behind the moment from which on it may leave
FARTHEST = timedelta(days=90)  # how far ahead something can be asked for
ROUNDS = 10  # looks for a moment that suits both caps and quiet hours


class NotifyTemplate(Args, frozen=True, kw_only=True):
    """A text that the vendor approved before, and what goes into its blanks."""

    name: str
    language: str = ""
    params: dict[str, str] = {}


class Notify(Args, frozen=True, kw_only=True):
    """Tell somebody something. ``address`` is an ``adr_`` id or canonical text.

    An address that nobody has seen yet is made, with a customer, where ``channel`` and
    ``account`` say by whom it is reached.
    """

    purpose: str
    customer: str = ""
    address: str = ""
    channel: str = ""
    account: str = ""
    parts: tuple[AnyPart, ...] = ()
    template: NotifyTemplate | None = None
    subject: str = ""
    sender_name: str = ""
    not_before: Moment | None = None
    expires_at: Moment | None = None
    respect_quiet_hours: bool = True


@command("notify", Notify)
def _notify(ws: Workspace, rules: Rules, context: Context, args: Notify) -> Result:
    made = command_entry_id(rules.key, context.key)
    entry = ws.get(Entry, made)
    if entry is not None:
        return _result(ws, entry, ws.get(Notice, made))
    purpose = _purpose(rules, args)
    _refuse_impossible_times(rules, args)
    address, channel, account = _where(ws, rules, args, purpose)
    _refuse_what_cannot_be_said(rules, channel, args)
    _refuse_without_consent(ws, rules, address.id, purpose)
    customer = ws.need(Customer, address.customer or "")
    notice = _when(ws, rules, customer, address, purpose, args, made)
    ws.new(notice)
    entry = Entry(
        id=made,
        address=address.id,
        position=0,
        at=context.item.received_at,
        received_at=context.item.received_at,
        channel=channel,
        account=account,
        direction=Direction.OUT,
        sender=EntrySender(role=Role.SYSTEM, name=args.sender_name, ref=context.actor.id),
        parts=args.parts or _shown(args.template),
        subject=args.subject,
        event=NOTIFICATION,
        data=_data(notice, args),
        thread=_thread(ws, rules, address, channel, made),
        automatic=True,
        source=context.item.id,
        delivery=Delivery(state=DeliveryState.QUEUED, at=rules.now),
    )
    entry = append(ws, rules, entry, address, "message.sent")
    ws.new(
        Job(
            id=rules.key.hashed("job", f"{entry.id}|send"),
            lane=_lane(notice),
            kind="send",
            position=entry.position,
            due_at=notice.due_at,
            live=True,
            state="ready",
            entry=entry.id,
            customer=customer.id,
            account=f"{channel}:{account}",
        )
    )
    return _result(ws, entry, notice)


def _lane(notice: Notice) -> str:
    """Return a lane in which nothing waits that could leave now.

    Lanes run in order, so one that waits for the morning must not stand before an answer that
    is due. Those of one purpose that are due together leave in the order they were asked for.
    """
    due = round(notice.due_at.timestamp() * 1000)
    return f"notify:{notice.address}:{notice.purpose}:{due}"


def _shown(template: NotifyTemplate | None) -> tuple[AnyPart, ...]:
    """Return what the timeline shows of a template whose words nobody told us."""
    if template is None:
        return ()
    blanks = ", ".join(f"{name}: {value}" for name, value in template.params.items())
    return (Text(text=f"[{template.name}] {blanks}".strip()),)


def _result(ws: Workspace, entry: Entry, notice: Notice | None) -> Result:
    address = ws.get(AddressDoc, entry.address) if entry.address else None
    return {
        "entry": entry.id,
        "address": entry.address,
        "customer": address.customer if address else None,
        "due_at": notice.due_at.isoformat() if notice else None,
    }


def _data(notice: Notice, args: Notify) -> dict[str, Any]:
    data: dict[str, Any] = {"purpose": notice.purpose, "due_at": notice.due_at.isoformat()}
    if notice.expires_at is not None:
        data["expires_at"] = notice.expires_at.isoformat()
    if args.template:
        data["template"] = msgspec.to_builtins(args.template)
    return data


# --- what for, what, when ------------------------------------------------------------------------


def _purpose(rules: Rules, args: Notify) -> Purpose:
    purpose = rules.notifications.purposes.get(args.purpose)
    if purpose is None:
        known = ", ".join(sorted(rules.notifications.purposes))
        raise Refusal("bad-request", f"there is no purpose {args.purpose}; there are {known}", 422)
    if not args.respect_quiet_hours and not purpose.may_disturb:
        raise Refusal("bad-request", f"{purpose.name} cannot leave in quiet hours", 422)
    return purpose


def _refuse_impossible_times(rules: Rules, args: Notify) -> None:
    if args.not_before is not None and args.not_before > rules.now + FARTHEST:
        raise Refusal("bad-request", f"not_before is at most {FARTHEST.days} days ahead", 422)
    first = max(rules.now, args.not_before or rules.now)
    if args.expires_at is not None and args.expires_at <= first:
        raise Refusal("bad-request", "expires_at has to be ahead, and behind not_before", 422)


def _refuse_what_cannot_be_said(rules: Rules, channel: str, args: Notify) -> None:
    if args.template is not None and not rules.capabilities(channel).templates:
        raise Refusal("unsupported", f"{channel} has no templates: send parts", 422)
    if args.parts or args.template is None:  # with a template, parts show what it will say
        refuse_unsayable(rules, channel, args.parts)


def _refuse_without_consent(ws: Workspace, rules: Rules, address: str, purpose: Purpose) -> None:
    against = _against(ws, rules, address, purpose)
    if against == "withdrawn":
        raise Refusal(
            "consent-withdrawn", f"this address does not want {purpose.name}: do not send it"
        )
    if against == "missing":
        raise Refusal(
            "consent-missing",
            f"{purpose.name} goes to addresses that agreed to it: record their consent first",
        )


def _against(ws: Workspace, rules: Rules, address: str, purpose: Purpose) -> str | None:
    states = states_of(ws, rules, address, (purpose.name, EVERYTHING))
    return objection(states, purpose.name, needs_grant=purpose.needs_grant)


def _when(
    ws: Workspace,
    rules: Rules,
    customer: Customer,
    address: AddressDoc,
    purpose: Purpose,
    args: Notify,
    entry: str,
) -> Notice:
    """Decide when it leaves. Raises Refusal when that is too late, or once too often."""
    quiet = purpose.quiet if args.respect_quiet_hours else None
    zone = zone_of(*_zone_names(ws, customer, address), rules.notifications.time_zone)

    def suits(at: datetime) -> datetime:
        return quiet.over_at(at, zone) if quiet is not None else at

    due_at = suits(milliseconds(max(rules.now, args.not_before or rules.now)))
    if purpose.caps:
        others = _leaving(ws, customer, purpose, due_at)
        if not take(purpose.caps, due_at, others):
            free = due_at
            for _ in range(ROUNDS):
                free = suits(possible_at(purpose.caps, free, others))
                if take(purpose.caps, free, others):
                    break
            raise Refusal(
                "frequency-capped",
                f"this customer gets enough {purpose.name} by then; one more could leave at"
                f" {free.isoformat()}",
                possible_at=free.isoformat(),
            )
    if args.expires_at is not None and args.expires_at <= due_at:
        raise Refusal(
            "quiet-hours",
            f"quiet hours last until {due_at.isoformat()}, and it expires before",
            possible_at=due_at.isoformat(),
        )
    return Notice(
        id=entry,
        address=address.id,
        purpose=purpose.name,
        due_at=due_at,
        position=ws.position + 1,
        needs_grant=purpose.needs_grant,
        expires_at=milliseconds(args.expires_at) if args.expires_at else None,
        quiet_hours=str(quiet) if quiet is not None else NONE,
        time_zone=str(zone),
        expire_at=max(due_at, args.expires_at or due_at) + KEPT,
    )


def _zone_names(ws: Workspace, customer: Customer, address: AddressDoc) -> list[str]:
    """Return the time zones that profiles name: the address's own first, then the newest."""
    docs = {doc.id: doc for doc in ws.find(AddressDoc, ("id", "in", customer.addresses))}
    others = [docs[ident] for ident in reversed(customer.addresses) if ident in docs]
    profiles = [doc.profile for doc in (address, *others)]
    return [
        profile.attributes[name]
        for profile in profiles
        for name in ZONE_ATTRIBUTES
        if profile is not None and name in profile.attributes
    ]


def _leaving(ws: Workspace, customer: Customer, purpose: Purpose, at: datetime) -> list[datetime]:
    """Return when this purpose's notifications left or are going to, near ``at`` and later.

    What surely did not reach the customer does not count: it failed, or was cancelled in time.
    """
    since = at - max(cap.span for cap in purpose.caps)
    notices = ws.find(
        Notice,
        ("address", "in", customer.addresses),
        ("purpose", "=", purpose.name),
        ("due_at", ">", since),
    )
    if not notices:
        return []
    idents = tuple(sorted(notice.id for notice in notices))
    entries = {entry.id: entry for entry in ws.find(Entry, ("id", "in", idents))}
    return [
        notice.due_at
        for notice in notices
        if notice.id in entries and _counts(notice, entries[notice.id])
    ]


def _counts(notice: Notice, entry: Entry) -> bool:
    state = entry.delivery.state if entry.delivery else DeliveryState.QUEUED
    waits = state is DeliveryState.QUEUED
    return state is not DeliveryState.FAILED and not (waits and notice.cancelled_at is not None)


# --- to whom -------------------------------------------------------------------------------------


def _where(
    ws: Workspace, rules: Rules, args: Notify, purpose: Purpose
) -> tuple[AddressDoc, str, str]:
    """Return the address, and the account by which it is written to."""
    if args.address:
        address = _named(ws, rules, args)
        if args.customer:
            owner = identity.canonical_customer(ws, args.customer)
            if address.customer != owner.id:
                raise Refusal("not-found", "this address belongs to another customer", 404)
    elif args.customer:
        address = _of_customer(ws, rules, args, purpose)
    else:
        raise Refusal("bad-request", "name a customer or an address", 422)
    channel = args.channel or address.channel
    account = args.account or (address.account if channel == address.channel else "")
    if not channel or not account:
        raise Refusal(
            "unreachable",
            "nobody was heard from this address there: name the channel and account to write by",
        )
    refuse_gone(address)
    return address, channel, account


def _named(ws: Workspace, rules: Rules, args: Notify) -> AddressDoc:
    if args.address.startswith("adr_"):
        found = ws.get(AddressDoc, args.address)
        if found is None or found.private or found.erased or found.customer is None:
            raise Refusal("not-found", f"there is no address {args.address}", 404)
        return found
    try:
        address = parse_address(args.address)
        ident = identity.address_id(rules, address)
    except AddressError as error:
        raise Refusal("bad-request", str(error), 422) from error
    if address.scheme == PRIVATE_CHANNEL:  # of notes, whether it is there already or not
        raise Refusal("not-found", f"there is no address {args.address}", 404)
    known = ws.get(AddressDoc, ident)
    if known is not None and not known.erased and known.customer is not None:
        return known
    if args.customer:
        raise Refusal("not-found", "this customer has no such address: link it first", 404)
    if not args.channel or not args.account:
        raise Refusal(
            "unreachable",
            "this address was never seen: name the channel and the account to write by",
        )
    made, _ = identity.ensure_address(
        ws, rules, address, channel=args.channel, account=args.account, at=rules.now
    )
    return made


def _of_customer(ws: Workspace, rules: Rules, args: Notify, purpose: Purpose) -> AddressDoc:
    """Return the newest of a customer's addresses that may be written to for this purpose."""
    owner = identity.canonical_customer(ws, args.customer)
    docs = {doc.id: doc for doc in ws.find(AddressDoc, ("id", "in", owner.addresses))}
    mine = [docs[each] for each in reversed(owner.addresses) if each in docs]
    reached = [doc for doc in mine if _reaches(rules, doc, args)]
    if args.channel and args.account:  # behind them those that only this word opens
        others = [doc for doc in mine if reaches(rules, args.channel, doc)]
        reached += [doc for doc in others if doc not in reached]
    reached.sort(key=lambda doc: doc.gone_at is not None)
    for address in reached:
        if _against(ws, rules, address.id, purpose) is None:
            return address
    if reached:
        return reached[0]  # its consent says why not
    channel = args.channel or "any"
    raise Refusal("unreachable", f"this customer has no address to write to on {channel} channel")


def _reaches(rules: Rules, doc: AddressDoc, args: Notify) -> bool:
    return (
        not doc.private
        and bool(doc.channel)
        and args.channel in ("", doc.channel)
        and args.account in ("", doc.account)
        and bool(rules.capabilities(doc.channel).sends)
    )


def _thread(ws: Workspace, rules: Rules, address: AddressDoc, channel: str, entry: str) -> str:
    """Return the thread it stands in: one of its own where the channel has threads of subjects.

    A chat has one thread, and the hub counts its entries: there it comes where the customer is.
    """
    can = rules.capabilities(channel)
    if not can.threads or can.thread_seq:
        if address.thread is None:
            address = replace(ws.need(AddressDoc, address.id), thread=ws.new_id("thr"))
            ws.put(address)
        return address.thread or ""
    key = f"{NOTIFICATION}|{entry}"
    made = Thread(
        id=rules.key.hashed("thk", f"{address.id}|{key}"),
        address=address.id,
        thread=ws.new_id("thr"),
        key=key,
    )
    ws.new(made)
    return made.thread


# --- afterwards ----------------------------------------------------------------------------------


class Cancel(Args, frozen=True, kw_only=True):
    entry: str


@command("cancel_notification", Cancel)
def _cancel(ws: Workspace, rules: Rules, context: Context, args: Cancel) -> Result:
    """Ask that a notification does not leave. Whether it still did, its state tells."""
    entry = ws.get(Entry, args.entry)
    notice = ws.get(Notice, args.entry)
    if entry is None or notice is None or entry.erased:
        raise Refusal("not-found", f"there is no notification {args.entry}", 404)
    if notice.cancelled_at is None:
        if entry.delivery is not None and entry.delivery.state is not DeliveryState.QUEUED:
            raise Refusal("already-sent", f"it is {entry.delivery.state}: too late to cancel it")
        ws.put(replace(notice, cancelled_at=rules.now))
    return {"entry": entry.id}


class ConsentArgs(Args, frozen=True, kw_only=True):
    """What the customer said about a purpose, for these of its addresses; none = for all."""

    customer: str
    purpose: str
    state: State
    addresses: tuple[str, ...] = ()
    at: Moment | None = None
    source: str = ""
    evidence: Evidence


@command("consent", ConsentArgs)
def _consent(ws: Workspace, rules: Rules, context: Context, args: ConsentArgs) -> Result:
    customer = identity.canonical_customer(ws, args.customer)
    known = (EVERYTHING, *rules.notifications.purposes)
    if args.purpose not in known:
        names = ", ".join(sorted(known))
        raise Refusal("bad-request", f"there is no purpose {args.purpose}; there are {names}", 422)
    if args.at is not None and args.at > rules.now:
        raise Refusal("bad-request", "at cannot be in the future", 422)
    foreign = set(args.addresses) - set(customer.addresses)
    if foreign:
        raise Refusal("not-found", f"this customer has no address {min(foreign)}", 404)
    wanted = args.addresses or customer.addresses
    docs = [doc for doc in ws.find(AddressDoc, ("id", "in", wanted)) if not doc.private]
    if not docs:
        raise Refusal("unreachable", "this customer has no address")
    word = Word(
        purpose=args.purpose,
        state=args.state,
        at=milliseconds(args.at or rules.now),
        source=args.source or context.by,
        evidence=args.evidence,
        actor=context.by,
    )
    for doc in sorted(docs, key=lambda each: each.id):
        record(ws, rules, doc, word, cause=context.key, item=context.item.id)
    return {"customer": customer.id, "addresses": [doc.id for doc in docs]}
