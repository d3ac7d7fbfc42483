"""How often: token buckets in this process, and how much memory they may take."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

from connectors.site.errors import SiteError
from connectors.site.settings import Limits

MAX_KEYS = 100_000  # buckets kept; the least used are forgotten first


class Bucket:
    """Holds up to ``capacity`` tokens and gains ``per_s`` a second."""

    __slots__ = ("at", "capacity", "per_s", "tokens")

    def __init__(self, capacity: float, per_s: float, now: float) -> None:
        self.capacity = capacity
        self.per_s = per_s
        self.tokens = capacity
        self.at = now

    def refill(self, now: float) -> None:
        self.tokens = min(self.capacity, self.tokens + (now - self.at) * self.per_s)
        self.at = now

    def wait_s(self) -> float:
        """Return how long until a token is there."""
        return 0.0 if self.tokens >= 1 else (1 - self.tokens) / self.per_s


class Limiter:
    """All buckets of one site. ``monotonic`` is a clock in seconds."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()
        minute, hour = 1 / 60, 1 / 3600
        # name -> (capacity, tokens a second)
        self._rates: dict[str, tuple[float, float]] = {
            "message": (limits.message_burst, limits.messages_per_minute * minute),
            "message_hour": (limits.messages_per_hour, limits.messages_per_hour * hour),
            "session": (limits.sessions_per_minute, limits.sessions_per_minute * minute),
            "refresh": (limits.sessions_per_minute, limits.sessions_per_minute * minute),
            "hello": (limits.hellos_per_minute, limits.hellos_per_minute * minute),
            "identify": (limits.identifies_per_minute, limits.identifies_per_minute * minute),
            "upload": (limits.uploads_per_minute, limits.uploads_per_minute * minute),
            "recall": (limits.recalls_per_hour, limits.recalls_per_hour * hour),
            "frame": (60, 10),  # whatever a client says, on one connection or by REST
            "receipt": (10, 1),
            "typing": (2, 1 / 3),
        }

    def take(self, key: str, *names: str) -> None:
        """Take one token of each bucket, or none. Raises SiteError (rate_limited)."""
        for bucket in self.wait(key, *names):
            bucket.tokens -= 1

    def wait(self, key: str, *names: str) -> list[Bucket]:
        """Return the buckets, each with a token in it, and take none. Raises like :meth:`take`."""
        buckets = [self._bucket(name, key) for name in names]
        wait_s = max(bucket.wait_s() for bucket in buckets)
        if wait_s > 0:
            raise SiteError("rate_limited", "too many requests", retry_after_s=wait_s)
        return buckets

    def allows(self, key: str, name: str) -> bool:
        """Like :meth:`take`, for what is dropped silently."""
        try:
            self.take(key, name)
        except SiteError:
            return False
        return True

    def _bucket(self, name: str, key: str) -> Bucket:
        now = self._monotonic()
        bucket = self._buckets.get((name, key))
        if bucket is None:
            capacity, per_s = self._rates[name]
            bucket = self._buckets[(name, key)] = Bucket(capacity, per_s, now)
            if len(self._buckets) > MAX_KEYS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end((name, key))
        bucket.refill(now)
        return bucket


def network_of(remote: str) -> str:
    """Return what counts as one caller: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        address = ip_address(remote)
    except ValueError:
        return remote
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(ip_network((address, 64), strict=False))
    return str(address)
