"""One attempt to send an answer: customer-service messages, templates, subscription messages.

All files are given to WeChat before the first message leaves, so that what can fail fails while
nothing was sent. WeChat numbers customer-service messages nowhere and drops no repetitions, so an
answer that was lost leaves the outcome unknown; and so does a failure between two messages of one
answer, because the first of them has arrived. So what was surely not sent there, because WeChat is
busy, is tried again at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from connectors.wechat import errors
from connectors.wechat.api import Api, Refusal
from connectors.wechat.composing import Piece, Upload, compose, stored
from connectors.wechat.settings import WechatSettings
from connectors.wechat.templates import listed, subscription_id
from connectors.wechat.texts import clean
from hub import ConnectorContext, Outgoing, StoreError
from normalizer.addresses import parse_address
from normalizer.outcomes import (
    Accepted,
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
from normalizer.parts import Media

SEND = "/cgi-bin/message/custom/send"
TEMPLATE = "/cgi-bin/message/template/send"
SUBSCRIPTION = "/cgi-bin/message/subscribe/bizsend"
PASSIVE_ONLY = (
    "this account has not the right to answer: customers get passive_reply, within 5 seconds of"
    " their message, and templates. Take another channel, or have the account verified and set"
    ' rights = "customer_service"'
)
# Names as WeChat wants them: the type by the suffix, and nothing but ASCII in the header.
SUFFIXES = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "audio/amr": "amr",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "video/mp4": "mp4",
}
PREPARE_S = 9.0  # of the 15 s that a worker has for an attempt
AGAIN_S = (1.0, 2.0)  # waits before a message that is not the first of its answer is tried again
KEY_BYTES = 64
NAMED = 5  # templates in a refusal


class Sending:
    """The way out of one account."""

    def __init__(self, settings: WechatSettings, context: ConnectorContext, api: Api) -> None:
        self._settings = settings
        self._context = context
        self._api = api

    async def send(self, message: Outgoing) -> Accepted:
        """Send once. Raises a Failure; OutcomeUnknown when part of it or all may have arrived."""
        to = parse_address(message.address).id
        if message.template:
            return await self._by_template(message, to)
        if self._settings.rights == "passive":
            raise Unsupported(await self._passive_only(), code="passive_only")
        pieces = compose(message, self._link_to)
        bodies = await self._prepared(to, pieces)
        for number, (piece, body) in enumerate(zip(pieces, bodies, strict=True)):
            try:
                await (self._one if number == 0 else self._next)(to, piece, body)
            except Failure as failure:
                if number == 0:
                    raise
                raise OutcomeUnknown(
                    f"{number} of the {len(pieces)} messages of this answer have arrived, and then"
                    f" it failed: {failure.reason}. Send the customer the rest in new words",
                    code="partly_sent",
                ) from failure
        return Accepted(at=self._context.clock.now())

    async def _prepared(self, to: str, pieces: Sequence[Piece]) -> list[Mapping[str, Any]]:
        """Fetch the token and give the files: whatever takes too long here was surely not sent."""
        try:
            async with asyncio.timeout(PREPARE_S):
                await self._api.token()
                return [await self._body(to, piece) for piece in pieces]
        except TimeoutError:
            raise Temporary("giving the files to WeChat takes too long now") from None

    async def _passive_only(self) -> str:
        """Say why nothing but templates leaves, and which there are."""
        try:
            found = await listed(self._api, subscriptions=self._settings.subscription_templates)
        except Failure as failure:
            self._context.log.info("templates_not_listed", reason=failure.reason)
            return PASSIVE_ONLY
        names = ", ".join(f"{each.name} ({each.preview[:20]})" for each in found[:NAMED])
        return f"{PASSIVE_ONLY}. Templates that may go: {names}" if names else PASSIVE_ONLY

    # --- customer-service messages ---------------------------------------------------------------

    async def _next(self, to: str, piece: Piece, body: Mapping[str, Any]) -> None:
        """Send what follows another message: a busy vendor must not cut an answer in two."""
        for wait_s in AGAIN_S:
            try:
                return await self._one(to, piece, body)
            except Temporary as failure:
                self._context.log.info("wechat_busy_between", reason=failure.reason)
                await asyncio.sleep(wait_s)
        return await self._one(to, piece, body)

    async def _one(self, to: str, piece: Piece, body: Mapping[str, Any]) -> None:
        try:
            await self._api.post(SEND, body, sends=True)
        except Refusal as refusal:
            if refusal.number == errors.DUPLICATE:
                return
            if piece.upload is None:
                raise self._api.failure(refusal) from None
        else:
            return
        again = await self._body(to, piece)  # WeChat lost the file: it is given once more
        try:
            await self._api.post(SEND, again, sends=True)
        except Refusal as refusal:
            raise self._api.failure(refusal) from None

    async def _body(self, to: str, piece: Piece) -> Mapping[str, Any]:
        content = dict(piece.content)
        if piece.upload is not None:
            content["media_id"] = ident = await self._uploaded(piece.upload)
            if piece.kind == "video":
                content["thumb_media_id"] = ident  # a still of its own is not needed (unverified)
        body: dict[str, Any] = {"touser": to, "msgtype": piece.kind, piece.kind: content}
        if self._settings.kf_account:
            body["customservice"] = {"kf_account": self._settings.kf_account}
        return body

    async def _uploaded(self, upload: Upload) -> str:
        try:
            data = await self._context.blobs.read(upload.blob)
        except StoreError as error:
            raise Temporary(f"a file of this answer cannot be read: {error}") from error
        name = f"{upload.kind}.{SUFFIXES[upload.mime]}"

        def form() -> aiohttp.FormData:
            made = aiohttp.FormData()
            made.add_field("media", data, filename=name, content_type=upload.mime)
            return made

        try:
            said = await self._api.upload(upload.kind, form)
        except Refusal as refusal:
            raise self._api.failure(refusal) from None
        ident = said.get("media_id")
        if not isinstance(ident, str) or not ident:
            raise Temporary("WeChat took the file and gave no media_id")
        return ident

    def _link_to(self, media: Media) -> str:
        """Return an address under which the customer can fetch a file. Raises Rejected."""
        blob = stored(media)
        days = timedelta(days=self._settings.file_link_days)
        url = self._context.public_link(blob, days)
        if not _reachable(url):
            raise Rejected(
                "WeChat does not take this file itself, and a link to it would lead to this"
                " machine: set hub.public_url to where the hub is reached from outside"
            )
        return url

    # --- what the vendor approved ----------------------------------------------------------------

    async def _by_template(self, message: Outgoing, to: str) -> Accepted:
        """Send a template. Its msgid is what its receipt will name."""
        data = {name: {"value": clean(value)} for name, value in message.params.items()}
        body: dict[str, Any] = {"touser": to, "template_id": message.template, "data": data}
        path = TEMPLATE
        if subscription := subscription_id(message.template):
            body["template_id"], path = subscription, SUBSCRIPTION
        elif len(message.key.encode()) <= KEY_BYTES:
            body["client_msg_id"] = message.key  # drops repetitions for ten minutes (unverified)
        try:
            said = await self._api.post(path, body, sends=True)
        except Refusal as refusal:
            if refusal.number == errors.DUPLICATE:
                return Accepted(at=self._context.clock.now())
            raise self._api.failure(refusal) from None
        except Misconfigured as refused:
            of_this_call = errors.NOT_ALLOWED | errors.RESTRICTED
            if refused.code not in {str(number) for number in of_this_call}:
                raise
            # It says nothing of answers: the account must not wait for somebody to mend it.
            raise Unsupported(
                f"WeChat does not allow templates of this kind to the account ({refused.code}):"
                " look in its console for the right, or a violation, or take another channel",
                code=refused.code,
            ) from None
        except RateLimited as limited:
            if limited.code != str(errors.DAILY_QUOTA):
                raise
            # Templates have a quota of their own: the account's answers go on. What a person sent
            # must not stand before their next words to this customer until midnight.
            if not message.automatic:
                raise Unreachable(
                    "the account's templates for today are used up, until midnight in China: send"
                    " it again then, or take another channel",
                    code="quota_spent",
                ) from None
            raise RateLimited(
                f"{limited.reason}; only templates are affected",
                retry_after=limited.retry_after,
                scope="address",
                code=limited.code,
            ) from None
        return Accepted(vendor_ids=_msgid(said), at=self._context.clock.now())


def _reachable(url: str) -> bool:
    """Whether an address can be one of the internet's, by its looks."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".local", ".localhost", ".internal"))


def _msgid(said: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the number of a template message; it is 64 bits wide, as text or as number."""
    ident = said.get("msgid", "")
    known = isinstance(ident, int | str) and not isinstance(ident, bool) and ident != ""
    return (str(ident),) if known else ()
