"""The command by which the hub tells the feed how an account does; nobody else may give it."""

from __future__ import annotations

from datetime import datetime

from hub.planning.commands.registry import Args, Context, Result, command
from hub.planning.rules import Refusal, Rules, tell
from hub.planning.workspace import Workspace


class AccountChanged(Args, frozen=True, kw_only=True):
    """An account's state after it has settled. ``since`` is when it began."""

    account: str  # channel:key
    state: str
    was: str = ""  # what was told before; nothing at the first time
    reason: str = ""
    since: datetime
    last_message_at: datetime | None = None
    lag_s: float | None = None


@command("account_changed", AccountChanged)
def _account_changed(ws: Workspace, rules: Rules, context: Context, args: AccountChanged) -> Result:
    if context.actor.kind != "hub":
        raise Refusal("forbidden", "only the hub tells how its accounts do", 403)
    channel, _, key = args.account.partition(":")
    told = {
        "state": args.state,
        "was": args.was,
        "reason": args.reason,
        "last_message_at": args.last_message_at,
        "lag_s": args.lag_s,
    }
    tell(
        ws,
        rules,
        "account.state_changed",
        at=min(args.since, rules.now),
        channel=channel,
        account=key,
        ref=args.account,
        cause=context.item.id,
        data={name: value for name, value in told.items() if value not in ("", None)},
    )
    return {"account": args.account, "state": args.state}
