"""One message to Twilio, and the look-up of one that nobody knows the end of.

Twilio has no idempotency key. So what is about to be posted is noted before, and its SID after:
a look-up knows from when on to look, and which of two equal texts belongs to another answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

from connectors._twilio.codes import failure
from connectors._twilio.rest import TwilioRest
from connectors.sms.segments import segments
from connectors.sms.senders import WHATSAPP, number_of, split_via
from connectors.sms.settings import TwilioSettings
from connectors.sms.twilio_inbound import OPTED_OUT_CODE, opted_out_before
from hub import ConnectorContext, Doc, Index, Outgoing, Overloaded, StoreError
from normalizer.addresses import parse_address
from normalizer.outcomes import (
    Accepted,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
from normalizer.parts import MEDIA_PARTS, Media, Text

MAX_CHARS = 1600
MAX_FILES = 10
IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif"})
MAX_IMAGE_BYTES = 5_000_000
MAX_OTHER_BYTES = 500_000
LINK_VALID = timedelta(hours=8)  # Twilio asks for four
KEPT = timedelta(days=7)
# Twilio's clock and ours may differ, and a message shows in the list a moment after it was made.
BEFORE = timedelta(minutes=2)
SURE_AFTER = timedelta(seconds=20)
MOST_PAGES = 5


class Attempt(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A message that was posted, or was about to be. The id is ``account|key``."""

    collection: ClassVar[str] = "x_sms_attempts"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("sid", 1),)),
        Index((("expire_at", 1),), expires=True),
    )

    at: datetime  # of the first attempt
    expire_at: datetime
    sid: str = ""


