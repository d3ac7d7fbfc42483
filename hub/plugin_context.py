"""What a plugin is given: one object, so that it needs nothing else of the hub.

Bundled plugins get exactly the same. A connector's context adds its account, the intake and
the timelines of its own addresses.
"""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.clock import Clock
from hub.documents import AddressDoc, Conversation, Doc, Entry, State
from hub.ids import SpaceKey
from hub.signed_links import signed_link
from hub.store.interface import BlobStore, Store, Table
from normalizer.addresses import Address, canonical
from normalizer.drafts import AnyDraft, Event, Message
from normalizer.keys import dedupe_key

if TYPE_CHECKING:
    import aiohttp
    from aiohttp import web

    from hub.contract import Fetched

D = TypeVar("D", bound=Doc)

_NONCE = 12  # bytes


class PluginRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route under ``/api/v1/x/<plugin>``, behind API keys and in the OpenAPI document.

    ``scope`` is what a key needs. ``operation`` is the OpenAPI operation object.
    """

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    scope: str
    operation: dict[str, Any]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a timeline, as a follower sees it. ``position`` is the cursor behind it."""

    position: int
    type: str
    entry: Entry | None
    address: str = ""
    conversation: str = ""
    data: Mapping[str, Any] = {}


class Services(Protocol):
    """What the hub does for contexts; hub/app.py provides it."""

    store: Store
    clock: Clock
    key: SpaceKey
    http: aiohttp.ClientSession
    public_url: str

    async def fetch(
        self,
        url: str,
        *,
        hosts: Sequence[str],
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
    ) -> Fetched: ...

    async def store_file(
        self, data: bytes | AsyncIterator[bytes], metadata: Mapping[str, Any] | None = None
    ) -> str: ...

    async def take_in(
        self,
        channel: str,
        account: str,
        drafts: Sequence[AnyDraft],
        *,
        door: str,
        raw: bytes = b"",
        may_spool: bool = True,
    ) -> str: ...

    async def run_command(
        self,
        name: str,
        args: Mapping[str, Any],
        *,
        key: str,
        actor: str,
        channel: str = "",
        account: str = "",
        wait_s: float | None = None,
    ) -> Mapping[str, Any]: ...

    async def backend_said(self, backend: str, events: Sequence[Any], raw: bytes = b"") -> None: ...

    def add_route(self, plugin: str, route: PluginRoute) -> None: ...

    def follow(self, addresses: Sequence[str], after: int) -> AsyncIterator[Seen]: ...

    async def changes(self, addresses: Sequence[str], after: int, limit: int) -> list[Seen]: ...

    async def position(self) -> int: ...

    async def signal(self, topic: str, payload: Mapping[str, Any]) -> None: ...

    def on_signal(
        self, topic: str, listener: Callable[[Mapping[str, Any]], None]
    ) -> Callable[[], None]: ...


def door_path(mount: str, channel: str, account: str) -> str:
    """Return where an account's door is, below the hub's URL."""
    return f"/in/{channel}/{account}" if mount == "in" else f"/{mount}/{account}"


