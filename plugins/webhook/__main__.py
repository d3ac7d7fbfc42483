"""Print the JSON Schema of every message: it is kept as docs/backends/webhook.schema.json."""

import sys

import msgspec

from plugins.webhook.messages import schema

sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(schema())) + b"\n")
