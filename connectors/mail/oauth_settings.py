"""What an operator sets for a mailbox that logs in by OAuth 2, with what is known of providers.

Sources: Microsoft, "Authenticate an IMAP, POP or SMTP connection using OAuth" (scopes, app-only
rights) and "Refresh tokens in the Microsoft identity platform" (90 days, a new one at each use);
Google, "XOAUTH2 protocol" (scope) and "Using OAuth 2.0 to Access Google APIs"; RFC 6749.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hub import HttpUrl, Secret, Wrong

MICROSOFT_TOKEN_URL = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
MICROSOFT_READS = "https://outlook.office.com/IMAP.AccessAsUser.All"
MICROSOFT_SENDS = "https://outlook.office.com/SMTP.Send"
MICROSOFT_APP_ONLY = "https://outlook.office365.com/.default"
GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"
# Google's tokens are renewed with the scope that was consented to: https://mail.google.com/


class OAuth(msgspec.Struct, frozen=True, kw_only=True):
    """How access tokens are fetched: by a refresh token, or by the app's own rights without one."""

    provider: Annotated[
        Literal["", "microsoft", "google"],
        Meta(description="Sets token_url and scope; empty: set them yourself."),
    ] = ""
    tenant: Annotated[
        str,
        Meta(
            description="Microsoft's tenant: its id or domain; `consumers` for outlook.com.",
            pattern=r"^([0-9A-Za-z][0-9A-Za-z.-]{0,252})?\Z",
            extra={"expects": "a tenant's id or domain, `organizations`, `consumers` or `common`"},
        ),
    ] = ""
    token_url: Annotated[
        HttpUrl | None,
        Meta(description="Where tokens are fetched; https, or this machine with insecure."),
    ] = None
    client_id: Annotated[str, Meta(description="The app's (client) id.", min_length=1)]
    client_secret: Annotated[
        Secret | None, Meta(description="The app's secret; none for a public client.")
    ] = None
    refresh_token: Annotated[
        Secret | None,
        Meta(
            description="What the mailbox's owner consented to. Without one the app logs in by"
            " rights of its own (client credentials: Microsoft 365 app-only)."
        ),
    ] = None
    scope: Annotated[
        str, Meta(description="What is asked for; empty: the provider's, or what was granted.")
    ] = ""

    @property
    def url(self) -> str:
        """The token endpoint."""
        if self.token_url:
            return self.token_url
        if self.provider == "google":
            return GOOGLE_TOKEN_URL
        return MICROSOFT_TOKEN_URL.format(tenant=self.tenant)

    def scope_for(self, *, sends: bool) -> str:
        """The scope to ask for; "" leaves it to what was granted."""
        if self.scope or self.provider != "microsoft":
            return self.scope
        if self.refresh_token is None:
            return MICROSOFT_APP_ONLY
        return " ".join([MICROSOFT_READS, *([MICROSOFT_SENDS] * sends), "offline_access"])

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be told, wherever an answer quotes it."""
        known = (self.client_secret, self.refresh_token)
        return tuple(secret.reveal() for secret in known if secret is not None)

    def check(self) -> Iterator[Wrong]:
        if not self.provider and not self.token_url:
            yield Wrong("token_url", "is missing", 'Set it, or provider = "microsoft" or "google".')
        if self.provider == "microsoft" and not self.tenant and not self.token_url:
            yield Wrong("tenant", "is missing", "Set the tenant's id, as the app's overview shows.")
        if self.tenant and self.provider != "microsoft":
            yield Wrong("tenant", 'goes with provider = "microsoft" only', "Leave it out.")
        if self.refresh_token is None:
            if self.provider == "google":
                yield Wrong("refresh_token", "is missing", "Google gives tokens to consent only.")
            elif self.client_secret is None:
                yield Wrong(
                    "client_secret",
                    "is missing, and there is no refresh_token either",
                    "Set refresh_token, or client_secret for an app that logs in by itself.",
                )
