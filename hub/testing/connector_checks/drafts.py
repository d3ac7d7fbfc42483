"""What every draft has to be, by whichever door it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from hub.contract import Connector
from hub.preparing import decode_drafts, encode_drafts
from hub.testing.connector_checks.subject import ACCOUNT
from normalizer.addresses import Address, canonical, parse_address
from normalizer.drafts import AnyDraft, Command, Identity, Message, Outcome
from normalizer.keys import dedupe_key
from normalizer.parts import MEDIA_PARTS, MediaState
from normalizer.pipeline import StepContext, normalize

SHARED_SCHEMES = ("mail", "tel")  # one address, whichever account it writes to


def check_draft(connector: type[Connector[Any]], draft: AnyDraft) -> None:
    """Fail unless the hub can store, route and find this draft again."""
    channel = connector.channel
    assert not isinstance(draft, Command | Outcome), (
        f"a vendor gives no {type(draft).__name__.lower()}s: they come from people and workers"
    )
    key = dedupe_key(channel, ACCOUNT, draft)
    assert draft.at is None or draft.at.tzinfo is not None, f"{key}: `at` has no time zone"
    check_storable(channel, [draft])
    for address in addresses_of(draft):
        check_address(channel, address)
    context = StepContext(channel=channel, account=ACCOUNT)
    normal = normalize(draft, context)
    assert normalize(normal, context) == normal, f"{key}: normalizing twice changes more than once"
    assert dedupe_key(channel, ACCOUNT, normal) == key, (
        f"{key}: normalizing makes another key of it; use ids that need no cleaning"
    )
    assert list(addresses_of(normal)) == list(addresses_of(draft)), (
        f"{key}: normalizing makes another address of it; use normalizer.addresses to make it"
    )
    if isinstance(draft, Message):
        check_parts(draft, key)


def check_storable(channel: str, drafts: Sequence[AnyDraft]) -> None:
    """Fail unless drafts come out of the inbox as they went in.

    Lone surrogates are the only thing that the hub repairs: it normalizes such drafts first.
    """
    try:
        try:
            stored = encode_drafts(drafts)
        except UnicodeEncodeError:
            context = StepContext(channel=channel, account=ACCOUNT)
            stored = encode_drafts([normalize(draft, context) for draft in drafts])
        again = decode_drafts(stored)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise AssertionError(
            f"a field of the draft has a value that is not its own ({error}). Read the vendor's"
            " fields with types, as msgspec does."
        ) from error
    assert encode_drafts(again) == stored, "the draft is another after it was stored"


def check_address(channel: str, address: Address) -> None:
    text = canonical(address)
    assert parse_address(text) == address
    if address.scheme in SHARED_SCHEMES:
        assert not address.account, f"{text}: {address.scheme} addresses belong to no account"
    else:
        assert (address.scheme, address.account) == (channel, ACCOUNT), (
            f"{text}: an address of this channel starts with {channel}:{ACCOUNT}"
        )


def check_parts(draft: Message, key: str) -> None:
    assert draft.parts, f"{key}: a message has at least one part"
    for part in draft.parts:
        if isinstance(part, MEDIA_PARTS):
            pending = part.media.state is MediaState.PENDING
            assert part.media.vendor_ref or part.media.blob or not pending, (
                f"{key}: pending media without vendor_ref or blob can never be fetched"
            )
            assert pending or part.media.blob or part.media.state is not MediaState.READY, (
                f"{key}: media that is ready names its blob; at the vendor it is pending"
            )


def addresses_of(draft: AnyDraft) -> Iterator[Address]:
    address = getattr(draft, "address", None)
    if address is not None:
        yield address
    if isinstance(draft, Identity):
        yield draft.same_as
    if isinstance(draft, Message) and draft.sender is not None and draft.sender.address:
        yield draft.sender.address


def golden_lines(channel: str, name: str, drafts: Sequence[AnyDraft]) -> dict[str, str]:
    """Return what is hashed into ids of these drafts, by the name of its line."""
    lines = {}
    for number, draft in enumerate(drafts, 1):
        lines[f"{name} {number} key"] = dedupe_key(channel, ACCOUNT, draft)
        for index, address in enumerate(addresses_of(draft), 1):
            lines[f"{name} {number} address {index}"] = canonical(address)
    return lines
