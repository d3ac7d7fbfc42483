"""What an operator sets for one phone account at Twilio."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from connectors.ivr import proving, transcripts
from connectors.ivr.menus import Menu
from hub import ConfigError, HttpUrl, RawTable, Secret, Wrong, parse_settings
from normalizer.addresses import phone

MAX_MENU_BYTES = 1_000_000


class IvrSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one phone account."""

    account_sid: Annotated[
        str,
        Meta(
            description="The account's id at Twilio: AC and 32 hexadecimal digits.",
            pattern=r"^AC[0-9a-fA-F]{32}\Z",
        ),
    ]
    auth_tokens: Annotated[
        list[Secret],
        Meta(description="The account's AuthToken; two while it is being replaced."),
    ] = []
    signing_keys: Annotated[
        dict[str, Secret],
        Meta(description="Secrets of shared signing keys, by the id that Twilio names them with."),
    ] = {}
    api_key: Annotated[
        str,
        Meta(
            description="An API key (SK...) for calling Twilio; empty: account_sid and the first"
            " of auth_tokens."
        ),
    ] = ""
    api_secret: Annotated[Secret | None, Meta(description="The API key's secret.")] = None
    api_url: Annotated[HttpUrl, Meta(description="Twilio's API.")] = "https://api.twilio.com"
    numbers: Annotated[
        list[str],
        Meta(description="This account's own numbers in E.164, the first one calls.", min_length=1),
    ]
    region: Annotated[
        str,
        Meta(
            description="The country of numbers typed without a country code.",
            pattern=r"^[A-Z]{2}\Z",
        ),
    ] = "CN"
    menu: Annotated[
        Menu | None, Meta(description="The phone menu, written here; or else `menu_file`.")
    ] = None
    menu_file: Annotated[
        Path | None, Meta(description="A TOML file with the phone menu, beside this one.")
    ] = None
    keep_at_twilio: Annotated[
        bool,
        Meta(
            description="Leave recordings at Twilio as well. False: each is deleted there once"
            " the hub has stored it."
        ),
    ] = False
    transcriber: Annotated[
        str,
        Meta(
            description="Who writes down recordings: `package.module:function`; empty: nobody,"
            " and the timeline says so."
        ),
    ] = ""
    tidy_every_s: Annotated[
        float,
        Meta(
            description="How often recordings are transcribed and deleted at Twilio, and calls"
            " whose end was never told are looked up there; 0: never.",
            ge=0,
            le=86_400,
            extra={"unit": "s"},
        ),
    ] = 60.0

    def check(self) -> Iterator[Wrong]:
        for number in self.numbers:
            found = phone(number) if number.startswith("+") else None
            if found is None or found.id != number:
                yield Wrong("numbers", f"{number!r} is no phone number in E.164: write +8621...")
        if bool(self.api_key) != (self.api_secret is not None):
            yield Wrong("api_key", "api_key and api_secret go together")
        if self.transcriber and (complaint := transcripts.complaint(self.transcriber)):
            yield Wrong("transcriber", complaint)
        if (self.menu is None) == (self.menu_file is None):
            yield Wrong("menu", "write the phone menu here or name a menu_file: one of the two")
        elif self.menu is not None:
            for problem in proving.problems(self.menu):
                where, _, what = problem.partition(": ")
                yield Wrong(("menu", *where.split(".")), what)
        elif self.menu_file is not None:
            yield from (Wrong("menu_file", what) for what in menu_problems(self.menu_file))

    def load_menu(self) -> Menu:
        """Return the menu that `check` proved. Raises OSError when its file is gone since."""
        if self.menu is not None:
            return self.menu
        assert self.menu_file is not None
        return read_menu(self.menu_file)


def read_menu(path: Path) -> Menu:
    """Read a menu's file. Raises OSError, ConfigError and ValueError for what cannot be read."""
    with path.open("rb") as file:
        text = file.read(MAX_MENU_BYTES + 1)
    if len(text) > MAX_MENU_BYTES:
        raise ValueError(f"the file has more than {MAX_MENU_BYTES} bytes")
    values = tomllib.loads(text.decode())
    return parse_settings(Menu, RawTable.of(values, folder=path.parent))


def menu_problems(path: Path) -> list[str]:
    """Return everything that is wrong with a menu's file, a sentence each."""
    try:
        menu = read_menu(path)
    except ConfigError as error:
        return [f"{path.name}: {each.key}: {each.what}" for each in error.problems]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return [f"{path.name} is no TOML: {error}"]
    except OSError as error:
        return [f"{path} cannot be read: {error.strerror}"]
    except ValueError as error:
        return [f"{path.name}: {error}"]
    return [f"{path.name}: {problem}" for problem in proving.problems(menu)]
