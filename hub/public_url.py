"""Under which URL the hub is reached, as far as its configuration says."""

from __future__ import annotations

from hub.config.hub_settings import HubSettings

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def configured_url(settings: HubSettings) -> str:
    """Return what vendors call the hub: ``public_url``, or else the address it listens on."""
    return settings.public_url or _url(settings.host, settings.port)


def listening_url(settings: HubSettings) -> str:
    """Return where a program on the hub's own machine reaches it."""
    return _url(_WILDCARDS.get(settings.host, settings.host), settings.port)


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
