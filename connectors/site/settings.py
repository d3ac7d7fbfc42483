"""What an operator sets for one site."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from hub import HttpUrl, Secret, Wrong

MIN_HMAC_BYTES = 32


class IdentityKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key with which the site's server signs identity tokens."""

    kid: Annotated[str, Meta(description="The token's `kid` header.", min_length=1, max_length=64)]
    alg: Annotated[
        Literal["HS256", "ES256", "RS256"], Meta(description="The only algorithm of this key.")
    ]
    key: Annotated[
        Secret,
        Meta(description="HS256: a secret of at least 32 bytes. Others: the public key in PEM."),
    ]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one visitor may do. A limit is answered with `rate_limited` or `too_large`."""

    messages_per_minute: Annotated[int, Meta(description="Messages of one visitor.", ge=1)] = 20
    messages_per_hour: Annotated[int, Meta(description="Messages of one visitor.", ge=1)] = 200
    message_burst: Annotated[int, Meta(description="Messages sent at once.", ge=1)] = 5
    sessions_per_minute: Annotated[
        int, Meta(description="New anonymous sessions of one IP address (IPv6: of one /64).", ge=1)
    ] = 10
    hellos_per_minute: Annotated[int, Meta(description="Socket hellos of one visitor.", ge=1)] = 10
    identifies_per_minute: Annotated[
        int,
        Meta(
            description="Logins of one visitor or user, and wrong identity tokens of one network.",
            ge=1,
        ),
    ] = 5
    uploads_per_minute: Annotated[int, Meta(description="Uploads of one visitor.", ge=1)] = 10
    recalls_per_hour: Annotated[int, Meta(description="Recalls of one visitor.", ge=1)] = 10
    sockets_per_visitor: Annotated[
        int, Meta(description="Open sockets; the oldest is closed for a newer one.", ge=1)
    ] = 5
    text_chars: Annotated[
        int, Meta(description="Characters (graphemes) of a text part.", ge=1, le=20_000)
    ] = 4000
    parts_per_message: Annotated[int, Meta(description="Parts of a message.", ge=1, le=50)] = 10
    image_bytes: Annotated[int, Meta(description="Size of an image.", extra={"unit": "bytes"})] = (
        10_000_000
    )
    image_pixels: Annotated[int, Meta(description="Width times height of an image.")] = 40_000_000
    audio_bytes: Annotated[
        int, Meta(description="Size of a sound file.", extra={"unit": "bytes"})
    ] = 10_000_000
    video_bytes: Annotated[int, Meta(description="Size of a video.", extra={"unit": "bytes"})] = (
        50_000_000
    )
    file_bytes: Annotated[
        int, Meta(description="Size of any other file.", extra={"unit": "bytes"})
    ] = 25_000_000
    upload_bytes_per_day: Annotated[
        int,
        Meta(
            description="Uploads of one identified user and UTC day; anonymous visitors: half.",
            extra={"unit": "bytes"},
        ),
    ] = 100_000_000
    receipts_every_s: Annotated[
        float, Meta(description="Receipts are gathered for so long.", ge=0, extra={"unit": "s"})
    ] = 2.0


class Theme(msgspec.Struct, frozen=True, kw_only=True):
    """How the bundled widget looks."""

    title: Annotated[str, Meta(description="The panel's title.", max_length=80)] = ""
    greeting: Annotated[str, Meta(description="The first line shown.", max_length=300)] = ""
    color: Annotated[
        str, Meta(description="The colour of buttons, as #rrggbb.", pattern=r"^#[0-9a-fA-F]{6}\Z")
    ] = "#1a56db"


class SiteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one site account."""

    origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Pages that may embed the chat: `https://www.example.com`, with the port"
            " if it has one; `https://*.example.com` for all subdomains."
        ),
    ] = ()
    site_id: Annotated[
        str,
        Meta(description="The `iss` of identity tokens; empty: the account's key.", max_length=128),
    ] = ""
    enabled: Annotated[bool, Meta(description="Off: everybody gets `site_disabled`.")] = True
    identity_keys: Annotated[
        tuple[IdentityKey, ...],
        Meta(description="Keys of identity tokens; two during a rotation. None: anonymous only."),
    ] = ()
    user_hash_secret: Annotated[
        Secret | None,
        Meta(description="Secret of the legacy `user_hash`; prefer identity tokens."),
    ] = None
    app_keys: Annotated[
        tuple[Secret, ...],
        Meta(description="Keys of native apps, which have no origin (X-Omniline-App-Key)."),
    ] = ()
    server_keys: Annotated[
        tuple[Secret, ...],
        Meta(description="Keys of the site's own server, for in-app messages and sign-outs."),
    ] = ()
    limits: Annotated[Limits, Meta(description="How much one visitor may do.")] = Limits()
    theme: Annotated[Theme, Meta(description="How the bundled widget looks.")] = Theme()
    availability: Annotated[
        Literal["online", "away", "offline"], Meta(description="What visitors are told.")
    ] = "online"
    next_open: Annotated[
        str, Meta(description="When agents are back, RFC 3339 in UTC; shown while offline.")
    ] = ""
    consent_version: Annotated[
        str, Meta(description="Version of the consent text a visitor has to agree to.")
    ] = ""
    consent_text: Annotated[str, Meta(description="The consent text.", max_length=4000)] = ""
    read_receipts_to_visitor: Annotated[
        bool, Meta(description="Tell visitors when an agent has read their message.")
    ] = True
    agent_names_to_visitor: Annotated[
        bool, Meta(description="Tell visitors the name of the agent who answers.")
    ] = True
    visitor_edit_s: Annotated[
        int,
        Meta(description="How long visitors may edit; 0 = not at all.", ge=0, extra={"unit": "s"}),
    ] = 0
    visitor_recall_s: Annotated[
        int,
        Meta(description="How long visitors may recall; 0 = never.", ge=0, extra={"unit": "s"}),
    ] = 120
    page_query_allow: Annotated[
        tuple[str, ...],
        Meta(description="Query parameters of the visitor's page that are kept; others are cut."),
    ] = ("utm_source", "utm_medium", "utm_campaign")
    heartbeat_s: Annotated[
        float, Meta(description="Pings on sockets.", ge=1, le=55, extra={"unit": "s"})
    ] = 25.0
    public_url: Annotated[
        HttpUrl | None,
        Meta(description="Where browsers reach the hub; needed behind a path-changing proxy."),
    ] = None
    demo_page: Annotated[bool, Meta(description="Serve a page to try the widget on.")] = False

    def check(self) -> Iterator[Wrong]:
        for index, origin in enumerate(self.origins):
            if complaint := origin_complaint(origin):
                yield Wrong(key=("origins", index), what=complaint, remedy=_ORIGIN_REMEDY)
        kids = [key.kid for key in self.identity_keys]
        if len(set(kids)) < len(kids):
            yield Wrong(
                key=("identity_keys",),
                what="two identity keys have the same kid",
                remedy="Give each key a kid of its own, or no token says which one it is for.",
            )
        for index, key in enumerate(self.identity_keys):
            if key.alg == "HS256" and len(key.key.reveal().encode()) < MIN_HMAC_BYTES:
                yield Wrong(
                    key=("identity_keys", index, "key"),
                    what=f"an HS256 secret has at least {MIN_HMAC_BYTES} bytes",
                    remedy="Make one with: openssl rand -base64 32",
                )


_ORIGIN_REMEDY = 'Write scheme, host and port only, such as "https://www.example.com".'


def origin_complaint(origin: str) -> str | None:
    """Return what is wrong with an entry of ``origins``, or None."""
    if origin == "*":
        return None  # refused at start unless the account is insecure
    try:
        url = urlsplit(origin)
        _ = url.port
    except ValueError:
        return "not a valid origin"
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
        return "not a web origin"
    if url.path or url.query or url.fragment or origin != origin.lower():
        return "an origin has no path and is written in lower case"
    if "*" in url.hostname.removeprefix("*."):
        return 'a "*" stands for subdomains only, in front: https://*.example.com'
    return None
