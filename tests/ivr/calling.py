"""Calls to a connector without a hub around it: what it says to Twilio, and its drafts."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from connectors.ivr import IvrConnector
from connectors.ivr.settings import IvrSettings
from hub import Account, RawTable, Request, Verified, parse_settings
from hub.testing import FakeClock, FakeServices
from normalizer.drafts import Amendment, AnyDraft, Event, Message
from normalizer.keys import dedupe_key
from tests.ivr.fake_twilio import ACCOUNT_SID, DOOR, NUMBER, TOKEN, Call

PAGE = Path(__file__).parents[2] / "docs" / "channels" / "ivr.md"
WORKING = datetime.fromisoformat("2026-03-02T10:00:00+08:00")  # a Monday, in office hours
NIGHT = datetime.fromisoformat("2026-03-02T23:00:00+08:00")


def example_menu() -> dict[str, Any]:
    """Return the menu that stands in the docs."""
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    found = [block for block in blocks if block.startswith("# hotline.toml")]
    assert len(found) == 1
    return tomllib.loads(found[0])


def menu_with_queue() -> dict[str, Any]:
    menu = example_menu()
    people = {"kind": "queue", "queue": "support", "failed": "mailbox", "max_wait_s": 120}
    menu["steps"]["people"] = {**people, "say": {"zh-CN": "请稍候。", "en-US": "Please wait."}}
    del menu["targets"], menu["phrases"]["consent"]
    return menu


def settings(**more: Any) -> dict[str, Any]:
    return {
        "account_sid": ACCOUNT_SID,
        "auth_tokens": [TOKEN],
        "numbers": [NUMBER],
        "menu": example_menu(),
        "tidy_every_s": 0,
        **more,
    }


class Desk:
    """One account of the channel, and everything that it made of calls."""

    def __init__(
        self, *, at: datetime = WORKING, services: FakeServices | None = None, **more: Any
    ) -> None:
        self.clock = FakeClock(at)
        self.services = services or FakeServices(clock=self.clock, public_url="https://hub.example")
        table = RawTable.of(
            {name: value for name, value in settings(**more).items() if value is not None}
        )
        account = Account(
            channel="ivr",
            key="main",
            label="Hotline",
            settings=parse_settings(IvrSettings, table, "ivr:main"),
        )
        self.connector = IvrConnector(account, self.services.connector_context("ivr", "main"))
        self.requests: list[Verified] = []
        self.drafts: list[AnyDraft] = []

    def call(self, number: int = 1, **fields: str) -> Call:
        return Call(self.post, number=number, now=self.clock.now, **fields)

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str, bytes]:
        assert url.startswith(DOOR), f"a URL that does not lead to the hub: {url}"
        place = urlsplit(url)
        request = Request(
            method="POST",
            url=url,
            path=place.path.removeprefix(urlsplit(DOOR).path),
            query_string=place.query,
            headers=headers,
            body=body,
            received_at=self.clock.now(),
        )
        verified = self.connector.verify(request)
        drafts = self.connector.parse(verified)
        self.requests.append(verified)
        self.drafts += drafts
        answer = self.connector.answer(verified, drafts, self.clock)
        return answer.status, answer.content_type, answer.body

    # --- what came of it -------------------------------------------------------------------------

    @property
    def keys(self) -> list[str]:
        return [dedupe_key("ivr", "main", draft) for draft in self.drafts]

    @property
    def events(self) -> list[str]:
        """What the feed is told, each thing once, in order."""
        told: dict[str, str] = {}
        for key, draft in zip(self.keys, self.drafts, strict=True):
            if isinstance(draft, Event):
                told.setdefault(key, draft.name)
            elif isinstance(draft, Message):
                told.setdefault(key, draft.event)
            elif isinstance(draft, Amendment):
                told.setdefault(key, str(draft.data.get("event", "")))
        return [name for name in told.values() if name]

    @property
    def messages(self) -> list[Message]:
        once = {
            dedupe_key("ivr", "main", draft): draft
            for draft in reversed(self.drafts)
            if isinstance(draft, Message)
        }
        return list(reversed(once.values()))

    def steps(self, event: str = "") -> list[Mapping[str, Any]]:
        return [
            draft.data
            for draft in self.drafts
            if isinstance(draft, Amendment) and event in ("", draft.data.get("event"))
        ]


def form(verified: Verified) -> bytes:
    return verified.payload


def texts(messages: Sequence[Message]) -> list[str]:
    return [getattr(part, "text", "") for message in messages for part in message.parts]
