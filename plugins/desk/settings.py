"""What ``[[backends]]`` of type ``desk`` may say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from hub import Wrong

QueueName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[^\u0000-\u001f\u007f]*$",
        extra={"expects": "a name of 1 to 64 characters without control characters"},
    ),
]


class DeskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The desk needs no settings; queues can be named."""

    queues: Annotated[
        tuple[QueueName, ...],
        Meta(description="The queues that tickets are sorted into.", min_length=1),
    ] = ("support",)
    default_queue: Annotated[
        str,
        Meta(description="Where tickets go that no rule sorted; the first queue when empty."),
    ] = ""

    def check(self) -> Iterator[Wrong]:
        if self.default_queue and self.default_queue not in self.queues:
            yield Wrong(
                "default_queue",
                f'"{self.default_queue}" is not among the queues',
                f"Add it to queues, or choose one of: {', '.join(self.queues)}",
            )

    @property
    def first_queue(self) -> str:
        return self.default_queue or self.queues[0]
