"""What a channel can do. What a connector does not declare, the hub does not ask of it."""

from __future__ import annotations

from normalizer.model import Model


class Window(Model, frozen=True, kw_only=True):
    """For how long, and how often, a person may be written to after they did something."""

    name: str
    # "message" (said to us alone), "public_message" (a mention, a comment), or names of events
    # such as contact.followed
    opens_on: frozenset[str]
    seconds: int
    sends: int | None = None  # how many per opening; None = any number
    closes_on: frozenset[str] = frozenset()  # events that end it at once: contact.unfollowed
    templates_pass: bool = False  # templates may leave while it is closed
    adds_up: bool = False  # each opening has its own time and sends, and takes none of another's


class Quota(Model, frozen=True, kw_only=True):
    """How many sends a vendor allows in a period, by account or by address.

    Periods are fixed and begin at multiples of ``period_s`` in UTC, shifted by ``offset_s``:
    a day in China is ``period_s=86400, offset_s=-28800``.
    """

    name: str
    sends: int
    period_s: int
    offset_s: int = 0
    per: str = "account"  # or "address"
    templates: bool = False  # counts templates alone: a vendor's call with a quota of its own


class Capabilities(Model, frozen=True, kw_only=True):
    """Declared once per connector; shown in the channel matrix and checked before sending."""

    # Part types (their tags) that can be sent; empty = the channel cannot send at all.
    sends: frozenset[str] = frozenset()
    max_text_chars: int | None = None
    max_parts: int = 10
    max_media_bytes: int | None = None
    max_image_bytes: int | None = None  # where pictures have a limit of their own
    image_types: frozenset[str] = frozenset()  # of pictures it takes; empty = any
    media_types: frozenset[str] = frozenset()  # of other files it takes; empty = any
    # What a person on the channel may do.
    threads: bool = False  # the channel has threads of its own (mail, site)
    thread_seq: bool = False  # the router counts the entries of each thread, gap-free
    typing: bool = False
    read_receipts: bool = False  # the customer's reading is reported to us
    edit_window_s: int | None = None  # how long our side may edit what it sent; None = never
    recall_window_s: int | None = None
    profile: bool = False
    templates: bool = False
    free_text: bool = True  # False: only templates leave; what people type is refused before
    # When one may send. A channel without windows can be written to at any time.
    windows: tuple[Window, ...] = ()
    quotas: tuple[Quota, ...] = ()
    # Schemes of addresses that belong to no account ("tel"), and that it writes to though nobody
    # wrote from there: a caller can be texted, when somebody chooses to.
    reaches: frozenset[str] = frozenset()
    sends_per_second: float | None = None  # of one account: spreads bursts, refuses nothing
    # How the vendor behaves.
    delivery_receipts: bool = False
    # So many sends to an address that came back for good (``Receipt.permanent``) without a sign
    # of life between them, or one that says it is gone, and nothing more is sent there before
    # somebody there writes. None = whatever came back.
    returns: int | None = None
    dedupes_sends: bool = False  # the vendor drops a repeated send by our key
    sees_foreign_answers: bool = True  # answers given outside the hub reach us as well
    conversation: str = "customer"  # default policy: "customer", "thread" or "channel"
