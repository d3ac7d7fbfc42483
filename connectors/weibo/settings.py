"""What an operator sets for one Weibo account."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from datetime import date
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from hub import HttpUrl, Secret, Wrong

_PATH = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")


class WeiboSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one verified account in developer mode."""

    uid: Annotated[
        str,
        Meta(
            description="The verified account's own uid: pushes for another one are refused.",
            pattern=r"^[0-9]{1,20}\Z",
            extra={"expects": 'the digits of a uid in quotes, such as "1000000007"'},
        ),
    ]
    app_secrets: Annotated[
        list[Secret],
        Meta(description="The app's AppSecret, not its AppKey; two while it is being replaced."),
    ] = []
    path_secret: Annotated[
        Secret | None,
        Meta(
            description="The last segment of the callback URL, which nobody else knows. Weibo"
            " signs no body, so it is one of the guards.",
            extra={"expects": "16 to 128 letters, digits, _ and - (openssl rand -hex 16)"},
        ),
    ] = None
    access_token: Annotated[
        Secret | None,
        Meta(
            description="The token that the developer-mode page shows once it has checked the"
            " URL. Without it the account only receives."
        ),
    ] = None
    token_bound: Annotated[
        str,
        Meta(
            description="The day on which that token was shown, 2026-03-01: it lives for a year,"
            " and the hub warns 30, 14 and 3 days before its end.",
        ),
    ] = ""
    replay_window_s: Annotated[
        int,
        Meta(
            description="How far a push's signed time may be from now.",
            ge=60,
            le=3600,
            extra={"unit": "s"},
        ),
    ] = 600
    save_sender_box: Annotated[
        bool, Meta(description="Weibo's own console shows the hub's answers as well.")
    ] = True
    reply_url: Annotated[
        HttpUrl,
        Meta(
            description="Where answers go; business apps have"
            " https://c.api.weibo.com/2/messages/reply/biz.json."
        ),
    ] = "https://m.api.weibo.com/2/messages/reply.json"
    api_url: Annotated[HttpUrl, Meta(description="Weibo's API for profiles.")] = (
        "https://m.api.weibo.com"
    )
    upload_url: Annotated[HttpUrl, Meta(description="Where Weibo keeps pictures and voice.")] = (
        "https://upload.api.weibo.com"
    )

    @property
    def bound_on(self) -> date | None:
        return date.fromisoformat(self.token_bound) if self.token_bound else None

    def check(self) -> Iterator[Wrong]:
        if self.path_secret is not None and not _PATH.match(self.path_secret.reveal()):
            yield Wrong(
                "path_secret",
                "it has to be 16 to 128 letters, digits, _ and -, because it stands in a URL",
                "openssl rand -hex 16 makes one.",
            )
        try:
            date.fromisoformat(self.token_bound or "2026-01-01")
        except ValueError:
            yield Wrong("token_bound", "not a day", 'Write it as "2026-03-01".')
        for name in ("reply_url", "api_url", "upload_url"):
            if _in_clear(getattr(self, name)):
                yield Wrong(
                    name,
                    "the token would travel in clear",
                    "Use https; http is for a server on this machine only.",
                )


def _in_clear(url: str) -> bool:
    """Say whether what is sent there can be read on its way."""
    place = urlsplit(url)
    if place.scheme == "https" or place.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(place.hostname or "").is_loopback
    except ValueError:
        return True


def insecurities(settings: WeiboSettings) -> Iterator[str]:
    """Yield what would let a stranger write in customers' names."""
    if not settings.app_secrets:
        yield "app_secrets is empty, so nobody can tell Weibo's pushes from a stranger's"
    if settings.path_secret is None:
        yield "path_secret is missing: Weibo signs no body, so the URL has to be a secret too"
