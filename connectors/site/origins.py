"""Which pages and apps may speak to a site.

Browsers do not apply their cross-origin rules to WebSockets, so the ``Origin`` header is
compared here, on every request and on every handshake. Native apps send no origin and show an
app key instead. A page that is served by the hub's own host sends none with a GET, but says
``Sec-Fetch-Site: same-origin``, which no script can forge.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from connectors.site.errors import SiteError
from connectors.site.settings import SiteSettings

APP_KEY_HEADER = "x-omniline-app-key"
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origins:
    """The gate of one site; ``insecure`` lets ``*`` and requests without an origin pass."""

    def __init__(self, settings: SiteSettings, *, insecure: bool) -> None:
        self._exact = {_normal(each) for each in settings.origins if "*" not in each}
        self._below = {_below(each) for each in settings.origins if "//*." in each}
        self._all = insecure and "*" in settings.origins
        self._insecure = insecure
        self._app_keys = settings.app_keys

    def check(self, headers: Mapping[str, str]) -> str | None:
        """Return the origin to reflect, or None for an app; headers are in lower case.

        Raises :class:`SiteError` (origin_forbidden) for everybody else.
        """
        origin = headers.get("origin")
        if origin is not None and origin != "null":
            if self.allows(origin):
                return origin
            raise SiteError("origin_forbidden", "this origin is not listed for the site")
        if origin is None and self._same_origin(headers):
            return None
        shown = headers.get(APP_KEY_HEADER)
        # Every key is compared, so that the time tells nothing about which one came close.
        if shown is not None and sum([key.matches(shown) for key in self._app_keys]):
            return None
        if shown is None and origin is None and self._insecure and not self._app_keys:
            return None
        raise SiteError("origin_forbidden", "neither a listed origin nor an app key of the site")

    def _same_origin(self, headers: Mapping[str, str]) -> bool:
        """Say whether a listed page asks its own host: browsers send no Origin with that GET."""
        host = headers.get("host", "")
        if headers.get("sec-fetch-site") != "same-origin" or not host:
            return False
        return self.allows(f"https://{host}") or self.allows(f"http://{host}")

    def allows(self, origin: str) -> bool:
        try:
            normal = _normal(origin)
        except ValueError:
            return False
        if self._all or normal in self._exact:
            return True
        scheme, host, port = normal
        return any(
            (scheme, port) == (below[0], below[2]) and host.endswith("." + below[1])
            for below in self._below
        )


def _normal(origin: str) -> tuple[str, str, int]:
    url = urlsplit(origin)
    scheme = url.scheme.lower()
    return scheme, (url.hostname or "").lower(), url.port or _DEFAULT_PORTS.get(scheme, 0)


def _below(pattern: str) -> tuple[str, str, int]:
    return _normal(pattern.replace("//*.", "//", 1))
