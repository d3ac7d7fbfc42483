"""What a contract test says about its connector, and how the checks get objects of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import msgspec
import pytest
import structlog

from hub.config import RawTable, Secret, parse_settings
from hub.contract import Account, Connector, Refused, Request, Sample, Verified
from hub.testing.clock import FakeClock
from hub.testing.connector_checks.forgeries import forgeries
from hub.testing.fake_vendor import FakeVendor
from hub.testing.golden import check_golden
from hub.testing.services import FakeServices

ACCOUNT = "main"
EXEMPTIONS = {
    "webhook": "it has no webhook door",
    "window": "its vendor signs no time",
    "rotation": "its vendor knows a single secret",
    "refusals": "its protocol tells the caller what is wrong",
    "secret": "its secrets are no settings",
    "unknown": "its vendor has no types of messages",
    "vendor": "there is no fake vendor to try polls, connections and sends on",
    "poll": "this account's vendor has no list to ask, though other accounts of the channel do",
    "recipient": "there is nobody whom the fake vendor could take a message for",
}


class Subject:
    """The connector under test. Class variables are what a subclass says about it."""

    connector: ClassVar[type[Connector[Any]]]
    settings: ClassVar[Mapping[str, Any]] = {}
    other_secrets: ClassVar[Mapping[str, Any]] = {}
    both_secrets: ClassVar[Mapping[str, Any]] = {}
    no_secrets: ClassVar[Mapping[str, Any]] = {}
    window_s: ClassVar[float | None] = None
    ahead_s: ClassVar[float | None] = None  # None: as much as window_s
    signs_url: ClassVar[bool] = False
    signs_path: ClassVar[bool] = False  # the path behind the account is a secret one
    unknown: ClassVar[str] = "unknown"
    recipient: ClassVar[str] = ""
    golden: ClassVar[Path]
    exempt: ClassVar[Mapping[str, str]] = {}

    # --- what a subclass may override ----------------------------------------------------------

    def make_connector(
        self,
        overrides: Mapping[str, Any] | None = None,
        *,
        services: FakeServices | None = None,
        insecure: bool = False,
    ) -> Connector[Any]:
        """Return a connector for ``settings`` with ``overrides``; None takes a setting away."""
        values = {**self.settings, **(overrides or {})}
        table = RawTable.of({name: value for name, value in values.items() if value is not None})
        channel = self.connector.channel
        account = Account(
            channel=channel,
            key=ACCOUNT,
            label="Main",
            settings=parse_settings(self.connector.settings, table, f"{channel}:{ACCOUNT}"),
            insecure=insecure,
        )
        services = services or FakeServices()
        mount = self.connector.mount
        return self.connector(account, services.connector_context(channel, ACCOUNT, mount=mount))

    def forged(self, sample: Sample) -> list[tuple[str, Request]]:
        """Return (what was changed, request) for everything that must be refused."""
        return list(
            forgeries(
                sample,
                signs_url=self.signs_url,
                signs_path=self.signs_path,
                spans=self.signed_spans(sample),
            )
        )

    def make_other(self) -> Connector[Any]:
        """Return the same channel with another account's secrets."""
        assert self.other_secrets, "set other_secrets: overrides with another account's secrets"
        return self.make_connector(self.other_secrets)

    @contextlib.asynccontextmanager
    async def vendor(self) -> AsyncIterator[FakeVendor]:
        """Yield a fake vendor that has just started and knows ``settings``' secrets."""
        pytest.skip(self.reason("vendor"))
        yield  # type: ignore[unreachable]

    def signed_spans(self, sample: Sample) -> Sequence[tuple[int, int]]:
        """Return which bytes of a sample's body are signed: by default all of them."""
        return ((0, len(sample.request.body)),)

    def many_pushes(self, connector: Connector[Any], count: int) -> Sequence[Request]:
        """Return ``count`` different pushes for a load: by default variations of the samples."""
        from hub.testing.connector_checks.pushes import pushes  # it needs names of this module

        return pushes(connector, connector.context.clock, count)

    def make_trusting(self, services: Any = None) -> Connector[Any]:
        """Return a connector that believes what is not signed, or the usual one if none does."""
        if "secret" in self.exempt:
            return self.make_connector(services=services)
        secrets = dict(self.no_secrets) or dict.fromkeys(self.other_secrets)
        return self.make_connector(secrets, services=services, insecure=True)

    # --- what the checks use -------------------------------------------------------------------

    def reason(self, name: str) -> str:
        """Return why a check does not apply. Fails when the subclass does not say so."""
        if name not in self.exempt:
            pytest.fail(
                f"{type(self).__name__} lacks what this check needs. If {EXEMPTIONS[name]}, say"
                f' so: exempt = {{"{name}": "{EXEMPTIONS[name]}"}}'
            )
        return f"exempt: {self.exempt[name]}"

    def needs_webhook(self) -> None:
        if "webhook" in self.exempt:
            pytest.skip(self.reason("webhook"))

    def all_samples(self, connector: Connector[Any] | None = None) -> list[Sample]:
        """Return the samples as they arrive at the fake clock's start."""
        clock = FakeClock()
        samples = (connector or self.make_connector()).samples(clock)
        return [
            msgspec.structs.replace(
                sample,
                request=msgspec.structs.replace(sample.request, received_at=clock.now()),
            )
            for sample in samples
        ]

    def freeze_lines(self, door: str, lines: Mapping[str, str]) -> None:
        """Compare a door's lines with the golden file."""
        assert hasattr(self, "golden"), (
            "set golden to the path of a file beside your tests, such as"
            " Path(__file__).parent / 'golden' / 'acme.json'"
        )
        check_golden(self.golden, door, lines)

    @contextlib.asynccontextmanager
    async def at_work(
        self, vendor: FakeVendor, overrides: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Connector[Any]]:
        """Yield a started connector that reaches the vendor; what it tells is watched."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
            connector = self.make_connector(
                {**vendor.settings, **(overrides or {})}, services=FakeServices(http=http)
            )
            with self.nothing_leaks(connector):
                await connector.start()
                try:
                    yield connector
                finally:
                    await connector.stop()

    @contextlib.contextmanager
    def nothing_leaks(self, connector: Connector[Any]) -> Iterator[list[str]]:
        """Fail if a secret is in what is logged meanwhile, or in what is added to the list."""
        told: list[str] = []
        records = _Records()
        logging.getLogger().addHandler(records)
        try:
            with structlog.testing.capture_logs() as logged:
                yield told
        finally:
            logging.getLogger().removeHandler(records)
        told += [repr(entry) for entry in logged] + records.lines
        for secret in secrets_of(connector.account.settings):
            leaking = [line for line in told if secret in line]
            assert not leaking, f"a secret can be read in {leaking[0].replace(secret, '***')!r}"


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def secrets_of(value: Any) -> list[str]:
    """Return every secret in a settings value, however deep."""
    if isinstance(value, Secret):
        return [value.reveal()]
    if isinstance(value, msgspec.Struct):
        value = [getattr(value, name) for name in value.__struct_fields__]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return [secret for each in value for secret in secrets_of(each)]
    return []


def texts_of(error: BaseException) -> list[str]:
    """Return what an exception and those behind it say."""
    texts = []
    seen: BaseException | None = error
    while seen is not None:
        texts += [str(seen), repr(seen)]
        seen = seen.__cause__ or seen.__context__
    return texts


def believed(connector: Connector[Any], request: Request, what: str = "") -> Verified | Refused:
    """Return what ``verify`` says of a request; any other exception than Refused fails."""
    try:
        return connector.verify(request)
    except Refused as refused:
        return refused
    except Exception as error:  # noqa: BLE001 - told to the author with what caused it
        pytest.fail(
            f"verify raised {type(error).__name__} instead of Refused: {error} ({what})."
            " A stranger can send this, and would be answered with a 500."
        )
