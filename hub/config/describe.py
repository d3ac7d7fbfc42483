"""Settings that describe themselves: the rows and the page of the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from .fields import expected, field_of
from .hub_settings import HubSettings
from .loader import variable_of
from .sections import AccountConfig, BackendConfig, FeedConfig
from .source import RawTable, Source


class SettingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as a page, a form or `omniline plugins` shows it."""

    key: str
    expects: str
    required: bool
    default: str
    unit: str
    help: str
    secret: bool
    table: bool


def describe(settings_type: type[msgspec.Struct]) -> list[SettingRow]:
    """The settings of a type, in the order they are written; those of nested types after a dot.

    A list of tables shows as `rules[].n`, a table of tables as `rules.NAME.n`.
    """
    rows: list[SettingRow] = []
    for setting in msgspec.structs.fields(settings_type):
        field = field_of(setting.type)
        if field.type in (RawTable, Source):
            continue
        inner, mark = field, ""
        if field.item is not None:
            inner, mark = field_of(field.item), "[]"
        elif field.entry is not None:
            inner, mark = field_of(field.entry[1]), ".NAME"
        if inner.is_struct:
            rows += [
                msgspec.structs.replace(row, key=f"{setting.encode_name}{mark}.{row.key}")
                for row in describe(inner.type)
            ]
            continue
        unit = str(field.extra("unit") or "")
        rows.append(
            SettingRow(
                key=setting.encode_name,
                expects=expected(field),
                required=setting.required,
                default=_default(setting, unit),
                unit=unit,
                help=str(field.note("description") or ""),
                secret=field.is_secret,
                table=field.entry is not None,
            )
        )
    return rows


def _default(setting: msgspec.structs.FieldInfo, unit: str) -> str:
    if setting.required:
        return ""
    value: Any = setting.default
    if value is msgspec.NODEFAULT:
        assert setting.default_factory is not msgspec.NODEFAULT
        value = setting.default_factory()
    if value is None or value in ("", (), [], {}):
        return ""
    if unit == "bytes":
        for size, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
            if value % size == 0:
                return f"{value} ({value // size} {name})"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list | frozenset):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return _toml(value)


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str | Path) else str(value)


def settings_table(settings_type: type[msgspec.Struct], *, variables: bool = False) -> str:
    """A Markdown table of a type's settings; with `variables`, those of the environment too."""
    head = ["key", "expects", "default", "meaning"]
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|"]
    for row in describe(settings_type):
        default = "required" if row.required else f"`{row.default}`" if row.default else ""
        unit = f" ({row.unit})" if row.unit else ""
        secret = " Secret." if row.secret else ""
        meaning = f"{row.help}{secret}"
        if variables and not row.table and "." not in row.key:
            meaning += f" `{variable_of(row.key)}`."
        cells = [f"`{row.key}`", row.expects + unit, default, meaning]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """The page `docs/reference/settings.md`. A test holds the file equal to this text."""
    return _PAGE.format(
        hub=settings_table(HubSettings, variables=True),
        accounts=settings_table(AccountConfig),
        backends=settings_table(BackendConfig),
        feeds=settings_table(FeedConfig),
    )


_PAGE = """\
# Settings

This page is made from the code: `python -m hub.config > docs/reference/settings.md`.

Omniline reads one TOML file, named with `omniline run --config omniline.toml`.
`omniline check` reads it too, tries every credential and says what is wrong and where.
A mistake is told with file, line, key and remedy, all mistakes at once, and the command exits 2:

```
omniline.toml:12: accounts[1].secrett: unknown key. Did you mean "secret"?
```

List indexes in a key count from 0.
Relative paths in the file start at the file's own folder.

## An example

```toml
[hub]
public_url = "https://help.example.com"
mongo_url = {{ env = "MONGO_URL" }}

[[accounts]]
channel = "wechat"
key = "shop"
label = "Shop on WeChat"
appid = "wx0123456789abcdef"                  # from here on the channel's own settings
app_secret = {{ env = "WECHAT_APP_SECRET" }}
tokens = [{{ file = "secrets/wechat-token" }}]
encoding_aes_keys = [{{ file = "secrets/wechat-aes-key" }}]

[[backends]]
type = "webhook"
name = "helpdesk"
url = "https://tickets.example.com/omniline"  # the backend's own settings
secrets = [{{ file = "secrets/helpdesk" }}]
```

## Secrets

A secret is written in one of three ways:

| form | meaning |
|---|---|
| `{{ env = "NAME" }}` | the environment variable NAME, which must be set and not empty |
| `{{ file = "PATH" }}` | the file's text without one newline at its end |
| `"text"` | the secret itself; then keep others from reading the file |

Where several secrets may be valid at once, a list takes them.
So they can be rotated: `token = [{{ env = "NEW" }}, {{ env = "OLD" }}]`.
A secret is never shown: not in an error, a log, a metric or `omniline check`.
A file with a secret that everybody on the machine can read is a warning.

## `[hub]`

A setting that names a variable here can be set in the environment as well.
The environment goes first; an empty variable counts as not set.
Lists have commas there: `OMNILINE_TRUSTED_PROXIES=10.0.0.0/8,192.168.0.0/16`.

{hub}
## `[[accounts]]`

One for each account of a channel; channel and key together occur once.
Every other key is the channel's own: `omniline plugins CHANNEL` shows them.
[The channels' pages](../channels/README.md) explain them.

{accounts}
## `[[backends]]`

One for each ticket backend; names occur once.
Every other key is the backend's own: `omniline plugins TYPE` shows them.

{backends}
## `[[feeds]]`

One for each place the feed is sent to; names occur once.
This release has no feed sinks, and a table here is refused.
Readers take [the feed](feed.md) themselves, by pages or as a stream.

{feeds}
## `[plugins.NAME]`

The settings of the plugin NAME; each plugin documents its own.
"""
