"""The demo of ``make run``: start the hub, let a customer come by six channels, stay in front.

Everything goes through the real doors. The vendors are stand-ins on this machine
(docs/demo/vendors.py), the people are in docs/demo/people.py.
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
import uuid
from pathlib import Path
from string import Template

import aiohttp

from connectors.wechat.settings import WechatSettings
from connectors.weibo.settings import WeiboSettings
from docs.demo.people import SITE, Agent, Customer, identity_token, say
from docs.demo.vendors import Vendors, vendors
from hub.config import load, parse_settings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATA = Path(os.environ.get("OMNILINE_DEMO_DATA", ROOT / "demo-data"))
CONFIG = DATA / "omniline.toml"
KEY_FILE = DATA / "demo.key"
OMNILINE = Path(sys.executable).with_name("omniline")
SHOWN = {path: os.path.relpath(path) for path in (CONFIG, KEY_FILE, OMNILINE)}
PORT = 8080
READY_S = 60


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


def make_config(cast: Vendors) -> str:
    """Write the demo's configuration, for its owner only; return the key that signs identities."""
    DATA.mkdir(exist_ok=True, mode=0o700)
    identity_key = secrets.token_urlsafe(32)
    text = Template((HERE / "omniline.toml").read_text()).substitute(
        PORT=free_port(),
        SERVER_KEY=secrets.token_urlsafe(32),
        IDENTITY_KEY=identity_key,
        **cast.settings,
    )
    CONFIG.touch(mode=0o600)
    CONFIG.write_text(text)
    shutil.copy(HERE / "hotline.toml", DATA)
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


def signing_settings() -> tuple[WechatSettings, WeiboSettings]:
    """Return what WeChat and Weibo sign with, as the hub's file has it."""
    tables = {each.channel: each for each in load(CONFIG).accounts}
    return (
        parse_settings(WechatSettings, tables["wechat"].settings, "wechat:shop"),
        parse_settings(WeiboSettings, tables["weibo"].settings, "weibo:shop"),
    )


async def play(url: str, key: str, identity_key: str, cast: Vendors) -> str:
    """Play the conversation; return the customer it is about."""
    async with aiohttp.ClientSession() as http:
        wei, mei = Customer(http, url, cast, signing_settings()), Agent(http, url, key)
        say("\nSomebody writes on the shop's site; nobody knows yet who it is:")
        token = await wei.arrives()
        await wei.writes("在吗？我想问一下订单 SF1024 什么时候发货 😀")
        customer = await mei.newest_customer()
        await mei.answers(customer, "site", "您好！今天下午就会发出，请放心 🚚")

        say("He logs in. The shop's server vouches for his mailbox, so his mail is his as well:")
        await wei.arrives(identity_token(f"user-{uuid.uuid4().hex[:6]}", identity_key), token)
        await wei.writes("我登录了，发票抬头请用公司名。")
        await wei.mails("发票抬头", "上海某某贸易有限公司，税号见附页。")
        customer = await mei.newest_customer()
        await mei.sees(customer, "mail")
        await mei.notes(customer, "Needs an invoice in the company's name.")

        say("The page shows him a code. Told on WeChat, it links him there; nobody guesses:")
        await wei.wechats(await mei.code(customer))
        await mei.sees(customer, "wechat")
        await wei.wechats("以后微信联系我吧。")
        await mei.sees(customer, "wechat", 2)
        await mei.answers(customer, "wechat", "好的，发票已开，会随包裹寄出。")

        say("Another one by SMS. A phone number alone would prove nothing:")
        await wei.texts(await mei.code(customer))
        await mei.sees(customer, "sms")
        await wei.texts("快递请放门卫。")
        await mei.sees(customer, "sms", 2)
        await mei.answers(customer, "sms", "收到，已备注：放门卫。")

        say("He calls from the same number, and asks to be called back:")
        await wei.calls(["1", "1", "1"])
        await mei.sees(customer, "ivr")

        say("And on Weibo, with a third code:")
        await wei.weibos(await mei.code(customer))
        await mei.sees(customer, "weibo")
        await wei.weibos("包裹到了，茶很香，谢谢小梅！[赞]")
        await mei.sees(customer, "weibo", 2)
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
    async with vendors() as cast:
        return await run(cast)


async def run(cast: Vendors) -> int:
    identity_key = make_config(cast)
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
        customer = await play(url, await api_key(), identity_key, cast)
        link = await command("signin", "--url", url)
        say(f"""
The hub runs at {url}

  sign in (works once, 15 minutes)   {link}
  this customer's timeline           {url}/console/customers/{customer}
  the shop's page, to write yourself {url}{SITE}/demo
  a vendor's pushes, signed          {SHOWN[OMNILINE]} simulate wechat --config {SHOWN[CONFIG]}
  the feed                           curl -H "Authorization: Bearer $(cat {SHOWN[KEY_FILE]})" \\
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
