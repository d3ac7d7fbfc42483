"""Which account an answer leaves by where nobody was heard at one: only a named one, and one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hub.api.ways import chosen_way, other_ways
from hub.documents import AddressDoc
from hub.planning.rules import Refusal
from normalizer.capabilities import Capabilities

TEXTS = Capabilities(sends=frozenset({"text"}), reaches=frozenset({"tel"}))
CONNECTORS: Any = {
    name: SimpleNamespace(capabilities=can)
    for name, can in {
        ("chat", "shop"): Capabilities(sends=frozenset({"text"})),
        ("phone", "main"): Capabilities(),
        ("texts", "two"): TEXTS,
        ("texts", "one"): TEXTS,
        ("receiver", "one"): Capabilities(reaches=frozenset({"tel"})),
    }.items()
}
CALLER = AddressDoc(id="adr_tel", scheme="tel", channel="phone", account="main")
TEXTER = AddressDoc(id="adr_tel", scheme="tel", channel="texts", account="two")
CHATTER = AddressDoc(id="adr_chat", scheme="chat", channel="chat", account="shop")


class Key:
    def __init__(self, *accounts: str) -> None:
        self.accounts = accounts

    def sees(self, channel: str, account: str) -> bool:
        return not self.accounts or f"{channel}:{account}" in self.accounts


def test_an_address_shows_the_accounts_that_reach_it_beside_its_own() -> None:
    found = {
        doc.id + doc.channel: [
            f"{way.channel}:{way.account}" for way in other_ways(CONNECTORS, doc)
        ]
        for doc in (CALLER, TEXTER, CHATTER)
    }
    assert found == {
        "adr_telphone": ["texts:one", "texts:two"],
        "adr_teltexts": ["texts:one"],
        "adr_chatchat": [],
    }


@pytest.mark.parametrize(
    ("docs", "named", "key", "leaves_by"),
    [
        ([CALLER], ("", ""), Key(), None),  # nobody chose: never by itself
        ([CALLER], ("phone", ""), Key(), None),
        ([CALLER], ("texts", "one"), Key(), "texts:one"),
        ([CALLER], ("texts", ""), Key("texts:two", "phone:main"), "texts:two"),
        ([TEXTER], ("texts", ""), Key(), None),  # it was heard there
        ([TEXTER], ("texts", "one"), Key(), "texts:one"),
        ([CHATTER], ("texts", "one"), Key(), None),
        ([CHATTER, CALLER], ("texts", "one"), Key(), "texts:one"),
        ([CALLER], ("texts", "three"), Key(), None),
        ([CALLER], ("receiver", "one"), Key(), None),  # it sends nothing
        ([CALLER], ("texts", ""), Key(), "bad-request"),  # which of the two?
        ([CALLER], ("texts", "one"), Key("phone:main"), "forbidden"),
    ],
)
def test_the_way_is_the_one_that_was_named_and_may_be_used(
    docs: list[AddressDoc], named: tuple[str, str], key: Any, leaves_by: str | None
) -> None:
    try:
        way = chosen_way(CONNECTORS, key, docs, *named)
        found = f"{way.channel}:{way.account}" if way is not None else None
        assert way is None or way.address == CALLER.id
    except Refusal as refusal:
        found = refusal.error
    assert found == leaves_by
