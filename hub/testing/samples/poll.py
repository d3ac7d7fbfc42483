"""The poll door: pages of JSON over HTTP, with a cursor. The vendor is made up::

GET  {url}/position                       -> {"next": "41"}, the present end
GET  {url}/messages?after=41&limit=50     -> {"messages": [...], "next": "44", "more": false}
POST {url}/messages {"to", "text", "key"} -> 201 {"id": "s1"}; it drops a repeated key
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

import aiohttp
import msgspec

from hub import (
    Connector,
    HttpUrl,
    Incoming,
    Outgoing,
    Polled,
    Refused,
    Request,
    Secret,
    Verified,
    hookimpl,
)
from normalizer.addresses import Address, parse_address
from normalizer.capabilities import Capabilities
from normalizer.drafts import AnyDraft, Message
from normalizer.outcomes import (
    Accepted,
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unsupported,
)
from normalizer.parts import Text
from normalizer.parts import Unsupported as UnsupportedPart

omniline_api = 1


class PollSettings(msgspec.Struct, frozen=True, kw_only=True):
    url: Annotated[HttpUrl, msgspec.Meta(description="Where the vendor's API is.")]
    token: Annotated[Secret, msgspec.Meta(description="The API token of this account.")]
    page: Annotated[int, msgspec.Meta(description="Messages of one page.", ge=1, le=200)] = 50


class Position(msgspec.Struct, frozen=True):
    next: str


class Page(msgspec.Struct, frozen=True):
    messages: list[msgspec.Raw]
    next: str
    more: bool = False


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the made-up vendor. ``at`` is Unix time in milliseconds."""

    id: str
    sender: str
    at: int
    type: str = "text"
    text: str = ""


class Sent(msgspec.Struct, frozen=True):
    id: str


class SamplePoll(Connector[PollSettings]):
    channel: ClassVar[str] = "sample_poll"
    settings: ClassVar[type[msgspec.Struct]] = PollSettings
    capabilities: ClassVar[Capabilities] = Capabilities(
        sends=frozenset({"text"}), max_text_chars=2000, dedupes_sends=True
    )
    poll_every_s: ClassVar[float] = 5.0

    def verify(self, request: Request) -> Verified:
        raise Refused("no webhook", status=404)

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        return self.read(verified.payload)

    def read(self, raw: bytes) -> Sequence[AnyDraft]:
        """Return what one message says. Pure."""
        said = msgspec.json.decode(raw, type=Said)
        known = said.type == "text"
        return (
            Message(
                key=said.id,
                at=datetime.fromtimestamp(said.at / 1000, UTC),
                address=Address(
                    scheme=self.channel, account=self.account.key, kind="user", id=said.sender
                ),
                parts=(Text(text=said.text) if known else UnsupportedPart(what=said.type),),
            ),
        )

    async def poll(self, cursor: str | None) -> Polled:
        if cursor is None:
            present = msgspec.json.decode(await self._call("GET", "/position"), type=Position)
            return Polled(items=(), cursor=present.next)
        query = {"after": cursor, "limit": str(self.account.settings.page)}
        page = msgspec.json.decode(await self._call("GET", "/messages", params=query), type=Page)
        items = [Incoming(drafts=self.read(bytes(raw)), raw=bytes(raw)) for raw in page.messages]
        return Polled(items=items, cursor=page.next, more=page.more)

    async def skip(self, cursor: str) -> Polled:
        query = {"after": cursor, "limit": "1"}
        page = msgspec.json.decode(await self._call("GET", "/messages", params=query), type=Page)
        items = [Incoming(drafts=(), raw=bytes(raw)) for raw in page.messages]
        return Polled(items=items, cursor=page.next)

    async def send(self, message: Outgoing) -> Accepted:
        texts = [part.text for part in message.parts if isinstance(part, Text)]
        if len(texts) < len(message.parts):
            raise Unsupported("this channel sends texts only")
        to = parse_address(message.address).id
        body = {"to": to, "text": "\n".join(texts), "key": message.key}
        answer = await self._call("POST", "/messages", json=body)
        return Accepted(vendor_ids=(msgspec.json.decode(answer, type=Sent).id,))

    async def check(self) -> Sequence[str]:
        try:
            await self._call("GET", "/position")
        except Failure as failure:
            return [failure.reason]
        return ()

    async def _call(self, method: str, path: str, **how: Any) -> bytes:
        settings = self.account.settings
        token = {"Authorization": f"Bearer {settings.token.reveal()}"}
        try:
            async with self.context.http.request(
                method, settings.url + path, headers=token, allow_redirects=False, **how
            ) as response:
                if response.status >= 300:
                    raise failure_of(response.status, response.headers)
                return await response.read()
        except aiohttp.ClientConnectorError as error:
            raise Temporary("the vendor cannot be reached") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OutcomeUnknown("the vendor took the request and did not answer") from error


def failure_of(status: int, headers: Mapping[str, str]) -> Failure:
    """Return what the vendor's answer means: its page on errors, as a table."""
    match status:
        case 401 | 403:
            return Misconfigured("the vendor does not accept the token: look at `token`")
        case 429:
            wait_s = headers.get("Retry-After", "")
            return RateLimited(
                "too many calls", retry_after=int(wait_s) if wait_s.isdecimal() else 60
            )
        case 503:
            return Temporary("the vendor is busy")
        case status if status >= 500:
            return OutcomeUnknown(f"the vendor failed with status {status}")
        case _:
            return Rejected("the vendor refused the request", code=str(status))


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [SamplePoll]
