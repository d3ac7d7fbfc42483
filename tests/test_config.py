"""Configuration: what is read, what is refused, and how the refusal reads.

Files, environments and secret files are real; nothing is faked.
Texts of errors are asserted because operators act on them.
"""

from __future__ import annotations

import base64
import copy
import io
import pickle
import re
import subprocess
import sys
import tomllib
import traceback
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from hub.config import (
    ConfigError,
    HubSettings,
    Key32,
    Name,
    RawTable,
    Secret,
    Wrong,
    describe,
    load,
    load_text,
    parse_settings,
    redacted,
    settings_page,
)
from hub.config.locate import locate

ROOT = Path(__file__).parent.parent
KEY = base64.b64encode(bytes(range(32))).decode()


class ShopSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel could declare."""

    app_id: Annotated[str, Meta(description="Id of the app.", min_length=1)]
    secret: Annotated[list[Secret], Meta(description="Secrets, newest first.", min_length=1)]
    aes_key: Annotated[Secret | None, Meta(min_length=8, max_length=8)] = None
    retries: Annotated[int, Meta(description="How often.", ge=0, le=9)] = 3
    pause: Annotated[float, Meta(ge=0, extra={"unit": "s"})] = 0.5
    options: dict[str, int] = {}
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.app_id == self.secret[0].reveal():
            raise ValueError(f"app_id and secret are both {self.app_id}")

    def check(self) -> Any:
        if self.retries and not self.pause:
            yield Wrong("pause", "retries need a pause", "Set it, or retries = 0.")


def problems_of(text: str, environ: dict[str, str] | None = None, **kwargs: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, environ or {}, **kwargs)
    return [str(problem) for problem in caught.value.problems]


def shop(text: str, environ: dict[str, str] | None = None) -> ShopSettings:
    head = '[[accounts]]\nchannel = "wechat"\nkey = "shop"\n'
    (account,) = load_text(head + text, environ or {}).accounts
    return parse_settings(ShopSettings, account.settings)


def shop_problems(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        shop(text, environ)
    return [str(problem) for problem in caught.value.problems]


# -- what is read ---------------------------------------------------------------------------------


def test_an_empty_file_gives_the_documented_defaults(tmp_path: Path) -> None:
    config = load_text("", {}, folder=tmp_path)
    hub = config.hub
    assert (hub.host, hub.port, hub.database, hub.driver) == (
        "127.0.0.1",
        8080,
        "omniline",
        "pymongo",
    )
    assert hub.mongo_url is None
    assert hub.data_dir == tmp_path / "data"
    assert (hub.commit_budget_ms, hub.spool_max_bytes) == (500, 1024**3)
    assert (hub.conversations.silence_hours, hub.conversations.reopen_hours) == (
        72,
        24,
    )
    assert (config.accounts, config.backends, config.feeds, config.plugins) == ((), (), (), {})
    assert config.warnings == ()


def test_every_section_is_read_and_own_settings_are_left_to_their_owner() -> None:
    config = load_text(
        """
