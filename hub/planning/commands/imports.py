"""The command that takes an import back, asked by a person and then, round by round, by its job."""

from __future__ import annotations

from hub.planning.commands.registry import Args, Context, Result, command
from hub.planning.rules import Rules
from hub.planning.taking_back import take_back_some
from hub.planning.workspace import Workspace


class TakeBack(Args, frozen=True, kw_only=True):
    """``cleaned`` comes from the job: nothing of the import is left outside the timeline."""

    import_id: str
    cleaned: bool = False


@command("take_back_import", TakeBack)
def _take_back(ws: Workspace, rules: Rules, context: Context, args: TakeBack) -> Result:
    return take_back_some(
        ws, rules, args.import_id, context.key, actor=context.by, cleaned=args.cleaned
    )
