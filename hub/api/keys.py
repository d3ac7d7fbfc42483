"""API keys: who may call the API, to do what, for which accounts.

A key reads ``omk_<id>_<secret>``. The secret has 256 random bits, so nobody can guess it, and
a fast hash (SHA-256) is enough to keep it: slow hashes are for secrets that people choose. The
key itself is shown once, when it is made, and stored nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import ClassVar

import msgspec
import structlog
from msgspec.structs import replace

from hub.clock import Clock
from hub.documents import Doc
from hub.feed.patterns import wrong_pattern
from hub.ids import new_id
from hub.store.interface import Store, StoreError

log = structlog.get_logger(__name__)

ADMIN = "admin"
SCOPES: dict[str, str] = {
    ADMIN: "Everything, on all accounts the key is not kept from.",
    "customers:read": "Find customers; read their profiles, addresses and timelines.",
    "customers:write": "Link, merge and separate customers; write notes about them.",
    "replies:write": "Answer customers; edit, recall and confirm messages; show typing.",
    "notifications:write": "Tell customers something they did not ask for; cancel it.",
    "consents:write": "Record what customers agreed to, and what they do not want.",
    "conversations:read": "List and read conversations.",
    "conversations:write": "Claim, transfer, tag, close, split and join conversations.",
    "attachments:read": "Download attachments and make links to them.",
    "attachments:write": "Upload attachments.",
    "accounts:read": "See accounts and backends with their states, and the switches.",
    "switches:write": "Switch accounts and all sending on and off.",
    "operations:read": "See results of operations, and the story of one message.",
    "deadletters:read": "Read what could not be done, with the raw requests.",
    "deadletters:write": "Have it done again.",
    "imports:read": "See imports of old conversations.",
    "imports:write": "Take an import back.",
    "erase:write": "Erase a customer for good.",
    "feed:read": "Read the feed; `feed:read:` and a pattern (`message.*`) for these types only.",
    "feed:write": "Delete the feed's consumers.",
    "keys:read": "List API keys.",
    "keys:write": "Make and revoke API keys.",
    "desk:read": "Read the built-in desk's tickets.",
    "desk:write": "Answer and change the built-in desk's tickets.",
}
_AREAS = {scope.partition(":")[0] for scope in SCOPES}
_SCOPE = re.compile(r"[a-z][a-z0-9_-]{0,40}:[a-z][a-z0-9_-]{0,40}\Z")
_FEED_TYPES = re.compile(r"feed:read:[a-z0-9_.*]{1,80}\Z")
_ACCOUNT = re.compile(r"[a-z][a-z0-9_-]{0,63}:[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_ID_CHARS = 26

CACHED_S = 3.0  # how long a revoked key may still work
CACHE_SIZE = 10_000
USED_EVERY = timedelta(minutes=5)  # granularity of ``last_used_at``


class ApiKeyDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A key as it is kept: its hash, never itself."""

    collection: ClassVar[str] = "api_keys"

    name: str
    digest: str
    scopes: tuple[str, ...]
    accounts: tuple[str, ...] = ()  # "channel:account"; empty = all
    created_at: datetime
    created_by: str = ""
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    expires_at: datetime | None = None


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """Who is calling: what handlers find under ``request["api_key"]``."""

    id: str
    name: str
    scopes: frozenset[str]
    accounts: frozenset[str] = frozenset()
    kind: str = "key"  # or "session": somebody signed in with a browser

    def allows(self, scope: str) -> bool:
        return scope in self.scopes or ADMIN in self.scopes

    @property
    def limited(self) -> bool:
        """Whether the caller may see some accounts only."""
        return bool(self.accounts)

    def sees(self, channel: str, account: str) -> bool:
        return not self.accounts or f"{channel}:{account}" in self.accounts

    @property
    def actor(self) -> str:
        """The caller as the actor of a command."""
        return f"{self.kind}:{self.id}"


# --- making, listing, revoking ---------------------------------------------------------------


async def create_key(
    store: Store,
    clock: Clock,
    name: str,
    scopes: Sequence[str],
    accounts: Sequence[str] = (),
    *,
    expires_at: datetime | None = None,
    created_by: str = "",
    more_scopes: Collection[str] | None = None,
) -> tuple[ApiKeyDoc, str]:
    """Make a key; return its document and the key itself, which nobody can read again.

    ``more_scopes`` are those that plugins ask for; None = not known, so that any name of an
    area that is not the hub's own is taken. Raises ``ValueError`` for an empty name, an
    unknown scope or something that is no ``channel:account``.
    """
    if not name.strip() or len(name) > 100:
        raise ValueError("a key needs a name of at most 100 characters")
    _check_scopes(scopes, more_scopes)
    for account in accounts:
        if not _ACCOUNT.match(account):
            raise ValueError(f"{account!r} is no account: it looks like channel:account")
    ident = new_id("key")
    plaintext = f"omk_{ident.removeprefix('key_')}_{secrets.token_urlsafe(32)}"
    doc = ApiKeyDoc(
        id=ident,
        name=name.strip(),
        digest=digest(plaintext),
        scopes=tuple(dict.fromkeys(scopes)),
        accounts=tuple(dict.fromkeys(accounts)),
        created_at=clock.now(),
        created_by=created_by,
        expires_at=expires_at,
    )
    await store.table(ApiKeyDoc).insert([doc])
    log.info("api_key_made", key=doc.id, scopes=doc.scopes, accounts=doc.accounts, by=created_by)
    return doc, plaintext