[hub]
port = 0
lag_limit_s = 20
conversations = { policy = { mail = "channel", "wechat:shop" = "thread" }, silence_hours = 5 }
[[accounts]]
channel = "wechat"
key = "shop"
label = "Shop"
inbound = "store-only"
app_id = "wx1"
[[accounts]]
channel = "mail"
key = "support"
outbound = false
[[backends]]
type = "zammad"
name = "desk"
url = "https://t.example.com"
[[feeds]]
type = "kafka"
name = "lake"
topic = "x"
[plugins.hours]
open = "09:00"
""",
        {},
    )
    wechat, mail = config.accounts
    assert (wechat.name, wechat.label, wechat.inbound, wechat.outbound, wechat.insecure) == (
        "wechat:shop",
        "Shop",
        "store-only",
        True,
        False,
    )
    assert dict(wechat.settings) == {"app_id": "wx1"}
    assert (mail.name, mail.outbound, dict(mail.settings)) == ("mail:support", False, {})
    assert [(b.type, b.name, dict(b.settings)) for b in config.backends] == [
        ("zammad", "desk", {"url": "https://t.example.com"})
    ]
    assert [(f.type, f.name, dict(f.settings)) for f in config.feeds] == [
        ("kafka", "lake", {"topic": "x"})
    ]
    assert dict(config.plugins["hours"]) == {"open": "09:00"}
    assert config.hub.conversations.policy == {"mail": "channel", "wechat:shop": "thread"}
    assert config.hub.lag_limit_s == 20.0
    assert config.warnings == ()


def test_an_account_without_label_is_shown_by_its_key() -> None:
    (account,) = load_text('[[accounts]]\nchannel = "sms"\nkey = "shop"\n', {}).accounts
    assert account.label == "shop"


def test_paths_can_be_appended_to_the_public_url() -> None:
    assert load_text('[hub]\npublic_url = "https://h:1/omni/"\n', {}).hub.public_url == (
        "https://h:1/omni"
    )


def test_a_channels_settings_type_reads_its_table() -> None:
    settings = shop('app_id = "wx"\nsecret = ["new", { env = "OLD" }]\n', {"OLD": "old"})
    assert [one.reveal() for one in settings.secret] == ["new", "old"]
    assert settings.retries == 3


def test_one_secret_where_several_are_possible_needs_no_brackets() -> None:
    assert shop('app_id = "wx"\nsecret = "one"\n').secret == [Secret("one")]
    text = 'app_id = "wx"\nsecret = { env = "X" }\n'
    assert shop(text, {"X": "two"}).secret == [Secret("two")]


def test_relative_paths_start_at_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    (tmp_path / "key").chmod(0o600)
    path = tmp_path / "o.toml"
    path.write_text(
        '[hub]\ndata_dir = "d"\n[plugins.p]\napp_id="a"\nsecret={file="key"}\nfolder="f"'
    )
    config = load(path, {})
    assert config.hub.data_dir == tmp_path / "d"
    settings = parse_settings(ShopSettings, config.plugins["p"])
    assert settings.secret[0].reveal() == "from-file"
    assert settings.folder == tmp_path / "f"
    assert config.warnings == ()


def test_a_file_with_byte_order_mark_and_windows_line_ends_is_read(tmp_path: Path) -> None:
    path = tmp_path / "o.toml"
    path.write_bytes("\ufeff[hub]\r\n# 注释\r\nport = 1\r\nworker = 2\r\n".encode())
    with pytest.raises(ConfigError, match=r'o.toml:4: hub.worker: .* Did you mean "workers"\?'):
        load(path, {})


ENVIRONMENT = [
    ("OMNILINE_PORT", "9000", "port", 9000),
    ("OMNILINE_HOST", "::", "host", "::"),
    ("OMNILINE_LAG_LIMIT_S", "2.5", "lag_limit_s", 2.5),
    ("OMNILINE_LOG_FORMAT", "json", "log_format", "json"),
    ("OMNILINE_DATA_DIR", "/var/lib/o", "data_dir", Path("/var/lib/o")),
    ("OMNILINE_MONGOD", "rel/mongod", "mongod", Path("rel/mongod").absolute()),
    ("OMNILINE_MONGO_URL", "mongodb://h", "mongo_url", Secret("mongodb://h")),
    ("OMNILINE_TRUSTED_PROXIES", "10.0.0.0/8, ::1/128,", "trusted_proxies",
     ("10.0.0.0/8", "::1/128")),
    ("OMNILINE_PORT", "", "port", 7),
]  # fmt: skip


@pytest.mark.parametrize(("variable", "text", "field", "value"), ENVIRONMENT)
def test_the_environment_overrides_the_file(
    variable: str, text: str, field: str, value: object
) -> None:
    config = load_text("[hub]\nport = 7\n", {variable: text})
    assert getattr(config.hub, field) == value


def test_the_processs_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNILINE_PORT", "4711")
    assert load_text("").hub.port == 4711


# -- what is refused ------------------------------------------------------------------------------

REFUSED = [
    # name, file, environment, the problems
    ("unknown key", '[hub]\nprot = 1\n', {},
     ['omniline.toml:2: hub.prot: unknown key. Did you mean "port"?']),
    ("unknown section", '[[acounts]]\nkey = "x"\n', {},
     ['omniline.toml:1: acounts: unknown key. Did you mean "accounts"?']),
    ("unknown key without a likeness", '[hub.conversations]\nxyzzy = 1\n', {},
     ["omniline.toml:2: hub.conversations.xyzzy: unknown key. "
      "Known here: policy, reopen_hours, silence_hours."]),
    ("wrong type", '[hub]\nport = "80"\n', {},
     ["omniline.toml:2: hub.port: expected a whole number from 0 to 65535, got a text."]),
    ("true is no number", '[hub]\nport = true\n', {},
     ["omniline.toml:2: hub.port: expected a whole number from 0 to 65535, got true."]),
    ("out of bounds", '[hub]\n\ninbox_days = 3\n', {},
     ["omniline.toml:3: hub.inbox_days: expected a whole number from 15 to 3650, got 3."]),
    ("not finite", '[plugins]\n[hub]\nlag_limit_s = nan\n', {},
     ["omniline.toml:3: hub.lag_limit_s: expected a number from 1 to 3600, got nan."]),
    ("a number beyond reason", f'[hub]\nport = 0x{"f" * 5000}\n', {},
     ["omniline.toml:2: hub.port: expected a whole number from 0 to 65535, "
      "got a very large number."]),
    ("no such choice", '[hub]\ndriver = "mongoengine"\n', {},
     ['omniline.toml:2: hub.driver: expected one of "pymongo", "motor".']),
    ("pattern in words", '[hub]\ndefault_region = "china"\n', {},
     ['omniline.toml:2: hub.default_region: expected two capital letters, such as "CN".']),
    ("table for scalar", '[hub.port]\nx = 1\n', {},
     ["omniline.toml:1: hub.port: expected a whole number from 0 to 65535, got a table."]),
    ("one bracket too few", '[accounts]\nchannel = "sms"\n', {},
     ["omniline.toml:1: accounts: expected a list; each item: a table, got a table. "
      "Write [[accounts]], with two brackets."]),
    ("one bracket too many", '[[hub]]\nport = 1\n', {},
     ["omniline.toml:1: hub: expected a table, got a list. Write [hub], with one bracket."]),
    ("missing key", '\n[[accounts]]\nchannel = "sms"\n', {},
     ['omniline.toml:2: accounts[0]: "key" is missing. Add it: 1 to 32 lower-case letters, '
      "digits, _ and -, the first a letter or a digit."]),
    ("key grammar", '[[accounts]]\nchannel = "sms"\nkey = "Shop A"\n', {},
     ["omniline.toml:3: accounts[0].key: expected 1 to 32 lower-case letters, digits, _ and -, "
      "the first a letter or a digit."]),
    ("key grammar to the last character", '[[backends]]\ntype = "x"\nname = "desk\\n"\n', {},
     ["omniline.toml:3: backends[0].name: expected 1 to 32 lower-case letters, digits, _ and -, "
      "the first a letter or a digit."]),
    ("plugin name", '[plugins."My Plugin"]\n', {},
     ['omniline.toml:1: plugins."My Plugin": the name does not fit: expected 1 to 32 lower-case '
      "letters, digits, _ and -, the first a letter or a digit."]),
    ("plugin without table", '[plugins]\nhours = 3\n', {},
     ["omniline.toml:2: plugins.hours: expected a table, got 3."]),
    ("the same account twice",
     '[[accounts]]\nchannel = "sms"\nkey = "a"\n[[accounts]]\nchannel = "mail"\nkey = "a"\n'
     '[[accounts]]\nkey = "a"\nchannel = "sms"\n', {},
     ['omniline.toml:8: accounts[2].key: "sms:a" is already taken in line 3. '
      "Choose another one."]),
    ("the same backend twice",
     '[[backends]]\ntype = "x"\nname = "a"\n[[backends]]\ntype = "y"\nname = "a"\n', {},
     ['omniline.toml:6: backends[1].name: "a" is already taken in line 3. Choose another one.']),
    ("the same feed twice",
     '[[feeds]]\ntype = "x"\nname = "a"\n[[feeds]]\ntype = "x"\nname = "a"\n', {},
     ['omniline.toml:6: feeds[1].name: "a" is already taken in line 3. Choose another one.']),
    ("URL without scheme", '[hub]\npublic_url = "help.example.com"\n', {},
     ['omniline.toml:2: hub.public_url: the address must start with "https://" or "http://".']),
    ("URL with password", '[hub]\npublic_url = "https://u:hunter2@h"\n', {},
     ["omniline.toml:2: hub.public_url: "
      "the address must not contain a user name or password."]),
    ("URL with query", '[hub]\npublic_url = "https://h/?a=b"\n', {},
     ['omniline.toml:2: hub.public_url: the address must end before "?" and "#".']),
    ("URL with bad port", '[hub]\npublic_url = "https://h:99999"\n', {},
     ["omniline.toml:2: hub.public_url: not a valid address."]),
    ("URL without host", '[hub]\npublic_url = "https:///path"\n', {},
     ["omniline.toml:2: hub.public_url: the address names no host, or has spaces in it."]),
    ("database URL", '[hub]\nmongo_url = "postgres://u:hunter2@h"\n', {},
     ['omniline.toml:2: hub.mongo_url: the address must start with "mongodb://" or '
      '"mongodb+srv://" and name a host.']),
    ("address range",
     '[hub]\ntrusted_proxies = [\n  "10.0.0.0/8", # ours\n  "10.0.0.1/8",\n  "proxy"]\n', {},
     ["omniline.toml:4: hub.trusted_proxies[1]: the address has bits set beyond its range; "
      'write "10.0.0.0/8".',
      'omniline.toml:5: hub.trusted_proxies[2]: not an address range such as "10.0.0.0/8".']),
    ("short space key", '[hub]\nspace_key = "aHVudGVyMg=="\n', {},
     ["omniline.toml:2: hub.space_key: not 32 bytes in base64 "
      "(openssl rand -base64 32 makes some)."]),
    ("encrypt all",
     f'[hub]\nencrypt = "all"\nencryption_key="a"\nencryption_keys.a = "{KEY}"\n', {},
     ['omniline.toml:2: hub.encrypt: "all" is not available yet: texts and attachments cannot be '
      'encrypted so far. Use "addresses", and encrypt the disk for the rest.']),
    ("encryption without key", '[hub]\nencrypt = "addresses"\n', {},
     ['omniline.toml:2: hub.encrypt: "addresses" needs an encryption key. '
      "Add [hub.encryption_keys] with one key, made by: openssl rand -base64 32."]),
    ("no current key", f'[hub.encryption_keys]\nk1 = "{KEY}"\n', {},
     ["omniline.toml:1: hub.encryption_keys: it is not said which key new data is encrypted "
      "with. Add encryption_key with the id of one of them."]),
    ("unknown current key", f'[hub]\nencryption_key = "k2"\n[hub.encryption_keys]\nk1 = "{KEY}"\n',
     {}, ["omniline.toml:2: hub.encryption_key: no key has this id. Known ids: k1."]),
    ("policy", '[hub]\nconversations.policy.mail = "tread"\n', {},
     ["omniline.toml:2: hub.conversations.policy.mail: "
      'expected one of "customer", "thread", "channel".']),
    ("variable not set", '[hub]\nmongo_url = { env = "MONGO" }\n', {},
     ["omniline.toml:2: hub.mongo_url.env: the environment variable MONGO is not set. Set it."]),
    ("variable empty", '[hub]\nmongo_url = { env = "MONGO" }\n', {"MONGO": ""},
     ["omniline.toml:2: hub.mongo_url.env: the environment variable MONGO is empty. "
      "Give it a value."]),
    ("misspelt secret", '[hub]\nmongo_url = { evn = "MONGO" }\n', {},
     ['omniline.toml:2: hub.mongo_url: unknown key in a secret. Did you mean "env"?']),
    ("two sources of a secret", '[hub]\nmongo_url = { env = "MONGO", file = "x" }\n', {},
     ["omniline.toml:2: hub.mongo_url: a secret names either env or file, and not both. "
      'Write it as "text", as { env = "NAME" } or as { file = "PATH" }.']),
    ("a number is no secret", '[hub]\nmongo_url = 271828\n', {},
     ["omniline.toml:2: hub.mongo_url: expected a secret. "
      'Write it as "text", as { env = "NAME" } or as { file = "PATH" }.']),
    ("from the environment", '[hub]\nport = 1\n', {"OMNILINE_PORT": "eighty"},
     ["environment: OMNILINE_PORT: expected a whole number from 0 to 65535, got a text."]),
    ("secret from the environment", "", {"OMNILINE_SPACE_KEY": "hunter2"},
     ["environment: OMNILINE_SPACE_KEY: not 32 bytes in base64 "
      "(openssl rand -base64 32 makes some)."]),
    ("a rule of several fields, from the environment", "", {"OMNILINE_ENCRYPT": "addresses"},
     ['environment: OMNILINE_ENCRYPT: "addresses" needs an encryption key. '
      "Add [hub.encryption_keys] with one key, made by: openssl rand -base64 32."]),
    ("a table from the environment", "", {"OMNILINE_ENCRYPTION_KEYS": "k=v"},
     ["environment: OMNILINE_ENCRYPTION_KEYS: a table cannot be set from the environment. "
      "Write [hub.encryption_keys] in omniline.toml."]),
    ("syntax: value", '[hub]\nhost = localhost\n', {},
     ["omniline.toml:2: not valid TOML at column 8: Invalid value. "
      "Texts need double quotes; true and false are lower case."]),
    ("syntax: twice", '[hub]\nport = 1\nport = 2\n', {},
     ["omniline.toml:3: not valid TOML at column 9: Cannot overwrite a value. "
      "The same key stands here twice, or is a table elsewhere."]),
    ("syntax: end", '[hub]\nhost = "a"\ntrusted_proxies = ["a",\n', {},
     ["omniline.toml:3: not valid TOML: the file ends too early. "
      "Something is not closed: a list, a table or a text."]),
    ("syntax: header twice", '[hub]\n[plugins.a]\n[hub]\n', {},
     ["omniline.toml:3: not valid TOML at column 5: Cannot declare ('hub',) twice. "
      "The same table header stands here twice."]),
    ("a number of too many digits", f'[hub]\nport = {"9" * 5000}\n', {},
     ["omniline.toml: a number in it has too many digits. Shorten it."]),
    ("nested too deeply", "x = " + "[" * 5000, {},
     ["omniline.toml: lists or tables are nested too deeply. Flatten them."]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "environ", "expected"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_a_mistake_is_named_with_file_line_key_and_remedy(
    text: str, environ: dict[str, str], expected: list[str]
) -> None:
    found = problems_of(text, environ)
    assert found == expected
    assert "hunter2" not in "".join(found)


def test_all_problems_are_told_at_once_in_the_order_of_the_lines() -> None:
    text = """
