"""What somebody meets who has just installed Omniline: words, not tracebacks, and whole ids."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from hub import cli as command_line
from hub.accounts.measures import AccountMeasures
from hub.admin import open_space
from hub.app import Hub
from hub.checks import check_config
from hub.cli import cli
from hub.clock import SystemClock
from hub.config import Config, ConfigError, load, parse_settings
from hub.config.describe import settings_page
from hub.config.loader import load_text
from hub.documents import DeadLetter
from hub.metrics import Metrics
from hub.plugin_host import PluginHost
from hub.replay import offline_connectors, redrive
from hub.space import space_key
from hub.store.memory import MemoryStore
from hub.tables import print_table
from tests.cli.demo import demo_config
from tests.support.hubs import config_text

LETTER = "ded_01m818mtk8eb8gv9809xfthvk9"
REASON = "Nobody takes mail [/there] any more [bold]"


def omniline(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


@pytest.fixture
def config(mongo_url: str, mongo_db_name: str, tmp_path: Path) -> Path:
    """The file of a hub that nobody has started."""
    path = tmp_path / "omniline.toml"
    path.touch(mode=0o600)
    path.write_text(config_text(mongo_url, mongo_db_name, tmp_path, accounts=["main"]))
    return path


# --- dead letters --------------------------------------------------------------------------------


async def test_every_bundled_channel_is_replayed_without_a_hub(tmp_path: Path) -> None:
    """`omniline replay` makes the connectors of all configured accounts: each can be made."""
    config = load(demo_config(tmp_path))
    store = MemoryStore()
    made = offline_connectors(config, space_key(config.hub), store)
    assert {channel for channel, _ in made} == {"site", "mail", "wechat", "weibo", "sms", "ivr"}
    assert await redrive(config, store, [], every=True) == 0


def test_dead_letters_are_listed_with_whole_ids_and_reasons(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id can be copied into `replay` and `settle` from a narrow terminal as well."""

    async def put(settings: Config) -> None:
        async with open_space(settings) as (store, _):
            letter = DeadLetter(
                id=LETTER,
                kind="job",
                stage="send:unreachable",
                reason=REASON,
                channel="sms",
                account="shop",
                ref="job_06bwckkk9hstwdgfejeqzg2vhf",
                at=SystemClock().now(),
                state="open",
            )
            await store.table(DeadLetter).insert([letter])

    command_line._run(put(load(config)))
    monkeypatch.setenv("COLUMNS", "80")
    listed = omniline("dead-letters", "--config", str(config))
    assert listed.exit_code == 0, listed.exception
    for shown in (LETTER, "send:unreachable", "sms:shop", REASON):
        assert shown in listed.output
    (told,) = json.loads(omniline("dead-letters", "--json", "--config", str(config)).output)
    assert (told["id"], told["reason"]) == (LETTER, REASON)
    none = omniline("dead-letters", "--state", "settled", "--config", str(config))
    assert none.output == "there is no settled dead letter\n"


