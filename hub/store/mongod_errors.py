"""What can go wrong with the embedded MongoDB."""

from __future__ import annotations


class EmbeddedMongodError(Exception):
    """Root of what can go wrong with the embedded server; the text names the remedy."""


class MongodNotFound(EmbeddedMongodError):
    """There is no `mongod` in any of the places where one is looked for."""


class MongodUnusable(EmbeddedMongodError):
    """The `mongod` that was found does not start on this machine at all."""


class FolderUnusable(EmbeddedMongodError):
    """The data folder cannot be written, or its disk is full."""


class FolderBusy(EmbeddedMongodError):
    """Another live process owns the data folder."""


class PortInUse(EmbeddedMongodError):
    """The configured port is taken by somebody else."""


class MongodFailed(EmbeddedMongodError):
    """The server ended by itself, or did not become ready; with the last lines of its log.

    exit_code: what it exited with, negative for a signal, None when it lives or was adopted.
    """

    def __init__(self, text: str, exit_code: int | None = None) -> None:
        super().__init__(text)
        self.exit_code = exit_code
