"""The page of what channels can do is current, and says what connectors declare, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from hub import Connector
from hub.channel_matrix import bundled_connectors, channels_page
from hub.testing.samples.held import SampleHeld
from hub.testing.samples.poll import SamplePoll
from hub.testing.samples.webhook import SampleWebhook
from normalizer.capabilities import Capabilities, Quota, Window
from tests.support.hubs import running_hub

DOCS = Path(__file__).parents[2] / "docs" / "channels"


def test_the_page_is_made_from_the_connectors() -> None:
    kinds = bundled_connectors()
    command = "python -m hub.channel_matrix > docs/channels/README.md"
    assert (DOCS / "README.md").read_text() == channels_page(kinds), command


def test_every_bundled_channel_has_a_page_of_its_own() -> None:
    missing = [name for name in bundled_connectors() if not (DOCS / f"{name}.md").exists()]
    assert not missing, f"write docs/channels/ pages for {missing}"


class Rich(SampleWebhook):
    capabilities: ClassVar[Capabilities] = Capabilities(
        sends=frozenset({"text", "image"}),
        max_text_chars=600,
        max_media_bytes=2 * 1024 * 1024,
        image_types=frozenset({"image/jpeg"}),
        recall_window_s=120,
        templates=True,
        windows=(
            Window(
                name="w",
                opens_on=frozenset({"message"}),
                closes_on=frozenset({"contact.unfollowed"}),
                seconds=172800,
                sends=5,
                templates_pass=True,
            ),
            Window(name="v", opens_on=frozenset({"menu.clicked"}), seconds=90),
        ),
        quotas=(Quota(name="daily", sends=100, period_s=86400, per="address"),),
        sends_per_second=20,
        sees_foreign_answers=False,
        dedupes_sends=True,
    )


def test_each_declaration_is_on_the_page_in_words() -> None:
    kinds: dict[str, type[Connector[Any]]] = {
        "rich": Rich,
        **{f"p{count}": SamplePoll for count in range(4)},
        "held": SampleHeld,
    }
    page = channels_page(kinds)
    rows = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if " | " in line}
    assert all(line.count("|") == 8 for line in rows.values()), "a column for each channel"
    told = {name: line.split(" | ")[1] for name, line in rows.items()}
    assert told["doors"] == "webhook"
    assert [cell.strip(" |") for cell in rows["doors"].split(" | ")[2:]] == [
        *["poll"] * 4,
        "held connection",
    ]
    assert told["windows"] == (
        "5 within 2 days of message, until contact.unfollowed; templates at any time"
        "<br>any number within 90 seconds of menu.clicked"
    )
    assert told["quotas"] == "100 in 1 day for each address"
    assert told["files"] == "2 MiB each; image/jpeg"
    assert told["recall"] == "for 2 minutes"
    assert told["pace of an account"] == "20 a second"
    assert told["answers given outside the hub are visible"] == "no"
    assert told["a send without an answer is"] == "sent again: the vendor drops a second one"
    assert "On rich nobody tells the hub" in page


async def test_a_timeline_says_where_answers_given_elsewhere_are_missing(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_hub(mongo_url, mongo_db_name, tmp_path) as hub:
        await hub.message("hello", sender="ann")
        path = f"customers/{await hub.customer('ann')}"
        assert (await hub.get(f"/api/v1/{path}/timeline"))["remarks"] == []
        blind = replace(SampleWebhook.capabilities, sees_foreign_answers=False)
        monkeypatch.setattr(SampleWebhook, "capabilities", blind)
        (remark,) = (await hub.get(f"/api/v1/{path}/timeline"))["remarks"]
        assert (remark["channel"], remark["account"]) == ("sample", "main")
        assert remark["kind"] == "foreign_answers_unseen"
        page = (await hub.call("GET", f"/console/{path}")).body.decode()
        assert remark["text"] in page
