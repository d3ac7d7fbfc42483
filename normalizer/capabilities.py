"""What a channel can do. What a connector does not declare, the hub does not ask of it."""

from __future__ import annotations

from normalizer.model import Model


class Capabilities(Model, frozen=True, kw_only=True):
    """Declared once per connector; shown in the channel matrix and checked before sending."""

    # Part types (their tags) that can be sent; empty = the channel cannot send at all.
    sends: frozenset[str] = frozenset()
    max_text_chars: int | None = None
    max_parts: int = 10
    max_media_bytes: int | None = None
    # What a person on the channel may do.
    threads: bool = False  # the channel has threads of its own (mail, site)
    thread_seq: bool = False  # the router counts the entries of each thread, gap-free
    typing: bool = False
    read_receipts: bool = False  # the customer's reading is reported to us
    edit_window_s: int | None = None  # how long our side may edit what it sent; None = never
    recall_window_s: int | None = None
    profile: bool = False
    templates: bool = False
    # How the vendor behaves.
    delivery_receipts: bool = False
    dedupes_sends: bool = False  # the vendor drops a repeated send by our key
    sees_foreign_answers: bool = True  # answers given outside the hub reach us as well
    conversation: str = "customer"  # default policy: "customer", "thread" or "channel"
