"""Links to stored files that need no key and end by themselves: for people and for vendors."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

from hub.ids import SpaceKey


def link_signature(key: SpaceKey, blob: str, expires: int) -> str:
    """Return what makes a link ours; ``expires`` is Unix time in seconds."""
    secret = key.derive("api/attachment-links")
    return hmac.new(secret, f"{blob}|{expires}".encode(), hashlib.sha256).hexdigest()


def signed_link(public_url: str, key: SpaceKey, blob: str, until: datetime) -> str:
    """Return the URL under which a blob can be fetched until then; see hub/api/attachments.py."""
    expires = int(until.timestamp())
    signature = link_signature(key, blob, expires)
    return f"{public_url}/api/v1/attachments/{blob}/signed?expires={expires}&signature={signature}"