class TwilioSender:
    """Sends for one account."""

    def __init__(
        self, settings: TwilioSettings, context: ConnectorContext, rest: TwilioRest, account: str
    ) -> None:
        self._settings = settings
        self._context = context
        self._rest = rest
        self._account = account

    async def start(self) -> None:
        await self._context.register_documents(Attempt)

    async def send(self, message: Outgoing) -> Accepted:
        form = self._form(message)
        await self._note(message)
        try:
            told = await self._rest.post("Messages.json", form)
        except Unreachable as refused:
            if refused.code == OPTED_OUT_CODE:
                await self._mirror(message, form)
            raise
        sid = told.get("sid")
        if not isinstance(sid, str) or not sid:
            raise OutcomeUnknown("Twilio took the message and named none")
        await self._note(message, sid)
        if told.get("status") == "failed":
            raise failure(400, _number(told.get("error_code")))
        return self._accepted(message, sid, told)

    async def find_sent(self, message: Outgoing) -> Accepted | None:
        """Return the message if Twilio has it, None if it surely does not.

        Raises while it is too early to be sure, and Rejected where another message may be it.
        """
        attempt = await self._attempt(message)
        if attempt is None:
            return None  # it is noted before it is posted
        if attempt.sid:
            return self._accepted(message, attempt.sid, {})
        wanted = self._form(message)
        body = _folded(dict(wanted).get("Body", ""))
        files = str(sum(1 for name, _ in wanted if name == "MediaUrl"))
        # What Twilio still queues has no date of sending, and is not in a list by date.
        for by_date in (True, False):
            listed = await self._sent_to(dict(wanted)["To"], attempt.at - BEFORE, by_date=by_date)
            for found in sorted(listed, key=lambda each: str(each.get("sid", ""))):
                sid = str(found.get("sid", ""))
                same = _folded(str(found.get("body") or "")) == body
                if same and str(found.get("num_media") or "0") == files and await self._free(sid):
                    await self._note(message, sid)
                    return self._accepted(message, sid, found)
        age = self._context.clock.now() - attempt.at
        if age < SURE_AFTER:
            left = (SURE_AFTER - age).total_seconds()
            # Nothing is wrong with the account: only this message has to wait.
            raise RateLimited("Twilio's list is not sure yet", retry_after=left, scope="address")
        return None

    async def _mirror(self, message: Outgoing, form: Sequence[tuple[str, str]]) -> None:
        """Keep the opt-out that Twilio knows of; once for each answer that met it."""
        fields = dict(form)
        _, ours = split_via(fields.get("From") or fields.get("MessagingServiceSid", ""))
        event = opted_out_before(parse_address(message.address), ours, f"twilio:{message.key}:opt")
        try:
            await self._context.deliver([event], door="worker")
        except Overloaded:
            self._context.log.warning("sms_opt_out_not_kept", entry=message.entry)

    # --- what is posted --------------------------------------------------------------------------

    def _form(self, message: Outgoing) -> list[tuple[str, str]]:
        texts, files = _contents(message)
        body = "\n".join(texts)
        if len(body) > MAX_CHARS:
            raise Rejected(f"a text message has at most {MAX_CHARS} characters", code="21617")
        answered = message.answers.data if message.answers is not None else {}
        via = WHATSAPP if answered.get("via") == WHATSAPP else ""
        form = [
            ("To", _by(via, number_of(parse_address(message.address)))),
            self._from(answered, via),
        ]
        form += [("Body", body)] if body else []
        form += [("MediaUrl", self._link(media)) for media in files]
        if callback := self._callback():
            form.append(("StatusCallback", callback))
        form.append(("ValidityPeriod", str(self._settings.validity_s)))
        if self._settings.smart_encoded:
            form.append(("SmartEncoded", "true"))
        return form

    def _from(self, answered: Mapping[str, Any], via: str) -> tuple[str, str]:
        """Answer from the number that was written to, else from the account's first."""
        ours = str(answered.get("to", ""))
        service = self._settings.messaging_service_sid
        if ours and (via or ours in self._settings.numbers):
            return "From", _by(via, ours)
        if service:
            return "MessagingServiceSid", service
        return "From", _by(via, self._settings.numbers[0])

    def _callback(self) -> str:
        """Return where receipts go; Twilio takes no host with an underscore."""
        url = self._context.public_url
        host = re.match(r"https?://([^/:]+)", url)
        return "" if host is None or "_" in host[1] else f"{url}/status"

    def _link(self, media: Media) -> str:
        name = media.name or "of this answer"
        if media.blob is None:
            raise Rejected(f"the file {name} is not in the store")
        if media.mime not in IMAGE_TYPES and (media.size or 0) > MAX_OTHER_BYTES:
            raise Rejected(f"the file {name} is over {MAX_OTHER_BYTES} bytes: send a link instead")
        return self._context.public_link(media.blob, LINK_VALID)

    def _accepted(self, message: Outgoing, sid: str, told: Mapping[str, Any]) -> Accepted:
        texts, files = _contents(message)
        cost = segments("\n".join(texts))
        data: dict[str, Any] = {}
        if not files:
            data = {"encoding": cost.encoding, "units": cost.units, "parts": cost.parts}
        if told.get("num_segments"):
            data["billed_parts"] = str(told["num_segments"])
        return Accepted(vendor_ids=(sid,), at=self._context.clock.now(), data=data)

    # --- what was posted -------------------------------------------------------------------------

    async def _sent_to(
        self, number: str, since: datetime, *, by_date: bool
    ) -> list[Mapping[str, Any]]:
        """Return what the account sent to a number since then. Twilio filters by whole days."""
        query = [("To", number), ("PageSize", "100")]
        if by_date:
            query.insert(1, ("DateSent>", f"{since:%Y-%m-%d}"))
        page: dict[str, Any] | None = await self._rest.get("Messages.json", query)
        found: list[Mapping[str, Any]] = []
        for _ in range(MOST_PAGES):
            if page is None:
                return found
            listed = [each for each in page.get("messages") or () if isinstance(each, dict)]
            made = [moment(each.get("date_created")) or since for each in listed]
            for at, each in zip(made, listed, strict=True):
                if str(each.get("direction", "")).startswith("outbound") and at >= since:
                    found.append(each)
            if made and max(made) < since:
                return found  # newest first: what follows is older
            page = await self._rest.next_page(page)
        raise Rejected("too many messages to this number to tell which one it was")

    async def _note(self, message: Outgoing, sid: str = "") -> None:
        """Write down an attempt. Before the post nothing has left; after it the SID is a help."""
        held = await self._attempt(message)
        now = self._context.clock.now()
        attempt = Attempt(
            id=self._id(message),
            at=held.at if held is not None and sid else now,
            expire_at=now + KEPT,
            sid=sid,
        )
        try:
            await self._context.documents(Attempt).put([attempt])
        except StoreError as error:
            if sid:
                self._context.log.warning("sms_sid_not_noted", entry=message.entry)
                return
            raise Temporary(f"the attempt cannot be noted: {error}") from error

    async def _attempt(self, message: Outgoing) -> Attempt | None:
        try:
            return await self._context.documents(Attempt).get(self._id(message))
        except StoreError as error:
            raise Temporary(f"what was sent cannot be read: {error}") from error

    async def _free(self, sid: str) -> bool:
        """Whether no other answer of ours is known to be this message."""
        try:
            return not await self._context.documents(Attempt).count({"sid": sid}, limit=1)
        except StoreError as error:
            raise Temporary(f"what was sent cannot be read: {error}") from error

    def _id(self, message: Outgoing) -> str:
        return f"{self._account}|{message.key}"


def moment(text: Any) -> datetime | None:
    """Return the time of an RFC 2822 text, as the API's lists give it."""
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (TypeError, ValueError):
        return None


def _contents(message: Outgoing) -> tuple[list[str], Sequence[Media]]:
    texts: list[str] = []
    files: list[Media] = []
    for part in message.parts:
        if isinstance(part, Text):
            texts.append(part.text)
        elif isinstance(part, MEDIA_PARTS):
            files.append(part.media)
        else:
            raise Unsupported(f"SMS carries no {part.__struct_config__.tag}")
    if len(files) > MAX_FILES:
        raise Rejected(f"a message carries at most {MAX_FILES} files")
    return texts, files


def _by(via: str, number: str) -> str:
    return f"{via}:{number}" if via else number


_LOOK_ALIKES = str.maketrans("‘’‚‛“”„‟–—‐‑", "''''\"\"\"\"----")


def _folded(text: str) -> str:
    """Return a text as Twilio may have changed it: look-alikes and blanks count as the same."""
    plain = unicodedata.normalize("NFKC", text.translate(_LOOK_ALIKES))
    return " ".join(plain.split())


def _number(value: Any) -> int | None:
    text = str(value or "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
