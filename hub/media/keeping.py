"""Blobs of media jobs: named after the attempt that makes them, so that a crash leaves no strays.

What an attempt stored before its process died is found by its name and taken away by the next
one. Copies that were made of a blob have names that follow from its own.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any, BinaryIO

from hub.documents import Job
from hub.ids import encode128
from hub.media.downloads import chunks, digest_of
from hub.store.interface import BlobStore
from normalizer.parts import Rendition

KIND = "media"  # ``kind`` in the metadata of these blobs
ROLES = ("copy", "original", "thumb")
FORMER_ATTEMPTS = 5  # each takes away what the ones before it left, so a few are enough


def blob_of(job: Job, attempt: int, role: str) -> str:
    """Return the name of a blob that an attempt of a job makes."""
    return _named(f"{job.id}|{job.args.get('round', 0)}|{attempt}|{role}")


def fitted_copy(blob: str) -> str:
    """Return the name of the copy of ``blob`` that was made to fit a channel."""
    return _named(f"{blob}|fitted")


def cleaned_copy(blob: str) -> str:
    """Return the name of the copy of an uploaded picture that has no metadata."""
    return _named(f"{blob}|cleaned")


def copy_for(blob: str, owner: str) -> str:
    """Return the name of the copy of an uploaded file for another message than its first."""
    return _named(f"{blob}|for|{owner}")


def _named(text: str) -> str:
    return f"blb_{encode128(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16]))}"


async def clear_attempts(blobs: BlobStore, job: Job) -> None:
    """Take away what earlier attempts left, and this one under an earlier lease."""
    for attempt in range(max(1, job.attempts - FORMER_ATTEMPTS), job.attempts + 1):
        for role in ROLES:
            await blobs.delete(blob_of(job, attempt, role))


async def keep(
    blobs: BlobStore, job: Job, role: str, file: BinaryIO, mime: str, name: str
) -> Rendition:
    """Store a file under the name of this attempt's ``role``."""
    size, sha256 = await asyncio.to_thread(digest_of, file)
    metadata: Mapping[str, Any] = {
        "kind": KIND,
        "entry": job.entry or "",
        "name": name,
        "mime": mime,
        "size": size,
        "sha256": sha256,
    }
    blob = await blobs.put(chunks(file), metadata=metadata, blob=blob_of(job, job.attempts, role))
    return Rendition(blob=blob, mime=mime, size=size, sha256=sha256)
