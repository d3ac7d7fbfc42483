"""The demo of ``make run``: start the hub, play a short conversation, stay in the foreground.

Everything goes through the real doors: the visitor through the site's REST fallback with the
page's origin, the agent through the API with a key, as a helpdesk would.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import time
import uuid
from pathlib import Path
from string import Template

import aiohttp
import jwt

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATA = ROOT / "demo-data"
CONFIG = DATA / "omniline.toml"
KEY = "demo-data/demo.key"
KEY_FILE = ROOT / KEY
PORT = 8080
SITE = "/site/shop"
READY_S = 60


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def command(*words: str) -> str:
    """Run an ``omniline`` command beside the hub and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.cli", *words, "--config", str(CONFIG),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"`omniline {' '.join(words)}` failed with {process.returncode}")
    return out.decode().strip().splitlines()[-1]


def make_config() -> str:
    """Write the demo's configuration, for its owner only; return the key that signs identities."""
    DATA.mkdir(exist_ok=True, mode=0o700)
    identity_key = secrets.token_urlsafe(32)
    text = Template((HERE / "omniline.toml").read_text()).substitute(
        PORT=free_port(), SERVER_KEY=secrets.token_urlsafe(32), IDENTITY_KEY=identity_key
    )
    CONFIG.touch(mode=0o600)
    CONFIG.write_text(text)
    return identity_key


def free_port() -> int:
    """Return 8080, or any free port when something else has it."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", PORT))
        except OSError:
            trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


async def api_key() -> str:
    """Make a key at the first run; keep it beside the demo's data, for its owner only."""
    if KEY_FILE.exists():
        return KEY_FILE.read_text().strip()
    key = await command("keys", "create", "demo-player", "--scope", "admin")
    KEY_FILE.touch(mode=0o600)
    KEY_FILE.write_text(key + "\n")
    return key


class Visitor:
    """Somebody on the shop's page."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._origin = {"Origin": url}
        self._token = ""

    async def arrive(self, identity_token: str = "", visitor_token: str = "") -> str:
        body = {
            "page": {"url": f"{self._url}/demo", "title": "Tea shop"},
            "locale": "zh-CN",
            "identity_token": identity_token,
            "visitor_token": visitor_token,
        }
        async with self._http.post(
            f"{self._url}{SITE}/sessions", json=body, headers=self._origin
        ) as answer:
            answer.raise_for_status()
            opened = await answer.json()
        self._token = opened["access_token"]
        return str(opened.get("visitor_token", ""))

    async def write(self, text: str) -> None:
        headers = {
            **self._origin,
            "Authorization": f"Bearer {self._token}",
            "Idempotency-Key": str(uuid.uuid4()),
        }
        body = {"parts": [{"type": "text", "text": text}]}
        async with self._http.post(
            f"{self._url}{SITE}/conversations/new/messages", json=body, headers=headers
        ) as answer:
            answer.raise_for_status()
        say(f"  visitor: {text}")


class Agent:
    """Somebody at the shop, with an API key."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str) -> None:
        self._http = http
        self._api = f"{url}/api/v1"
        self._headers = {"Authorization": f"Bearer {key}"}

    async def newest_customer(self) -> str:
        async with self._http.get(
            f"{self._api}/customers", params={"limit": "1"}, headers=self._headers
        ) as answer:
            answer.raise_for_status()
            return str((await answer.json())["customers"][0]["id"])

    async def write(self, customer: str, text: str) -> None:
        headers = {**self._headers, "Idempotency-Key": str(uuid.uuid4())}
        body = {
            "channel": "site",
            "parts": [{"type": "text", "text": text}],
            "agent": "mei",
            "agent_name": "小梅 Mei",
        }
        async with self._http.post(
            f"{self._api}/customers/{customer}/replies", json=body, headers=headers
        ) as answer:
            answer.raise_for_status()
            entry = (await answer.json())["entry_id"]
        say(f"  agent:   {text}")
        async with asyncio.timeout(10):
            while True:
                async with self._http.get(
                    f"{self._api}/entries/{entry}", headers=self._headers
                ) as answer:
                    state = (await answer.json())["entry"]["delivery"] or {}
                if state.get("state") not in (None, "queued", "sending"):
                    return
                await asyncio.sleep(0.05)

    async def note(self, customer: str, text: str) -> None:
        async with self._http.post(
            f"{self._api}/customers/{customer}/notes", json={"text": text}, headers=self._headers
        ) as answer:
            answer.raise_for_status()
        say(f"  (note)   {text}")


def identity_token(user: str, name: str, key: str) -> str:
    """What the shop's own server would sign when somebody logs in."""
    now = int(time.time())
    claims = {
        "iss": "demo-shop", "sub": user, "aud": "omniline", "iat": now, "exp": now + 300,
        "jti": str(uuid.uuid4()), "name": name,
    }  # fmt: skip
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": "k1"})


async def play(url: str, key: str, identity_key: str) -> str:
    """Play the conversation; return the customer it is about."""
    async with aiohttp.ClientSession() as http:
        visitor, agent = Visitor(http, url), Agent(http, url, key)
        say("\nA visitor writes on the shop's site, nobody knows yet who it is:")
        token = await visitor.arrive()
        await visitor.write("在吗？我想问一下订单 SF1024 什么时候发货 😀")
        customer = await agent.newest_customer()
        await agent.write(customer, "您好！今天下午就会发出，请放心 🚚")
        await visitor.write("太好了，谢谢！能开发票吗？")
        say("The visitor logs in; both histories are one customer's now:")
        user = f"user-{uuid.uuid4().hex[:6]}"
        await visitor.arrive(identity_token(user, "李伟 Li Wei", identity_key), token)
        await visitor.write("我登录了，发票抬头请用公司名。")
        customer = await agent.newest_customer()
        await agent.note(customer, "Needs an invoice in the company's name.")
        await agent.write(customer, "没问题，发票会随包裹寄出。")
        return customer


async def ready_url(process: asyncio.subprocess.Process) -> str:
    """Wait for the hub's one line that says it takes traffic."""
    assert process.stdout is not None
    async with asyncio.timeout(READY_S):
        async for line in process.stdout:
            found = re.match(r"ready url=(\S+)", line.decode())
            if found:
                return found.group(1)
    raise SystemExit("the hub did not start; its messages are above")


async def main() -> int:
    if "--fresh" in sys.argv:
        shutil.rmtree(DATA, ignore_errors=True)
    identity_key = make_config()
    hub = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.cli", "run", "--config", str(CONFIG),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        url = await ready_url(hub)
        customer = await play(url, await api_key(), identity_key)
        link = await command("signin", "--url", url)
        say(f"""
The hub runs at {url}

  sign in (works once, 15 minutes)   {link}
  this customer's timeline           {url}/console/customers/{customer}
  the shop's page, to write yourself {url}{SITE}/demo
  the feed                           curl -H "Authorization: Bearer $(cat {KEY})" \\
                                          "{url}/feed/v1/events?limit=5"
  the API's description              {url}/openapi.json

Stop it with Ctrl-C.""")
        waiting = {asyncio.create_task(stopped.wait()), asyncio.create_task(hub.wait())}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
    finally:
        if hub.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                hub.send_signal(signal.SIGTERM)
            await hub.wait()
    return hub.returncode or 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
