"""Tencent Cloud SMS (API 3.0, 2021-01-11): approved templates out, pushes in.

A text that somebody wrote has no id, so that its key is a hash of what a repetition has in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from connectors.sms.calling import post_json
from connectors.sms.pushes import REPORT, UP, field
from connectors.sms.senders import number_of
from connectors.sms.settings import SmsSettings, TencentSettings
from connectors.sms.signing import tc3_headers
from connectors.sms.templated import (
    Meaning,
    TemplatedProvider,
    beijing_time,
    digest,
    draft_of,
    failure,
    receipt,
)
from hub import Account, Clock, ConnectorContext, Outgoing, Sample
from normalizer.addresses import parse_address
from normalizer.drafts import AnyDraft
from normalizer.outcomes import (
    Accepted,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Unreachable,
)

VERSION = "2021-01-11"

# Tencent Cloud's codes (SendSms, error codes; unverified), by prefix.
CODES: dict[str, Meaning] = {
    "LimitExceeded.PhoneNumber": (RateLimited, "This number got as many messages as it may now"),
    "LimitExceeded": (RateLimited, "The account's messages are used up for now"),
    "RequestLimitExceeded": (RateLimited, "Too many requests at Tencent Cloud at once"),
    "AuthFailure": (Misconfigured, "Tencent Cloud refused the key: check secret_id, secret_key"),
    "UnauthorizedOperation": (Misconfigured, "The key may not send: grant it the SMS rights"),
    "FailedOperation.InsufficientBalance": (Misconfigured, "The SMS package is used up: buy more"),
    "FailedOperation.PhoneNumberInBlacklist": (
        Unreachable,
        "The recipient is on the blocklist, most likely by an opt-out",
    ),
    "FailedOperation.SignatureIncorrect": (Rejected, "sign_name is not approved"),
    "FailedOperation.TemplateIncorrect": (Rejected, "The template is not approved: look at it"),
    "FailedOperation.TemplateParam": (Rejected, "The template does not take these values"),
    "FailedOperation.ContainSensitiveWord": (Rejected, "A value holds a word that is blocked"),
    "InvalidParameterValue.IncorrectPhoneNumber": (Rejected, "The recipient's number is not valid"),
    "InternalError": (OutcomeUnknown, "Tencent Cloud had an internal error"),
}


class TencentProvider(TemplatedProvider):
    """One application of one Tencent Cloud account."""

    names = "sid"
    acknowledgement = b'{"result":0,"errmsg":"OK"}'

    def __init__(
        self, account: Account[SmsSettings], settings: TencentSettings, context: ConnectorContext
    ) -> None:
        super().__init__(account, settings, context)
        self._settings = settings

    # --- in --------------------------------------------------------------------------------------

    def wrote(self, item: dict[str, object]) -> AnyDraft:
        mobile, text = field(item, "mobile"), field(item, "text")
        extend, sent = field(item, "extend"), field(item, "time")
        return draft_of(
            self.account,
            key=f"tencent:{digest(mobile, sent, text, extend)}",
            number=_number(field(item, "nationcode"), mobile),
            text=text,
            to=extend,
            at=_unix_time(sent),
        )

    def became(self, item: dict[str, object]) -> AnyDraft:
        ident, mobile = field(item, "sid"), field(item, "mobile")
        return receipt(
            f"tencent:{ident}:{mobile}",
            ident,
            at=beijing_time(field(item, "user_receive_time")),
            arrived=field(item, "report_status").upper() == "SUCCESS",
            code=field(item, "errmsg"),
            reason=field(item, "description"),
        )

    # --- out -------------------------------------------------------------------------------------

    async def send(self, message: Outgoing) -> Accepted:
        template = self.chosen(message)
        asked: dict[str, Any] = {
            "PhoneNumberSet": [number_of(parse_address(message.address))],
            "SmsSdkAppId": self._settings.sdk_app_id,
            "TemplateId": template.code,
            "TemplateParamSet": [message.params[name] for name in template.params],
            "SessionContext": message.key,
        }
        if self._settings.sign_name:
            asked["SignName"] = self._settings.sign_name
        if self._settings.extend_code:
            asked["ExtendCode"] = self._settings.extend_code
        told = await self._call("SendSms", asked)
        statuses = told.get("SendStatusSet")
        status = statuses[0] if isinstance(statuses, list) and statuses else {}
        code = str(status.get("Code", "")) if isinstance(status, dict) else ""
        if not code:
            raise OutcomeUnknown("Tencent Cloud says nothing of the message")
        if code != "Ok":
            raise failure(CODES, code, str(status.get("Message", "")), status=200)
        ident = str(status.get("SerialNo", ""))
        return Accepted(vendor_ids=(ident,) if ident else (), at=self.context.clock.now())

    async def _call(self, action: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Return what an action says. Errors come inside a 200."""
        settings, body = self._settings, msgspec.json.encode(asked)
        headers = tc3_headers(
            secret_id=settings.secret_id,
            secret_key=settings.secret_key.reveal(),
            host=urlsplit(settings.api_url).netloc,
            service="sms",
            action=action,
            version=VERSION,
            region=settings.region,
            body=body,
            at=self.context.clock.now(),
        )
        url = f"{settings.api_url.rstrip('/')}/"
        status, told = await post_json(self.context.http, url, headers=headers, body=body)
        said = told.get("Response")
        if not isinstance(said, dict):
            raise OutcomeUnknown(f"Tencent Cloud answered {status} without a Response")
        error = said.get("Error")
        if isinstance(error, dict):
            raise failure(
                CODES, str(error.get("Code", "")), str(error.get("Message", "")), status=status
            )
        if status != 200:
            raise failure(CODES, str(status), "", status=status)
        return said

    async def try_credentials(self) -> None:
        await self._call("DescribeSmsTemplateList", {"International": 0, "Limit": 1})

    def samples(self, clock: Clock) -> Sequence[Sample]:
        up = {
            "extend": "07",
            "mobile": "13800138000",
            "nationcode": "86",
            "sign": self._settings.sign_name,
            "text": "收到，谢谢",
            "time": int(clock.now().timestamp()),
        }
        report = {
            "user_receive_time": "2026-03-02 17:20:05",
            "nationcode": "86",
            "mobile": "13800138000",
            "report_status": "SUCCESS",
            "errmsg": "DELIVRD",
            "description": "用户短信送达成功",
            "sid": "1000:1234567890",
        }
        failed = {**report, "sid": "1000:1234567891", "report_status": "FAIL"}
        return [
            self.push_sample("text", UP, up, clock),
            self.push_sample("opt-out", UP, {**up, "text": "退订"}, clock),
            self.push_sample("reports", REPORT, [report, failed], clock, drafts=2),
        ]


def _number(nation: str, mobile: str) -> str:
    return f"+{nation}{mobile}" if nation.isdecimal() and mobile.isdecimal() else mobile


def _unix_time(text: str) -> datetime | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    return datetime.fromtimestamp(int(text), UTC)
