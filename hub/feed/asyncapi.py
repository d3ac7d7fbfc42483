"""The AsyncAPI document and the JSON Schemas of the events, made from the table of types."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

import msgspec

from hub.feed.events import CHANNEL_EVENT, PREFIX, TYPES, EventType
from hub.feed.examples import examples

_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}

ENVELOPE: dict[str, Any] = {
    "type": "object",
    "description": "CloudEvents 1.0. An attribute that is not known is absent, never null.",
    "required": [
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "dataschema",
        "sequence",
        "recordedtime",
        "data",
    ],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {
            **_TEXT,
            "pattern": "^evt_[0-9a-hjkmnp-tv-z]{26}$",
            "description": "The same for ever: drop an event whose id you know.",
        },
        "source": {**_TEXT, "format": "uri-reference", "description": "/hub/ and the space."},
        "type": {**_TEXT, "pattern": r"^omniline\.[a-z0-9_.]+\.v[0-9]+$"},
        "subject": {**_TEXT, "description": "customer/ and the customer's id of that moment."},
        "time": {**_TIME, "description": "When it happened at the channel, UTC."},
        "dataschema": {**_TEXT, "format": "uri"},
        "partitionkey": {**_TEXT, "description": "The customer: the lane in which order counts."},
        "sequence": {
            **_TEXT,
            "pattern": "^[0-9]{20}$",
            "description": "The position in the feed: strictly increasing, without gaps.",
        },
        "recordedtime": {**_TIME, "description": "When the hub stored it, UTC."},
        "correlationid": {**_TEXT, "description": "The conversation."},
        "causationid": {**_TEXT, "description": "The inbox item that it came from."},
        "hubchannel": {**_TEXT, "description": "wechat, mail, sms, ..."},
        "dataref": {**_TEXT, "format": "uri", "description": "Where what was cut is read whole."},
        "erased": {
            "type": "boolean",
            "description": "What this told of was erased; data is null. Erase your copy, too.",
        },
        "data": {"type": ["object", "null"]},
    },
}


@cache
def data_schemas() -> dict[str, Any]:
    """Return the schemas of all data by name, with references below ``#/components/schemas``."""
    kinds = list(dict.fromkeys(each.data for each in TYPES.values()))
    _, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    # As rendered: a link for what only the hub can use.
    for name in ("Media", "Rendition"):
        held = components[name]["properties"]
        del held["blob"]
        held["url"] = {**_TEXT, "format": "uri", "description": "Where the bytes are read."}
    components["Rendition"]["required"] = ["url"]
    del components["Media"]["properties"]["vendor_ref"]
    return components


def data_schema(name: str, base_url: str) -> dict[str, Any] | None:
    """Return the JSON Schema of a type's data: what ``dataschema`` leads to. None = no such type.

    ``name`` is the whole type. One that only connectors use has the data of channel events.
    """
    known = {each.type: each for each in TYPES.values()}
    kind = known.get(name, CHANNEL_EVENT)
    area, _, rest = name.removeprefix(PREFIX).partition(".")
    hub_areas = {each.partition(".")[0] for each in TYPES} - {"call"}
    odd = not name.startswith(PREFIX) or not rest.endswith(".v1")
    if kind is CHANNEL_EVENT and (odd or area in hub_areas):
        return None
    definitions = _moved(deepcopy(data_schemas()), "#/$defs/")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{base_url}/schemas/{name}.json",
        "title": name,
        "description": kind.description,
        "$ref": f"#/$defs/{kind.data.__name__}",
        "$defs": definitions,
    }


def document(base_url: str) -> dict[str, Any]:
    """Return the AsyncAPI 3.0.0 document of the feed of a hub at ``base_url``."""
    place = urlsplit(base_url)
    kinds = [*TYPES.values(), CHANNEL_EVENT]
    keys = [_key(kind) for kind in kinds]
    shown = examples(base_url)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Omniline feed",
            "version": _version(),
            "description": "Every committed change, once in order: at least once, no gaps.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "servers": {
            "hub": {
                "host": place.netloc,
                "protocol": place.scheme,
                "pathname": place.path or "/",
                "security": [{"$ref": "#/components/securitySchemes/key"}],
            }
        },
        "channels": {
            "events": _channel("/feed/v1/events", "The feed, page by page.", keys),
            "stream": _channel("/feed/v1/stream", "The feed as server-sent events.", keys),
        },
        "operations": {
            "sendEvents": _operation("events", "A page of events, to whoever asks for it."),
            "sendStream": _operation("stream", "Each event as it happens."),
        },
        "components": {
            "messages": {
                key: _message(kind, shown[kind.name]) for key, kind in zip(keys, kinds, strict=True)
            },
            "schemas": {"Envelope": ENVELOPE, **data_schemas()},
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key with the scope feed:read.",
                }
            },
        },
    }


def _key(kind: EventType) -> str:
    return "channel_event" if kind is CHANNEL_EVENT else kind.name


def _channel(address: str, description: str, keys: list[str]) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in keys},
    }


def _operation(channel: str, summary: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "bindings": {"http": {"method": "GET", "bindingVersion": "0.3.0"}},
    }


def _message(kind: EventType, example: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {
        "data": {
            "anyOf": [{"$ref": f"#/components/schemas/{kind.data.__name__}"}, {"type": "null"}]
        }
    }
    if kind is not CHANNEL_EVENT:
        own["type"] = {"const": kind.type}
    return {
        "name": kind.type,
        "title": kind.description,
        "contentType": "application/cloudevents+json",
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/Envelope"},
                {"type": "object", "properties": own},
            ]
        },
        "examples": [{"payload": example}],
    }


def _moved(value: Any, below: str) -> Any:
    """Let references lead elsewhere."""
    if isinstance(value, dict):
        return {name: _moved(each, below) for name, each in value.items()}
    if isinstance(value, list):
        return [_moved(each, below) for each in value]
    if isinstance(value, str):
        return value.replace("#/components/schemas/", below)
    return value


def _version() -> str:
    try:
        return version("omniline")
    except PackageNotFoundError:
        return "0"
