"""In-app messages (站內信): titled messages to a known user, read now or later.

The site's server asks for them (``POST /inbox``); each becomes an entry of the user's timeline,
whether the user is online, offline or has never been seen. When it is sent, a row of the user's
inbox is made from it; the row's id is the entry's, so that no attempt makes a second one.

States: unread -> read -> archived or deleted. Nothing leads back, and repeating is harmless.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from connectors.site.errors import SiteError
from connectors.site.frames import InboxCount, rfc3339
from connectors.site.origins import Origins
from connectors.site.tokens import MAX_SUBJECT_CHARS, decode, encode, tag
from connectors.site.visitors import Visitors
from hub import ConnectorContext, Doc, Index, Outgoing, Overloaded, Refusal
from normalizer.addresses import canonical, parse_address
from normalizer.drafts import DeliveryState, Receipt, Target
from normalizer.outcomes import Rejected
from normalizer.parts import Button, Card, Text
from normalizer.text import grapheme_length

EVENT = "inbox.item"
MAX_USERS = 500
MAX_TITLE_CHARS = 100
MAX_BODY_BYTES = 5 * 1024
PAGE = 20
COUNT_UP_TO = 100  # more is shown as "99+"
REQUESTS_KEPT = timedelta(hours=24)
_READ_AT_ONCE = 1000
_AT_ONCE = 20  # commands under way for one request
_SAME_MOMENT = 50  # items of one user with the same millisecond
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)


class ItemDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One item of one user's inbox. The id is its entry's."""

    collection: ClassVar[str] = "x_site_inbox"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("owner", 1), ("created_at", -1), ("_id", -1))),
        Index((("owner", 1), ("state", 1), ("expires_at", 1))),
    )
    sealed: ClassVar[tuple[str, ...]] = ("title", "body", "actions")

    owner: str  # adr_ of the user
    state: str
    title: str
    body: str = ""
    actions: tuple[Button, ...] = ()
    category: str = ""
    sender: str = ""
    importance: str = "normal"
    thread: str = ""
    created_at: datetime
    expires_at: datetime


class RequestDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A request of the site's server, so that its key is not used for another one."""

    collection: ClassVar[str] = "x_site_requests"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("expire_at", 1),), expires=True),)

    digest: str
    expire_at: datetime


class To(msgspec.Struct, frozen=True, kw_only=True):
    user_ids: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=MAX_SUBJECT_CHARS)]],
        Meta(min_length=1, max_length=MAX_USERS),
    ]


class Action(msgspec.Struct, frozen=True, kw_only=True):
    label: Annotated[str, Meta(min_length=1, max_length=100)]
    url: Annotated[str, Meta(min_length=1, max_length=2000)]


class NewItem(msgspec.Struct, frozen=True, kw_only=True):
    """What the site's server asks for."""

    to: To
    title: Annotated[str, Meta(min_length=1)]
    body: str = ""
    category: Annotated[str, Meta(max_length=50)] = ""
    actions: Annotated[list[Action], Meta(max_length=10)] = []
    sender: Annotated[str, Meta(max_length=100)] = ""
    importance: Annotated[str, Meta(pattern=r"^(low|normal|high)\Z")] = "normal"
    expires_at: datetime | None = None


