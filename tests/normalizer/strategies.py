"""Hypothesis strategies for what strangers may write, as drafts of every kind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from normalizer.addresses import Address
from normalizer.drafts import (
    Actor,
    Amendment,
    AmendmentKind,
    Command,
    DeliveryState,
    Event,
    Evidence,
    Identity,
    Message,
    Outcome,
    Profile,
    Receipt,
    Sender,
    Target,
    ThreadLabel,
)
from normalizer.model import Direction, Trust
from normalizer.parts import (
    Audio,
    Button,
    Calendar,
    Card,
    Extension,
    File,
    Form,
    Image,
    Link,
    Location,
    Media,
    QuickReplies,
    Text,
    Transcript,
    Unsupported,
    Video,
)

# Everything that has been trouble before, beside any character at all, surrogates included.
_TROUBLE = st.sampled_from(
    [
        *"\x00\x07\t\n\r\x7f\x85\xa0\u200d\u200e\u202e\u2067\ud800\udc00\ufe0f\u3000 .$/\\",
        "\r\n",
        "e\u0301",
        "\u0958",
        "👩\u200d👩\u200d👧",
        "🇨🇳",
        "＋８６１３８００１３８０００",
        "镕",
        "javascript:",
        "https://example.com/a b",
        "li@例子.中国",
    ]
)
_CHARS = st.characters(exclude_categories=())
text = st.lists(st.one_of(_CHARS, _TROUBLE), max_size=8).map("".join)
mostly = st.one_of(st.sampled_from(["", "hello", "你好😀"]), text)
data = st.recursive(
    st.one_of(
        text,
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.binary(max_size=4),
        st.dates(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=8,
)
mapping = st.dictionaries(text, data, max_size=3)
texts = st.dictionaries(text, text, max_size=3)
whole = st.one_of(st.none(), st.integers(-(2**70), 2**70))
when = st.one_of(
    st.none(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.datetimes(timezones=st.just(timezone(timedelta(hours=8)))),
    st.just(datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
)

address = st.one_of(
    st.builds(Address, scheme=text, account=text, kind=text, id=text),
    st.builds(Address, scheme=st.just("mail"), kind=st.just("mailbox"), id=text),
    st.builds(
        Address,
        scheme=st.just("tel"),
        kind=st.just("e164"),
        id=st.one_of(text, st.text("+0123456789 -（）０１３８", max_size=15)),
    ),
)
media = st.builds(
    Media,
    mime=mostly,
    size=whole,
    name=mostly,
    blob=st.one_of(st.none(), text),
    vendor_ref=st.one_of(st.none(), text),
    sha256=st.one_of(st.none(), text),
    width=whole,
    height=whole,
    duration_s=st.one_of(st.none(), st.floats()),
)
button = st.builds(Button, label=mostly, url=mostly, value=mostly)
buttons = st.lists(button, max_size=2).map(tuple)
part = st.one_of(
    st.builds(Text, text=text, format=mostly, quoted=mostly, source=mostly),
    st.builds(Image, media=media),
    st.builds(
        Audio,
        media=media,
        transcript=st.one_of(st.none(), st.builds(Transcript, text=text, by=text)),
    ),
    st.builds(Video, media=media, thumbnail=st.one_of(st.none(), media)),
    st.builds(File, media=media),
    st.builds(Location, lat=st.floats(), lon=st.floats(-200, 200), label=mostly, datum=mostly),
    st.builds(Link, url=mostly, title=mostly, text=mostly),
    st.builds(Card, title=text, text=mostly, image=st.one_of(st.none(), media), buttons=buttons),
    st.builds(QuickReplies, replies=buttons),
    st.builds(Form, fields=st.lists(mapping, max_size=2).map(tuple), answers=texts),
    st.builds(Calendar, method=mostly, summary=mostly, start=mostly, organizer=mostly),
    st.builds(Unsupported, what=text, text=mostly),
    st.builds(Extension, name=text, fallback=text, data=mapping),
)
parts = st.lists(part, max_size=3).map(tuple)
profile = st.builds(
    Profile,
    name=text,
    locale=mostly,
    avatar=mostly,
    mailbox=mostly,
    phone=mostly,
    attributes=texts,
)
sender = st.builds(Sender, name=text, address=st.one_of(st.none(), address), ref=mostly)
target = st.builds(
    Target, entry=st.one_of(st.none(), text), vendor_id=text, up_to_seq=whole, thread=text
)
_optional = {"profile": st.one_of(st.none(), profile), "at": when, "key": text}

label = st.builds(ThreadLabel, name=text, joins=st.booleans(), days=whole)
message = st.builds(
    Message,
    address=address,
    parts=parts,
    direction=st.sampled_from(Direction),
    sender=st.one_of(st.none(), sender),
    thread=mostly,
    subject=mostly,
    reply_to=st.one_of(st.none(), text),
    vendor_ids=st.lists(text, max_size=2).map(tuple),
    event=mostly,
    data=mapping,
    continues=st.lists(text, max_size=2).map(tuple),
    labels=st.lists(label, max_size=2).map(tuple),
    **_optional,
)
event = st.builds(
    Event,
    address=address,
    name=text,
    data=mapping,
    text=mostly,
    thread=mostly,
    vendor_ids=st.lists(text, max_size=2).map(tuple),
    **_optional,
)
# Whoever writes an edit or a reply by hand may write anything under the well-known names.
structured = st.one_of(
    mapping,
    st.builds(lambda values: {"parts": list(values)}, st.lists(part, max_size=2)),
    st.builds(lambda value: {"media": value, "index": 0}, media),
    st.fixed_dictionaries({"parts": data, "media": data}),
)
amendment = st.builds(
    Amendment,
    key=text,
    at=when,
    target=target,
    kind=st.sampled_from(AmendmentKind),
    address=st.one_of(st.none(), address),
    data=structured,
    seq=whole,
    by=st.one_of(st.none(), sender),
)
receipt = st.builds(
    Receipt,
    key=text,
    at=when,
    target=target,
    state=st.sampled_from(DeliveryState),
    address=st.one_of(st.none(), address),
    code=mostly,
    reason=mostly,
    seq=whole,
)
identity = st.builds(
    Identity,
    address=address,
    same_as=address,
    trust=st.sampled_from(Trust),
    evidence=st.builds(Evidence, kind=text, ref=mostly, note=mostly),
    role_event=mostly,
    **_optional,
)
command = st.builds(
    Command,
    key=text,
    at=when,
    name=text,
    actor=st.builds(Actor, kind=text, id=mostly, name=mostly),
    args=structured,
)
outcome = st.builds(
    Outcome,
    key=text,
    at=when,
    job=text,
    kind=text,
    entry=st.one_of(st.none(), text),
    conversation=st.one_of(st.none(), text),
    backend=mostly,
    result=structured,
)
draft = st.one_of(message, event, amendment, receipt, identity, command, outcome)
