"""Names of channel events that mean something to the planners.

A channel event is an entry; its type in the feed is its name. The planners' own types are in
hub/feed/events.py.
"""

from __future__ import annotations

FOLLOWED = "contact.followed"
PROFILE_CHANGED = "profile.changed"
IDENTIFIED = "contact.identified"