def test_a_table_folds_and_never_reads_what_strangers_wrote(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal of 60 columns the id is whole; a closing tag in a cell is only text."""
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("COLUMNS", "60")
    print_table(("id", "reason"), [(LETTER, "install omniline[mail] [/x] " * 3)], title="[a]")
    told = capsys.readouterr().out
    assert LETTER in told
    assert "omniline[mail]" in told
    assert "[/x]" in told
    assert "…" not in told


# --- plugins -------------------------------------------------------------------------------------


def test_plugins_tell_the_settings_of_a_channel_and_of_a_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes an account finds its keys, what they expect and which are needed."""
    monkeypatch.chdir(tmp_path)  # there is no omniline.toml yet
    wechat = omniline("plugins", "wechat")
    webhook = omniline("plugins", "webhook")
    unknown = omniline("plugins", "fax")
    every = json.loads(omniline("plugins", "--json").output)
    no_file = omniline("plugins", "--config", "nowhere.toml")
    assert wechat.exit_code == 0, wechat.exception
    for shown in ('channel = "wechat"', "encoding_aes_keys", "required", "Secret."):
        assert shown in wechat.output
    assert 'type = "webhook"' in webhook.output
    assert unknown.exit_code == 2
    assert "there is no plugin fax; there are: " in unknown.output
    (site,) = [each for each in every if each["name"] == "site"]
    keys = [row["key"] for row in site["settings"]['[[accounts]] with channel = "site"']]
    assert "site_id" in keys
    assert isinstance(no_file.exception, ConfigError)


def test_the_example_of_the_settings_page_is_a_configuration_that_works(tmp_path: Path) -> None:
    """Its settings are those of the bundled plugins: what a stranger copies is not refused."""
    example = settings_page().split("```toml\n")[1].split("```")[0]
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    for name, text in (
        ("wechat-token", "f5f90209f92f1256c165b59d"),
        ("wechat-aes-key", "8dX0ll73asiUhtMvlGNFKbFYPcV7Ha5F2edMlsmJRRZ"),
        ("helpdesk", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"),
    ):
        (secrets / name).touch(mode=0o600)
        (secrets / name).write_text(text)
    path = tmp_path / "omniline.toml"
    path.touch(mode=0o600)
    path.write_text(example)
    environ = {"MONGO_URL": "mongodb://127.0.0.1:1", "WECHAT_APP_SECRET": "s"}
    config = load(path, environ=environ)
    host = PluginHost.for_config(config)
    host.discover()
    for account in config.accounts:
        parse_settings(host.connectors()[account.channel].settings, account.settings)
    for backend in config.backends:
        parse_settings(host.backends()[backend.type].settings, backend.settings)


# --- mistakes ------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "a channel that no account has": (
        lambda path: ["simulate", "fax", "--config", str(path)],
        "the configuration has no account of the channel fax; there are: site:shop, mail:support",
    ),
    "an address without http": (
        lambda path: ["simulate", "sms", "--to", "localhost", "--config", str(path)],
        "such as http://127.0.0.1:8080, not localhost",
    ),
    "a sample that is not there": (
        lambda path: ["simulate", "sms", "--sample", "nope", "--config", str(path)],
        "has no sample nope; there are: text, opt-out",
    ),
    "a hub that does not run": (
        lambda path: ["simulate", "sms", "--to", "http://127.0.0.1:9", "--config", str(path)],
        "nobody answers at http://127.0.0.1:9",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_simulate_is_told_with_what_there_is(mistake: str, tmp_path: Path) -> None:
    words, told = MISTAKES[mistake]
    result = omniline(*words(demo_config(tmp_path)))
    assert result.exit_code == 1
    assert told in str(result.exception)


def test_a_folder_that_cannot_be_written_is_not_called_a_broken_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is it a traceback."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "omniline.toml"
    path.write_text(f'[hub]\ndata_dir = "{tmp_path}/file/data"\n')
    monkeypatch.setattr(sys, "argv", ["omniline", "keys", "list", "--config", str(path)])
    with pytest.raises(SystemExit) as stopped:
        command_line.main()
    assert stopped.value.code == 1
    told = capsys.readouterr().err
    assert "cannot be made or written to: Not a directory" in told
    assert "name another hub.data_dir" in told


def test_what_the_system_refuses_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied", "/var/lib/omniline/mongo")

    monkeypatch.setattr(command_line, "cli", refuse)
    with pytest.raises(SystemExit) as stopped:
        command_line.main()
    assert stopped.value.code == 1
    assert "Permission denied: '/var/lib/omniline/mongo'" in capsys.readouterr().err


def test_a_key_for_an_account_that_is_not_configured_is_warned_of(config: Path) -> None:
    made = omniline(
        *("keys", "create", "shop", "--scope", "feed:read", "--account", "sample:mian"),
        *("--config", str(config)),
    )
    assert made.exit_code == 0
    assert "no account sample:mian; there are: sample:main" in made.stderr
    assert made.stdout.splitlines()[-1].startswith("omk_")


def test_a_key_that_stands_twice_at_the_end_is_not_called_an_open_bracket() -> None:
    """Python's parser says "at end of document" of both."""
    with pytest.raises(ConfigError) as wrong:
        load_text("[hub]\nport = 1\nport = 2")
    assert "omniline.toml:3: not valid TOML: Cannot overwrite a value." in str(wrong.value)
    assert "stands here twice" in str(wrong.value)


async def test_a_feed_sink_that_nobody_brings_is_refused(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """A table that would send nothing does not pass in silence."""
    more = '[[feeds]]\ntype = "kafka"\nname = "warehouse"\n'
    text = config_text(mongo_url, mongo_db_name, tmp_path, accounts=["main"], more=more)
    with pytest.raises(ConfigError, match="there is no feed sink 'kafka'"):
        await check_config(load_text(text))


async def test_a_stop_takes_no_longer_than_the_setting_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that does not end is cut and named; the time is for all parts together."""
    monkeypatch.setattr("hub.app.DRAIN_LEAST_S", 0.01)
    hub = Hub(load_text(f'[hub]\ndata_dir = "{tmp_path}"\ndrain_timeout_s = 0\n'))
    stop = Mock()
    hangs = asyncio.create_task(asyncio.Event().wait(), name="workers")
    ends = asyncio.create_task(asyncio.sleep(0), name="router")
    with capture_logs() as logs:
        await hub._drained(stop, hangs)
        await hub._drained(stop, ends)
    assert (hangs.cancelled(), ends.done(), stop.call_count) == (True, True, 2)
    assert [(line["event"], line["part"]) for line in logs] == [("drain_cut", "workers")]


def test_every_metric_is_explained_to_operators() -> None:
    """And none that does not exist: the page is what alarms are made from."""
    metrics, clock = Metrics(), SystemClock()
    metrics.registry.register(AccountMeasures(list, clock))
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in metrics.registry.collect()
    }
    page = (Path(__file__).parents[2] / "docs/operate.md").read_text()
    assert set(re.findall(r"^\| `(omniline_\w+)`", page, re.MULTILINE)) == names
