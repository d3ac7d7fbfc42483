"""`[hub.notifications]`: what may be sent to customers who did not ask, when, and how often."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .fields import Name
from .problems import KeyPath, Wrong

_HOURS = r"^(none|([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)\Z"
_IN_WORDS = {"expects": 'a span of the day such as "21:00-08:00", or "none"'}


class PurposeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One purpose. What is left out is the purpose's own: see the reference."""

    consent: Annotated[
        Literal["granted", "unless-withdrawn"] | None,
        Meta(
            description="`granted`: only to addresses that agreed to it; `unless-withdrawn`: to"
            " all that did not object. `transactional` has `unless-withdrawn`, every other"
            " purpose `granted`.",
        ),
    ] = None
    quiet_hours: Annotated[
        str | None,
        Meta(
            description="Quiet hours of this purpose instead of the space's.",
            pattern=_HOURS,
            extra=_IN_WORDS,
        ),
    ] = None
    may_disturb: Annotated[
        bool | None,
        Meta(
            description="Whether a request may say that quiet hours do not count"
            " (`respect_quiet_hours: false`). Only `transactional` may by itself.",
        ),
    ] = None
    per_day: Annotated[
        int | None,
        Meta(
            description="At most so many to a customer within any 24 hours; 0 is no limit."
            " `transactional` has none, every other purpose 3.",
            ge=0,
            le=100,
        ),
    ] = None
    per_week: Annotated[
        int | None,
        Meta(
            description="At most so many to a customer within any 7 days; 0 is no limit."
            " `transactional` has none, every other purpose 10.",
            ge=0,
            le=100,
        ),
    ] = None


class NotificationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Quiet hours and purposes."""

    time_zone: Annotated[
        str,
        Meta(
            description="Time zone of customers whose profile names none. Quiet hours are on the"
            " customer's clock.",
            min_length=1,
            max_length=64,
            extra={"expects": 'the name of a time zone, such as "Asia/Shanghai"'},
        ),
    ] = "Asia/Shanghai"
    quiet_hours: Annotated[
        str,
        Meta(
            description="When nothing leaves that nobody asked for: it waits until they are over.",
            pattern=_HOURS,
            extra=_IN_WORDS,
        ),
    ] = "21:00-08:00"
    purposes: Annotated[
        dict[Name, PurposeSettings],
        Meta(
            description="Purposes beside `transactional` and `marketing`, or changes of these two.",
        ),
    ] = {}

    def check(self) -> Iterator[Wrong]:
        try:
            zoneinfo.ZoneInfo(self.time_zone)
        except (ValueError, KeyError, OSError):
            yield Wrong(
                "time_zone",
                "there is no time zone of this name",
                'Write a name of the IANA database, such as "Asia/Shanghai" or "Europe/Berlin".',
            )
        hours: dict[KeyPath, str] = {("quiet_hours",): self.quiet_hours}
        for name, purpose in self.purposes.items():
            hours["purposes", name, "quiet_hours"] = purpose.quiet_hours or ""
        for path, span in hours.items():
            start, _, end = span.partition("-")
            if end and start == end:
                yield Wrong(
                    path,
                    "quiet hours that end when they begin would never let anything leave",
                    'Write "none" for no quiet hours.',
                )
