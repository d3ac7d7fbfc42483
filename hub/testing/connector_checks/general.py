"""What holds for every connector, whatever its doors: settings, secrets, declarations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from hub.config import Name
from hub.config.fields import field_of
from hub.testing.connector_checks.subject import EXEMPTIONS, Subject
from normalizer.parts import Part

SECRET_NAMES = ("secret", "password", "token")


class GeneralChecks(Subject):
    """Ask the class and its settings."""

    def test_every_setting_is_described_and_every_secret_is_a_secret(self) -> None:
        for path, annotation in _fields(self.connector.settings, self.connector.channel):
            field = field_of(annotation)
            assert field.note("description"), f"{path} has no description: Meta(description=...)"
            if path.rpartition(".")[2].rstrip("s") in SECRET_NAMES and not field.is_struct:
                assert field.is_secret, f"{path} has to be a hub.Secret, which nothing shows"

    def test_settings_cannot_be_changed(self) -> None:
        assert self.connector.settings.__struct_config__.frozen, "say frozen=True"

    def test_the_channel_has_a_name_and_declares_part_types_that_exist(self) -> None:
        msgspec.convert(self.connector.channel, Name)
        known = {part.__struct_config__.tag for part in Part.__subclasses__()}
        unknown = self.connector.capabilities.sends - known
        assert not unknown, f"capabilities.sends names no part types: {sorted(unknown)}"
        names = self.connector.allowed_headers
        assert all(name == name.lower() for name in names), "allowed_headers are in lower case"

    def test_profiles_that_can_be_asked_for_are_declared(self) -> None:
        kind = self.connector
        assert kind.capabilities.profile or not kind.fetches_profiles(), (
            "it has fetch_profile: declare capabilities.profile, as the channel matrix shows it"
        )

    def test_secrets_are_in_no_repr(self) -> None:
        connector = self.make_connector()
        with self.nothing_leaks(connector) as told:
            told += [repr(connector), str(connector), repr(connector.account)]
            told += [repr(connector.account.settings), repr(connector.context)]
            told += [repr(connector.samples)]

    def test_what_is_exempt_is_known_and_has_a_reason(self) -> None:
        assert set(self.exempt) <= set(EXEMPTIONS), f"exemptions are {', '.join(EXEMPTIONS)}"
        assert all(reason.strip() for reason in self.exempt.values())

    def test_it_has_a_door_or_can_send(self) -> None:
        kind = self.connector
        doors = "webhook" not in self.exempt or kind.polls() or kind.holds()
        assert doors or kind.capabilities.sends, "nothing can come in and nothing can go out"


def _fields(settings: type[msgspec.Struct], path: str) -> Iterator[tuple[str, Any]]:
    for info in msgspec.structs.fields(settings):
        below = f"{path}.{info.name}"
        yield below, info.type
        for kind in _structs(field_of(info.type).type):
            yield from _fields(kind, below)


def _structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for argument in get_args(kind):
        yield from _structs(field_of(argument).type)
