"""Where the console lets an agent answer: what is usual first, what only a choice opens behind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hub.api.views import AddressView, CustomerView, OtherWayView, TimelinePage
from hub.console.pages import _targets
from normalizer.capabilities import Capabilities

AT = datetime(2024, 3, 1, tzinfo=UTC)
TEXT = Capabilities(sends=frozenset({"text"}), max_text_chars=600)
TEXTS = OtherWayView(channel="texts", account="main", capabilities=TEXT)
TEMPLATES = OtherWayView(
    channel="texts",
    account="china",
    capabilities=Capabilities(sends=frozenset({"text"}), free_text=False),
)


def address(ident: str, channel: str, can: Capabilities, *also_by: OtherWayView) -> AddressView:
    return AddressView(
        id=ident,
        address=f"{channel}:main:user:{ident}",
        channel=channel,
        account="main",
        thread=None,
        profile=None,
        can_reply=bool(can.sends),
        capabilities=can,
        also_by=list(also_by),
        gone_at=None,
    )


def targets(*addresses: AddressView) -> list[tuple[Any, ...]]:
    customer = CustomerView(
        id="cus_1",
        name="",
        created_at=AT,
        seen_at=AT,
        profile=None,
        addresses=list(addresses),
        open_conversations=[],
    )
    page = TimelinePage(
        customer="cus_1", merged_from=None, entries=[], remarks=[], next_cursor=None, latest=""
    )
    return [(each.id, each.channel, each.account, each.most) for each in _targets(customer, page)]


def test_a_caller_can_be_texted_by_a_choice_of_its_own_and_by_no_account_of_templates() -> None:
    caller = address("tel", "phone", Capabilities(), TEXTS, TEMPLATES)
    assert targets(caller) == [("tel", "texts", "main", 600)]
    chatter = address("li", "chat", TEXT)
    assert targets(caller, chatter) == [("li", "chat", "", 600), ("tel", "texts", "main", 600)]
