"""What an operator sets for one Official Account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hub import HttpUrl, Secret, Wrong

AES_KEY_CHARS = 43


class WechatSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one account of the channel wechat."""

    appid: Annotated[
        str,
        Meta(
            description="The account's AppID.",
            pattern=r"^wx[0-9A-Za-z]{4,30}\Z",
            extra={"expects": "wx and letters and digits, as the console shows it"},
        ),
    ]
    app_secret: Annotated[
        Secret | None,
        Meta(description="The AppSecret. Not needed with token_server or without sending."),
    ] = None
    original_id: Annotated[
        str,
        Meta(
            description="The account's original id (gh_...); pushes for another one are refused.",
            pattern=r"^(gh_[0-9A-Za-z]{4,40})?\Z",
            extra={"expects": "gh_ and letters and digits, or nothing to take any"},
        ),
    ] = ""
    tokens: Annotated[
        list[Secret],
        Meta(description="The console's Token; two while it is being replaced."),
    ] = []
    encoding_aes_keys: Annotated[
        list[Secret],
        Meta(description="The console's EncodingAESKey, 43 characters; two during a change."),
    ] = []
    mode: Annotated[
        Literal["plain", "compatible", "safe"],
        Meta(
            description="As in the console. `safe` refuses every push that is not encrypted;"
            " `compatible` and `plain` take both, for the time of a switch.",
        ),
    ] = "safe"
    window_s: Annotated[
        int,
        Meta(
            description="How far a push's signed time may be from ours.",
            ge=30,
            le=86_400,
            extra={"unit": "s"},
        ),
    ] = 600
    passive_reply: Annotated[
        str,
        Meta(
            description="A text that answers each message of a customer at once; empty = none.",
            max_length=600,
        ),
    ] = ""
    rights: Annotated[
        Literal["customer_service", "passive"],
        Meta(
            description="`passive` for accounts without the right to customer-service messages:"
            " nothing but templates leaves, and passive_reply is all that customers are told.",
        ),
    ] = "customer_service"
    kf_account: Annotated[
        str,
        Meta(description="The vendor's service account in whose name answers go: kf1@shop."),
    ] = ""
    file_link_days: Annotated[
        int,
        Meta(
            description="Files that WeChat does not take go as links, which end after so long.",
            ge=1,
            le=90,
            extra={"unit": "days"},
        ),
    ] = 7
    location_reports: Annotated[
        bool,
        Meta(description="Whether passive location reports become lines of the timeline."),
    ] = True
    subscription_templates: Annotated[
        bool, Meta(description="Whether templates for subscription messages are listed, too.")
    ] = False
    templates_per_day: Annotated[
        int,
        Meta(
            description="Templates that WeChat allows the account a day in China, 100 000 to begin"
            " with: counted here and shown to agents. 0: only WeChat counts.",
            ge=0,
        ),
    ] = 0
    purposes: Annotated[
        dict[str, str],
        Meta(description="What a subscription template is for: its id = a purpose of consent."),
    ] = {}
    token_server: Annotated[
        HttpUrl | None,
        Meta(description="Where another system hands out the access token, instead of WeChat."),
    ] = None
    token_server_auth: Annotated[
        Secret | None,
        Meta(description="The Authorization header for token_server, such as `Bearer ...`."),
    ] = None
    serve_token: Annotated[
        bool,
        Meta(description="Whether other systems may fetch the access token from this hub."),
    ] = False
    api_url: Annotated[HttpUrl, Meta(description="WeChat's API; changed for tests only.")] = (
        "https://api.weixin.qq.com"
    )
    media_hosts: Annotated[
        tuple[str, ...],
        Meta(description="Hosts from which pictures and videos of customers may be fetched."),
    ] = ("*.qpic.cn", "*.qq.com")

    def check(self) -> Iterator[Wrong]:
        for key in self.encoding_aes_keys:
            text = key.reveal()
            if len(text) != AES_KEY_CHARS or not (text.isascii() and text.isalnum()):
                yield Wrong(
                    "encoding_aes_keys",
                    "is not 43 letters and digits",
                    "copy EncodingAESKey from the console, or leave it out",
                )
        if self.token_server and self.serve_token:
            yield Wrong(
                "serve_token",
                "cannot be on beside token_server",
                "let the system that fetches the token serve it",
            )
        if len(self.passive_reply.encode()) > 2000:
            yield Wrong("passive_reply", "has more than 2000 bytes", "make it shorter")

    @property
    def encrypts(self) -> bool:
        return bool(self.encoding_aes_keys)


def lacking(settings: WechatSettings) -> Iterator[str]:
    """Yield what an account needs before strangers may be let at its door."""
    if not settings.tokens:
        yield "tokens is empty, so anybody could write in your customers' names"
    if settings.mode == "safe" and not settings.encrypts:
        yield 'encoding_aes_keys is empty, and mode = "safe" takes encrypted pushes only'