class InApp:
    """The inboxes of the users of one site."""

    def __init__(
        self, account: str, context: ConnectorContext, visitors: Visitors, origins: Origins
    ) -> None:
        self._account = account
        self._context = context
        self._clock = context.clock
        self._visitors = visitors
        self._origins = origins
        self._secret = context.secret("cursor")
        self._items = context.documents(ItemDoc)
        self._requests = context.documents(RequestDoc)

    # --- from the site's server ----------------------------------------------------------------

    async def order(self, asked: NewItem, key: str) -> dict[str, Any]:
        """Write the item to every user's timeline; return which were accepted.

        Raises :class:`SiteError`; the whole request can be repeated under the same key.
        """
        self._check(asked)
        await self._check_key(key, asked)
        users = list(dict.fromkeys(asked.to.user_ids))
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(user: str) -> str:
            async with gate:
                return await self._write(asked, user, key)

        results = await asyncio.gather(*(one(user) for user in users))
        done = list(zip(users, results, strict=True))
        return {
            "accepted": [user for user, refused in done if not refused],
            "unknown": [],
            "refused": {user: refused for user, refused in done if refused},
        }

    def _check(self, asked: NewItem) -> None:
        if grapheme_length(asked.title) > MAX_TITLE_CHARS or not asked.title.strip():
            raise SiteError("bad_frame", f"title has 1 to {MAX_TITLE_CHARS} characters")
        if len(asked.body.encode()) > MAX_BODY_BYTES:
            raise SiteError("too_large", f"body has at most {MAX_BODY_BYTES} bytes")
        if asked.expires_at is not None and asked.expires_at.tzinfo is None:
            raise SiteError("bad_frame", "expires_at needs a time zone")
        for action in asked.actions:
            if not self._is_ours(action.url):
                raise SiteError("bad_frame", "actions lead to origins of the site only")

    def _is_ours(self, url: str) -> bool:
        scheme, found, rest = url.partition("://")
        host = rest.partition("/")[0].partition("?")[0].partition("#")[0]
        clean = scheme in ("http", "https") and "\\" not in url
        clean = clean and "@" not in host and url.isprintable()
        return bool(found) and clean and self._origins.allows(f"{scheme}://{host}")

    async def _check_key(self, key: str, asked: NewItem) -> None:
        ident = f"{self._account}:{hashlib.sha256(key.encode()).hexdigest()}"
        body = msgspec.json.encode(asked, order="deterministic")
        digest = hashlib.sha256(body).hexdigest()
        doc = RequestDoc(id=ident, digest=digest, expire_at=self._clock.now() + REQUESTS_KEPT)
        if await self._requests.insert([doc]):
            held = await self._requests.get(ident)
            if held is not None and held.digest != digest:
                raise SiteError(
                    "idempotency_conflict", "this Idempotency-Key was used for another request"
                )

    async def _write(self, asked: NewItem, user: str, key: str) -> str:
        """Write one user's entry; return why it was refused, or nothing."""
        buttons = tuple(Button(label=each.label, url=each.url) for each in asked.actions)
        data: dict[str, Any] = {"category": asked.category, "importance": asked.importance}
        if asked.expires_at is not None:
            data["expires_at"] = rfc3339(asked.expires_at.astimezone(UTC))
        card = Card(title=asked.title, text=asked.body, buttons=buttons)
        try:
            operation = await self._context.command(
                "reply",
                {
                    "address": canonical(self._visitors.user_address(user)),
                    "parts": msgspec.to_builtins((card,)),
                    "subject": asked.title,
                    "event": EVENT,
                    "data": data,
                    "role": "system",
                    "agent_name": asked.sender,
                },
                key=f"inbox:{key}:{user}",
                actor="site-server",
            )
        except Overloaded as error:
            raise SiteError("unavailable", str(error), retry_after_s=5) from error
        except Refusal as error:
            return error.detail
        return str(operation.get("detail", "")) if operation["state"] == "refused" else ""

    # --- into the inbox ------------------------------------------------------------------------

    async def keep(self, message: Outgoing) -> str:
        """Make the row of an entry that is being sent; return whose it is (``adr_``)."""
        address = parse_address(message.address)
        if address.kind != "user":
            raise Rejected("in-app messages go to users; this visitor has not logged in")
        card = next((part for part in message.parts if isinstance(part, Card)), None)
        text = next((part.text for part in message.parts if isinstance(part, Text)), "")
        owner = self._context.address_id(address)
        expires = message.data.get("expires_at")
        item = ItemDoc(
            id=message.entry,
            owner=owner,
            state="unread",
            title=message.subject or (card.title if card else text[:MAX_TITLE_CHARS]),
            body=card.text if card else text,
            actions=card.buttons if card else (),
            category=str(message.data.get("category", "")),
            sender=message.sender_name,
            importance=str(message.data.get("importance", "normal")),
            thread=message.thread,
            created_at=self._clock.now(),
            expires_at=datetime.fromisoformat(str(expires)) if expires else _NEVER,
        )
        await self._items.insert([item])
        return owner

    # --- for the user --------------------------------------------------------------------------

    async def count(self, owner: str) -> InboxCount:
        """Return the badge: how many are unread (counted to 100), and the newest of them."""
        unread = {
            "owner": owner,
            "state": "unread",
            "expires_at": {"$gt": self._clock.now()},
        }
        number = await self._items.count(unread, limit=COUNT_UP_TO)
        newest = await self._items.find(unread, sort=[("created_at", -1), ("_id", -1)], limit=1)
        return InboxCount(unread=number, latest_id=newest[0].id if newest else "")

    async def page(self, owner: str, cursor: str, limit: int = PAGE) -> dict[str, Any]:
        """Return the newest items behind ``cursor``. Raises :class:`SiteError` for a bad one."""
        where: dict[str, Any] = {
            "owner": owner,
            "state": {"$in": ["unread", "read", "archived"]},
            "expires_at": {"$gt": self._clock.now()},
        }
        at, behind = _NEVER, ""
        if cursor:
            at, behind = self._read_cursor(owner, cursor)
            where["created_at"] = {"$lte": at}
        # Several items may share the cursor's moment: those that were shown are passed over.
        batch = await self._items.find(
            where, sort=[("created_at", -1), ("_id", -1)], limit=limit + 1 + _SAME_MOMENT
        )
        found = [item for item in batch if not cursor or (item.created_at, item.id) < (at, behind)]
        shown = found[:limit]
        more = len(found) > limit
        return {
            "items": [_item_out(item) for item in shown],
            "cursor": self._sign_cursor(owner, shown[-1]) if more else "",
            "unread": (await self.count(owner)).unread,
        }

    def _sign_cursor(self, owner: str, item: ItemDoc) -> str:
        body = f"{rfc3339(item.created_at)}|{item.id}"
        return encode(body.encode() + tag(self._secret, "inbox", owner, body))

    def _read_cursor(self, owner: str, cursor: str) -> tuple[datetime, str]:
        try:
            raw = decode(cursor)
            body = raw[:-16].decode()
            if not hmac.compare_digest(tag(self._secret, "inbox", owner, body), raw[-16:]):
                raise ValueError("not signed by us")
            at, _, ident = body.partition("|")
            return datetime.fromisoformat(at), ident
        except ValueError as error:
            raise SiteError("bad_frame", "the cursor is not valid") from error

    async def move(self, owner: str, ident: str, state: str) -> str:
        """Bring an item to read, archived or deleted; return its state then."""
        before = {"read": ["unread"], "archived": ["unread", "read"]}.get(
            state, ["unread", "read", "archived"]
        )
        item = await self._items.get(ident)
        if item is None or item.owner != owner or item.state == "deleted":
            raise SiteError("conversation_not_found", "there is no such item")
        if item.state in before:
            if item.state == "unread" and state != "deleted":
                await self._tell_read([ident])
            moved = replace(item, state=state)
            await self._items.swap(moved, {"state": item.state})
            item = moved
        return item.state

    async def read_all(self, owner: str, up_to: str) -> int:
        """Mark everything up to an item as read; return how many there were."""
        newest = await self._items.get(up_to)
        if newest is None or newest.owner != owner:
            raise SiteError("conversation_not_found", "there is no such item")
        unread = await self._items.find(
            {"owner": owner, "state": "unread", "created_at": {"$lte": newest.created_at}},
            sort=[("created_at", -1), ("_id", -1)],
            limit=_READ_AT_ONCE,
        )
        upto = (newest.created_at, newest.id)
        mine = [item for item in unread if (item.created_at, item.id) <= upto]
        await self._tell_read([item.id for item in mine])
        moved = [
            await self._items.swap(replace(item, state="read"), {"state": "unread"})
            for item in mine
        ]
        return sum(moved)

    async def _tell_read(self, entries: Sequence[str]) -> None:
        """Let the timeline know, so that agents see it; that may come later or again."""
        receipts = [
            Receipt(key=f"inbox:{ident}:read", target=Target(entry=ident), state=DeliveryState.READ)
            for ident in entries
        ]
        for start in range(0, len(receipts), 100):
            try:
                await self._context.deliver(receipts[start : start + 100], door="socket")
            except Overloaded as error:
                raise SiteError("unavailable", str(error), retry_after_s=5) from error


def _item_out(item: ItemDoc) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": item.id,
        "kind": "personal",
        "category": item.category,
        "title": item.title,
        "body": item.body,
        "actions": [{"label": each.label, "url": each.url} for each in item.actions],
        "sender": item.sender,
        "created_at": rfc3339(item.created_at),
        "importance": item.importance,
        "state": item.state,
        "thread": item.thread,
    }
    if item.expires_at != _NEVER:
        out["expires_at"] = rfc3339(item.expires_at)
    return out