[[accounts]]
channel = "sms"
key = "A"
[hub]
prot = 1
workers = 0
[[backends]]
type = "x"
name = "a"
[[backends]]
type = "x"
name = "a"
extra = 1
[plugin.x]
"""
    found = problems_of(text, {"OMNILINE_DRIVER": "x"})
    assert [one.split(": ")[:2] for one in found] == [
        ["environment", "OMNILINE_DRIVER"],
        ["omniline.toml:4", "accounts[0].key"],
        ["omniline.toml:6", "hub.prot"],
        ["omniline.toml:7", "hub.workers"],
        ["omniline.toml:13", "backends[1].name"],
        ["omniline.toml:15", "plugin"],
    ]
    with pytest.raises(ConfigError) as caught:
        load_text(text, {"OMNILINE_DRIVER": "x"})
    assert str(caught.value) == "\n\n".join(found)


SHOP_REFUSED = [
    ("typo", 'app_id="a"\nsecrett = "hunter2"\n',
     ['omniline.toml:5: accounts[0].secrett: unknown key. Did you mean "secret"?',
      'omniline.toml:1: accounts[0]: "secret" is missing. Add it: a list; each item: a secret.']),
    ("typo of one of the hub's keys", 'app_id="a"\nsecret="b"\nlabbel = "x"\n',
     ['omniline.toml:6: accounts[0].labbel: unknown key. Did you mean "label"?']),
    ("no secret in the list", 'app_id="a"\nsecret=[]\n',
     ["omniline.toml:5: accounts[0].secret: "
      "expected a list; each item: a secret (at least 1)."]),
    ("second secret", 'app_id="a"\nsecret=[\n"b",\n{ env = "NOPE" }]\n',
     ["omniline.toml:7: accounts[0].secret[1].env: "
      "the environment variable NOPE is not set. Set it."]),
    ("length of a secret", 'app_id="a"\nsecret="b"\naes_key = "hunter2"\n',
     ["omniline.toml:6: accounts[0].aes_key: expected a secret of 8 characters."]),
    ("own check", 'app_id="a"\nsecret="b"\npause = 0\n',
     ["omniline.toml:6: accounts[0].pause: retries need a pause. Set it, or retries = 0."]),
    ("own __post_init__ that quotes a secret", 'app_id="hunter2"\nsecret="hunter2"\n',
     ["omniline.toml:1: accounts[0]: app_id and secret are both ***."]),
    ("value in a table", 'app_id="a"\nsecret="b"\noptions.x = 1\noptions.y = "hunter2"\n',
     ["omniline.toml:7: accounts[0].options.y: expected a whole number, got a text."]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"), [case[1:] for case in SHOP_REFUSED], ids=[c[0] for c in SHOP_REFUSED]
)
def test_a_channels_settings_are_refused_with_the_lines_of_the_file(
    text: str, expected: list[str]
) -> None:
    found = shop_problems(text)
    assert sorted(found) == sorted(expected)
    assert "hunter2" not in "".join(found)


def test_an_error_can_name_the_account_and_several_can_be_joined() -> None:
    text = '[plugins.a]\n[plugins.b]\nz = 1\napp_id = "x"\nsecret = "y"\n'
    config = load_text(text, {})
    errors = []
    for name in ("b", "a"):
        with pytest.raises(ConfigError) as caught:
            parse_settings(ShopSettings, config.plugins[name], f"plugin {name}")
        errors.append(caught.value)
    joined = ConfigError.combine(errors)
    assert [problem.line for problem in joined.problems] == [1, 1, 3]
    assert "omniline.toml:3: plugins.b.z (plugin b): unknown key" in str(joined)


def test_a_table_can_be_blamed_by_those_who_find_out_later() -> None:
    config = load_text('[[accounts]]\nkey = "a"\nchannel = "wechta"\n', {})
    problem = config.accounts[0].settings.problem("channel", "no such channel", "Install it.")
    assert str(problem) == "omniline.toml:3: accounts[0].channel: no such channel. Install it."


def test_settings_can_be_read_without_a_file() -> None:
    table = RawTable.of({"app_id": "a", "secret": {"env": "S"}}, environ={"S": "x"})
    assert parse_settings(ShopSettings, table).secret == [Secret("x")]
    with pytest.raises(ConfigError, match=r"^<settings>: app: unknown key"):
        parse_settings(ShopSettings, RawTable.of({"app_id": "a", "secret": "s", "app": 1}))


# -- files ----------------------------------------------------------------------------------------


def test_a_missing_file_is_told_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == (
        f"{path}: there is no such file. "
        "Create it, or name another one: omniline run --config PATH."
    )


def test_a_folder_and_a_file_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})
    path = tmp_path / "o.toml"
    path.write_bytes(b'[hub]\nhost = "hunter2\xff"\n')
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == f"{path}:2: is not UTF-8 text. Save it as UTF-8."
    assert caught.value.__context__ is None  # the decoder's error carries the whole file


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"x\n", "x"), (b"x\r\n", "x"), (b"x\n\n", "x\n"), (b" x ", " x "), ("密".encode(), "密")],
)
def test_a_secret_file_loses_one_newline_at_its_end(
    tmp_path: Path, content: bytes, value: str
) -> None:
    (tmp_path / "s").write_bytes(content)
    table = RawTable.of({"app_id": "a", "secret": {"file": "s"}}, folder=tmp_path)
    assert parse_settings(ShopSettings, table).secret[0].reveal() == value


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read the secret file {}: No such file or directory"),
        (b"", "the secret file {} is empty"),
        (b"\n", "the secret file {} is empty"),
        (b"hunter2\xff", "the secret file {} is not UTF-8 text"),
        (b"x" * 70_000, "the secret file {} is larger than 64 KiB"),
    ],
)
def test_a_secret_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "s"
    if content is not None:
        path.write_bytes(content)
    (problem,) = problems_of('[hub]\nmongo_url = { file = "s" }\n', folder=tmp_path)
    assert problem.startswith(f"omniline.toml:2: hub.mongo_url.file: {said.format(path)}.")


def test_a_secret_that_was_read_from_a_file_can_be_read_anew(tmp_path: Path) -> None:
    """One from elsewhere stays what it is; a file that cannot be used is told, and not its text."""
    path = tmp_path / "s"
    path.write_text("first\n")
    table = RawTable.of({"app_id": "a", "secret": {"file": "s"}}, folder=tmp_path)
    secret = parse_settings(ShopSettings, table).secret[0]
    path.write_text("second\n")
    again = secret.reread()
    assert (again.reveal(), again.origin) == ("second", secret.origin)
    assert secret.reveal() == "first"
    path.write_bytes(b"hunter2\xff")
    with pytest.raises(ValueError, match="is not UTF-8 text") as told:
        again.reread()
    assert "hunter2" not in str(told.value)
    assert told.value.__context__ is None or told.value.__suppress_context__
    written = Secret("text")
    assert written.reread() is written


def test_a_secret_file_that_everybody_can_read_is_a_warning_even_when_read_late(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    path.write_text("x")
    path.chmod(0o644)
    text = '[plugins.p]\napp_id = "a"\nsecret = { file = "s" }\n'
    config = load_text(text, {}, folder=tmp_path)
    assert config.warnings == ()
    parse_settings(ShopSettings, config.plugins["p"])
    parse_settings(ShopSettings, config.plugins["p"])
    assert config.warnings == (
        f"{path}: everybody on this machine can read this secret. chmod o-rwx {path}",
    )


@pytest.mark.parametrize(
    ("mode", "url", "warned"),
    [
        (0o644, '"mongodb://u:p@h"', True),
        (0o640, '"mongodb://u:p@h"', False),
        (0o644, '{ env = "M" }', False),
    ],
)
def test_a_file_with_secrets_that_everybody_can_read_is_a_warning(
    tmp_path: Path, mode: int, url: str, warned: bool
) -> None:
    path = tmp_path / "o.toml"
    path.write_text(f"[hub]\nmongo_url = {url}\n")
    path.chmod(mode)
    warnings = load(path, {"M": "mongodb://h"}).warnings
    assert [f"chmod o-rwx {path}" in warning for warning in warnings] == [True] * warned


def test_what_is_probably_not_meant_is_a_warning() -> None:
    config = load_text(
        '[hub]\nmongo_url = { env = "OMNILINE_MONGOURL" }\n'
        '[hub.conversations.policy]\n"sms:shpo" = "thread"\n'
        '[[accounts]]\nchannel = "sms"\nkey = "shop"\ninsecure = true\n',
        {"OMNILINE_DATADIR": "x", "OMNILINE_SCALE": "full", "OMNILINE_MONGOURL": "mongodb://h"},
    )
    assert config.warnings == (
        "omniline.toml:8: account sms:shop is insecure: what arrives is not verified,"
        " so anybody can write in a customer's name",
        'omniline.toml:4: no account for the policy "sms:shpo"; it has no effect',
        "environment: OMNILINE_DATADIR is no setting; did you mean OMNILINE_DATA_DIR?",
    )


# -- lines ----------------------------------------------------------------------------------------

TRICKY = '''\
# [accounts]
title = "[accounts]" # key = 1
text = """
[accounts]
x = "y" \\""" ""
"""""
raw = \'\'\'
[[accounts]]
key = 'a\'\'\'

