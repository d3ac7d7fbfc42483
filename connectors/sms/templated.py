"""What providers have in common that send approved templates only."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import msgspec

from connectors.sms import keywords
from connectors.sms.provider import REACHES, Provider
from connectors.sms.pushes import REPORT, PushGuard, items_of, named
from connectors.sms.senders import sender_address
from connectors.sms.settings import AliyunSettings, SmsSettings, SmsTemplate, TencentSettings
from hub import (
    Account,
    Answer,
    Clock,
    ConnectorContext,
    Outgoing,
    Request,
    Sample,
    Template,
    Verified,
)
from normalizer.capabilities import Capabilities
from normalizer.drafts import AnyDraft, DeliveryState, Event, Message, Receipt, Target
from normalizer.outcomes import (
    Failure,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Unsupported,
)
from normalizer.parts import Text, plain_text
from normalizer.parts import Unsupported as UnsupportedPart

BEIJING = timezone(timedelta(hours=8))
LATER_S = 30.0
PERSON_LATER_S = 3600.0

CAPABILITIES = Capabilities(
    sends=frozenset({"text"}),
    templates=True,
    free_text=False,
    max_parts=1,
    delivery_receipts=True,
    sees_foreign_answers=False,
    reaches=REACHES,
)


class TemplatedProvider(Provider):
    """Unsigned pushes in, approved templates out."""

    capabilities = CAPABILITIES
    acknowledgement: bytes
    names: str  # the field of a receipt that says of which message it is

    def __init__(
        self,
        account: Account[SmsSettings],
        settings: AliyunSettings | TencentSettings,
        context: ConnectorContext,
    ) -> None:
        super().__init__(account, context)
        self.guard = PushGuard(settings.push_secrets, settings.allowed_ips)
        self.known = settings.templates

    @abc.abstractmethod
    def wrote(self, item: dict[str, object]) -> AnyDraft:
        """Return what one item of a push says that somebody wrote."""

    @abc.abstractmethod
    def became(self, item: dict[str, object]) -> AnyDraft:
        """Return what one item of a push says that became of a message."""

    @abc.abstractmethod
    async def try_credentials(self) -> None:
        """Ask for something that sends nothing, or raise a failure."""

    def lacks(self) -> Sequence[str]:
        return self.guard.lacks()

    def verify(self, request: Request) -> Verified:
        return self.guard.verify(request, insecure=self.account.insecure)

    def is_status(self, verified: Verified) -> bool:
        return verified.facts.get("kind") == REPORT

    def parse_inbound(self, verified: Verified) -> Sequence[AnyDraft]:
        return [self.wrote(item) for item in items_of(verified)]

    def parse_status(self, verified: Verified) -> Sequence[AnyDraft]:
        return [self.became(item) for item in named(items_of(verified), self.names)]

    async def check(self) -> Sequence[str]:
        try:
            await self.try_credentials()
        except Failure as error:
            return (error.reason,)
        return ()

    def answer(self, verified: Verified) -> Answer:
        return Answer(body=self.acknowledgement, content_type="application/json; charset=utf-8")

    def templates(self) -> Sequence[Template]:
        return tuple(
            Template(name=each.code, params=each.params, preview=each.preview)
            for each in self.known
        )

    def chosen(self, message: Outgoing) -> SmsTemplate:
        """Return the template of a message whose blanks are filled rightly.

        Raises Unsupported for a free text, naming the templates that fit it, and Rejected for a
        template that is not there or does not take these values.
        """
        for part in message.parts:
            if not isinstance(part, Text):
                raise Unsupported(f"SMS by template carries no {part.__struct_config__.tag}")
        if not message.template:
            raise Unsupported(
                f"this SMS account sends approved templates only: {self._fitting(message)}",
                code="template_needed",
            )
        found = next((each for each in self.known if each.code == message.template), None)
        if found is None:
            raise Rejected(f"the template {message.template} is not in the account's settings")
        if wrong := sorted(set(found.params) ^ message.params.keys()):
            raise Rejected(f"the template {found.code} has other blanks: {', '.join(wrong)}")
        for name, value in message.params.items():
            if len(value) > found.max_param_chars:
                raise Rejected(
                    f"{name} of the template {found.code} takes {found.max_param_chars} characters"
                )
        return found

    def _fitting(self, message: Outgoing) -> str:
        """Say which templates could carry a text: one blank, and room for it."""
        text = plain_text(message.parts)
        fit = [
            each.code
            for each in self.known
            if len(each.params) == 1 and len(text) <= each.max_param_chars
        ]
        if fit:
            return f"answer by {', '.join(fit)}"
        if self.known:
            codes = ", ".join(each.code for each in self.known)
            return f"this text fits into none of {codes}; shorten it, or take another channel"
        return "and none is in its settings"

    def push_sample(
        self, name: str, kind: str, pushed: object, clock: Clock, *, drafts: int = 1
    ) -> Sample:
        path = self.guard.sample_path(kind)
        return Sample(
            name=name,
            drafts=drafts,
            request=Request(
                method="POST",
                url=f"{self.context.public_url}{path}",
                path=path,
                headers={"content-type": "application/json"},
                body=msgspec.json.encode(pushed),
                remote=self.guard.sample_remote,
                received_at=clock.now(),
            ),
            signs_body=False,
        )


def draft_of(
    account: Account[SmsSettings],
    *,
    key: str,
    number: str,
    text: str,
    to: str,
    at: datetime | None,
    vendor_id: str = "",
) -> AnyDraft:
    """Return what somebody wrote, or wants by a single word. ``to`` tells what is answered."""
    address = sender_address(
        number, account.key, region=account.settings.region, international=False
    )
    ids = (vendor_id,) if vendor_id else ()
    for name, is_said in (
        (keywords.OPTED_OUT, keywords.opt_out(text, account.settings.opt_out_words)),
        (keywords.OPTED_IN, keywords.opt_in(text, account.settings.opt_in_words)),
    ):
        if is_said:
            return Event(
                key=key,
                at=at,
                address=address,
                name=name,
                text=text,
                thread=to,
                data={"scope": to or account.key, "word": text.strip()},
                vendor_ids=ids,
            )
    part = Text(text=text) if text else UnsupportedPart(what="empty message")
    return Message(
        key=key,
        at=at,
        address=address,
        parts=(part,),
        thread=to,
        vendor_ids=ids,
        data={"to": to} if to else {},
    )


def receipt(
    key: str, ident: str, *, at: datetime | None, arrived: bool, code: str, reason: str
) -> Receipt:
    """Return what a delivery report says; why it failed is told of a failed one only."""
    return Receipt(
        key=key,
        at=at,
        target=Target(vendor_id=ident),
        state=DeliveryState.DELIVERED if arrived else DeliveryState.FAILED,
        code="" if arrived else code,
        reason="" if arrived else reason,
    )


def digest(*fields: str) -> str:
    """Return a key for what the provider gives no id: a hash of what a repetition has in common."""
    return hashlib.sha256("\x00".join(fields).encode(errors="surrogatepass")).hexdigest()[:32]


def beijing_time(text: str) -> datetime | None:
    """Return the time of ``YYYY-MM-DD HH:MM:SS`` in China, None for anything else."""
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=BEIJING)
    except ValueError:
        return None


# What the providers' words for a failure mean; the longest prefix of a code counts.
Meaning = tuple[type[Failure], str]


def failure(codes: dict[str, Meaning], code: str, said: str, *, status: int) -> Failure:
    """Return what an answer other than OK means. An unknown word is a refusal, a 5xx a doubt."""
    known = max((each for each in codes if code.startswith(each)), key=len, default=None)
    if known is None:
        if status >= 500:
            return OutcomeUnknown(f"the provider failed with status {status}", code=code)
        return Rejected(f"the provider refused it ({code}): {said[:200]}", code=code)
    kind, means = codes[known]
    if issubclass(kind, RateLimited):
        for_person = means.startswith("This number")
        return RateLimited(
            means,
            retry_after=PERSON_LATER_S if for_person else LATER_S,
            scope="address" if for_person else "account",
            code=code,
        )
    return kind(means, code=code)
