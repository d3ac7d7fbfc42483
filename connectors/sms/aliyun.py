"""Aliyun's SMS service (dysmsapi 2017-05-25): approved templates out, batches of pushes in.

The fields of SmsUp and the zone of its times are unverified, so nothing is required of them.
SendSms is documented as not idempotent, so an answer that is lost stays in doubt.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from connectors.sms.calling import post_json
from connectors.sms.pushes import REPORT, UP, field
from connectors.sms.senders import number_of
from connectors.sms.settings import AliyunSettings, SmsSettings
from connectors.sms.signing import acs3_headers, acs3_query
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

VERSION = "2017-05-25"

# Aliyun's codes (API error centre of dysmsapi; unverified but for OK), by prefix.
CODES: dict[str, Meaning] = {
    "isv.BUSINESS_LIMIT_CONTROL": (RateLimited, "This number got as many messages as it may now"),
    "isv.DAY_LIMIT_CONTROL": (RateLimited, "The account's messages of today are used up"),
    "Throttling": (RateLimited, "Too many requests at Aliyun at once"),
    "isv.AMOUNT_NOT_ENOUGH": (Misconfigured, "The Aliyun account has no money left: top it up"),
    "isv.OUT_OF_SERVICE": (Misconfigured, "The SMS service is stopped: top the account up"),
    "isv.ACCOUNT": (Misconfigured, "The Aliyun account is not usable: look at its console"),
    "isv.PRODUCT_UN_SUBSCRIPT": (Misconfigured, "The SMS service is not activated at Aliyun"),
    "isv.RAM_PERMISSION_DENY": (Misconfigured, "The AccessKey lacks the right dysms:SendSms"),
    "InvalidAccessKeyId": (Misconfigured, "Aliyun does not know the AccessKey: check its id"),
    "SignatureDoesNotMatch": (Misconfigured, "Aliyun refused the signature: check the secret"),
    "Forbidden": (Misconfigured, "The AccessKey lacks the right to send: grant dysms:SendSms"),
    "isv.SMS_SIGNATURE": (Rejected, "The signature is not approved: look at sign_name"),
    "isv.SMS_SIGN": (Rejected, "The signature is not approved: look at sign_name"),
    "isv.SMS_TEMPLATE": (Rejected, "The template is not approved: look at its code"),
    "isv.TEMPLATE": (Rejected, "The template does not take these values"),
    "isv.PARAM": (Rejected, "The template does not take these values"),
    "isv.MOBILE_NUMBER_ILLEGAL": (Rejected, "The recipient's number is not valid"),
    "isv.BLACK_KEY_CONTROL_LIMIT": (Rejected, "A value holds a word that Aliyun blocks"),
    "isv.MOBILE_IN_BLACK": (Unreachable, "The recipient is on Aliyun's blocklist"),
    "isp.": (OutcomeUnknown, "Aliyun had an internal error"),
    "InternalError": (OutcomeUnknown, "Aliyun had an internal error"),
    "ServiceUnavailable": (OutcomeUnknown, "Aliyun's service was unavailable"),
}


class AliyunProvider(TemplatedProvider):
    """One Aliyun account."""

    names = "biz_id"
    acknowledgement = '{"code":0,"msg":"接收成功"}'.encode()

    def __init__(
        self, account: Account[SmsSettings], settings: AliyunSettings, context: ConnectorContext
    ) -> None:
        super().__init__(account, settings, context)
        self._settings = settings

    # --- in --------------------------------------------------------------------------------------

    def wrote(self, item: dict[str, object]) -> AnyDraft:
        number, text = field(item, "phone_number"), field(item, "content")
        to, sent = field(item, "dest_code"), field(item, "send_time")
        ident = field(item, "sequence_id")
        return draft_of(
            self.account,
            key=f"aliyun:{ident or digest(number, sent, text, to)}",
            number=number,
            text=text,
            to=to,
            at=beijing_time(sent),
            vendor_id=ident,
        )

    def became(self, item: dict[str, object]) -> AnyDraft:
        ident, number = field(item, "biz_id"), field(item, "phone_number")
        return receipt(
            f"aliyun:{ident}:{number}",
            ident,
            at=beijing_time(field(item, "report_time")),
            arrived=field(item, "success").lower() == "true",
            code=field(item, "err_code"),
            reason=field(item, "err_msg"),
        )

    # --- out -------------------------------------------------------------------------------------

    async def send(self, message: Outgoing) -> Accepted:
        template = self.chosen(message)
        number = number_of(parse_address(message.address))
        params = {
            "PhoneNumbers": number.removeprefix("+86").removeprefix("+"),
            "SignName": self._settings.sign_name,
            "TemplateCode": template.code,
            "OutId": message.key,
        }
        if message.params:
            params["TemplateParam"] = msgspec.json.encode(dict(message.params)).decode()
        if self._settings.extend_code:
            params["SmsUpExtendCode"] = self._settings.extend_code
        told = await self._call("SendSms", params)
        ident = told.get("BizId")
        if not isinstance(ident, str) or not ident:
            raise OutcomeUnknown("Aliyun took the message and named none")
        return Accepted(vendor_ids=(ident,), at=self.context.clock.now())

    async def _call(self, action: str, params: dict[str, str]) -> dict[str, Any]:
        """Return what an action says. Raises a failure for everything but OK."""
        settings, query = self._settings, acs3_query(params)
        host = urlsplit(settings.api_url).netloc
        headers = acs3_headers(
            key_id=settings.access_key_id,
            secret=settings.access_key_secret.reveal(),
            host=host,
            action=action,
            version=VERSION,
            query=query,
            at=self.context.clock.now(),
            nonce=secrets.token_hex(16),
        )
        url = f"{settings.api_url.rstrip('/')}/?{query}"
        status, told = await post_json(self.context.http, url, headers=headers)
        code = str(told.get("Code", ""))
        if status == 200 and code == "OK":
            return told
        raise failure(CODES, code, str(told.get("Message", "")), status=status)

    async def try_credentials(self) -> None:
        await self._call("QuerySmsTemplateList", {"PageIndex": "1", "PageSize": "1"})

    def samples(self, clock: Clock) -> Sequence[Sample]:
        now = "2026-03-02 17:20:00"
        up = {
            "phone_number": "13800138000",
            "send_time": now,
            "content": "收到，谢谢",
            "sign_name": self._settings.sign_name,
            "dest_code": "1069000007",
            "sequence_id": "1234567890",
        }
        report = {
            "phone_number": "13800138000",
            "send_time": now,
            "report_time": "2026-03-02 17:20:05",
            "success": True,
            "err_code": "DELIVERED",
            "err_msg": "用户接收成功",
            "sms_size": "1",
            "biz_id": "932702304080415357^0",
            "out_id": "job_1",
        }
        failed = {**report, "biz_id": "932702304080415358^0", "success": False}
        return [
            self.push_sample("text", UP, [up], clock),
            self.push_sample(
                "opt-out", UP, [{**up, "content": "TD", "sequence_id": "1234567891"}], clock
            ),
            self.push_sample("reports", REPORT, [report, failed], clock, drafts=2),
        ]
