"""`[hub]`: what the hub itself can be told, each setting with its help, bounds and default."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .fields import Cidr, HttpUrl, Key32, Name
from .notification_settings import NotificationSettings
from .problems import Wrong
from .secret import Secret

_MiB = 1024 * 1024
_GiB = 1024 * _MiB

Policy = Literal["customer", "thread", "channel"]


class ConversationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which messages make one conversation, and how long it lives."""

    policy: Annotated[
        dict[str, Policy],
        Meta(
            description="Overrides the channel's own policy. The name is a channel (`mail`) or one"
            " account (`wechat:shop`), which goes first. `customer`: at most one open"
            " conversation, whatever the channel; `thread`: one for each thread;"
            " `channel`: one for each channel.",
        ),
    ] = {}
    silence_hours: Annotated[
        int,
        Meta(
            description="A conversation closes after this long without a message.",
            ge=1,
            le=8760,
            extra={"unit": "hours"},
        ),
    ] = 72
    reopen_hours: Annotated[
        int,
        Meta(
            description="A message that comes this soon after closing opens the same conversation"
            " again; a later one starts a new one.",
            ge=0,
            le=8760,
            extra={"unit": "hours"},
        ),
    ] = 24


class MediaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files of messages: what is taken, and how long fetching and checking may last."""

    max_bytes: Annotated[
        int,
        Meta(
            description="Largest file that is fetched. A larger one is shown as refused.",
            ge=1024,
            le=2 * _GiB,
            extra={"unit": "bytes"},
        ),
    ] = 50 * _MiB
    timeout_s: Annotated[
        float,
        Meta(
            description="How long one attempt to fetch a file may take. Then it is tried again,"
            " later and later, for three days.",
            ge=0.5,
            le=600,
            extra={"unit": "s"},
        ),
    ] = 60.0
    forbidden_types: Annotated[
        tuple[str, ...],
        Meta(description="Types of files that are refused, by what their bytes say."),
    ] = (
        "application/java-vm",
        "application/vnd.microsoft.portable-executable",
        "application/x-dex",
        "application/x-elf",
        "application/x-mach-binary",
        "application/x-ms-shortcut",
        "text/x-shellscript",
    )
    forbidden_suffixes: Annotated[
        tuple[str, ...],
        Meta(description="Ends of names, in small letters, of files that are refused."),
    ] = (
        ".bat",
        ".cmd",
        ".com",
        ".cpl",
        ".exe",
        ".hta",
        ".jar",
        ".js",
        ".jse",
        ".lnk",
        ".msi",
        ".pif",
        ".ps1",
        ".scr",
        ".vbe",
        ".vbs",
        ".wsf",
    )
    scan_timeout_s: Annotated[
        float,
        Meta(
            description="How long a scanner (a plugin's `scan_media`) may look at one file.",
            ge=0.1,
            le=600,
            extra={"unit": "s"},
        ),
    ] = 20.0
    scan_required: Annotated[
        bool,
        Meta(
            description="Hold files back until a scanner has called them clean. Otherwise a file"
            " is handed out when a scanner fails, and marked as unscanned.",
        ),
    ] = False
    picture_timeout_s: Annotated[
        float,
        Meta(
            description="How long opening one picture may take before it is refused.",
            ge=0.5,
            le=120,
            extra={"unit": "s"},
        ),
    ] = 15.0
    max_pixels: Annotated[
        int,
        Meta(
            description="Largest picture that is opened; a larger one is refused.",
            ge=10_000,
            le=200_000_000,
            extra={"unit": "pixels"},
        ),
    ] = 40_000_000
    unnamed_days: Annotated[
        int,
        Meta(
            description="An uploaded file that no message named is deleted after so many days."
            " 0 keeps it, and whatever a crash left behind in the blob store.",
            ge=0,
            le=3650,
            extra={"unit": "days"},
        ),
    ] = 30
    send_uncleaned: Annotated[
        bool,
        Meta(
            description="Let agents' pictures leave with their metadata (the place, the telephone)"
            " where they cannot be freed of it: without the extra `media`, damaged ones, and HEIC"
            " and TIFF. Otherwise their upload is refused.",
        ),
    ] = False
    workers: Annotated[
        int,
        Meta(
            description="Files that this process fetches side by side, beside its other lanes."
            " Imports have half as many of their own.",
            ge=1,
            le=256,
        ),
    ] = 4
    private_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Hosts of your own network that connectors may fetch files from."
            " Without it an address that is not public is refused.",
        ),
    ] = ()


class HubSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[hub]`: the process, its storage, its limits."""

    host: Annotated[
        str,
        Meta(
            description="Address to listen on. `0.0.0.0` or `::` listens on all interfaces.",
            min_length=1,
            max_length=255,
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Meta(description="Port to listen on; 0 takes any free one.", ge=0, le=65535),
    ] = 8080
    public_url: Annotated[
        HttpUrl | None,
        Meta(
            description="The address under which the world reaches the hub, with its path prefix if"
            " a proxy adds one. Vendors' signatures and signed links are made with it."
            " Without it, the address the hub listens on is used.",
        ),
    ] = None
    trusted_proxies: Annotated[
        tuple[Cidr, ...],
        Meta(
            description="Address ranges of proxies whose `X-Forwarded-*` headers are believed."
            " By default nobody's are.",
        ),
    ] = ()
    data_dir: Annotated[
        Path,
        Meta(
            description="Folder for the spool, the space key and the embedded MongoDB."
            " A relative path starts at the folder of this file.",
        ),
    ] = Path("data")
    mongo_url: Annotated[
        Secret | None,
        Meta(
            description="MongoDB replica set to use. Without it, `omniline run` starts an embedded"
            " MongoDB under `data_dir`.",
            extra={"format": "mongodb-url", "expects": 'a secret that starts with "mongodb://"'},
        ),
    ] = None
    database: Annotated[
        str,
        Meta(
            description="Name of the database. One space is one database.",
            pattern=r"^[A-Za-z0-9_-]{1,38}\Z",
            extra={"expects": "1 to 38 letters, digits, _ and -"},
        ),
    ] = "omniline"
    driver: Annotated[
        Literal["pymongo", "motor"],
        Meta(description="Python driver for MongoDB. `pymongo` is the faster one."),
    ] = "pymongo"
    event_loop: Annotated[
        Literal["auto", "uvloop", "asyncio"],
        Meta(
            description="What the process runs on. `auto` is `uvloop` where `omniline[uvloop]` is"
            " installed, which takes more messages a second, and Python's own elsewhere.",
        ),
    ] = "auto"
    mongod: Annotated[
        Path | None,
        Meta(
            description="The `mongod` program for the embedded MongoDB. Without it, the one on PATH"
            " is used, then the one from `omniline[embedded]`.",
        ),
    ] = None
    space_key: Annotated[
        Key32 | None,
        Meta(
            description="Root key of the space. Without it, one is made at the first start and kept"
            " in `data_dir`. It is never rotated: keep a copy with your backups.",
        ),
    ] = None
    encrypt: Annotated[
        Literal["none", "addresses", "all"],
        Meta(
            description="What is encrypted field by field in the database. `addresses` covers"
            " addresses, profiles, senders, raw requests, spool and dead letters."
            " `all` is not available yet.",
        ),
    ] = "none"
    encryption_keys: Annotated[
        dict[Name, Key32],
        Meta(
            description="Encryption keys by id. Keep old ones until everything is re-encrypted.",
            extra={"expects": "a table of keys by id, each 32 bytes in base64"},
        ),
    ] = {}
    encryption_key: Annotated[
        Name | None,
        Meta(
            description="Id of the key that new data is encrypted with.",
            extra={"expects": "the id of a key"},
        ),
    ] = None
    commit_budget_ms: Annotated[
        int,
        Meta(
            description="How long a delivery waits for MongoDB before it goes to the spool.",
            ge=50,
            le=4000,
            extra={"unit": "ms"},
        ),
    ] = 500
    spool_max_bytes: Annotated[
        int,
        Meta(
            description="Size of the spool at which deliveries are refused.",
            ge=_MiB,
            extra={"unit": "bytes"},
        ),
    ] = _GiB
    disk_reserve_bytes: Annotated[
        int,
        Meta(
            description="Free disk space below which deliveries are refused.",
            ge=0,
            extra={"unit": "bytes"},
        ),
    ] = _GiB
    max_body_bytes: Annotated[
        int,
        Meta(
            description="Largest request body that is read. Uploads have limits of their own.",
            ge=16 * 1024,
            le=64 * _MiB,
            extra={"unit": "bytes"},
        ),
    ] = _MiB
    inbox_days: Annotated[
        int,
        Meta(
            description="How long raw requests are kept for replay and diagnosis, and repeated"
            " deliveries are recognised by them.",
            ge=15,
            le=3650,
            extra={"unit": "days"},
        ),
    ] = 30
    feed_days: Annotated[
        int,
        Meta(
            description="How long a reader may stay away from the feed and still find its place.",
            ge=1,
            le=3650,
            extra={"unit": "days"},
        ),
    ] = 30
    inbox_max_items: Annotated[
        int,
        Meta(
            description="Unrouted items at which deliveries are refused.",
            ge=1000,
            extra={"unit": "items"},
        ),
    ] = 1_000_000
    inbox_max_bytes: Annotated[
        int,
        Meta(
            description="Size of all unrouted items at which deliveries are refused.",
            ge=16 * _MiB,
            extra={"unit": "bytes"},
        ),
    ] = 4 * _GiB
    router_lease_s: Annotated[
        float,
        Meta(
            description="How long a silent router keeps its place before another takes it.",
            ge=0.5,
            le=60,
            extra={"unit": "s"},
        ),
    ] = 5.0
    router_batch: Annotated[
        int,
        Meta(
            description="Most items the router commits in one transaction.",
            ge=1,
            le=2000,
            extra={"unit": "items"},
        ),
    ] = 500
    lag_limit_s: Annotated[
        float,
        Meta(
            description="Router lag at which polls pause and API writes get 503."
            " Webhooks are still taken.",
            ge=1,
            le=3600,
            extra={"unit": "s"},
        ),
    ] = 10.0
    reply_wait_s: Annotated[
        float,
        Meta(
            description="How long an API call waits for the outcome of what it asked before it"
            " answers 202 with an operation to look at.",
            ge=0,
            le=30,
            extra={"unit": "s"},
        ),
    ] = 2.0
    workers: Annotated[
        int,
        Meta(
            description="Lanes (sends, tickets, media) that this process works on side by side.",
            ge=1,
            le=1024,
        ),
    ] = 8
    worker_lease_s: Annotated[
        float,
        Meta(
            description="How long a silent worker keeps its lane. An outside call gets at"
            " most half of what is left.",
            ge=1,
            le=600,
            extra={"unit": "s"},
        ),
    ] = 30.0
    hook_timeout_s: Annotated[
        float,
        Meta(
            description="How long a plugin's hook may take before it is cut.",
            ge=0.05,
            le=60,
            extra={"unit": "s"},
        ),
    ] = 5.0
    drain_timeout_s: Annotated[
        float,
        Meta(
            description="How long work in hand may take to finish after SIGTERM.",
            ge=0,
            le=600,
            extra={"unit": "s"},
        ),
    ] = 20.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least level that is logged."),
    ] = "info"
    log_format: Annotated[
        Literal["console", "json"],
        Meta(description="`console` for people, `json` for log collectors."),
    ] = "console"
    plugin_modules: Annotated[
        tuple[str, ...],
        Meta(
            description="Further plugins, by the dotted names of their modules, beside the bundled"
            " and the installed ones.",
        ),
    ] = ()
    default_region: Annotated[
        str,
        Meta(
            description="Country (ISO 3166) of phone numbers written without a country code.",
            pattern=r"^[A-Z]{2}\Z",
            extra={"expects": 'two capital letters, such as "CN"'},
        ),
    ] = "CN"
    conversations: Annotated[
        ConversationSettings, Meta(description="Settings of conversations.")
    ] = ConversationSettings()
    notifications: Annotated[
        NotificationSettings, Meta(description="Settings of notifications.")
    ] = NotificationSettings()
    media: Annotated[MediaSettings, Meta(description="Settings of files in messages.")] = (
        MediaSettings()
    )

    def __post_init__(self) -> None:
        if self.public_url is not None:
            # Paths are appended to it, and they start with a slash.
            msgspec.structs.force_setattr(self, "public_url", self.public_url.rstrip("/"))

    def check(self) -> Iterator[Wrong]:
        if self.encrypt == "all":
            yield Wrong(
                "encrypt",
                '"all" is not available yet: texts and attachments cannot be encrypted so far',
                'Use "addresses", and encrypt the disk for the rest.',
            )
        if self.encrypt != "none" and not self.encryption_keys:
            yield Wrong(
                "encrypt",
                f'"{self.encrypt}" needs an encryption key',
                "Add [hub.encryption_keys] with one key, made by: openssl rand -base64 32.",
            )
        if self.encryption_keys and self.encryption_key is None:
            yield Wrong(
                "encryption_keys",
                "it is not said which key new data is encrypted with",
                "Add encryption_key with the id of one of them.",
            )
        if self.encryption_key is not None and self.encryption_key not in self.encryption_keys:
            yield Wrong(
                "encryption_key",
                "no key has this id",
                f"Known ids: {', '.join(sorted(self.encryption_keys)) or 'none'}.",
            )
