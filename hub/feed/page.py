"""`python -m hub.feed.page` prints the reference page of the feed."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from typing import Any

import msgspec

from hub.feed.asyncapi import ENVELOPE
from hub.feed.events import CHANNEL_EVENT, TYPES
from hub.feed.examples import examples

_BASE = "https://hub.example.com"


def feed_page() -> str:
    """The page `docs/reference/feed.md`. A test holds the file equal to this text."""
    lines = [_HEAD, "## The envelope\n", *_envelope(), "\n## Types\n", _TYPES_HEAD, *_types()]
    lines += ["\n## Data\n", *_data(), "\n## An example\n", _example(), ""]
    return "\n".join(lines)


def _envelope() -> Iterable[str]:
    yield "| attribute | always there | what it says |"
    yield "| --- | --- | --- |"
    for name, member in ENVELOPE["properties"].items():
        always = "yes" if name in ENVELOPE["required"] else ""
        yield f"| `{name}` | {always} | {_ENVELOPE.get(name) or member.get('description', '')} |"


def _types() -> Iterable[str]:
    yield "| type | when | data |"
    yield "| --- | --- | --- |"
    for kind in (*TYPES.values(), CHANNEL_EVENT):
        yield f"| `{kind.name}` | {kind.description} | {kind.data.__name__} |"


def _data() -> Iterable[str]:
    for kind in dict.fromkeys(each.data for each in TYPES.values()):
        yield f"### {kind.__name__}\n"
        yield f"{inspect.getdoc(kind)}\n"
        yield "Members: " + ", ".join(f"`{name}`" for name in kind.__struct_fields__) + ".\n"


def _example() -> str:
    event: Any = examples(_BASE)["message.received"]
    text = msgspec.json.format(msgspec.json.encode(event), indent=2).decode()
    return f"```json\n{text}\n```"


_ENVELOPE = {
    "specversion": "`1.0`",
    "type": "`omniline.`, the type below, and its version: `omniline.message.received.v1`",
    "dataschema": "Where the JSON Schema of `data` is served, without a key.",
    "data": "What happened; `null` for what was erased.",
}

_TYPES_HEAD = """\
Filters leave the prefix `omniline.` and the version away: `types=message.*,ticket.linked`.
A type keeps its meaning; what would break a reader gets a new version beside the old one.
New members may appear at any time: ignore what you do not know.
"""

_HEAD = """\
# The feed

This page is made from the code: `python -m hub.feed.page > docs/reference/feed.md`.

Every committed change is one event, for any helpdesk, warehouse or script that wants to know.
Events have a position (`sequence`) that rises by one, and readers keep a cursor, so nobody misses
one, whatever crashes. Delivery is at least once: drop an event whose `id` you know.
The machine-readable description is `/asyncapi.json`, the routes are in `/openapi.json`.

## Page by page

```sh
omniline keys create helpdesk --scope feed:read
curl -H "Authorization: Bearer $KEY" "$HUB/feed/v1/events?limit=100"
```

```json
{"events": [], "next_cursor": "…", "has_more": false}
```

1. Process the events.
2. Store `next_cursor`. It is always there, also when there are no events.
3. Ask again with `cursor=` and the stored text; at once if `has_more`, else with `wait=25`: the
   answer comes with the first event, or after 25 seconds.

| parameter | what it does |
| --- | --- |
| `cursor` | where to go on; none = the start of what is kept; `tail` = now |
| `limit` | 1 to 1000 events, 100 by default; a page is at most 1 MiB |
| `wait` | seconds to wait for the first event, at most 25 |
| `types` | patterns such as `message.*`, separated by commas ([types](#types)) |
| `channel` | only events of this channel |
| `customer` | only events of this customer, under any id it has or had |

A cursor belongs to its filters; with others it is refused (400 `cursor-invalid`).
Events are kept for `feed_days` (30 by default). Who comes later gets 410 `cursor-expired` with an
`earliest_cursor`: read the customers' timelines anew, then go on from there.

With `Accept: application/cloudevents-batch+json` the answer is the bare array; the cursor is in
`Hub-Next-Cursor`, the next page in `Link`.

## As a stream

`GET /feed/v1/stream` sends the same events as server-sent events, with the same filters:
first what is behind the cursor, then what happens, without a gap or a repetition between.

```sh
curl -N -H "Authorization: Bearer $KEY" "$HUB/feed/v1/stream?cursor=tail"
```

- `id` is the cursor behind the event. A client that comes back with `Last-Event-ID` misses nothing.
- A comment comes every 15 seconds when nothing else does. A block of only `id` moves the place
  past events that the filters leave out.
- After about 30 minutes the stream ends; clients come back by themselves after 3 seconds.
- A client that takes nothing for 20 seconds is sent `event: overflow`, if it still can be, and is
  disconnected.
- A wrong cursor is refused before the stream starts: 400 or 410, which is final for browsers.
- One key may have 20 streams open in each process; the next one gets 429.

A browser's `EventSource` cannot send a key. Let your server ask for a ticket, which opens one
stream within 60 seconds: `POST /feed/v1/stream-tickets`, then `/feed/v1/stream?ticket=…`.
Keys themselves are never taken from a URL.

## Keeping the place in the hub

A reader without a database of its own lets the hub keep its cursor:

```sh
curl -X PUT -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\
  -d '{"cursor": "…", "if_cursor": "…"}' "$HUB/feed/v1/consumers/helpdesk"
```

The cursor is the reader's word that it has processed everything up to there; reading never moves
it. It is set if `if_cursor` is what is there now (`null`: the consumer must be new), else the
answer is 409 with the cursor that is there. Without `if_cursor` it is set in any case.
`GET` answers with the cursor, the lag in events and seconds, and whether events were lost for it.
`DELETE` needs the scope `feed:write`.

## What a key may read

`feed:read` reads everything, `feed:read:message.*` only these types. A key that is limited to
accounts sees what happened on them: entries by their account, everything else by its conversation.
What concerns customers as such (merging, erasing) is only told to keys without a limit.

## What an event shows

An event is rendered when it is read: an entry that was edited shows its words of now, and
`revision` counts the edits. What was erased is a tombstone under the same `id` and `sequence`:
`data` is `null` and `erased` is true. Erase your copy as well.

An event has at most 60 KiB. Longer texts are cut: then `data.truncated` is true, and `dataref`
leads to the whole. Media are links (`url`) that need the scope `attachments:read`.
"""

if __name__ == "__main__":
    sys.stdout.write(feed_page())
