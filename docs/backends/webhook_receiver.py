"""A receiver for Omniline's webhook ticket backend: the whole protocol in one file.

It keeps its tickets in memory, so it is for reading and for trying. What makes a receiver right
is all here: it checks the signature before it reads anything, makes one ticket and one entry for
one key, whatever is sent twice, and tells what agents do under ids that stay the same.

    export OMNILINE_SECRET=whsec_$(openssl rand -base64 32)
    python webhook_receiver.py            # http://127.0.0.1:8099/tickets

It needs aiohttp and nothing else. ``tests/webhook`` runs the contract of ticket backends on it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from datetime import UTC, datetime
from typing import Any

from aiohttp import ClientSession, web

TOLERANCE_S = 5 * 60
MAX_TEXT = 32_000
REOPENED = ("waiting_customer", "on_hold", "solved", "closed")


def key_of(secret: str) -> bytes:
    text = secret.removeprefix("whsec_").rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4))


def signature(key: bytes, ident: str, seconds: str, body: bytes) -> str:
    mac = hmac.new(key, f"{ident}.{seconds}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


class Problem(Exception):
    """Answered as it stands: a status, a code for programs, a detail for operators."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"code": code, "detail": detail, **more}


class Receiver:
    """Tickets, and the operations on them. ``hub`` is where events are sent, if anywhere."""

    def __init__(self, secret: str, hub: str = "") -> None:
        self.key = key_of(secret)
        self.hub = hub
        self.tickets: dict[str, dict[str, Any]] = {}
        self.by_key: dict[str, str] = {}
        self.events = 0

    # --- one request -----------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            self.check(request.headers, body)
            asked = json.loads(body)
            operation = self.operations().get(asked["type"])
            if operation is None:
                raise Problem(501, "unknown-operation", f"no operation {asked['type']}")
            status, answer = operation(asked["data"])
        except Problem as problem:
            return web.json_response(problem.body, status=problem.status)
        except (KeyError, ValueError) as error:
            return web.json_response({"code": "bad-request", "detail": repr(error)}, status=422)
        return web.json_response(answer, status=status)

    def check(self, headers: Any, body: bytes) -> None:
        ident = headers.get("webhook-id", "")
        seconds = headers.get("webhook-timestamp", "")
        right = signature(self.key, ident, seconds, body).encode()
        given = [each.encode() for each in headers.get("webhook-signature", "").split(" ")]
        if not any(hmac.compare_digest(right, each) for each in given):
            raise Problem(401, "signature", "the signature is not valid")
        if not seconds.isdigit() or abs(time.time() - int(seconds)) > TOLERANCE_S:
            raise Problem(401, "stale", "the request is too old, or a clock is wrong")

    def operations(self) -> dict[str, Any]:
        return {
            "ping": lambda data: (200, {}),
            "requester.ensure": lambda data: (
                200,
                {"requester": f"r-{data['customer']['hub_id']}"},
            ),
            "ticket.find": self.find_ticket,
            "ticket.create": self.create_ticket,
            "entry.find": self.find_entry,
            "entry.append": self.append,
            "ticket.change": self.change,
            "ticket.read": lambda data: (200, {"ticket": self.state(self.ticket(data["ticket"]))}),
        }

    # --- tickets ---------------------------------------------------------------------------------

    def find_ticket(self, data: Any) -> Any:
        found = self.by_key.get(data["key"])
        return 200, {"ticket": None if found is None else self.ref(self.tickets[found])}

    def create_ticket(self, data: Any) -> Any:
        """The key decides: a ticket that is there already is answered with 409, as it is."""
        known = self.by_key.get(data["key"])
        if known is not None:
            return 409, {"ticket": self.ref(self.tickets[known])}
        self.check_text(data["entry"])
        ident = str(1001 + len(self.tickets))
        ticket = {
            "id": ident,
            "status": "new",
            "priority": data["priority"],
            "assignee": "",
            "tags": data["tags"],
            "subject": data["subject"],
            "entries": [],
            "into": None,
            "version": 1,
        }
        self.by_key[data["key"]] = ident
        self.tickets[ident] = ticket
        self.add(ticket, data["entry"])
        return 201, {"ticket": self.ref(ticket)}

    def ticket(self, ident: str) -> dict[str, Any]:
        ticket = self.tickets.get(self.by_key.get(ident, ident))  # fire-and-forget: its key
        if ticket is None:
            raise Problem(404, "no-such-ticket", f"there is no ticket {ident}")
        if ticket["into"] is not None:
            raise Problem(410, "merged", "it was merged", successor=ticket["into"])
        return ticket

    def ref(self, ticket: dict[str, Any]) -> dict[str, str]:
        ident = ticket["id"]
        return {"id": ident, "number": f"#{ident}", "version": str(ticket["version"])}

    def state(self, ticket: dict[str, Any]) -> dict[str, Any]:
        wanted = ("id", "status", "priority", "assignee", "tags")
        return {name: ticket[name] for name in wanted}

    def change(self, data: Any) -> Any:
        """Set what is named. What is so already is no change."""
        ticket = self.ticket(data["ticket"])
        before = self.state(ticket)
        for name in ("status", "priority", "assignee"):
            ticket[name] = data.get(name, ticket[name])
        tags = dict.fromkeys([*ticket["tags"], *data["add_tags"]])
        ticket["tags"] = [tag for tag in tags if tag not in data["remove_tags"]]
        if self.state(ticket) != before:
            ticket["version"] += 1
        return 200, {"ticket": self.ref(ticket)}

    # --- entries ---------------------------------------------------------------------------------

    def find_entry(self, data: Any) -> Any:
        return 200, {"entry": self.held(self.ticket(data["ticket"]), data["key"])}

    def append(self, data: Any) -> Any:
        ticket = self.ticket(data["ticket"])
        known = self.held(ticket, data["entry"]["key"])
        if known is not None:
            return 409, {"entry": known}
        self.check_text(data["entry"])
        if data["reopen"] and ticket["status"] in REOPENED:
            ticket["status"] = "open"
        return 201, {"entry": self.add(ticket, data["entry"])}

    def held(self, ticket: dict[str, Any], key: str) -> str | None:
        return next((each["id"] for each in ticket["entries"] if each["key"] == key), None)

    def add(self, ticket: dict[str, Any], entry: dict[str, Any]) -> str:
        ident = f"{ticket['id']}-{len(ticket['entries']) + 1}"
        ticket["entries"].append({**entry, "id": ident})
        ticket["version"] += 1
        return ident

    def check_text(self, entry: dict[str, Any]) -> None:
        if len(entry["text"]) > MAX_TEXT:
            raise Problem(422, "too-long", f"a text has at most {MAX_TEXT} characters")

    # --- what agents do --------------------------------------------------------------------------

    def agent_writes(
        self, ident: str, text: str, *, internal: bool = False, agent: str = "hmm"
    ) -> dict[str, Any]:
        """Write as an agent, and return the event that tells it."""
        entry = {"key": "", "author": "agent", "author_name": agent, "text": text}
        made = self.add(self.tickets[ident], {**entry, "internal": internal})
        told = {"entry": made, "text": text, "internal": internal, "author": "agent"}
        return self.event("entry.created", ident, {**told, "agent": {"id": agent, "name": agent}})

    def agent_sets_status(self, ident: str, status: str) -> dict[str, Any]:
        self.tickets[ident]["status"] = status
        self.tickets[ident]["version"] += 1
        return self.event("ticket.status_changed", ident, {"status": status})

    def agent_merges(self, ident: str, into: str) -> dict[str, Any]:
        self.tickets[ident]["into"] = into
        return self.event("ticket.merged", ident, {"into": into})

    def event(self, kind: str, ticket: str, data: dict[str, Any]) -> dict[str, Any]:
        self.events += 1
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        return {"id": f"evt-{self.events}", "type": kind, "at": at, "ticket": ticket, "data": data}

    def signed(
        self, event: dict[str, Any], at: float | None = None
    ) -> tuple[dict[str, str], bytes]:
        """Return headers and body. The id is the event's, the time that of this attempt."""
        body = json.dumps(event, ensure_ascii=False).encode()
        ident = event.get("id") or f"batch-{secrets.token_hex(8)}"
        seconds = str(int(time.time() if at is None else at))
        return {
            "content-type": "application/json",
            "webhook-id": ident,
            "webhook-timestamp": seconds,
            "webhook-signature": signature(self.key, ident, seconds, body),
        }, body

    async def tell(self, event: dict[str, Any]) -> int:
        """Send an event to the hub. Whoever gets no 2xx sends it again, later, as it was."""
        headers, body = self.signed(event)
        async with ClientSession() as http, http.post(self.hub, data=body, headers=headers) as told:
            return told.status


def application(receiver: Receiver) -> web.Application:
    app = web.Application(client_max_size=1024 * 1024)
    app.router.add_post("/tickets", receiver.handle)
    return app


if __name__ == "__main__":
    served = Receiver(os.environ["OMNILINE_SECRET"], os.environ.get("OMNILINE_EVENTS", ""))
    web.run_app(application(served), host="127.0.0.1", port=8099)
