"""The relay job: a verified push, handed on unchanged to another system of the same owner.

Method, raw query, body and content type are the vendor's; nothing of the hub's own goes along
but a mark by which two hubs that relay to each other notice it. A push is handed on at least
once and in the order in which pushes came; a target that is away holds up its own lane only.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import aiohttp
import msgspec
import structlog
from yarl import URL

from hub.clock import Clock
from hub.config.sections import RelayConfig
from hub.documents import InboxItem, Job
from hub.intake import RELAYED, RawRequest
from hub.jobs import Obsolete, Result
from hub.outbound.gate import AccountGate
from hub.public_hosts import NotPublic, PublicResolver, is_private_literal
from hub.repeatable import Repeatable
from hub.retry import GIVE_UP
from hub.store.interface import Store, StoreError
from normalizer.outcomes import Failure, Misconfigured, RateLimited, Rejected, Temporary

log = structlog.get_logger(__name__)

TOTAL_S, CONNECT_S = 10.0, 5.0
RETRY_S = 30.0  # where a target asks to wait and does not say how long
MOST_RETRY_S = 3600.0
_LATER = frozenset({408, 425})
# What a deployment or a wrong setting answers: nothing is wrong with this push.
_NOT_THERE = frozenset({401, 403, 404, 405, 407, 410})


class Relay(Repeatable):
    """Runs ``relay`` jobs: a push that comes twice is better than one that never comes.

    ``targets`` are those of each account, ``channel:account``.
    """

    def __init__(
        self,
        store: Store,
        targets: Mapping[str, tuple[RelayConfig, ...]],
        gate: AccountGate,
        clock: Clock,
    ) -> None:
        self._store = store
        self._targets = {
            f"{account}/{each.name}": each
            for account, several in targets.items()
            for each in several
        }
        self._gate = gate
        self._clock = clock
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    # --- what the lanes ask --------------------------------------------------------------------

    async def run(self, job: Job) -> Result | None:
        target = self._targets.get(job.account)
        if target is None:
            raise Obsolete("this relay was taken out of the configuration")
        try:
            item, raw = await self._kept(job)
        except StoreError as error:
            raise Temporary(str(error)) from error
        try:
            await self._hand_on(target, raw)
        except Failure as failure:
            self._gate.failed(job.account, failure)
            if failure.retry and self._clock.now() - item.received_at > GIVE_UP:
                raise Rejected(f"not taken for three days: {failure.reason}") from failure
            raise
        self._gate.worked(job.account)
        return None

    async def address_of(self, job: Job) -> tuple[str, str]:
        channel, _, key = job.account.partition("/")[0].partition(":")
        return channel, key

    # --- one push ------------------------------------------------------------------------------

    async def _kept(self, job: Job) -> tuple[InboxItem, RawRequest]:
        item = await self._store.table(InboxItem).get(job.args["item"])
        blob = item.raw_blob if item is not None else None
        data = item.raw if item is not None else b""
        if blob is not None and await self._store.blobs.metadata(blob) is not None:
            data = await self._store.blobs.read(blob)
        if item is None or not data:
            raise Obsolete("the request is not kept any more, or its person was erased")
        raw = msgspec.msgpack.decode(data, type=RawRequest)
        if RELAYED in raw.headers:
            raise Obsolete("another hub has relayed it to us: it would go round for ever")
        return item, raw

    async def _hand_on(self, target: RelayConfig, raw: RawRequest) -> None:
        headers = {RELAYED: "1", "User-Agent": "Omniline"}
        if "content-type" in raw.headers:
            headers["Content-Type"] = raw.headers["content-type"]
        try:
            _refuse_private(target)
            async with self._session(target.allow_private).request(
                raw.method,
                _url(target, raw.query_string),
                data=BytesIO(raw.body),  # plain bytes over 1 MiB would block the loop
                headers=headers,
                allow_redirects=False,
            ) as answer:
                self._judge(target, answer)
        except aiohttp.ClientConnectorDNSError as error:
            if isinstance(error.os_error, NotPublic):
                raise Misconfigured(_private(target)) from error
            raise Temporary(f"the host of the relay {target.name} is not found") from error
        except NotPublic as error:
            raise Misconfigured(_private(target)) from error
        except TimeoutError as error:
            raise Temporary(f"the relay {target.name} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = f"the relay {target.name} cannot be reached: {type(error).__name__}"
            raise Temporary(reason) from error

    def _judge(self, target: RelayConfig, answer: aiohttp.ClientResponse) -> None:
        """Raise what an answer means; its words are the target's own and are not read."""
        status, told = answer.status, f"the relay {target.name} answered {answer.status}"
        if 200 <= status < 300:
            return
        if status == 429:
            wait = answer.headers.get("Retry-After", "")
            seconds = (
                float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else RETRY_S
            )
            raise RateLimited(told, retry_after=min(seconds, MOST_RETRY_S))
        if status >= 500 or status in _LATER:
            raise Temporary(told, code=str(status))
        if status in _NOT_THERE or status < 400:
            raise Misconfigured(f"{told}: look at its url", code=str(status))
        raise Rejected(told, code=str(status))

    def _session(self, private: bool) -> aiohttp.ClientSession:
        if private not in self._sessions:
            resolver = None if private else PublicResolver()
            self._sessions[private] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=TOTAL_S, connect=CONNECT_S),
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type"),
                trust_env=False,
            )
        return self._sessions[private]


def _url(target: RelayConfig, query: str) -> URL:
    """Return the target's URL with the vendor's raw query behind its own."""
    base = URL(target.url)
    queries = "&".join(each for each in (base.raw_query_string, query) if each)
    place = str(base.with_query(None).with_fragment(None))
    return URL(f"{place}?{queries}" if queries else place, encoded=True)


def _refuse_private(target: RelayConfig) -> None:
    """An address in the place of a name never passes the resolver."""
    if not target.allow_private and is_private_literal(URL(target.url).host or ""):
        raise NotPublic(target.name)


def _private(target: RelayConfig) -> str:
    return (
        f"the relay {target.name} is at an address that is not public: say allow_private = true"
        " if it is a system of your own"
    )
