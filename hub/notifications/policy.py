"""What each purpose of a notification may do: the settings, with the purposes' own defaults."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import msgspec

from hub.config import NotificationSettings, PurposeSettings
from hub.notifications.caps import Cap
from hub.notifications.quiet import QuietHours, read_quiet_hours

DAY, WEEK = timedelta(days=1), timedelta(days=7)


class Purpose(msgspec.Struct, frozen=True, kw_only=True):
    """``needs_grant``: only to addresses that agreed; else to all that did not object."""

    name: str
    needs_grant: bool
    quiet: QuietHours | None
    may_disturb: bool  # whoever asks may say that quiet hours do not count
    caps: tuple[Cap, ...]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """All purposes, and the time zone of customers whose own is not known."""

    purposes: Mapping[str, Purpose]
    time_zone: str


# What a purpose is where the settings are silent. Others are handled with marketing's care.
_TRANSACTIONAL = PurposeSettings(
    consent="unless-withdrawn", may_disturb=True, per_day=0, per_week=0
)
_MARKETING = PurposeSettings(consent="granted", may_disturb=False, per_day=3, per_week=10)
_OWN = {"transactional": _TRANSACTIONAL, "marketing": _MARKETING}


def policy_of(settings: NotificationSettings) -> Policy:
    """Return the policy that ``[hub.notifications]`` asks for."""
    named = {name: PurposeSettings() for name in _OWN} | settings.purposes
    return Policy(
        purposes={name: _purpose(name, told, settings) for name, told in named.items()},
        time_zone=settings.time_zone,
    )


def _purpose(name: str, told: PurposeSettings, settings: NotificationSettings) -> Purpose:
    own = _OWN.get(name, _MARKETING)

    def chosen(field: str) -> object:
        said = getattr(told, field)
        return getattr(own, field) if said is None else said

    caps = ((chosen("per_day"), DAY), (chosen("per_week"), WEEK))
    return Purpose(
        name=name,
        needs_grant=chosen("consent") == "granted",
        quiet=read_quiet_hours(told.quiet_hours or settings.quiet_hours),
        may_disturb=bool(chosen("may_disturb")),
        caps=tuple(Cap(most, span) for most, span in caps if isinstance(most, int) and most),
    )


DEFAULT = policy_of(NotificationSettings())
