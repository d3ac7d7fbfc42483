"""What an operator sets for one mailbox."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from connectors.mail.oauth_settings import OAuth
from hub import Secret, Wrong
from normalizer.addresses import AddressError, mailbox

Tls = Literal["tls", "starttls", "none"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How large, how long and how often. The defaults suit the big providers."""

    mail_bytes: Annotated[
        int,
        Meta(
            description="A larger mail comes in as a note with its head and the start of its text.",
            ge=64 * 1024,
            le=100_000_000,
            extra={"unit": "bytes"},
        ),
    ] = 35_000_000
    parse_s: Annotated[
        float,
        Meta(description="Longest time to read one mail.", gt=0, le=300, extra={"unit": "s"}),
    ] = 20.0
    answer_s: Annotated[
        float,
        Meta(description="Longest wait for a server's answer.", gt=0, le=300, extra={"unit": "s"}),
    ] = 30.0
    look_every_s: Annotated[
        float,
        Meta(
            description="IDLE is renewed, and the folder looked at anyway, after so long.",
            gt=0,
            le=1500,
            extra={"unit": "s"},
        ),
    ] = 300.0
    rescan_days: Annotated[
        int,
        Meta(
            description="How far back to look when a server numbers a folder anew (UIDVALIDITY).",
            ge=1,
            le=90,
            extra={"unit": "days"},
        ),
    ] = 14
    smtp_connections: Annotated[int, Meta(description="Kept for sending.", ge=1, le=10)] = 2


class MailSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one mail account."""

    address: Annotated[str, Meta(description="The mailbox's own address: support@example.com.")]
    name: Annotated[
        str, Meta(description="The name customers see, beside the agent's.", max_length=100)
    ] = ""
    aliases: Annotated[
        tuple[str, ...], Meta(description="Other addresses whose mail arrives in this mailbox.")
    ] = ()
    user: Annotated[str, Meta(description="The login, if it is not the address.")] = ""
    password: Annotated[
        Secret | None,
        Meta(description="The password; an app password or authorisation code where there is one."),
    ] = None
    access_token: Annotated[
        Secret | None,
        Meta(
            description="An OAuth 2 access token that something else renews, instead of a password:"
            ' with { file = "PATH" } it is read anew at each login.'
        ),
    ] = None
    oauth: Annotated[
        OAuth | None,
        Meta(description="How the hub fetches and renews access tokens, instead of a password."),
    ] = None
    imap_host: Annotated[str, Meta(description="The IMAP server.", min_length=1)]
    imap_port: Annotated[int, Meta(description="Its port.", ge=1, le=65535)] = 993
    imap_tls: Annotated[
        Literal["tls", "none"],
        Meta(description="`none` works on this machine, or with `insecure = true`, only."),
    ] = "tls"
    smtp_host: Annotated[
        str, Meta(description="The submission server; empty: this account cannot send.")
    ] = ""
    smtp_port: Annotated[
        int, Meta(description="465 for tls, 587 for starttls.", ge=1, le=65535)
    ] = 465
    smtp_tls: Annotated[
        Tls, Meta(description="`none` works on this machine, or with `insecure = true`, only.")
    ] = "tls"
    smtp_login: Annotated[
        bool, Meta(description="Log in before sending; false for a relay that needs no login.")
    ] = True
    ca_file: Annotated[
        str, Meta(description="Certificates to trust beside the system's, in PEM.")
    ] = ""
    inbox: Annotated[str, Meta(description="The folder customers write to.", min_length=1)] = (
        "INBOX"
    )
    sent: Annotated[
        str,
        Meta(description="The folder with answers given from mail programs; empty: the server's."),
    ] = ""
    watch_sent: Annotated[
        bool, Meta(description="Take in answers that were given from mail programs.")
    ] = True
    save_sent: Annotated[
        bool,
        Meta(
            description="Put a copy of what the hub sends into the Sent folder, as some servers"
            " do not do by themselves. Lets doubtful sends be looked up."
        ),
    ] = False
    junk: Annotated[
        str, Meta(description="A folder of suspected spam to watch as well; empty: none.")
    ] = ""
    authserv_ids: Annotated[
        tuple[str, ...],
        Meta(
            description="The names with which your own mail server signs Authentication-Results;"
            " others' are not believed. Empty: nobody's are."
        ),
    ] = ()
    reply_token: Annotated[
        bool,
        Meta(
            description="Answers ask for replies to address+token@..., which finds the thread."
            " Needs a server that delivers plus addresses."
        ),
    ] = False
    bounce_token: Annotated[
        bool,
        Meta(
            description="Answers are sent from address+token@..., so that a bounce without a"
            " report finds its answer. Needs a server that delivers plus addresses."
        ),
    ] = False
    check_sends: Annotated[
        bool, Meta(description="`omniline check` sends a mail to the address itself.")
    ] = False
    limits: Annotated[Limits, Meta(description="Sizes and times.")] = Limits()

    @property
    def login(self) -> str:
        return self.user or self.address

    @property
    def domain(self) -> str:
        return self.own_address.rpartition("@")[2]

    @property
    def own_address(self) -> str:
        """The address in its canonical form: lower case, the domain in ASCII."""
        return mailbox(self.address).id

    @property
    def own(self) -> frozenset[str]:
        """Every address whose mail is ours."""
        return frozenset(mailbox(text).id for text in (self.address, *self.aliases))

    def check(self) -> Iterator[Wrong]:
        ways = {key for key in ("password", "access_token", "oauth") if getattr(self, key)}
        if len(ways) > 1:
            yield Wrong(
                sorted(ways)[0],
                f"stands beside {' and '.join(sorted(ways)[1:])}: there is one way to log in",
                "Keep one of password, access_token and oauth.",
            )
        url = urlsplit(self.oauth.url) if self.oauth is not None else None
        if url is not None and url.scheme != "https" and not is_loopback(url.hostname or ""):
            yield Wrong(
                ("oauth", "token_url"),
                "is not https, so everybody on the way could read the tokens",
                "Use https.",
            )
        for key, texts in (("address", (self.address,)), ("aliases", self.aliases)):
            for text in texts:
                try:
                    mailbox(text)
                except AddressError as error:
                    yield Wrong(key, f"{text!r} is no mail address: {error}")
        for key in ("address", "user", "imap_host", "smtp_host", "inbox", "sent", "junk"):
            if any(ord(char) < 32 or ord(char) == 127 for char in getattr(self, key)):
                yield Wrong(key, "a line break or control character cannot stand here")


def is_loopback(host: str) -> bool:
    """Say whether a connection to ``host`` stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def insecurities(settings: MailSettings, *, insecure: bool) -> Iterator[str]:
    """Yield what would let a stranger read or forge this account's mail."""
    if settings.password is None and settings.access_token is None and settings.oauth is None:
        yield "password, access_token and oauth are not set: nothing can be read without a login"
    if insecure:
        return
    if settings.oauth is not None and urlsplit(settings.oauth.url).scheme != "https":
        yield (
            "oauth.token_url is not https: use https (or say insecure = true for a token server"
            " on this machine)"
        )
    for what, tls, host in (
        ("imap", settings.imap_tls, settings.imap_host),
        ("smtp", settings.smtp_tls, settings.smtp_host),
    ):
        if tls == "none" and host and not is_loopback(host):
            yield (
                f"{what}_tls is none, so the password would cross the network in clear: use tls"
                f" (or say insecure = true for a network of your own)"
            )
