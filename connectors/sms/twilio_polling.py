"""Messages whose webhook failed: Twilio does not send them again, so its list is asked.

The list is filtered by whole days and told newest first, and a message may show up a moment late.
So each poll looks back a little behind its cursor, and the cursor remembers what was seen there.
What the webhook brought has the same keys, and is dropped as known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from connectors._twilio.rest import TwilioRest
from connectors.sms import twilio_inbound
from connectors.sms.senders import WHATSAPP
from connectors.sms.settings import SmsSettings
from connectors.sms.twilio_sending import moment
from hub import Account, ConnectorContext, Incoming, Polled
from normalizer.drafts import AnyDraft
from normalizer.outcomes import Failure

LOOK_BACK = timedelta(minutes=2)
PAGE_SIZE = 200
MOST_PAGES = 50  # 10 000 messages of one number in one poll
MOST_SEEN = 5000
_SHORT = 12  # characters of a SID's end tell those of two minutes apart


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """``seen`` are the ends of the SIDs of the last minutes before ``until``."""

    until: datetime
    seen: tuple[str, ...] = ()


async def poll(
    rest: TwilioRest,
    account: Account[SmsSettings],
    context: ConnectorContext,
    numbers: Sequence[str],
    cursor: str | None,
) -> Polled:
    """Return what came in behind the cursor, oldest first; with None nothing, from now on."""
    now = context.clock.now()
    if cursor is None or not numbers:
        seen = await _found(rest, numbers, now - LOOK_BACK) if numbers else []
        ends = tuple(_end(found) for _, found in seen)
        return Polled(items=(), cursor=_encoded(Cursor(until=now, seen=ends)))
    held = msgspec.json.decode(cursor, type=Cursor)
    found = await _found(rest, numbers, held.until - LOOK_BACK)
    known = set(held.seen)
    items = []
    for at, resource in found:
        if _end(resource) not in known:
            items.append(await _incoming(rest, account, resource, at))
    until = max([held.until, *(at for at, _ in found)])
    recent = [_end(each) for at, each in found if at >= until - LOOK_BACK]
    after = Cursor(until=until, seen=tuple(recent[-MOST_SEEN:]))
    return Polled(items=items, cursor=_encoded(after))


async def _found(
    rest: TwilioRest, numbers: Sequence[str], since: datetime
) -> list[tuple[datetime, Mapping[str, Any]]]:
    found: dict[str, tuple[datetime, Mapping[str, Any]]] = {}
    # What came by WhatsApp is listed under an address of its own; without any the list is empty.
    for number in (*numbers, *(f"{WHATSAPP}:{each}" for each in numbers)):
        query = [
            ("To", number),
            ("DateSent>", f"{since:%Y-%m-%d}"),
            ("PageSize", str(PAGE_SIZE)),
        ]
        page: dict[str, Any] | None = await rest.get("Messages.json", query)
        for _ in range(MOST_PAGES):
            if page is None:
                break
            listed = [each for each in page.get("messages") or () if isinstance(each, dict)]
            times = [moment(each.get("date_sent")) or since for each in listed]
            for at, each in zip(times, listed, strict=True):
                whole = each.get("direction") == "inbound" and each.get("status") != "receiving"
                if whole and at >= since and each.get("sid"):
                    found[str(each["sid"])] = (at, each)
            if times and min(times) < since:
                break  # newest first: what follows is older
            page = await rest.next_page(page)
    return sorted(found.values(), key=lambda each: (each[0], str(each[1]["sid"])))


async def _incoming(
    rest: TwilioRest, account: Account[SmsSettings], resource: Mapping[str, Any], at: datetime
) -> Incoming:
    raw = json.dumps(resource).encode()  # in ASCII, whatever was broken in it
    fields = twilio_inbound.from_list(resource)
    try:
        if fields.get("NumMedia", "0") not in ("", "0"):
            fields |= await _files(rest, fields["MessageSid"])
        drafts: Sequence[AnyDraft] = twilio_inbound.inbound(account, fields, at=at)
    except Failure:
        raise  # Twilio is in trouble: the same cursor is asked again
    except ValueError as error:
        return Incoming(drafts=(), raw=raw, failed=f"{type(error).__name__}: {error}")
    return Incoming(drafts=drafts, raw=raw)


async def _files(rest: TwilioRest, sid: str) -> dict[str, str]:
    """Return a message's files as a webhook names them; a list holds their number only."""
    page = await rest.get(f"Messages/{sid}/Media.json", [("PageSize", "20")])
    fields = {}
    for number, each in enumerate(page.get("media_list") or ()):
        uri = str(each.get("uri", "")).removesuffix(".json")
        fields[f"MediaUrl{number}"] = rest.url(uri)
        fields[f"MediaContentType{number}"] = str(each.get("content_type", ""))
    return fields


def _end(resource: Mapping[str, Any]) -> str:
    return str(resource["sid"])[-_SHORT:]


def _encoded(cursor: Cursor) -> str:
    return msgspec.json.encode(cursor).decode()
