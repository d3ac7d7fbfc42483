"""The webhook ticket backend: contracts/tickets_model.md as signed requests to one URL.

Which answers are believed depends on the mode. An ``answering`` receiver gives its own ids and is
asked what it has. Of a ``fire-and-forget`` receiver nothing is known but that it took what was
sent: the hub's keys are its ids, and what is in doubt is sent again only where it ``dedupes``.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from hub import PluginContext, Secret, TicketBackend
from normalizer.outcomes import Failure, Misconfigured, Rejected, Unsupported
from normalizer.tickets import (
    BackendCapabilities,
    BackendEvent,
    Change,
    Lookup,
    NewTicket,
    Requester,
    TicketEntry,
    TicketRef,
)
from plugins.webhook import messages as m
from plugins.webhook.events import raw_events, read_event, unreadable
from plugins.webhook.settings import WebhookSettings
from plugins.webhook.signing import PREFIX, Signer
from plugins.webhook.wire import Answer, Wire, read

MAX_ENTRY_CHARS = 32_000


class WebhookBackend(TicketBackend):
    """Tickets at a receiver of your own."""

    kind: ClassVar[str] = "webhook"
    settings: ClassVar[type[WebhookSettings]] = WebhookSettings
    capabilities: ClassVar[BackendCapabilities] = BackendCapabilities(
        ticket_lookup=Lookup.ENFORCED,
        entry_lookup=Lookup.ENFORCED,
        original_time=True,
        max_entry_chars=MAX_ENTRY_CHARS,
    )

    def __init__(self, name: str, settings: WebhookSettings, context: PluginContext) -> None:
        super().__init__(name, settings, context)
        self._answers = settings.mode == "answering"
        self._wire = Wire(settings, context.clock, name)
        self._callbacks = Signer(settings.callback_secrets or settings.secrets)

    async def start(self) -> None:
        await self._wire.open()

    async def stop(self) -> None:
        await self._wire.close()

    # --- is it ready ---------------------------------------------------------------------------

    async def check(self) -> Sequence[str]:
        """Send a signed ping, and see that an answering receiver refuses a wrongly signed one."""
        try:
            await self._wire.call("ping", m.Ping(), _fresh())
        except Failure as failure:
            return [f"{self.config.url}: {failure.reason}"]
        if not self._answers:
            return ()
        stranger = Signer([_random_secret()])
        try:
            await self._wire.call("ping", m.Ping(), _fresh(), signer=stranger)
        except Misconfigured:
            return ()
        except Failure as failure:
            return [f"{self.config.url}: a wrongly signed ping was not refused: {failure.reason}"]
        return [
            f"{self.config.url} believes a ping with a wrong signature: let it check"
            " webhook-signature and answer 401, or anybody can write tickets there"
        ]

    # --- requesters and tickets ----------------------------------------------------------------

    async def ensure_requester(self, requester: Requester) -> str:
        if not self._answers:
            return requester.hub_id
        asked = m.EnsureRequester(customer=_customer(requester))
        answer = await self._wire.call("requester.ensure", asked, _fresh())
        return read(answer, m.RequesterAnswer, "requester.ensure").requester

    async def find_ticket(self, key: str, requester: Requester) -> TicketRef | None:
        asked = m.FindTicket(key=key, customer=_customer(requester))
        answer = await self._ask("ticket.find", asked)
        if answer is None:
            return None
        found = read(answer, m.FoundTicketAnswer, "ticket.find").ticket
        return None if found is None else _ref(found)

    async def create_ticket(self, new: NewTicket, requester: str) -> TicketRef:
        sent = m.CreateTicket(
            key=new.key,
            requester=requester,
            customer=_customer(new.requester),
            subject=new.subject,
            queue=new.queue,
            priority=new.priority,
            tags=new.tags,
            fields=new.fields,
            entry=self._entry(new.first),
        )
        ident = self._named("ticket.create", new.key, new.first.key)
        answer = await self._wire.call("ticket.create", sent, ident, writes=True)
        if not self._answers:
            return TicketRef(id=new.key)
        return _ref(read(answer, m.TicketAnswer, "ticket.create", writes=True).ticket)

    async def change(self, ticket: TicketRef, change: Change) -> TicketRef:
        """Say what the ticket has to be like. Saying it twice changes nothing."""
        sent = m.ChangeTicket(
            ticket=ticket.id,
            status=msgspec.UNSET if change.status is None else change.status,
            priority=msgspec.UNSET if change.priority is None else change.priority,
            assignee=msgspec.UNSET if change.assignee is None else change.assignee,
            add_tags=change.add_tags,
            remove_tags=change.remove_tags,
        )
        answer = await self._wire.call("ticket.change", sent, _fresh())
        if not self._answers:
            return ticket
        return _ref(read(answer, m.TicketAnswer, "ticket.change").ticket)

    async def read(self, ticket: TicketRef) -> Mapping[str, Any]:
        """Return the ticket's state; nothing of a receiver that cannot be asked."""
        if not self._answers:
            return {}
        asked = m.ReadTicket(ticket=ticket.id)
        answer = await self._wire.call("ticket.read", asked, _fresh())
        state = read(answer, m.StateAnswer, "ticket.read").ticket
        return {
            "status": str(state.status),
            "raw_status": state.raw_status or str(state.status),
            "priority": str(state.priority),
            "assignee": state.assignee,
            "tags": state.tags,
        }

    # --- entries -------------------------------------------------------------------------------

    async def find_entry(self, ticket: TicketRef, key: str) -> str | None:
        answer = await self._ask("entry.find", m.FindEntry(ticket=ticket.id, key=key))
        if answer is None:
            return None
        return read(answer, m.FoundEntryAnswer, "entry.find").entry

    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        sent = m.AppendEntry(ticket=ticket.id, reopen=reopen, entry=self._entry(entry))
        ident = self._named("entry.append", ticket.id, entry.key)
        answer = await self._wire.call("entry.append", sent, ident, writes=True)
        if not self._answers:
            return entry.key
        return read(answer, m.EntryAnswer, "entry.append", writes=True).entry

    # --- what the receiver says ----------------------------------------------------------------

    def parse_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> Sequence[BackendEvent]:
        ident = self._callbacks.verify(headers, body, now)
        events: list[BackendEvent] = []
        for place, raw in enumerate(raw_events(body)):
            name = f"{ident}:{place}"
            try:
                events.append(read_event(raw, name))
            except KeyError:
                self.context.log.info("webhook_event_of_unknown_type", backend=self.name, told=name)
            except ValueError as error:
                self.context.log.warning("webhook_event_unreadable", backend=self.name, told=name)
                events.append(unreadable(name, str(error), now))
        return events

    # -------------------------------------------------------------------------------------------

    async def _ask(self, operation: str, data: msgspec.Struct) -> Answer | None:
        """Ask what the receiver has. None: it cannot be asked, and sending again is harmless.

        Raises Unsupported when it can neither be asked nor be trusted to drop doubles.
        """
        try:
            if self._answers:
                return await self._wire.call(operation, data, _fresh())
        except Unsupported:
            if not self.config.dedupes:
                raise
        if not self.config.dedupes:
            raise Unsupported(
                "the receiver cannot be asked whether it has this: look there, then settle it"
            )
        return None

    def _entry(self, entry: TicketEntry) -> m.Entry:
        if len(entry.text) > MAX_ENTRY_CHARS:
            raise Rejected(
                f"the entry has {len(entry.text)} characters, {MAX_ENTRY_CHARS} are sent at most",
                code="too-long",
            )
        return msgspec.convert(entry, m.Entry, from_attributes=True)

    def _named(self, *parts: str) -> str:
        """Return a ``webhook-id`` that is the same on every try of the same write."""
        text = msgspec.json.encode([self.name, *parts])
        return f"msg_{hashlib.sha256(text).hexdigest()[:40]}"


def _fresh() -> str:
    return f"msg_{secrets.token_hex(20)}"


def _random_secret() -> Secret:
    return Secret(PREFIX + base64.b64encode(secrets.token_bytes(32)).decode())


def _customer(requester: Requester) -> m.Customer:
    return msgspec.convert(requester, m.Customer, from_attributes=True)


def _ref(found: m.Ref) -> TicketRef:
    return TicketRef(id=found.id, number=found.number, url=found.url, version=found.version)
