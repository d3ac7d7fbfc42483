"""One real mail server for the run, one mailbox for each test, and connectors that use it.

All of these tests run in one worker, so that there is one server, whatever the run's width.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.mail.mailboxes import Mailbox, made
from tests.support.mailserver import MailServer, real_mail_server

HERE = Path(__file__).parent

MakeBox = Callable[..., Awaitable[Mailbox]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and "mail_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("mailserver"))
            item.add_marker(pytest.mark.real_mail)


@pytest.fixture(scope="session")
def mail_server() -> Iterator[MailServer]:
    with real_mail_server() as server:
        yield server


@pytest.fixture
async def make_box(mail_server: MailServer) -> AsyncIterator[MakeBox]:
    """Make mailboxes of one's own, each with a connector that is not held yet."""
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> Mailbox:
            return await stack.enter_async_context(made(mail_server, **settings))

        yield make


@pytest.fixture
async def box(make_box: MakeBox) -> Mailbox:
    return await make_box()
