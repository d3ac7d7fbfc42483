"""The hook for whoever writes down recordings: a function that an operator names.

Twilio's own transcription knows American English only, so there is none built in.
"""

from __future__ import annotations

import importlib
import re
from typing import Protocol

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")


class Transcriber(Protocol):
    """``async def transcribe(audio, mime, language) -> str``.

    ``audio`` are the bytes of a recording, ``language`` the tag of the menu's first language. It
    returns what was said, "" where nothing can be made out, and raises what is worth another try.
    """

    async def __call__(self, audio: bytes, mime: str, language: str) -> str: ...


def load(name: str) -> Transcriber:
    """Return the function that ``package.module:function`` names.

    Raises ImportError, AttributeError and TypeError for what is none.
    """
    module, _, function = name.partition(":")
    found: Transcriber = getattr(importlib.import_module(module), function)
    if not callable(found):
        raise TypeError(f"{name} is no function")
    return found


def complaint(name: str) -> str:
    """Return what is wrong with the name of a transcriber, or nothing."""
    if not _NAME.match(name):
        return f"{name!r} names no function: write package.module:function"
    try:
        load(name)
    except (ImportError, AttributeError, TypeError) as error:
        return f"{name} cannot be used: {type(error).__name__}: {error}"
    return ""
