"""What a plugin must be before it is registered; each refusal is a sentence with its remedy."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pluggy

from hub.backend_contract import TicketBackend
from hub.config import ConfigError, Name, RawTable, did_you_mean
from hub.contract import Connector
from hub.plugin_host.calls import describe, invoke
from hub.plugin_host.discovery import own_version
from hub.plugin_host.owners import Owners

API = 1
"""The major version of the plugin interface; a plugin says ``omniline_api = 1``."""


def refusals(plugin: object, name: str, manager: pluggy.PluginManager) -> list[str]:
    """Return why a plugin cannot be registered with ``manager``; empty when it can."""
    return [*_name(name), *(_api(plugin) or _hooks(plugin, manager))]


def is_name(value: object) -> bool:
    """Whether something can stand as a name in the configuration and in URLs."""
    try:
        msgspec.convert(value, Name)
    except msgspec.ValidationError:
        return False
    return True


def _name(name: str) -> Iterator[str]:
    if not is_name(name):
        yield (
            "its name cannot stand in the configuration. Use at most 32 lower-case letters, digits,"
            " _ and -, the first a letter or a digit."
        )


def _api(plugin: object) -> list[str]:
    theirs = getattr(plugin, "omniline_api", None)
    ours = f"Omniline {own_version()}".rstrip()
    if type(theirs) is int and theirs == API:
        return []
    if theirs is None:
        return [
            f"it does not say which plugin interface it is written for; {ours} has version {API}."
            f" Add omniline_api = {API} to it."
        ]
    if type(theirs) is int and theirs > API:
        remedy = "Update Omniline, or install an older version of the plugin."
    else:
        remedy = "Install a newer version of the plugin."
    return [
        f"it is written for version {theirs!r} of the plugin interface, but {ours} has version"
        f" {API}. {remedy}"
    ]


def _hooks(plugin: object, manager: pluggy.PluginManager) -> list[str]:
    known = [name for name, caller in vars(manager.hook).items() if caller.has_spec()]
    seen: set[str] = set()
    problems: list[str] = []
    for attribute in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, attribute)
        if options is None:
            continue
        hook = options.get("specname") or attribute
        if hook not in known and not options.get("optionalhook"):
            problems.append(f'there is no hook "{hook}". {did_you_mean(hook, known)}')
        for option in ("wrapper", "hookwrapper"):
            if options.get(option):
                problems.append(
                    f"{hook} is a {option}: a plugin cannot stand around the others."
                    " Remove the option, and return the answer."
                )
        for option in ("tryfirst", "trylast"):
            if options.get(option):
                problems.append(
                    f"{hook} uses {option}, but plugins are asked in the order of their tables in"
                    " the configuration. Remove the option."
                )
        function = getattr(plugin, attribute)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            problems.append(f"{hook} is a generator: its body would never run. Return a list.")
        if hook in seen:
            problems.append(f"it implements {hook} twice. Make one function of both.")
        seen.add(hook)
    if not seen:
        problems.append("it implements no hook. Decorate its functions with @hub.hookimpl.")
    return problems


class Registration(msgspec.Struct, frozen=True):
    """A hook that returns classes: their base, and the class variable that names each."""

    hook: str
    base: type
    key: str


CONNECTORS = Registration("register_connectors", Connector, "channel")
BACKENDS = Registration("register_ticket_backends", TicketBackend, "kind")


def offered_classes(
    registration: Registration, implementation: pluggy.HookImpl, config: RawTable, owners: Owners
) -> tuple[list[type], list[str]]:
    """Ask a plugin for its classes; return those that can be used, and what is wrong."""
    hook = registration.hook
    try:
        answer = invoke(implementation, {"config": config})
    except ConfigError as error:
        return [], [str(error)]
    except (Exception, SystemExit) as error:  # noqa: BLE001 - becomes a PluginError at start
        return [], [f"{hook} raised {describe(error, owners)}. Repair it or uninstall it."]
    if inspect.iscoroutine(answer):
        answer.close()  # else Python warns that nobody awaited it
        return [], [f"{hook} is async, but nothing can be awaited before the start. Make it sync."]
    if not isinstance(answer, Sequence) or isinstance(answer, str):
        return [], [f"{hook} returned {type(answer).__name__}. Return a list of classes."]
    classes: list[type] = []
    problems: list[str] = []
    for offered in answer:
        if problem := _class_problem(offered, registration.base, registration.key):
            problems.append(f"{hook} returned {problem}.")
        else:
            classes.append(offered)
    return classes, problems


def _class_problem(offered: Any, base: type, key: str) -> str:
    if not isinstance(offered, type):
        return f"an object of type {type(offered).__name__}. Return the class itself"
    if not issubclass(offered, base):
        return f"{offered.__name__}, which is no {base.__name__}. Subclass hub.{base.__name__}"
    if inspect.isabstract(offered):
        missing = ", ".join(sorted(getattr(offered, "__abstractmethods__", ())))
        return f"{offered.__name__}, which lacks {missing}. Write what is missing"
    if not is_name(getattr(offered, key, None)):
        return (
            f"{offered.__name__} without a usable {key}. Set its class variable {key} to at most"
            " 32 lower-case letters, digits, _ and -"
        )
    settings = getattr(offered, "settings", None)
    if not (isinstance(settings, type) and issubclass(settings, msgspec.Struct)):
        return f"{offered.__name__} without settings. Set its class variable to a msgspec.Struct"
    return ""
