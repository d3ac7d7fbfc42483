"""Dedupe keys: which drafts are the same thing told twice.

Dropping a second, different message is as bad as doubling one. So the connector's key is
always seen together with channel, account and canonical sender (unless the connector widened
the scope on purpose), and what kind of thing it is.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

from normalizer.addresses import canonical
from normalizer.drafts import (
    Amendment,
    AnyDraft,
    Command,
    Event,
    Identity,
    Message,
    Outcome,
    Receipt,
    Scope,
)

_FAMILY = {
    Message: "entry",
    Event: "entry",
    Amendment: "amendment",
    Receipt: "amendment",
    Identity: "identity",
    Command: "command",
    Outcome: "outcome",
}
_SAFE = "@+-._~:"  # not "|", which separates the fields, and not "%", which escapes


class KeyMissing(ValueError):
    """The draft has no dedupe key: its connector would double or lose messages."""


def dedupe_key(channel: str, account: str, draft: AnyDraft) -> str:
    """Return the full dedupe key of ``draft``, as it is hashed into ``ent_`` and ``amd_`` ids.

    Raises :class:`KeyMissing` for an empty key, and AddressError for a broken address.
    """
    if not draft.key:
        raise KeyMissing(f"a {_FAMILY[type(draft)]} draft of channel {channel} has no key")
    # Five fields always, so that no key of a wider scope can be written to look like another's.
    within = "" if draft.scope is Scope.CHANNEL else _quoted(account)
    sender = _sender(draft) if draft.scope is Scope.SENDER else ""
    return "|".join((_FAMILY[type(draft)], _quoted(channel), within, sender, draft.key))


@lru_cache(maxsize=1024)
def _quoted(name: str) -> str:
    """Return the name of a channel or account as a field of a key; there are few of them."""
    return quote(name, safe=_SAFE)


def _sender(draft: AnyDraft) -> str:
    if isinstance(draft, Message) and draft.sender is not None and draft.sender.address is not None:
        return canonical(draft.sender.address)
    address = getattr(draft, "address", None)
    return canonical(address) if address is not None else ""