def _check_scopes(scopes: Sequence[str], more: Collection[str] | None) -> None:
    if not scopes:
        raise ValueError("a key needs at least one scope")
    for scope in scopes:
        types = scope.removeprefix("feed:read:")
        if types != scope and (wrong := wrong_pattern(types)):
            raise ValueError(f"the scope {scope} would let nothing be read: {wrong}")
        if scope in SCOPES or _FEED_TYPES.match(scope) or (more is not None and scope in more):
            continue
        plugins = more is None and _SCOPE.match(scope) and scope.partition(":")[0] not in _AREAS
        if not plugins:
            known = ", ".join([*SCOPES, *sorted(set(more or ()) - SCOPES.keys())])
            raise ValueError(f"there is no scope {scope!r}; there are {known}")


async def list_keys(store: Store) -> list[ApiKeyDoc]:
    """Return all keys, oldest first, revoked ones too."""
    return await store.table(ApiKeyDoc).find({}, sort=[("_id", 1)])


async def revoke_key(store: Store, clock: Clock, ident: str) -> bool:
    """Take a key back; it stops working within seconds. Return whether there is such a key."""
    table = store.table(ApiKeyDoc)
    while (doc := await table.get(ident)) is not None:
        if doc.revoked_at is not None:
            return True
        revoked = replace(doc, revoked_at=clock.now())
        if await table.swap(revoked, {"last_used_at": doc.last_used_at}):
            log.info("api_key_revoked", key=doc.id)
            return True
    return False


def digest(plaintext: str) -> str:
    return hashlib.sha256(plaintext.encode("utf-8", "surrogatepass")).hexdigest()


# --- recognizing -----------------------------------------------------------------------------


class Keys:
    """Recognizes keys; what it read stays good for three seconds."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._table = store.table(ApiKeyDoc)
        self._clock = clock
        self._read: dict[str, tuple[float, ApiKeyDoc | None]] = {}

    def remembers(self, plaintext: str) -> bool:
        """Say whether this very key was recognized just now, without asking the database."""
        held = self._read.get(_ident(plaintext) or "")
        return held is not None and held[1] is not None and self._is(held[1], plaintext)

    async def find(self, plaintext: str) -> ApiKey | None:
        """Return whose key this is; None if it is nobody's, or not any more."""
        ident = _ident(plaintext)
        if ident is None:
            return None
        doc = await self._load(ident)
        now = self._clock.now()
        if doc is None or not self._is(doc, plaintext) or doc.revoked_at is not None:
            return None
        if doc.expires_at is not None and doc.expires_at <= now:
            return None
        if doc.last_used_at is None or now - doc.last_used_at >= USED_EVERY:
            await self._note_use(doc, now)
        return ApiKey(
            id=doc.id,
            name=doc.name,
            scopes=frozenset(doc.scopes),
            accounts=frozenset(doc.accounts),
        )

    @staticmethod
    def _is(doc: ApiKeyDoc, plaintext: str) -> bool:
        return hmac.compare_digest(doc.digest, digest(plaintext))

    async def _load(self, ident: str) -> ApiKeyDoc | None:
        held = self._read.get(ident)
        now = self._clock.monotonic()
        if held is not None and now - held[0] < CACHED_S:
            return held[1]
        doc = await self._table.get(ident)
        self._remember(ident, doc)
        return doc

    def _remember(self, ident: str, doc: ApiKeyDoc | None) -> None:
        self._read.pop(ident, None)
        self._read[ident] = (self._clock.monotonic(), doc)
        while len(self._read) > CACHE_SIZE:
            del self._read[next(iter(self._read))]

    async def _note_use(self, doc: ApiKeyDoc, now: datetime) -> None:
        used = replace(doc, last_used_at=now)
        unchanged = {"last_used_at": doc.last_used_at, "revoked_at": None}
        try:
            await self._table.swap(used, unchanged)
        except StoreError as error:
            log.debug("api_key_use_not_noted", key=doc.id, reason=str(error))
        self._remember(doc.id, used)


def _ident(plaintext: str) -> str | None:
    mark, _, rest = plaintext.partition("_")
    ident, _, secret = rest.partition("_")
    if mark != "omk" or len(ident) != _ID_CHARS or not secret or not ident.isalnum():
        return None
    return f"key_{ident}"
