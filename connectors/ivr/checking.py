"""Trying the account at Twilio now: do the credentials work, are the numbers ours, where do they
lead?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from connectors._twilio.rest import TwilioRest
from connectors.ivr.settings import IvrSettings
from hub import Account, ConnectorContext
from normalizer.outcomes import Failure, Misconfigured


def rest(account: Account[IvrSettings], context: ConnectorContext) -> TwilioRest:
    """Return Twilio's API with this account's credentials. Raises Misconfigured without any."""
    settings = account.settings
    if settings.api_secret is not None:
        user, password = settings.api_key, settings.api_secret
    elif settings.auth_tokens:
        user, password = settings.account_sid, settings.auth_tokens[0]
    else:
        raise Misconfigured("neither auth_tokens nor api_key is set: Twilio cannot be asked")
    return TwilioRest(
        context.http,
        account_sid=settings.account_sid,
        user=user,
        password=password,
        api_url=settings.api_url,
    )


async def problems(account: Account[IvrSettings], context: ConnectorContext) -> Sequence[str]:
    """Return what is wrong with the account at Twilio, a sentence each."""
    try:
        api = rest(account, context)
        page = await api.get("IncomingPhoneNumbers.json", (("PageSize", "1000"),))
    except Failure as failure:
        return (failure.reason,)
    known = {
        str(number.get("phone_number", "")): number
        for number in page.get("incoming_phone_numbers") or ()
    }
    return tuple(
        problem
        for number in account.settings.numbers
        for problem in _number(number, known.get(number), context.public_url)
    )


def _number(number: str, known: dict[str, Any] | None, door: str) -> Iterator[str]:
    if known is None:
        yield f"{number} is not a number of this account at Twilio: look at `numbers`"
        return
    for field, wanted, name in (
        ("voice_url", door, "A call comes in"),
        ("status_callback", f"{door}/status", "Call status changes"),
    ):
        told = str(known.get(field) or "")
        if told != wanted:
            yield (
                f"{number}: at Twilio, “{name}” is {told or 'empty'!r}; write {wanted} there"
                " (HTTP POST)"
            )
    if not known.get("voice_fallback_url"):
        yield (
            f"{number}: no fallback is set at Twilio. Set a static document on another host, so"
            " that callers reach a mailbox while the hub is away"
        )
