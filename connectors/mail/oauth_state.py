"""What an account keeps of its OAuth tokens, in the database: sealed, under compare-and-swap.

A consent (the configured refresh token, or the app that needs none) has a state of its own, so
that a newly configured one starts afresh, also while a process with the former one still runs.
What came of the configured refresh token since is kept there and wins over it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from connectors.mail.oauth_settings import OAuth
from hub import ConnectorContext, StoreError
from normalizer.outcomes import Temporary

STATE = "oauth"
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
CONSENTS = 2  # kept: the present one and the one before
SWAPS = 50  # tries of a compare-and-swap, against a handful of processes


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One consent's state. ``access`` and ``refresh`` are sealed; "" = none. Times in UTC."""

    consent: str = ""  # which one, as a keyed hash
    access: str = ""
    asked: str = ""  # what the access token was asked for with, as a keyed hash
    got_at: datetime = NEVER
    renew_at: datetime = NEVER
    expires_at: datetime = NEVER
    refresh: str = ""  # the last one the server gave; "" = the configured one still holds
    owner: str = ""  # who asks now ...
    until: datetime = NEVER  # ... and until when it is believed to be alive
    failed: str = ""  # why the last renewal did not work; "" = it did
    failed_with: str = ""  # like ``asked``: with other settings it is tried at once
    verdict: str = ""
    tries: int = 0  # that failed in a row
    try_at: datetime = NEVER  # no renewal before


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    consents: list[Kept] = []


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """An access token in the clear, and its times in UTC."""

    value: str
    got_at: datetime
    renew_at: datetime
    expires_at: datetime

    def __repr__(self) -> str:
        return "Token(***)"


class OAuthState:
    """The state of one account. Every method that asks the database may raise Temporary."""

    def __init__(self, context: ConnectorContext, oauth: OAuth, scope: str) -> None:
        self._context = context
        refresh = oauth.refresh_token.reveal() if oauth.refresh_token is not None else ""
        secret = oauth.client_secret.reveal() if oauth.client_secret is not None else ""
        self._consent = self._hashed("consent", oauth.url, oauth.client_id, refresh)
        self.asked = self._hashed("asked", self._consent, scope, secret)

    def _hashed(self, *words: str) -> str:
        key = self._context.secret(STATE)
        return hmac.new(key, msgspec.json.encode(words), hashlib.sha256).hexdigest()[:32]

    async def load(self) -> Kept:
        return (await self._load())[0]

    async def change(self, change: Callable[[Kept], Kept | None]) -> Kept | None:
        """Store what ``change`` makes of the state, with whatever others stored meanwhile.

        Where it makes None nothing is stored, and None is returned.
        """
        for _ in range(SWAPS):
            kept, others, rev = await self._load()
            changed = change(kept)
            if changed is None:
                return None
            document = _Document(consents=[changed, *others][:CONSENTS])
            try:
                stored = await self._context.set_state(STATE, msgspec.to_builtins(document), rev)
            except StoreError as error:
                raise Temporary(f"the access token cannot be kept: {error}") from error
            if stored:
                return changed
        raise Temporary("the access token cannot be kept: too many processes change it")

    async def _load(self) -> tuple[Kept, list[Kept], int]:
        try:
            value, rev = await self._context.state(STATE)
        except StoreError as error:
            raise Temporary(f"the access token cannot be read: {error}") from error
        try:
            found = msgspec.convert(dict(value), _Document).consents
        except msgspec.ValidationError:
            self._context.log.warning("oauth_state_unreadable")
            found = []
        ours = next((each for each in found if each.consent == self._consent), None)
        others = [each for each in found if each.consent != self._consent]
        return ours or Kept(consent=self._consent), others, rev

    # --- sealed -------------------------------------------------------------------------------

    def access(self, kept: Kept) -> Token | None:
        """Return the access token if it was asked for with the present settings."""
        value = self._opened(kept.access) if kept.asked == self.asked else ""
        if not value:
            return None
        return Token(
            value=value,
            got_at=kept.got_at,
            renew_at=kept.renew_at,
            expires_at=kept.expires_at,
        )

    def refresh(self, kept: Kept) -> str:
        """Return the refresh token that the server gave last, "" if it gave none."""
        return self._opened(kept.refresh)

    def with_token(self, kept: Kept, token: Token) -> Kept:
        return replace(
            kept,
            access=self.sealed(token.value),
            asked=self.asked,
            got_at=token.got_at,
            renew_at=token.renew_at,
            expires_at=token.expires_at,
        )

    def sealed(self, token: str) -> str:
        return self._context.seal(STATE, token)

    def _opened(self, sealed: str) -> str:
        if not sealed:
            return ""
        value = self._context.unseal(STATE, sealed)
        if value is None:
            self._context.log.warning("oauth_state_unreadable")
        return value or ""
