"""Commands about one-time codes: make one for a customer, and tell one that somebody gave.

A connector whose channel has no text messages (a phone menu) emits the second as a draft::

    Command(
        key=f"{channel}:{account}:{call}:code:{nth}",  # one try, however often it is delivered
        name="identity.code.confirm",
        actor=Actor(kind="connector", id=f"{channel}:{account}"),
        args={"code": "40718293", "address": "tel:+8613800138000"},
    )

On channels with text messages nobody has to: a message that is an open code confirms it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from hub.documents import AddressDoc
from hub.planning import identity
from hub.planning.codes import (
    DIGITS,
    LEAST_DIGITS,
    MOST_DIGITS,
    code_of,
    digits_of,
    issue,
    tell_code,
)
from hub.planning.commands.people import known_address
from hub.planning.commands.registry import Args, Context, Result, command
from hub.planning.commands.saying import Reply, ReplyTemplate, send_reply
from hub.planning.rules import Refusal, Rules
from hub.planning.workspace import Workspace
from normalizer.addresses import AddressError, parse_address
from normalizer.model import Role
from normalizer.parts import Text

BLANK = "{code}"
MINUTES = 10
SAYS = f"{BLANK} is your code. 您的验证码是 {BLANK}。"
_NOT_A_CHANNEL = frozenset({"", "hub"})


class Issue(Args, frozen=True, kw_only=True):
    """Make a code for a customer, or for whoever has ``address`` when it is told.

    With ``send`` the hub sends it to that address, in ``text`` or by ``template``, where
    ``{code}`` stands for it. ``channel`` names the only channel on which it counts.
    """

    customer: str
    address: str = ""
    send: bool = False
    text: Annotated[str, Meta(max_length=2000)] = SAYS
    template: ReplyTemplate | None = None
    channel: Annotated[str, Meta(max_length=64)] = ""
    digits: Annotated[int, Meta(ge=LEAST_DIGITS, le=MOST_DIGITS)] = DIGITS
    minutes: Annotated[int, Meta(ge=1, le=60)] = MINUTES


class Confirm(Args, frozen=True, kw_only=True):
    """A code, and the address (canonical text or ``adr_`` id) of whoever told it."""

    code: Annotated[str, Meta(max_length=64)]
    address: Annotated[str, Meta(max_length=2000)]


@command("identity.code.issue", Issue)
def _issue(ws: Workspace, rules: Rules, context: Context, args: Issue) -> Result:
    """The result has the code's turn: :func:`hub.planning.codes.code_of` tells it to the caller."""
    customer = identity.canonical_customer(ws, args.customer)
    address = known_address(ws, rules, args.address) if args.address else None
    if address is not None and (address.customer != customer.id or address.private):
        raise Refusal("not-found", "this address is not the customer's", 404)
    made, turn = issue(
        ws,
        rules,
        context.key,
        customer,
        address,
        digits=args.digits,
        valid=timedelta(minutes=args.minutes),
        channel=args.channel,
        actor=context.by,
    )
    entry = None
    if args.send:
        code = code_of(rules.key, context.key, turn, args.digits)
        entry = _sent(ws, rules, context, args, address, code)
    return {
        "customer": customer.id,
        "turn": turn,
        "digits": args.digits,
        "expires_at": made.expires_at.isoformat(),
        "entry": entry,
    }


def _sent(
    ws: Workspace,
    rules: Rules,
    context: Context,
    args: Issue,
    address: AddressDoc | None,
    code: str,
) -> str:
    """Let the code leave as any answer does; return its entry."""
    if address is None:
        raise Refusal("bad-request", "name the address that the code is sent to", 422)
    template = args.template
    texts = [args.text] if template is None else template.params.values()
    if not any(BLANK in text for text in texts):
        raise Refusal("bad-request", f"the text, or a parameter, has to hold {BLANK}", 422)
    if template is not None:
        params = {name: text.replace(BLANK, code) for name, text in template.params.items()}
        template = replace(template, params=params, preview=template.preview.replace(BLANK, code))
    result = send_reply(
        ws,
        rules,
        replace(context, key=f"{context.key}|send"),
        Reply(
            customer=args.customer,
            address=address.id,
            parts=() if template is not None else (Text(text=args.text.replace(BLANK, code)),),
            template=template,
            role=Role.SYSTEM,
        ),
    )
    return str(result["entry"])


@command("identity.code.confirm", Confirm)
def _confirm(ws: Workspace, rules: Rules, context: Context, args: Confirm) -> Result:
    """A wrong code is a result and not a refusal: refusals leave no trace, and this one counts."""
    address = _teller(ws, rules, context, args.address)
    code = digits_of(args.code)
    told = tell_code(ws, rules, context.item, code, address, context.by)
    return {
        "confirmed": not told.reason,
        "reason": told.reason,
        "customer": told.customer,
        "link": told.link,
    }


def _teller(ws: Workspace, rules: Rules, context: Context, text: str) -> AddressDoc:
    """Return who told the code. Only a connector can speak of somebody new."""
    item = context.item
    if text.startswith("adr_") or item.channel in _NOT_A_CHANNEL:
        address = known_address(ws, rules, text)
        if address.private:
            raise Refusal("bad-request", "nobody is reached there", 422)
        return address
    try:
        named = parse_address(text)
    except AddressError as error:
        raise Refusal("bad-request", str(error), 422) from error
    address, _ = identity.ensure_address(
        ws, rules, named, channel=item.channel, account=item.account, at=item.received_at
    )
    return address
