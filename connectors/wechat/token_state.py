"""What an account keeps of its access token, in the database: sealed, under compare-and-swap."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from hub import ConnectorContext, StoreError
from normalizer.outcomes import Temporary

STATE = "access_token"
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The account's state. ``sealed`` is the token under a key of the space; "" = none."""

    sealed: str = ""
    renew_at: datetime = NEVER
    expires_at: datetime = NEVER
    owner: str = ""  # who fetches now ...
    until: datetime = NEVER  # ... and until when it is believed to be alive
    refused: list[datetime] = []  # when tokens were refused before their time
    forced_at: datetime = NEVER


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token in the clear, and until when it is used and holds."""

    value: str
    renew_at: datetime
    expires_at: datetime

    def __repr__(self) -> str:
        return "Token(***)"


class TokenState:
    """The state of one account. Every method that asks the database may raise Temporary."""

    def __init__(self, context: ConnectorContext) -> None:
        self._context = context

    async def load(self) -> tuple[Kept, int]:
        try:
            value, rev = await self._context.state(STATE)
        except StoreError as error:
            raise Temporary(f"the access token cannot be read: {error}") from error
        try:
            return msgspec.convert(dict(value), Kept), rev
        except msgspec.ValidationError:
            self._context.log.warning("token_state_unreadable")
            return Kept(), rev

    async def store(self, kept: Kept, rev: int) -> bool:
        try:
            return await self._context.set_state(STATE, msgspec.to_builtins(kept), rev)
        except StoreError as error:
            raise Temporary(f"the access token cannot be kept: {error}") from error

    def sealed(self, token: str) -> str:
        return self._context.seal(STATE, token)

    def opened(self, kept: Kept) -> Token | None:
        if not kept.sealed:
            return None
        value = self._context.unseal(STATE, kept.sealed)
        if value is None:
            self._context.log.warning("token_state_unreadable")
            return None
        return Token(value=value, renew_at=kept.renew_at, expires_at=kept.expires_at)
