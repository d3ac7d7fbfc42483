"""By which other accounts an address can be written to, beside the one where it was seen last.

A phone number belongs to no account: who has only called from it can be texted, by a channel
that says it reaches such addresses (``Capabilities.reaches``), when somebody chooses that channel
by name. The hub never chooses it by itself (docs/decisions/0019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hub.api.keys import ApiKey
from hub.contract import Connector
from hub.documents import AddressDoc
from hub.planning.rules import Refusal

Connectors = Mapping[tuple[str, str], Connector[Any]]


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """An account by which an address can be written to."""

    address: str  # adr_
    channel: str
    account: str


def other_ways(connectors: Connectors, doc: AddressDoc) -> list[Way]:
    """Return every account that reaches the address and is not the one where it was seen last."""
    return [
        Way(address=doc.id, channel=channel, account=account)
        for (channel, account), connector in sorted(connectors.items(), key=lambda each: each[0])
        if doc.scheme in connector.capabilities.reaches
        and connector.capabilities.sends
        and (channel, account) != (doc.channel, doc.account)
    ]


def seen_at(doc: AddressDoc, channel: str, account: str) -> bool:
    """Say whether an address was seen last there; what is empty may be any."""
    return channel in ("", doc.channel) and account in ("", doc.account)


def chosen_way(
    connectors: Connectors, caller: ApiKey, docs: Sequence[AddressDoc], channel: str, account: str
) -> Way | None:
    """Return the way that somebody chose by naming a channel, and perhaps an account of it.

    None where one of the addresses was seen there, so that nothing else is needed, and where the
    channel reaches none of them. Raises Refusal where several accounts could be meant, or none
    that the caller may write by.
    """
    if not channel or any(seen_at(doc, channel, account) for doc in docs):
        return None
    for doc in docs:
        ways = [
            way
            for way in other_ways(connectors, doc)
            if way.channel == channel and account in ("", way.account)
        ]
        mine = [way for way in ways if caller.sees(way.channel, way.account)]
        if len(mine) > 1:
            names = ", ".join(way.account for way in mine)
            raise Refusal("bad-request", f"name the account of {channel} as well: {names}", 422)
        if mine:
            return mine[0]
        if ways:
            raise Refusal(
                "forbidden", f"an answer there leaves by {channel}, not for this key", 403
            )
    return None
