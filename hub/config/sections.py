"""The shape of the whole file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .fields import HttpUrl, Name
from .hub_settings import HubSettings
from .problems import Wrong
from .secret import Secret
from .source import RawTable, Source


class RelayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of an account's `relay`: another system that gets its pushes."""

    name: Annotated[
        Name, Meta(description="Names the relay for ever: what waits for it is kept under it.")
    ]
    url: Annotated[
        HttpUrl,
        Meta(
            description="Where verified pushes are forwarded to, unchanged; the vendor's query is"
            " put behind it."
        ),
    ]
    allow_private: Annotated[
        bool, Meta(description="Whether the address may be one of your own network.")
    ] = False


class AccountConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[[accounts]]`: one account of a channel."""

    channel: Annotated[
        Name, Meta(description="The channel, such as `wechat`; `omniline plugins` lists them.")
    ]
    key: Annotated[
        Name,
        Meta(
            description="Names the account for ever: addresses and webhook paths contain it."
            " Change `label` instead.",
        ),
    ]
    label: Annotated[
        str, Meta(description="What people see; the key when empty.", max_length=200)
    ] = ""
    insecure: Annotated[
        bool,
        Meta(
            description="Accept what arrives without verifying it. Only for trials: anybody could"
            " write in a customer's name.",
        ),
    ] = False
    inbound: Annotated[
        Literal["on", "store-only", "off"],
        Meta(
            description="What happens to what arrives: `on` routes it; `store-only` keeps it for"
            " later; `off` refuses it.",
        ),
    ] = "on"
    outbound: Annotated[bool, Meta(description="Whether anything is sent.")] = True
    relay: Annotated[
        tuple[RelayConfig, ...],
        Meta(description="Other systems that get a copy of every verified push.", max_length=10),
    ] = ()
    settings: RawTable
    """The channel's own settings; `parse_settings` reads them once the channel is known."""

    def __post_init__(self) -> None:
        if not self.label:
            msgspec.structs.force_setattr(self, "label", self.key)

    def check(self) -> Iterator[Wrong]:
        names = [each.name for each in self.relay]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield Wrong("relay", f'two of them are named "{name}"', "Choose another name.")

    @property
    def name(self) -> str:
        """`wechat:shop`, as logs and errors name the account."""
        return f"{self.channel}:{self.key}"


class BackendConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[[backends]]`: one ticket backend."""

    type: Annotated[Name, Meta(description="The kind of backend; `omniline plugins` lists them.")]
    name: Annotated[
        Name,
        Meta(
            description="Names the backend for ever: ticket links and its webhook path contain it."
        ),
    ]
    settings: RawTable


class FeedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[[feeds]]`: somewhere the feed is sent to."""

    type: Annotated[Name, Meta(description="The kind of feed sink.")]
    name: Annotated[
        Name, Meta(description="Names the sink for ever: its place in the feed is kept under it.")
    ]
    settings: RawTable


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration. `load` makes it."""

    hub: HubSettings = HubSettings()
    accounts: tuple[AccountConfig, ...] = ()
    backends: tuple[BackendConfig, ...] = ()
    feeds: tuple[FeedConfig, ...] = ()
    plugins: dict[Name, RawTable] = {}
    source: Source

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works but should be looked at.

        Grows while channels and plugins read their own settings with `parse_settings`.
        """
        found = list(self.source.warnings)
        if self.source.literal_secrets and self.source.readable_by_everyone:
            found.append(
                f"{self.source.file}: it contains secrets and everybody on this machine can read"
                f" it. chmod o-rwx {self.source.file}"
            )
        return tuple(found)

    def redacted(self) -> dict[str, Any]:
        """The configuration as plain values, safe to print.

        In tables whose type is not known every text and number is masked.
        """
        return {
            name: redacted(getattr(self, name))
            for name in self.__struct_fields__
            if name != "source"
        }


def redacted(value: Any) -> Any:
    """Plain values for printing: secrets are masked, and so is what might be one."""
    if isinstance(value, Secret):
        return f"*** ({value.origin})" if value.origin else "***"
    if isinstance(value, RawTable):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        return {name: redacted(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {key: redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return value if isinstance(value, bool) else "***"
