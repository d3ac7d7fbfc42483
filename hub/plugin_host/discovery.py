"""Where plugins are found: bundled folders, installed packages, and modules named in settings."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import Any

import msgspec

BUNDLED = ("connectors", "plugins")
TOP_LEVEL = ("hub", "connectors", "normalizer", "plugins")
GROUP = "omniline"
DISTRIBUTION = "omniline"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A place where a plugin should be. Without ``plugin``, ``missing`` or ``problem`` says why.

    ``missing``: an optional dependency is not installed. ``problem``: anything else.
    ``home`` is the module that the plugin's code lives in or below.
    """

    name: str
    origin: str
    home: str
    version: str = ""
    plugin: Any = None
    missing: str = ""
    problem: str = ""


def own_version() -> str:
    """Return the installed version of Omniline, or an empty text in a bare checkout."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return ""


def bundled_plugins() -> Iterator[Found]:
    """Every sub-package of the bundled packages. A leading underscore says: not a plugin."""
    version = own_version()
    for package_name in BUNDLED:
        try:
            package = importlib.import_module(package_name)
        except ModuleNotFoundError as error:
            if error.name != package_name:
                raise
            continue  # an installation that bundles none of this kind
        for module in pkgutil.iter_modules(package.__path__):
            if module.ispkg and not module.name.startswith("_"):
                home = f"{package_name}.{module.name}"
                found = Found(
                    name=module.name, origin=f"bundled {home}", home=home, version=version
                )
                yield _loaded(found, partial(importlib.import_module, home))


def installed_plugins() -> Iterator[Found]:
    """Every entry point of the group ``omniline``."""
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda one: one.name):
        origin, version = f"entry point {point.value}", ""
        if point.dist is not None:
            origin, version = f"distribution {point.dist.name}", point.dist.version
        found = _loaded(
            Found(name=point.name, origin=origin, home=point.module, version=version), point.load
        )
        if not hasattr(sys.modules.get(point.module), "__path__"):
            # A module inside a package: its helpers stand beside it.
            home = point.module.rpartition(".")[0] or point.module
            found = msgspec.structs.replace(found, home=home)
        yield found


def named_plugins(modules: Sequence[str]) -> Iterator[Found]:
    """Modules by their dotted names, or objects in them: ``shop.night`` or ``shop.night:plugin``.

    The plugin's name is the last word, or what it calls itself by ``omniline_name``: two modules
    may end alike.
    """
    for text in modules:
        point = metadata.EntryPoint(name="", value=text, group=GROUP)
        name = text.replace(":", ".").rpartition(".")[2]
        found = Found(name=name, origin=f"module {text}", home=text.partition(":")[0])
        loaded = _loaded(found, point.load)
        called = str(getattr(loaded.plugin, "omniline_name", name))
        yield msgspec.structs.replace(loaded, name=called)


def _loaded(found: Found, load: Callable[[], object]) -> Found:
    try:
        plugin = load()
    except ImportError as error:
        stranger = (error.name or "").partition(".")[0]
        if found.origin.startswith("bundled") and stranger and stranger not in TOP_LEVEL:
            reason = f"not available: install omniline[{found.name}] ({error})"
            return msgspec.structs.replace(found, missing=reason)
        return msgspec.structs.replace(found, problem=_cannot_import(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the reason is told at start
        return msgspec.structs.replace(found, problem=_cannot_import(error))
    version = found.version or str(getattr(plugin, "__version__", ""))
    return msgspec.structs.replace(found, plugin=plugin, version=version)


def _cannot_import(error: BaseException) -> str:
    return (
        f"it cannot be imported ({type(error).__name__}: {error})."
        " Repair it, update it or uninstall it."
    )


def shadowing(
    distributions: Iterable[metadata.Distribution] | None = None, *, root: Path | None = None
) -> list[str]:
    """Name every stranger that stands where our own top-level packages should be.

    Their names are generic: another distribution may install a ``hub`` or a ``plugins`` of its
    own, before ours on the path or into the very same folder. One sentence each, with the remedy;
    empty when all is well. ``root`` is the folder that our packages are expected in.
    """
    root = root or Path(__file__).resolve().parents[2]
    found = metadata.distributions() if distributions is None else distributions
    strangers = [_Footprint(one) for one in found if (one.name or "").lower() != DISTRIBUTION]
    told: list[str] = []
    for name in TOP_LEVEL:
        for place in _places(name):
            culprits = sorted({one.name for one in strangers if place in one.places})
            if culprits:
                who = f"the distribution {', '.join(culprits)}"
            elif place not in (root / name, root / name / "__init__.py"):
                who = f"something in {place}"
            else:
                continue
            told.append(
                f'{who} shadows the package "{name}" of Omniline.'
                " Install Omniline in an environment of its own."
            )
    return told


class _Footprint:
    """Where a distribution has put packages with names like ours."""

    def __init__(self, distribution: metadata.Distribution) -> None:
        self.name = f"{distribution.name} {distribution.version}"
        tops = {file.parts[0] for file in distribution.files or ()}
        self.places = {
            Path(str(distribution.locate_file(top))).resolve()
            for top in tops
            if top.removesuffix(".py") in TOP_LEVEL
        }


def _places(name: str) -> list[Path]:
    """The folders, or the one file, that ``import name`` takes its modules from."""
    spec = util.find_spec(name)
    if spec is None:
        return []
    places = list(spec.submodule_search_locations or ()) or [spec.origin or ""]
    return [Path(place).resolve() for place in places if place]
