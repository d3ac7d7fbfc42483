"""What an operator sets for one SMS account: a provider, and that provider's table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hub import Cidr, HttpUrl, Secret, Wrong

Words = tuple[str, ...]


class TwilioSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One Twilio account, with its numbers or a messaging service."""

    account_sid: Annotated[
        str, Meta(description="The account's SID, AC and 32 characters.", pattern=r"^AC\w{32}\Z")
    ]
    auth_tokens: Annotated[
        list[Secret],
        Meta(description="The AuthToken that webhooks are signed with; two during a rotation."),
    ] = []
    shared_keys: Annotated[
        dict[str, Secret],
        Meta(description="Secrets of shared webhook keys, by the keys' ids (SHA-256 signatures)."),
    ] = {}
    api_key: Annotated[
        str, Meta(description="An API key (SK...) for sending; better than the AuthToken.")
    ] = ""
    api_key_secret: Annotated[Secret | None, Meta(description="The API key's secret.")] = None
    numbers: Annotated[
        tuple[str, ...],
        Meta(description="The account's numbers in E.164; the first is sent from by default."),
    ] = ()
    messaging_service_sid: Annotated[
        str,
        Meta(description="Send by this messaging service (MG...) unless a number was written to."),
    ] = ""
    validity_s: Annotated[
        int,
        Meta(
            description="How long Twilio may try to deliver.", ge=6, le=36000, extra={"unit": "s"}
        ),
    ] = 36000
    smart_encoded: Annotated[
        bool, Meta(description="Let Twilio put plain characters for typographic ones.")
    ] = False
    poll: Annotated[
        bool, Meta(description="Ask for messages whose webhook failed; needs `numbers`.")
    ] = True
    keep_at_twilio: Annotated[
        bool,
        Meta(
            description="Leave customers' files at Twilio as well. False: each is deleted there"
            " once the hub has stored it."
        ),
    ] = False
    api_url: Annotated[HttpUrl, Meta(description="Twilio's API.")] = "https://api.twilio.com"
    media_hosts: Annotated[
        tuple[str, ...], Meta(description="Hosts that files may be fetched from, beside the API's.")
    ] = (
        "*.twilio.com",
        "*.twiliocdn.com",
        "media.twiliocdn.com.s3-external-1.amazonaws.com",
    )


class SmsTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """A text that the provider approved."""

    code: Annotated[
        str, Meta(description="Its code at the provider: SMS_123456 or 449739.", min_length=1)
    ]
    params: Annotated[
        tuple[str, ...],
        Meta(description="The names of its blanks, in their order."),
    ] = ()
    preview: Annotated[
        str, Meta(description="Its words, with {name} where a blank is.", max_length=1000)
    ] = ""
    max_param_chars: Annotated[
        int, Meta(description="The longest value that a blank takes.", ge=1, le=500)
    ] = 35


class AliyunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Aliyun's SMS service: approved templates only."""

    access_key_id: Annotated[str, Meta(description="The AccessKey's id.", min_length=1)]
    access_key_secret: Annotated[Secret, Meta(description="The AccessKey's secret.")]
    sign_name: Annotated[str, Meta(description="The approved signature.", min_length=1)]
    templates: Annotated[
        tuple[SmsTemplate, ...], Meta(description="The approved templates that agents may use.")
    ] = ()
    extend_code: Annotated[
        str, Meta(description="SmsUpExtendCode: tells answers apart.", pattern=r"^[0-9]{0,8}\Z")
    ] = ""
    push_secrets: Annotated[
        list[Secret],
        Meta(description="The secret path of the push URLs, which are not signed; two to rotate."),
    ] = []
    allowed_ips: Annotated[tuple[Cidr, ...], Meta(description="Where pushes may come from.")] = ()
    api_url: Annotated[HttpUrl, Meta(description="The API's endpoint.")] = (
        "https://dysmsapi.aliyuncs.com"
    )


class TencentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Tencent Cloud SMS: approved templates only."""

    secret_id: Annotated[str, Meta(description="The API key's SecretId.", min_length=1)]
    secret_key: Annotated[Secret, Meta(description="The API key's SecretKey.")]
    sdk_app_id: Annotated[str, Meta(description="The application's SmsSdkAppId.", min_length=1)]
    sign_name: Annotated[str, Meta(description="The approved signature.")] = ""
    templates: Annotated[
        tuple[SmsTemplate, ...], Meta(description="The approved templates that agents may use.")
    ] = ()
    extend_code: Annotated[
        str, Meta(description="ExtendCode: tells answers apart.", pattern=r"^[0-9]{0,8}\Z")
    ] = ""
    region: Annotated[str, Meta(description="The API's region.")] = "ap-guangzhou"
    push_secrets: Annotated[
        list[Secret],
        Meta(description="The secret path of the push URLs, which are not signed; two to rotate."),
    ] = []
    allowed_ips: Annotated[tuple[Cidr, ...], Meta(description="Where pushes may come from.")] = ()
    api_url: Annotated[HttpUrl, Meta(description="The API's endpoint.")] = (
        "https://sms.tencentcloudapi.com"
    )


class SmsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one SMS account."""

    provider: Annotated[
        Literal["twilio", "aliyun", "tencent"], Meta(description="Who carries the messages.")
    ]
    twilio: Annotated[TwilioSettings | None, Meta(description="For the provider twilio.")] = None
    aliyun: Annotated[AliyunSettings | None, Meta(description="For the provider aliyun.")] = None
    tencent: Annotated[TencentSettings | None, Meta(description="For the provider tencent.")] = None
    region: Annotated[
        str,
        Meta(
            description="Country of numbers without a country code (ISO 3166-1).",
            pattern=r"^[A-Z]{2}\Z",
        ),
    ] = "CN"
    opt_out_words: Annotated[
        Words, Meta(description="More words that mean no more messages, each a whole text.")
    ] = ()
    opt_in_words: Annotated[Words, Meta(description="More words that mean messages again.")] = ()

    def check(self) -> Iterator[Wrong]:
        if getattr(self, self.provider) is None:
            yield Wrong(self.provider, f"is missing: the provider {self.provider} needs its table")
        if self.twilio is not None:
            yield from _numbers(self.twilio)


def _numbers(twilio: TwilioSettings) -> Iterator[Wrong]:
    if not twilio.numbers and not twilio.messaging_service_sid:
        yield Wrong("twilio.numbers", "is empty: name a number, or a messaging_service_sid")
    for number in twilio.numbers:
        if not (number.startswith("+") and number[1:].isdecimal() and len(number) <= 16):
            yield Wrong("twilio.numbers", f"{number!r} is not in E.164, such as +15005550006")
    if bool(twilio.api_key) != (twilio.api_key_secret is not None):
        yield Wrong("twilio.api_key", "an API key and its secret belong together")
