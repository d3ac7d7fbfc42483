"""What people, backends and the hub itself may ask for: one function a command.

:mod:`registry` has what all commands share; the others register theirs when they are imported.
"""

from hub.planning.commands import (
    accounts,
    codes,
    handling,
    imports,
    notifying,
    people,
    saying,
    sent_elsewhere,
)
from hub.planning.commands.registry import (
    command_entry_id,
    command_names,
    digest,
    operation_id,
    run_command,
)

__all__ = [
    "accounts",
    "codes",
    "command_entry_id",
    "command_names",
    "digest",
    "handling",
    "imports",
    "notifying",
    "operation_id",
    "people",
    "run_command",
    "saying",
    "sent_elsewhere",
]
