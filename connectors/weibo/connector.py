"""The Weibo channel's connector: one verified account in developer mode."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

import msgspec

from connectors.weibo import composing, events, samples
from connectors.weibo.admission import NonceDoc, admit
from connectors.weibo.client import SENDS_PER_SECOND, WeiboClient
from connectors.weibo.delivering import SentDoc, deliver
from connectors.weibo.envelope import Unreadable, read_push, receiver_of
from connectors.weibo.parsing import drafts_of
from connectors.weibo.profiles import profile_of
from connectors.weibo.settings import WeiboSettings, insecurities
from connectors.weibo.tokens import ending
from connectors.weibo.verifying import (
    MOST_ECHO_CHARS,
    check_path,
    check_signature,
    without_path,
)
from hub import (
    Account,
    Answer,
    Clock,
    Connector,
    ConnectorContext,
    Fetched,
    Outgoing,
    Refused,
    Request,
    Sample,
    SignedOnce,
    Verified,
)
from normalizer.addresses import parse_address
from normalizer.capabilities import Capabilities, Window
from normalizer.drafts import AnyDraft, Profile
from normalizer.outcomes import Accepted, Failure, Rejected, Unreachable
from normalizer.parts import Media

WINDOW_S = 48 * 3600
LINKS_LIVE = timedelta(days=30)  # of files; nobody says how long Weibo keeps a copy


class WeiboConnector(Connector[WeiboSettings]):
    """One verified account."""

    channel: ClassVar[str] = "weibo"
    settings: ClassVar[type[msgspec.Struct]] = WeiboSettings
    max_body_bytes: ClassVar[int] = 256 * 1024
    capabilities: ClassVar[Capabilities] = Capabilities(
        sends=composing.SENDS,
        max_text_chars=composing.MOST_TEXT_CHARS,
        image_types=composing.IMAGE_TYPES,
        profile=True,
        windows=(
            Window(
                name="message",
                opens_on=frozenset(
                    {"message", events.FOLLOWED, events.OPTED_IN, events.CLICKED, events.SCANNED}
                ),
                closes_on=frozenset({events.UNFOLLOWED}),
                seconds=WINDOW_S,
            ),
            Window(
                name="mention",
                opens_on=frozenset({"public_message"}),
                closes_on=frozenset({events.UNFOLLOWED}),
                seconds=WINDOW_S,
                sends=1,
                adds_up=True,
            ),
        ),
        sends_per_second=SENDS_PER_SECOND,
        sees_foreign_answers=False,
    )

    def __init__(self, account: Account[WeiboSettings], context: ConnectorContext) -> None:
        super().__init__(account, context)
        settings = account.settings
        self._signed_once = SignedOnce(context, NonceDoc, settings.replay_window_s)
        self._client = WeiboClient(settings, context)

    # --- who is it? ----------------------------------------------------------------------------

    def verify(self, request: Request) -> Verified:
        settings, insecure = self.account.settings, self.account.insecure
        if request.method not in ("GET", "POST"):
            raise Refused("method")
        if settings.path_secret is not None:
            check_path(request.path, settings.path_secret)
        elif not insecure:
            raise Refused("path")
        query = request.query
        facts = {}
        if settings.app_secrets or not insecure:
            check_signature(
                query,
                settings.app_secrets,
                now_ms=int(request.received_at.timestamp() * 1000),
                window_s=settings.replay_window_s,
            )
            facts = {name: query[name] for name in ("timestamp", "nonce")}
        if request.method == "POST":
            self._check_receiver(request.body)
        return without_path(request).verified(None, **facts)

    def _check_receiver(self, body: bytes) -> None:
        """Raise ``Refused`` for a body that is not for this account: it may be somebody else's."""
        try:
            receiver = receiver_of(body)
        except Unreadable as error:
            raise Refused("body") from error
        if receiver != self.account.settings.uid:
            raise Refused("receiver")

    async def admit(self, verified: Verified) -> None:
        await admit(self._signed_once, verified)

    def check_settings(self) -> Sequence[str]:
        return tuple(insecurities(self.account.settings))

    # --- what does it say? ---------------------------------------------------------------------

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        if verified.request.method == "GET":
            return ()
        push = read_push(verified.payload)
        return drafts_of(push, channel=self.channel, account=self.account.key)

    def answer(self, verified: Verified, drafts: Sequence[AnyDraft], clock: Clock) -> Answer:
        """Return the echo of a URL check; an empty body says "no reply, do not repeat"."""
        if verified.request.method != "GET":
            return Answer()
        echo = verified.request.query.get("echostr", "")[:MOST_ECHO_CHARS]
        return Answer(
            body=echo.encode("utf-8", "replace"), headers={"X-Content-Type-Options": "nosniff"}
        )

    async def fetch_media(self, media: Media, address: str) -> Fetched:
        if not media.vendor_ref:
            raise Rejected("the file has no reference at Weibo")
        return await self._client.media(media.vendor_ref)

    async def fetch_profile(self, address: str) -> Profile | None:
        """Return name and picture of a fan; None for others, of whom Weibo tells nothing."""
        return profile_of(await self._client.profile(parse_address(address).id))

    # --- and back ------------------------------------------------------------------------------

    async def send(self, message: Outgoing) -> Accepted:
        calls = composing.calls_for(message, self._link_to)
        uid = parse_address(message.address).id
        await deliver(self._client, self.context, key=message.key, uid=uid, calls=calls)
        return Accepted(at=self.context.clock.now())

    def sends_needed(self, message: Outgoing) -> int:
        """Return how many of Weibo's messages an answer is: a mention allows one."""
        try:
            return len(composing.calls_for(message, self._link_to))
        except Failure:
            return 1  # send will say what is wrong

    def _link_to(self, blob: str) -> str:
        return self.context.public_link(blob, LINKS_LIVE)

    # --- life ----------------------------------------------------------------------------------

    async def check(self) -> Sequence[str]:
        """Ask Weibo for the account's own profile, as any good token may.

        What Weibo says of that profile does not matter (it is nobody's fan): it took the token.
        """
        settings = self.account.settings
        found = list(self.warnings())
        if settings.access_token is not None and settings.bound_on is None:
            found.append(
                "token_bound is not set: write down the day on which the token was shown, so that"
                " the hub can warn before its year is over"
            )
        try:
            await self._client.profile(settings.uid)
        except (Rejected, Unreachable):
            return found
        except Failure as failure:
            found.append(failure.reason)
        return found

    def warnings(self) -> Sequence[str]:
        said = ending(self.account.settings.bound_on, self.context.clock.now())
        return (said,) if said else ()

    async def start(self) -> None:
        await self.context.register_documents(NonceDoc, SentDoc)

    # --- for tests and `omniline simulate` -----------------------------------------------------

    def samples(self, clock: Clock) -> Sequence[Sample]:
        return samples.samples(self.account.settings, clock)