class PluginContext:
    """Handed to ``plugin_started`` and to every backend."""

    def __init__(self, plugin: str, services: Services, log: Any) -> None:
        self.plugin = plugin
        self.log = log
        self._services = services

    @property
    def clock(self) -> Clock:
        return self._services.clock

    @property
    def http(self) -> aiohttp.ClientSession:
        """A shared HTTP client: connect within 5 s, 30 s in all, no redirects to private hosts."""
        return self._services.http

    async def fetch(
        self,
        url: str,
        *,
        hosts: Sequence[str],
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
    ) -> Fetched:
        """Begin to fetch a vendor's file from one of the vendor's ``hosts``, and nobody else's.

        For ``fetch_media``: its answer and what it raises are those of ``fetch_media``. ``hosts``
        are names, ``*.example`` for all below one, with ``:port`` where it is an unusual one.
        ``headers`` go to the first host only. See :mod:`hub.media.safe_fetch`.
        """
        return await self._services.fetch(url, hosts=hosts, headers=headers, max_bytes=max_bytes)

    @property
    def blobs(self) -> BlobStore:
        return self._services.store.blobs

    def public_link(self, blob: str, valid: timedelta) -> str:
        """Return a URL under which a stored file can be fetched without a key for a while.

        For vendors that fetch what is to be sent: it is as good as the file itself, so hand it
        to nobody else. It follows ``hub.public_url``.
        """
        until = self.clock.now() + valid
        return signed_link(self._services.public_url, self._services.key, blob, until)

    def documents(self, kind: type[D]) -> Table[D]:
        """Return the table of one of the plugin's own kinds of document.

        The kind's collection has to start with ``x_<plugin>_``; its indexes are made at start
        when ``register_documents`` named it.
        Raises ``ValueError`` for a collection that is not the plugin's.
        """
        prefix = f"x_{self.plugin}_"
        if not kind.collection.startswith(prefix):
            raise ValueError(f"the collection of {kind.__name__} has to start with {prefix}")
        return self._services.store.table(kind)

    async def register_documents(self, *kinds: type[Doc]) -> None:
        """Make collections and indexes of the plugin's kinds of documents."""
        for kind in kinds:
            self.documents(kind)
        await self._services.store.prepare(kinds)

    def secret(self, label: str) -> bytes:
        """Return 32 bytes for signing, derived from the space's key for this plugin alone."""
        return self._services.key.derive(f"plugin/{self.plugin}/{label}")

    def seal(self, label: str, text: str) -> str:
        """Return a text that :meth:`unseal` alone can read, for tokens in :meth:`state`.

        AES-256-GCM under ``secret(label)``, in every space, whether it encrypts or not.
        """
        nonce = os.urandom(_NONCE)
        box = AESGCM(self.secret(label)).encrypt(nonce, text.encode(), None)
        return base64.b64encode(nonce + box).decode()

    def unseal(self, label: str, sealed: str) -> str | None:
        """Return what was sealed; None for what is damaged, or was sealed under another key."""
        try:
            raw = base64.b64decode(sealed)
            return AESGCM(self.secret(label)).decrypt(raw[:_NONCE], raw[_NONCE:], None).decode()
        except (InvalidTag, ValueError):  # binascii's error is one, and so is a nonce too short
            return None

    def register_route(self, route: PluginRoute) -> None:
        self._services.add_route(self.plugin, route)

    async def state(self, name: str) -> tuple[Mapping[str, Any], int]:
        """Return a small value and its revision (0 = not there yet)."""
        found = await self._services.store.table(State).get(self._state_id(name))
        return (found.value, found.rev) if found else ({}, 0)

    async def set_state(self, name: str, value: Mapping[str, Any], rev: int) -> bool:
        """Store the value if its revision is still ``rev``; say whether it was stored."""
        table = self._services.store.table(State)
        doc = State(id=self._state_id(name), value=dict(value), rev=rev + 1)
        if rev == 0:
            return not await table.insert([doc])
        return await table.swap(doc, {"rev": rev})

    def _state_id(self, name: str) -> str:
        return f"plugin/{self.plugin}/{name}"

    async def command(
        self,
        name: str,
        args: Mapping[str, Any],
        *,
        key: str,
        actor: str,
        wait_s: float | None = None,
    ) -> Mapping[str, Any]:
        """Run a command (hub/planning/commands/) and return its operation: state, result, error.

        The same ``key`` runs it once. The state is "pending" if it took longer than ``wait_s``.
        """
        return await self._services.run_command(
            name, args, key=f"{self.plugin}|{key}", actor=actor, wait_s=wait_s
        )

    async def backend_said(self, backend: str, events: Sequence[Any], raw: bytes = b"") -> None:
        """Take in what a ticket backend of this plugin says (normalizer.tickets.BackendEvent)."""
        await self._services.backend_said(backend, events, raw)


