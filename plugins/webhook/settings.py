"""What ``[[backends]]`` of type ``webhook`` may say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from hub import HttpUrl, Secret, Wrong, is_private_literal
from plugins.webhook.signing import key_of

_MAKE_ONE = "Make one: echo whsec_$(openssl rand -base64 32)"


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where ticket operations are sent, and the secrets of both directions."""

    url: Annotated[HttpUrl, Meta(description="Where every ticket operation is sent by POST.")]
    secrets: Annotated[
        tuple[Secret, ...],
        Meta(
            description="Sign what is sent, the newest first; several while they are rotated.",
            min_length=1,
            max_length=5,
        ),
    ]
    callback_secrets: Annotated[
        tuple[Secret, ...],
        Meta(
            description="Verify what the receiver sends back; those of `secrets` when empty.",
            max_length=5,
        ),
    ] = ()
    mode: Annotated[
        Literal["answering", "fire-and-forget"],
        Meta(
            description="`answering`: the receiver answers with its ids and can be asked what it"
            " has. `fire-and-forget`: any 2xx will do, and the hub's keys are the tickets' ids."
        ),
    ] = "answering"
    dedupes: Annotated[
        bool,
        Meta(
            description="Only for what cannot be asked: the receiver drops a second delivery with"
            " the same `webhook-id`, so that what is in doubt may be sent again. Otherwise it"
            " waits for a person."
        ),
    ] = False
    timeout_s: Annotated[
        float,
        Meta(
            description="How long one operation may take, in all.", ge=1, le=60, extra={"unit": "s"}
        ),
    ] = 5.0
    proxy: Annotated[
        HttpUrl | None,
        Meta(description="An HTTP proxy to go through. The environment's is never used."),
    ] = None
    allow_private: Annotated[
        bool,
        Meta(
            description="Let `url` be plain http or lead to a private address: a receiver in your"
            " own network, a test."
        ),
    ] = False

    def check(self) -> Iterator[Wrong]:
        for name in ("secrets", "callback_secrets"):
            for place, secret in enumerate(getattr(self, name)):
                try:
                    key_of(secret.reveal())
                except ValueError as error:
                    yield Wrong((name, place), str(error), _MAKE_ONE)
        if self.allow_private:
            return
        url = urlsplit(self.url)
        if url.scheme != "https":
            yield Wrong(
                "url",
                "customers' messages would cross the network in clear",
                'Use "https://", or say allow_private = true inside your own network.',
            )
        if is_private_literal(url.hostname or ""):
            yield Wrong(
                "url",
                "this is a private address",
                "Say allow_private = true if the receiver is in your own network.",
            )
