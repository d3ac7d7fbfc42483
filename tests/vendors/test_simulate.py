"""`omniline simulate` plays the vendor: signed for the hub's URL, whatever the way to the hub."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from click.testing import CliRunner

from hub.cli import cli
from hub.config.loader import load_text
from hub.documents import Entry
from hub.simulate import simulate_channel
from tests.support.hubs import SECRET, config_text, running_hub

FORM = '[[accounts]]\nchannel = "sample_form"\nkey = "main"\nsecret = "{}"\n'
MODULES = ["hub.testing.samples.webhook", "hub.testing.samples.form"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_samples_of_every_scheme_are_believed_by_a_running_hub(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """Without --to the hub is found by its file; the signed URL is public_url all the same."""
    for public_url in ("", "https://desk.example/hub"):
        settings = {"port": _free_port(), "plugin_modules": MODULES}
        if public_url:
            settings["public_url"] = public_url
        form = FORM.format("one")
        text = config_text(mongo_url, mongo_db_name, tmp_path, hub=settings, more=form)
        async with running_hub(mongo_url, mongo_db_name, tmp_path, hub=settings, more=form) as hub:
            played = [each async for each in simulate_channel(load_text(text), "sample_form")]
            assert [str(each) for each in played] == [
                "handshake: GET HTTP 200 a word",
                "text: POST HTTP 200",
            ]
            base = public_url or hub.hub.url
            assert {each.signed_url.partition("?")[0] for each in played} == {
                f"{base}/in/sample_form/main"
            }
            body_signed = [
                each async for each in simulate_channel(load_text(text), "sample", to=hub.hub.url)
            ]
            assert {each.status for each in body_signed} == {200}
            await hub.until("the form's entry", lambda: hub.hub.store.table(Entry).find({}))

            file = tmp_path / "omniline.toml"
            command = ["simulate", "sample_form", "--config", str(file)]
            file.write_text(text)
            good = await asyncio.to_thread(CliRunner().invoke, cli, command)
            assert (good.exit_code, good.output) == (
                0,
                "handshake: GET HTTP 200 a word\ntext: POST HTTP 200\n",
            )
            file.write_text(text.replace('secret = "one"', 'secret = "two"'))
            bad = await asyncio.to_thread(CliRunner().invoke, cli, command)
            assert bad.exit_code == 1
            assert "handshake: GET HTTP 403" in bad.output
            assert "2 refused" in bad.output


def test_the_command_says_what_to_do_when_it_cannot_know_where_the_hub_is(tmp_path: Path) -> None:
    """Port 0 is any port: the command asks for --to; an unknown sample is named."""
    file = tmp_path / "omniline.toml"
    file.write_text(config_text("mongodb://127.0.0.1:1", "none", tmp_path))
    for args, told in (
        ([], "add --to URL"),
        (["--to", "http://127.0.0.1:1", "--sample", "no-such"], "has no sample no-such"),
        (["--to", "http://127.0.0.1:1", "--account", "third"], "no account sample:third"),
    ):
        result = CliRunner().invoke(cli, ["simulate", "sample", "--config", str(file), *args])
        assert result.exit_code != 0
        assert told in str(result.exception)
    assert SECRET.decode() not in result.output
