"""Pictures, opened in a process of their own: copies that are safe to show, and thumbnails.

Pillow comes with the extra ``media``. Without it pictures are kept as files, without a copy and
a thumbnail, and the hub says so once.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import structlog

from hub.config import MediaSettings
from normalizer.outcomes import Rejected, Temporary

log = structlog.get_logger(__name__)

PROGRAM = Path(__file__).with_name("picture_process.py")
THUMB_SIDE = 360  # pixels
MAX_FRAMES = 200
MAX_MOVING_PIXELS = 100_000_000  # of all frames together; beyond, the first one is kept
AT_ONCE = 2
MEMORY_MB = 1536
_NAMES = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF", "image/webp": "WEBP"}


def files_folder(data_dir: Path) -> Path:
    """Return where files are while they are looked at; they have no names there."""
    return data_dir / "files"


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a written picture is. Measures in pixels."""

    mime: str
    width: int
    height: int


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    mime: str = ""
    width: int = 0
    height: int = 0
    thumb: Shape | None = None
    refused: str = ""
    unreadable: str = ""


class Copies:
    """A picture's safe copy and its thumbnail, in files without names; close them after use."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.copy: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self.thumb: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self.shape: Shape | None = None
        self.thumb_shape: Shape | None = None
        self.unreadable = ""  # why there is neither of them, in plain words

    def close(self) -> None:
        self.copy.close()
        self.thumb.close()


class Pictures:
    """Runs the picture process, a few at once, each with a limit on time and memory."""

    def __init__(
        self, folder: Path, *, seconds: float, max_pixels: int, program: Path = PROGRAM
    ) -> None:
        self._folder = folder
        self._seconds = seconds
        self._max_pixels = max_pixels
        self._program = program
        self._room = asyncio.Semaphore(AT_ONCE)
        self.available = importlib.util.find_spec("PIL") is not None
        if not self.available:
            log.warning("pictures_not_opened", advice="install omniline[media]")

    @classmethod
    def for_hub(cls, settings: MediaSettings, data_dir: Path) -> Pictures:
        return cls(
            files_folder(data_dir),
            seconds=settings.picture_timeout_s,
            max_pixels=settings.max_pixels,
        )

    async def cleaned(self, file: BinaryIO) -> Copies:
        """Return copies of a picture, or why there are none.

        Raises Rejected for a picture that must not be opened (too many pixels, too much memory
        or time), and Temporary when the process could not be started.
        """
        copies = Copies(self._folder)
        try:
            if not self.available:
                copies.unreadable = "no preview: pictures are not opened here"
                return copies
            answer = await self._run(
                {
                    "do": "clean",
                    "source": file.fileno(),
                    "copy": copies.copy.fileno(),
                    "thumb": copies.thumb.fileno(),
                    "thumb_side": THUMB_SIDE,
                    "max_frames": MAX_FRAMES,
                    "max_moving_pixels": MAX_MOVING_PIXELS,
                }
            )
            if answer.unreadable:
                copies.unreadable = "no preview: the picture is damaged or of an unknown kind"
            else:
                copies.shape = _shape(answer)
                copies.thumb_shape = answer.thumb
        except BaseException:
            copies.close()
            raise
        return copies

    async def shrunk(
        self, file: BinaryIO, into: BinaryIO, *, max_bytes: int, types: frozenset[str]
    ) -> Shape:
        """Write a copy of a picture that has at most ``max_bytes`` and one of ``types``.

        Without ``types`` any will do. Raises Rejected with a plain reason when there is no such
        copy.
        """
        kinds = [name for mime, name in _NAMES.items() if not types or mime in types]
        if not self.available or not kinds:
            raise Rejected("the picture cannot be made to fit here")
        answer = await self._run(
            {
                "do": "shrink",
                "source": file.fileno(),
                "copy": into.fileno(),
                "max_bytes": max_bytes,
                "kinds": kinds,
            }
        )
        if answer.unreadable:
            raise Rejected("the picture is damaged, so no smaller copy can be made of it")
        return _shape(answer)

    async def _run(self, task: dict[str, Any]) -> _Answer:
        task = {
            **task,
            "max_pixels": self._max_pixels,
            "memory_mb": MEMORY_MB,
            "seconds": max(1, int(self._seconds)),
        }
        files = tuple(task[name] for name in ("source", "copy", "thumb") if name in task)
        async with self._room:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-I",
                    str(self._program),
                    msgspec.json.encode(task).decode(),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    pass_fds=files,
                    env={},
                )
            except OSError as error:
                raise Temporary(f"the picture process did not start: {error.strerror}") from error
            out = b""
            try:
                async with asyncio.timeout(self._seconds):
                    out, _ = await process.communicate()
            except TimeoutError as error:
                raise Rejected("the picture takes too long to open") from error
            finally:
                if process.returncode is None:
                    with suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        try:
            answer = msgspec.json.decode(out, type=_Answer)
        except msgspec.MsgspecError as error:
            log.warning("picture_process_died", code=process.returncode)
            raise Rejected("the picture cannot be opened safely") from error
        if answer.refused:
            raise Rejected(answer.refused)
        return answer


def _shape(answer: _Answer) -> Shape:
    return Shape(mime=answer.mime, width=answer.width, height=answer.height)