class ConnectorContext(PluginContext):
    """Handed to every connector: the context of its plugin, for one account."""

    def __init__(
        self,
        plugin: str,
        services: Services,
        log: Any,
        channel: str,
        account: str,
        *,
        mount: str = "in",
    ) -> None:
        super().__init__(plugin, services, log)
        self._channel = channel
        self._account = account
        self._door = door_path(mount, channel, account)

    @property
    def public_url(self) -> str:
        """The URL of this account's door as the vendor calls it, without a slash at its end.

        What :attr:`hub.Request.url` starts with: for status callbacks, and for samples of a
        scheme that signs the URL. It follows ``hub.public_url``, so ask for it when it is needed.
        """
        return f"{self._services.public_url}{self._door}"

    def _state_id(self, name: str) -> str:
        return f"account/{self._channel}/{self._account}/{name}"

    def secret(self, label: str) -> bytes:
        return self._services.key.derive(f"account/{self._channel}/{self._account}/{label}")

    async def deliver(
        self, drafts: Sequence[AnyDraft], *, door: str = "socket", raw: bytes = b""
    ) -> str:
        """Take drafts in; return the inbox id once they are durable.

        Raises hub.inbox_writer.Overloaded when nothing could be stored.
        """
        return await self._services.take_in(
            self._channel, self._account, drafts, door=door, raw=raw
        )

    async def store_file(
        self, data: bytes | AsyncIterator[bytes], metadata: Mapping[str, Any] | None = None
    ) -> str:
        """Store bytes that a draft will name, as ``Media(blob=...)``; return their blob.

        What no draft names within 30 days is taken away, so that a crash before ``deliver``
        leaves nothing behind. For bytes that are never in a message use :attr:`blobs`.
        """
        return await self._services.store_file(data, metadata)

    def entry_id(self, draft: Message | Event) -> str:
        """Return the id that the draft's entry has or will have."""
        return self._services.key.hashed("ent", dedupe_key(self._channel, self._account, draft))

    def address_id(self, address: Address) -> str:
        return self._services.key.hashed("adr", canonical(address))

    async def entries(
        self, addresses: Sequence[str], *, thread: str = "", after_seq: int = 0, limit: int = 100
    ) -> list[Entry]:
        """Return entries of one thread of these addresses, oldest first."""
        found = await self._services.store.table(Entry).find(
            {"thread": thread, "seq": {"$gt": after_seq}}, sort=[("seq", 1)], limit=limit
        )
        return [entry for entry in found if entry.address in addresses]

    async def entry(self, ident: str) -> Entry | None:
        return await self._services.store.table(Entry).get(ident)

    async def conversation(self, ident: str) -> Conversation | None:
        return await self._services.store.table(Conversation).get(ident)

    async def address(self, address: Address) -> AddressDoc | None:
        """Return what the hub knows of an address."""
        return await self._services.store.table(AddressDoc).get(self.address_id(address))

    def follow(self, addresses: Sequence[str], after: int) -> AsyncIterator[Seen]:
        """Yield every change of these addresses' timelines behind a position, for ever."""
        return self._services.follow(addresses, after)

    async def changes(self, addresses: Sequence[str], after: int, limit: int = 500) -> list[Seen]:
        """Return at most ``limit`` changes of these addresses' timelines behind a position."""
        return await self._services.changes(addresses, after, limit)

    async def position(self) -> int:
        """Return the feed's last position: where a new follower starts."""
        return await self._services.position()

    async def signal(self, topic: str, payload: Mapping[str, Any]) -> None:
        """Tell all processes a hint (typing, presence). It may be lost."""
        await self._services.signal(f"{self._channel}/{self._account}/{topic}", payload)

    def on_signal(
        self, topic: str, listener: Callable[[Mapping[str, Any]], None]
    ) -> Callable[[], None]:
        """Call ``listener`` for each hint; return what ends it."""
        return self._services.on_signal(f"{self._channel}/{self._account}/{topic}", listener)

    async def command(
        self,
        name: str,
        args: Mapping[str, Any],
        *,
        key: str,
        actor: str,
        wait_s: float | None = None,
    ) -> Mapping[str, Any]:
        return await self._services.run_command(
            name,
            args,
            key=f"{self._channel}|{self._account}|{key}",
            actor=actor,
            channel=self._channel,
            account=self._account,
            wait_s=wait_s,
        )
