"""Twilio: free text and files, signed webhooks, receipts, and a list to ask after an outage."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit

from twilio.twiml.messaging_response import MessagingResponse

from connectors._twilio.rest import TwilioRest
from connectors._twilio.signature import FORM, SigningKeys, signature, unchecked, verified
from connectors.sms import twilio_inbound, twilio_polling
from connectors.sms.provider import REACHES, Provider
from connectors.sms.settings import SmsSettings, TwilioSettings
from connectors.sms.twilio_files import TwilioFiles
from connectors.sms.twilio_sending import (
    IMAGE_TYPES,
    MAX_CHARS,
    MAX_FILES,
    MAX_IMAGE_BYTES,
    TwilioSender,
)
from hub import (
    Account,
    Answer,
    Clock,
    ConnectorContext,
    Fetched,
    Outgoing,
    Polled,
    Request,
    Sample,
    Secret,
    Verified,
)
from normalizer.capabilities import Capabilities
from normalizer.drafts import AnyDraft
from normalizer.outcomes import Accepted, Failure
from normalizer.parts import Media

EMPTY_TWIML = str(MessagingResponse()).encode()


class TwilioProvider(Provider):
    """One Twilio account."""

    capabilities = Capabilities(
        sends=frozenset({"text", "image", "audio", "video", "file"}),
        max_text_chars=MAX_CHARS,
        max_parts=MAX_FILES,
        max_media_bytes=MAX_IMAGE_BYTES,
        max_image_bytes=MAX_IMAGE_BYTES,
        image_types=IMAGE_TYPES,
        delivery_receipts=True,
        reaches=REACHES,
        sees_foreign_answers=False,
    )

    def __init__(
        self, account: Account[SmsSettings], settings: TwilioSettings, context: ConnectorContext
    ) -> None:
        super().__init__(account, context)
        self._settings = settings
        self._keys = SigningKeys(tokens=settings.auth_tokens, shared=settings.shared_keys)
        self._files = TwilioFiles(settings, context, account.key, self._rest)

    def _rest(self) -> TwilioRest:
        settings = self._settings
        password = settings.api_key_secret or next(iter(settings.auth_tokens), Secret(""))
        return TwilioRest(
            self.context.http,
            account_sid=settings.account_sid,
            user=settings.api_key or settings.account_sid,
            password=password,
            api_url=settings.api_url,
        )

    def _sender(self) -> TwilioSender:
        return TwilioSender(self._settings, self.context, self._rest(), self.account.key)

    def lacks(self) -> Sequence[str]:
        if self._keys:
            return ()
        return ("auth_tokens is empty, so anybody could write in your customers' names",)

    async def start(self) -> None:
        await self._sender().start()
        await self._files.start()

    # --- in --------------------------------------------------------------------------------------

    def verify(self, request: Request) -> Verified:
        if not self._keys and self.account.insecure:
            return unchecked(request)
        return verified(request, self._keys)

    def is_status(self, verified: Verified) -> bool:
        return twilio_inbound.is_status(twilio_inbound.fields_of(verified.payload))

    def parse_inbound(self, verified: Verified) -> Sequence[AnyDraft]:
        return twilio_inbound.inbound(self.account, twilio_inbound.fields_of(verified.payload))

    def parse_status(self, verified: Verified) -> Sequence[AnyDraft]:
        fields = twilio_inbound.fields_of(verified.payload)
        return twilio_inbound.status(self.account.key, fields)

    def answer(self, verified: Verified) -> Answer:
        """An empty document: no automatic reply. For a receipt, nothing."""
        try:
            about_ours = self.is_status(verified)
        except ValueError:
            about_ours = True  # it cannot be read, and is kept as failed
        if about_ours:
            return Answer()
        return Answer(body=EMPTY_TWIML, content_type="text/xml; charset=utf-8")

    def hint(self, verified: Verified) -> str | None:
        """Twilio calls the fallback URL after a failure: other messages may have been lost."""
        try:
            fields = twilio_inbound.fields_of(verified.payload)
        except ValueError:
            return None
        failed = bool(fields.get("ErrorUrl")) and not twilio_inbound.is_status(fields)
        return "a webhook failed at Twilio" if failed else None

    async def poll(self, cursor: str | None) -> Polled:
        await self._files.tidy()
        numbers = self._settings.numbers if self._settings.poll else ()
        return await twilio_polling.poll(self._rest(), self.account, self.context, numbers, cursor)

    async def fetch_media(self, media: Media, address: str) -> Fetched:
        return await self._files.fetch(media, address)

    # --- out -------------------------------------------------------------------------------------

    async def send(self, message: Outgoing) -> Accepted:
        return await self._sender().send(message)

    async def find_sent(self, message: Outgoing) -> Accepted | None:
        return await self._sender().find_sent(message)

    # --- is all well? ----------------------------------------------------------------------------

    async def check(self) -> Sequence[str]:
        rest = self._rest()
        try:
            account = await rest.account()
            found = [
                problem
                for number in self._settings.numbers
                if (problem := await self._number_problem(rest, number))
            ]
        except Failure as failure:
            return (failure.reason,)
        if account.get("status") != "active":
            found.insert(0, f"the Twilio account is {account.get('status')}: look at its console")
        if not self.context.public_url.startswith("https://"):
            found.append("hub.public_url is no https address, so Twilio cannot reach the hub")
        elif "_" in (urlsplit(self.context.public_url).hostname or ""):
            found.append(
                "the host of hub.public_url has an underscore: Twilio sends no receipts there"
            )
        return found

    async def _number_problem(self, rest: TwilioRest, number: str) -> str:
        listed = await rest.get("IncomingPhoneNumbers.json", [("PhoneNumber", number)])
        owned = [
            each for each in listed.get("incoming_phone_numbers") or () if isinstance(each, dict)
        ]
        if not owned:
            return f"the account has no number {number}"
        if not (owned[0].get("capabilities") or {}).get("sms"):
            return f"{number} cannot carry SMS"
        url = owned[0].get("sms_url") or ""
        if url.partition("#")[0] != self.context.public_url and not (
            self._settings.messaging_service_sid
        ):
            return (
                f"messages to {number} go to {url or 'nowhere'}:"
                f" set its webhook to {self.context.public_url}"
            )
        return ""

    # --- samples ---------------------------------------------------------------------------------

    def samples(self, clock: Clock) -> Sequence[Sample]:
        sid, ours = self._settings.account_sid, next(iter(self._settings.numbers), "+15005550006")
        common = {"AccountSid": sid, "ApiVersion": "2010-04-01"}
        received = {**common, "To": ours, "From": "+8613800138000", "FromCity": ""}

        def message(number: int, **fields: str) -> dict[str, str]:
            ident = f"SM{number:032d}"
            return {**received, "MessageSid": ident, "NumMedia": "0", **fields}

        media = f"{self._settings.api_url}/2010-04-01/Accounts/{sid}/Messages/MM{3:032d}/Media/ME1"
        forms = {
            "text": message(1, Body="你好😀 退订?", SmsStatus="received"),
            "opt-out": message(2, Body="STOP", OptOutType="STOP"),
            "picture": message(
                3, Body="", NumMedia="1", MediaUrl0=media, MediaContentType0="image/jpeg"
            ),
            "short-code": message(4, From="10086", Body="您的余额为12.30元"),
            "whatsapp": message(
                5,
                From="whatsapp:+8613800138000",
                To=f"whatsapp:{ours}",
                Body="在吗",
                ProfileName="李",
            ),
            "fallback": message(
                6, Body="again", ErrorCode="11200", ErrorUrl=self.context.public_url
            ),
            "delivered": {
                **common,
                "MessageSid": f"SM{9:032d}",
                "MessageStatus": "delivered",
                "To": "+8613800138000",
                "From": ours,
            },
            "undelivered": {
                **common,
                "MessageSid": f"SM{8:032d}",
                "MessageStatus": "undelivered",
                "ErrorCode": "30006",
                "To": "+8613800138000",
                "From": ours,
            },
        }
        return [self._sample(name, fields, clock) for name, fields in forms.items()]

    def _sample(self, name: str, fields: dict[str, str], clock: Clock) -> Sample:
        path = "/status" if "MessageStatus" in fields else ""
        url = f"{self.context.public_url}{path}"
        token = next(iter(self._settings.auth_tokens), Secret(""))
        return Sample(
            name=name,
            request=Request(
                method="POST",
                url=url,
                path=path,
                headers={
                    "content-type": FORM,
                    "x-twilio-signature": signature(token.reveal(), url, fields.items()),
                },
                body=urlencode(fields).encode(),
                received_at=clock.now(),
            ),
            signed_headers=("x-twilio-signature",),
        )
