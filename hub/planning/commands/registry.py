"""What people, backends and the hub itself may ask for: what every command has in common.

A command is an inbox item like a message, so it has a place in the order of things and its
result is written in the same transaction. Each function returns the result that the caller
reads, or raises :class:`~hub.planning.rules.Refusal`. Its arguments are a struct, checked before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from hub.documents import (
    Conversation,
    InboxItem,
    Operation,
)
from hub.ids import SpaceKey
from hub.planning.rules import Refusal, Rules
from hub.planning.ticket_jobs import ticket_job
from hub.planning.workspace import Workspace
from normalizer.drafts import Actor, Command
from normalizer.parts import AnyPart, plain_text

Result = dict[str, Any]
A = TypeVar("A", bound="Args")


class Args(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all commands' arguments."""


class Context(msgspec.Struct, frozen=True):
    """Who asked, and by which inbox item."""

    item: InboxItem
    key: str
    actor: Actor

    @property
    def by(self) -> str:
        return f"{self.actor.kind}:{self.actor.id}"


_Handler = Callable[[Workspace, Rules, Context, Any], Result]
_COMMANDS: dict[str, tuple[type[Args], _Handler]] = {}


def command(name: str, args: type[A]) -> Callable[[_Handler], _Handler]:
    def register(handler: _Handler) -> _Handler:
        _COMMANDS[name] = (args, handler)
        return handler

    return register


def command_names() -> list[str]:
    return sorted(_COMMANDS)


def operation_id(key: SpaceKey, command_key: str) -> str:
    """Return the operation under which the result of a command can be read."""
    return key.hashed("op", command_key)


def command_entry_id(key: SpaceKey, command_key: str) -> str:
    """Return the id of the entry a command makes, known before it is carried out."""
    return key.hashed("ent", f"command|{command_key}")


def digest(name: str, args: dict[str, Any]) -> str:
    """Return what tells a repeated request from another one under the same key."""
    body = msgspec.json.encode([name, args], order="deterministic")
    return hashlib.sha256(body).hexdigest()[:32]


def run_command(ws: Workspace, rules: Rules, item: InboxItem, draft: Command) -> None:
    """Carry a command out and write its operation. A refusal is a result, not a failure."""
    ident = operation_id(rules.key, draft.key)
    if ws.get(Operation, ident) is not None:
        return
    done = Operation(
        id=ident,
        name=draft.name,
        state="done",
        at=rules.now,
        digest=digest(draft.name, draft.args),
        expire_at=rules.now + rules.operations_kept,
    )
    try:
        args_type, handler = _COMMANDS[draft.name]
    except KeyError:
        done = _refused(done, Refusal("bad-request", f"no command {draft.name}", 422))
    else:
        before = ws.savepoint()
        try:
            args = msgspec.convert(draft.args, args_type)
            result = handler(ws, rules, Context(item, draft.key, draft.actor), args)
            done = replace(done, result=result)
        except msgspec.ValidationError as error:
            ws.roll_back(before)
            done = _refused(done, Refusal("bad-request", str(error), 422))
        except Refusal as refusal:
            ws.roll_back(before)
            done = _refused(done, refusal)
            if draft.name == "reply":
                _tell_backend(ws, rules, draft, refusal)
    ws.put(done)


def _refused(done: Operation, refusal: Refusal) -> Operation:
    return replace(
        done,
        state="refused",
        error=refusal.error,
        detail=refusal.detail,
        status=refusal.status,
        result=dict(refusal.more),
    )


def _tell_backend(ws: Workspace, rules: Rules, draft: Command, refusal: Refusal) -> None:
    """An answer written in a ticket that cannot be sent goes back to it as an internal note."""
    backend = draft.args.get("backend")
    conversation = ws.get(Conversation, draft.args.get("conversation", ""))
    if not backend or conversation is None:
        return
    text = plain_text(msgspec.convert(draft.args.get("parts", ()), tuple[AnyPart, ...]))
    ticket_job(
        ws,
        rules,
        conversation,
        backend,
        "refused_answer",
        f"{draft.key}|refused",
        args={"reason": refusal.detail, "text": text},
    )
