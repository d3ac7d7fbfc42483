"""What is counted and measured, in one registry per hub, shown at ``/metrics``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Names and labels are part of the outside face; labels never hold personal data."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        account = ["channel", "account"]
        self.received = Counter(
            "omniline_received_total",
            "Items made durable in the inbox or the spool.",
            [*account, "door"],
            registry=registry,
        )
        self.refused = Counter(
            "omniline_refused_total",
            "Requests that verify did not believe.",
            [*account, "reason"],
            registry=registry,
        )
        self.unparsed = Counter(
            "omniline_unparsed_total",
            "Believed requests that could not be parsed; each is a dead letter.",
            account,
            registry=registry,
        )
        self.overloaded = Counter(
            "omniline_overloaded_total",
            "Requests answered with 503: nothing could be kept, or too much waits.",
            registry=registry,
        )
        self.routed = Counter(
            "omniline_routed_total", "Items routed by this process.", registry=registry
        )
        self.ack_seconds = Histogram(
            "omniline_ack_seconds",
            "From the last byte of a webhook to its acknowledgement.",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "omniline_router_lag_seconds",
            "Age of the oldest item that is not routed.",
            registry=registry,
        )
        self.backlog = Gauge(
            "omniline_inbox_backlog", "Items that are not routed.", registry=registry
        )
        self.leading = Gauge(
            "omniline_router_leading", "1 in the process that routes.", registry=registry
        )
        self.spooling = Gauge(
            "omniline_spooling", "1 while items go to the local spool.", registry=registry
        )
        self.spool_records = Gauge(
            "omniline_spool_records", "Records in this process' spool.", registry=registry
        )
        self.position = Gauge(
            "omniline_feed_position", "Last position of the feed.", registry=registry
        )
        self.dead_letters = Counter(
            "omniline_dead_letters_total", "Dead letters that this process made.", registry=registry
        )
        self.blobs_swept = Counter(
            "omniline_blobs_swept_total",
            "Files that nothing names, taken away by this process: unnamed, raw or copy.",
            ["kind"],
            registry=registry,
        )
        self.account_up = Gauge(
            "omniline_account_up", "1 while the account is ok.", account, registry=registry
        )
