"""The desk's routes in OpenAPI's words."""

from __future__ import annotations

from typing import Any

from normalizer.tickets import Status
from plugins.desk.api_types import (
    MAX_TEXT,
    ONE_LINE,
    EntryAdded,
    NewAnswer,
    NewNote,
    Problem,
    TicketChange,
    TicketChanged,
    TicketPage,
    TicketWithEntries,
    schema_of,
)
from plugins.desk.ids import TICKET
from plugins.desk.requests import IDEMPOTENCY_KEY

_PROBLEMS = {
    400: "The request cannot be read",
    401: "No key, or not a valid one",
    403: "The key lacks the scope",
    404: "There is no such ticket",
    409: "Another rev, another request under this Idempotency-Key, or the person was erased",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "The body has another shape than the schema",
    429: "Too many requests",
    503: "The database cannot commit now: try again later",
}
_ALWAYS = (401, 403, 429, 503)

_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": TICKET},
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same request under the same key is carried out once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": IDEMPOTENCY_KEY},
}


def _operation(
    ident: str,
    summary: str,
    *,
    parameters: list[dict[str, Any]],
    answer: Any,
    status: int = 200,
    takes: Any = None,
    problems: tuple[int, ...] = (),
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"desk_{ident}",
        "summary": summary,
        "tags": ["desk"],
        "parameters": parameters,
        "responses": {
            str(status): {
                "description": summary,
                "content": {"application/json": {"schema": schema_of(answer)}},
            }
        }
        | {str(code): _problem(code) for code in sorted({*problems, *_ALWAYS})},
    }
    if takes is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of(takes)}},
        }
    return operation


def _problem(code: int) -> dict[str, Any]:
    return {
        "description": _PROBLEMS[code],
        "content": {"application/problem+json": {"schema": schema_of(Problem)}},
    }


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _text(max_length: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": max_length, "pattern": ONE_LINE}


def _number(default: int, most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": most, "default": default}


LIST = _operation(
    "list_tickets",
    "Tickets, the last changed first",
    parameters=[
        _query("status", {"type": "string", "enum": [str(each) for each in Status]}, "Only these"),
        _query("queue", _text(64), "Only this queue"),
        _query("assignee", _text(100), "Only this agent's; empty: nobody's"),
        _query("q", _text(200), "In the number, the subject or the requester's name"),
        _query("limit", _number(50, 200), "How many"),
        _query("cursor", {"type": "string", "minLength": 1, "maxLength": 500}, "next_cursor"),
    ],
    answer=TicketPage,
    problems=(400,),
)
SHOW = _operation(
    "get_ticket",
    "A ticket and its entries, the last ones unless `before` is given, oldest first",
    parameters=[
        _ID,
        _query("before", {"type": "integer", "minimum": 1, "maximum": 999_999_999}, "next_before"),
        _query("limit", _number(50, 200), "How many entries"),
    ],
    answer=TicketWithEntries,
    problems=(400, 404),
)
_WRITING = (400, 404, 409, 413, 415, 422)
ANSWER = _operation(
    "post_answer",
    f"Answer the customer; at most {MAX_TEXT} characters",
    parameters=[_ID, _KEY],
    takes=NewAnswer,
    answer=EntryAdded,
    status=201,
    problems=_WRITING,
)
NOTE = _operation(
    "post_note",
    "Write something that only colleagues read",
    parameters=[_ID, _KEY],
    takes=NewNote,
    answer=EntryAdded,
    status=201,
    problems=_WRITING,
)
CHANGE = _operation(
    "change_ticket",
    "Change status, priority, assignee, queue or tags",
    parameters=[_ID],
    takes=TicketChange,
    answer=TicketChanged,
    problems=_WRITING,
)