[ hub . "a.b" ] # c
"quo\\"ted" = 1
'lit.eral' = { x = 1, y.z = [ 1, { q = "}" } ] }
list = [
  1, # ]
  [2,
   3],

  """
  ]""",
  { deep = "x" },
]
when = 1979-05-27 07:32:00
[[accounts]]
key = "0"
[[accounts.rules]]
n = 0
[[accounts.rules]]
n = 1
[accounts.rules.inner]
n = 2
[[accounts]]
key = "1"
dot.ted.key = -inf
dot.ted.other = "\\u0041" # x
[[accounts.rules]]
n = 3
[accounts.extra]
e = true
'''

LINES = {
    ("title",): 2,
    ("text",): 3,
    ("raw",): 7,
    ("hub",): 11,
    ("hub", "a.b"): 11,
    ("hub", "a.b", 'quo"ted'): 12,
    ("hub", "a.b", "lit.eral"): 13,
    ("hub", "a.b", "lit.eral", "x"): 13,
    ("hub", "a.b", "lit.eral", "y"): 13,
    ("hub", "a.b", "lit.eral", "y", "z"): 13,
    ("hub", "a.b", "lit.eral", "y", "z", 0): 13,
    ("hub", "a.b", "lit.eral", "y", "z", 1): 13,
    ("hub", "a.b", "lit.eral", "y", "z", 1, "q"): 13,
    ("hub", "a.b", "list"): 14,
    ("hub", "a.b", "list", 0): 15,
    ("hub", "a.b", "list", 1): 16,
    ("hub", "a.b", "list", 1, 0): 16,
    ("hub", "a.b", "list", 1, 1): 17,
    ("hub", "a.b", "list", 2): 19,
    ("hub", "a.b", "list", 3): 21,
    ("hub", "a.b", "list", 3, "deep"): 21,
    ("hub", "a.b", "when"): 23,
    ("accounts",): 24,
    ("accounts", 0): 24,
    ("accounts", 0, "key"): 25,
    ("accounts", 0, "rules"): 26,
    ("accounts", 0, "rules", 0): 26,
    ("accounts", 0, "rules", 0, "n"): 27,
    ("accounts", 0, "rules", 1): 28,
    ("accounts", 0, "rules", 1, "n"): 29,
    ("accounts", 0, "rules", 1, "inner"): 30,
    ("accounts", 0, "rules", 1, "inner", "n"): 31,
    ("accounts", 1): 32,
    ("accounts", 1, "key"): 33,
    ("accounts", 1, "dot"): 34,
    ("accounts", 1, "dot", "ted"): 34,
    ("accounts", 1, "dot", "ted", "key"): 34,
    ("accounts", 1, "dot", "ted", "other"): 35,
    ("accounts", 1, "rules"): 36,
    ("accounts", 1, "rules", 0): 36,
    ("accounts", 1, "rules", 0, "n"): 37,
    ("accounts", 1, "extra"): 38,
    ("accounts", 1, "extra", "e"): 39,
}


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> set[tuple[Any, ...]]:
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    return {path}.union(*(paths_of(child, (*path, name)) for name, child in children))


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_every_key_is_found_on_its_line(ending: str) -> None:
    text = TRICKY.replace("\n", ending)
    assert locate(text) == LINES
    assert {(), *LINES} == paths_of(tomllib.loads(text))


NAMES = st.text("ab.\"' #[]=\\密", min_size=1, max_size=4)
SCALARS = st.sampled_from(
    ["1", "-1.5e3", "true", '"[a]\\""', "'''\n]'''", '"""\n#\\""" "" """', "07:32:00", "'#'"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[\n" + ", # ]\n".join(items) + "\n]"),
        st.dictionaries(NAMES, inner, max_size=3).map(
            lambda d: "{" + ", ".join(f"{quoted(k)} = {v}" for k, v in d.items()) + "}"
        ),
    ),
    max_leaves=6,
)


def quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # a busy machine is slow
@given(st.dictionaries(NAMES, st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=3)))
def test_no_file_has_a_key_without_a_line_or_a_line_without_a_key(
    tables: dict[str, list[dict[str, str]]],
) -> None:
    out = io.StringIO()
    expected: dict[tuple[str | int, ...], int] = {}
    for name, items in tables.items():
        for index, item in enumerate(items):
            out.write(f"# {name}\n[[ {quoted(name)} ]] #\n")
            expected[name, index] = out.getvalue().count("\n")
            for key, value in item.items():
                out.write(f"\t{quoted(key)}={value} # ]\n")
                here = out.getvalue().count("\n") - value.count("\n")
                expected[name, index, key] = here
    text = out.getvalue()
    lines = locate(text)
    assert {(), *lines} == paths_of(tomllib.loads(text))
    assert {path: lines[path] for path in expected} == expected


# -- secrets --------------------------------------------------------------------------------------


def test_a_secret_is_given_away_by_reveal_only() -> None:
    secret = Secret("hunter2", origin="env X")
    shown = [str(secret), repr(secret), f"{secret}", f"{secret:>9}", "%s" % secret, repr([secret])]  # noqa: UP031 - every way to format
    assert "hunter2" not in "".join(shown)
    assert secret.reveal() == "hunter2"
    for encode in (msgspec.json.encode, msgspec.to_builtins, msgspec.msgpack.encode):
        with pytest.raises(TypeError):
            encode(secret)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(secret)
    assert copy.deepcopy(secret) is secret
    assert not hasattr(secret, "__dict__")


def test_secrets_are_equal_by_value_and_never_equal_to_a_text() -> None:
    assert Secret("a", origin="x") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("密\udcff").matches("密\udcff")
    assert Secret("abc").matches(b"abc")
    assert not Secret("abc").matches("abd")


VALUE = st.text("0123456789abcdefABCDEF!$%&/+*", min_size=6).map(lambda text: f"hunter2{text}")


@given(value=VALUE)
def test_no_secret_is_in_the_text_of_a_config_or_of_an_error(value: str) -> None:
    text = f"""
[hub]
mongo_url = "mongodb://u:{value}@h"
[[accounts]]
channel = "wechat"
key = "shop"
app_id = "a"
secret = ["{value}", {{ env = "S" }}]
aes_key = {{ env = "S" }}
[plugins.p]
nested = {{ list = ["{value}"] }}
"""
    environ = {"S": value, "OMNILINE_SPACE_KEY": KEY}
    config = load_text(text, environ)
    shown = [str(config), repr(config), str(config.redacted()), repr(config.plugins["p"])]
    assert config.hub.mongo_url is not None
    assert value in config.hub.mongo_url.reveal()
    with pytest.raises(ConfigError) as caught:
        parse_settings(ShopSettings, config.accounts[0].settings)
    shown += [str(caught.value), repr(caught.value), *map(repr, caught.value.problems)]
    shown += traceback.format_exception(caught.value)
    worse = text.replace("mongodb:", "mongo:") + "secrett = 1\n[hub.space_key]\nx = 1\n"
    worse += f'[[backends]]\ntype = "{value}"\nname = ["{value}"]\n'
    with pytest.raises(ConfigError) as caught:
        load_text(worse, {"S": value, "OMNILINE_SPACE_KEY": value, "OMNILINE_PORT": value})
    assert len(caught.value.problems) >= 4
    shown += [str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)]
    assert "hunter2" not in "".join(shown)
    assert KEY not in "".join(shown)


def test_redacted_says_where_a_secret_comes_from_and_masks_what_might_be_one() -> None:
    config = load_text(
        '[hub]\nmongo_url = { env = "M" }\n[plugins.p]\non = true\npin = 1234\nt = ["x"]\n',
        {"M": "mongodb://u:hunter2@h"},
    )
    plain = config.redacted()
    assert plain["hub"]["mongo_url"] == "*** (env M)"
    assert plain["hub"]["port"] == 8080
    assert plain["plugins"] == {"p": {"on": True, "pin": "***", "t": ["***"]}}
    assert "source" not in plain
    msgspec.json.encode(plain)
    assert redacted(shop('app_id = "a"\nsecret = "b"\n'))["secret"] == ["*** (omniline.toml)"]


# -- settings that describe themselves ------------------------------------------------------------


def test_a_settings_type_describes_itself() -> None:
    rows = {row.key: row for row in describe(ShopSettings)}
    assert rows["app_id"].required
    assert rows["app_id"].help == "Id of the app."
    assert rows["secret"].secret
    assert rows["aes_key"].secret
    assert not rows["app_id"].secret
    assert (rows["retries"].expects, rows["retries"].default) == ("a whole number from 0 to 9", "3")
    assert rows["pause"].unit == "s"


def test_every_setting_of_the_hub_has_a_help_text_and_a_default_within_its_bounds() -> None:
    rows = describe(HubSettings)
    assert [row.key for row in rows if not row.help.endswith(".")] == []
    assert [row.key for row in rows if row.required] == []
    assert {row.key for row in rows if row.secret} == {"mongo_url", "space_key", "encryption_keys"}
    hub = HubSettings()
    lines = [
        f"{name} = {getattr(hub, name)}"
        for name in HubSettings.__struct_fields__
        if type(getattr(hub, name)) in (int, float)
    ]
    assert len(lines) > 15
    assert load_text("\n".join(["[hub]", *lines]), {}, folder=Path()).hub.port == hub.port


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    check: Annotated[bool, Meta(description="A setting may have this name.")] = True
    pair: tuple[Secret, str] | None = None


class Mixed(msgspec.Struct, frozen=True, kw_only=True):
    mode: int | str = 0
    tags: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    named: dict[str, Rule] = {}


def test_types_that_msgspec_takes_apart_are_read_and_refused_without_their_values() -> None:
    table = RawTable.of(
        {"mode": "x", "tags": ["a", "a"], "rules": [{"pair": [{"env": "S"}, "b"]}]},
        environ={"S": "s"},
    )
    mixed = parse_settings(Mixed, table)
    assert (mixed.mode, mixed.tags) == ("x", {"a"})
    assert mixed.rules[0].pair == (Secret("s"), "b")
    values = {"mode": [], "tags": "hunter2", "rules": [{}, {"pair": [5, "hunter2"]}]}
    with pytest.raises(ConfigError) as caught:
        parse_settings(Mixed, RawTable.of(values))
    assert [str(problem) for problem in caught.value.problems] == [
        "<settings>: mode: Expected `int | str`, got `array`.",
        "<settings>: tags: Expected `array`, got `str`.",
        "<settings>: rules[1].pair: expected a secret. "
        'Write it as "text", as { env = "NAME" } or as { file = "PATH" }.',
    ]


def test_settings_in_lists_and_tables_of_tables_are_described() -> None:
    assert [row.key for row in describe(Mixed) if row.secret] == ["rules[].pair", "named.NAME.pair"]
    assert [row.key for row in describe(Mixed)] == [
        "mode",
        "tags",
        "rules[].check",
        "rules[].pair",
        "named.NAME.check",
        "named.NAME.pair",
    ]


def test_types_for_plugins_keep_their_checks_under_further_notes() -> None:
    class Own(msgspec.Struct, frozen=True, kw_only=True):
        keys: Annotated[dict[Name, Annotated[Key32, Meta(description="One.")]], Meta(min_length=1)]

    table = RawTable.of({"keys": {"a": KEY}})
    assert parse_settings(Own, table).keys["a"].reveal() == KEY
    with pytest.raises(ConfigError, match=r"keys\.a: not 32 bytes"):
        parse_settings(Own, RawTable.of({"keys": {"a": "short"}}))
    with pytest.raises(ConfigError, match="at least 1"):
        parse_settings(Own, RawTable.of({"keys": {}}))


def test_the_reference_page_is_the_generated_one() -> None:
    page = ROOT / "docs" / "reference" / "settings.md"
    assert page.read_text("utf-8") == settings_page(), (
        "run: python -m hub.config > docs/reference/settings.md"
    )
    command = [sys.executable, "-m", "hub.config"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert made.stdout.decode("utf-8") == settings_page()


def test_the_samples_on_the_reference_page_are_valid() -> None:
    (sample,) = re.findall(r"```toml\n(.*?)```", settings_page(), re.DOTALL)
    config = load_text(sample, {"MONGO_URL": "mongodb://h"})
    assert [account.name for account in config.accounts] == ["wechat:shop"]
    assert [backend.name for backend in config.backends] == ["helpdesk"]
