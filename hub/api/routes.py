"""Puts the API onto the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from hub.app import Hub


async def add_api(app: web.Application, hub: Hub) -> None:
    """Add all routes below /api, /feed and /console."""
