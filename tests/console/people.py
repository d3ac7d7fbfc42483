"""Agents who read the console, and customers who give them something to read."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import aiohttp

from hub.api.sessions import create_signin_link
from hub.ids import new_id
from normalizer.addresses import Address
from normalizer.drafts import AnyDraft, Message, Profile
from normalizer.parts import AnyPart, Text
from tests.support.hubs import RunningHub


class Page:
    """An HTML page, taken apart far enough to ask what is in it."""

    def __init__(self, status: int, headers: Any, text: str) -> None:
        self.status = status
        self.headers = headers
        self.text = text
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.lines: list[Line] = []
        _Reader(self).feed(text)

    @property
    def shown(self) -> str:
        return " ".join(" ".join(self.words).split())

    def attributes(self, tag: str, name: str) -> list[str]:
        return [held[name] for each, held in self.elements if each == tag and name in held]


class Line:
    """One line of the timeline: its classes, and its words."""

    def __init__(self, ident: str, classes: str) -> None:
        self.id = ident
        self.classes = classes.split()
        self.words: list[str] = []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def __repr__(self) -> str:
        return f"<{' '.join(self.classes)}: {self.text}>"


class _Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page = page
        self._line: Line | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = {name: value or "" for name, value in attrs}
        self._page.elements.append((tag, held))
        if tag == "li" and "data-id" in held:
            self._line = Line(held["data-id"], held["class"])
            self._page.lines.append(self._line)

    def handle_endtag(self, tag: str) -> None:
        if tag == "li":
            self._line = None

    def handle_data(self, data: str) -> None:
        self._page.words.append(data)
        if self._line is not None:
            self._line.words.append(data)


class Agents:
    """Browsers without a script: each has its own cookies."""

    def __init__(self, hub: RunningHub) -> None:
        self._hub = hub
        self._sessions: list[aiohttp.ClientSession] = []

    async def __aenter__(self) -> Agents:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for session in self._sessions:
            await session.close()

    async def link(
        self, name: str = "Mei", scopes: Sequence[str] = ("admin",), accounts: Sequence[str] = ()
    ) -> str:
        hub = self._hub.hub
        return await create_signin_link(
            hub.store, hub.clock, hub.url, name=name, scopes=scopes, accounts=accounts
        )

    async def anybody(self) -> Agent:
        session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self._sessions.append(session)
        return Agent(self._hub.hub.url, session)

    async def sign_in(self, *args: Any, **options: Any) -> Agent:
        agent = await self.anybody()
        async with agent.session.get(await self.link(*args, **options)) as answer:
            assert answer.status == 200
        return agent


class Agent:
    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def get(self, path: str, *, status: int = 200) -> Page:
        async with self.session.get(self.url + path, allow_redirects=False) as answer:
            text = await answer.text()
            assert answer.status == status, text
            return Page(answer.status, answer.headers, text)

    async def customer(self, ident: str, query: str = "") -> Page:
        return await self.get(f"/console/customers/{ident}{query}")


class Console:
    def __init__(self, hub: RunningHub, agents: Agents) -> None:
        self.hub = hub
        self.agents = agents

    async def take_in(self, *drafts: AnyDraft, account: str = "main") -> None:
        """Let something come in by the poll door, and wait until it is routed."""
        await self.hub.hub.services.take_in("sample", account, drafts, door="poll")

        async def routed() -> bool:
            return (await self.hub.hub.store.inbox.backlog())[0] == 0

        await self.hub.until("the router", routed)

    async def say(
        self,
        *parts: AnyPart | str,
        sender: str = "ann",
        name: str = "",
        account: str = "main",
        **more: Any,
    ) -> str:
        """Let a customer say something; return who that customer is."""
        address = Address(scheme="sample", account=account, kind="user", id=sender)
        said = tuple(Text(text=part) if isinstance(part, str) else part for part in parts)
        profile = Profile(name=name) if name else None
        draft = Message(key=new_id("key"), address=address, parts=said, profile=profile, **more)
        await self.take_in(draft, account=account)
        return await self.hub.customer(sender, account)

    async def command(self, name: str, **args: Any) -> dict[str, Any]:
        told = await self.hub.hub.services.run_command(
            name, args, key=new_id("key"), actor="agent:7", wait_s=10
        )
        assert told["state"] == "done", told
        return dict(told["result"])
