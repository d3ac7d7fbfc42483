"""The sample channel with files: a message names some, and they are fetched from the vendor.

A push of the type ``files`` has JSON in its text: ``[{"kind": "image", "ref": "photo"}, ...]``; a
part with ``hex`` is stored first, as a mail connector does with attachments. ``edit`` replaces
the parts of the message ``ref``, ``recall`` takes them away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

import msgspec

from hub import Connector, Fetched, HttpUrl, Outgoing, Secret, Verified, hookimpl
from hub.testing.samples.webhook import Push, SampleWebhook
from normalizer.addresses import Address
from normalizer.capabilities import Capabilities
from normalizer.drafts import Amendment, AmendmentKind, AnyDraft, Message, Target
from normalizer.outcomes import Accepted, Rejected
from normalizer.parts import AnyPart, Audio, File, Image, Media, MediaState, Text, Video

omniline_api = 1
MAX_IMAGE_BYTES = 60_000
KINDS = {"image": Image, "file": File, "audio": Audio, "video": Video}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    secrets: Annotated[list[Secret], msgspec.Meta(description="Shared secrets.")] = []
    files_url: Annotated[HttpUrl, msgspec.Meta(description="Where the vendor keeps files.")]


class Named(msgspec.Struct, kw_only=True):
    kind: str = "file"
    ref: str | None = None
    blob: str | None = None
    mime: str = ""
    name: str = ""


class SampleWithFiles(SampleWebhook):
    settings: ClassVar[type[msgspec.Struct]] = Settings
    capabilities: ClassVar[Capabilities] = Capabilities(
        sends=frozenset({"text", "image"}),
        max_image_bytes=MAX_IMAGE_BYTES,
        image_types=frozenset({"image/jpeg"}),
    )

    async def send(self, message: Outgoing) -> Accepted:
        """Take pictures that are as small as the vendor wants them, and read them as it would."""
        for part in message.parts:
            if isinstance(part, Image):
                data = await self.context.blobs.read(part.media.blob or "")
                if len(data) > MAX_IMAGE_BYTES or not data.startswith(b"\xff\xd8"):
                    raise Rejected("the vendor takes small JPEGs only")
        self.sent.append(message)
        return Accepted(vendor_ids=(f"s-{message.key}",))

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        push = msgspec.json.decode(verified.payload, type=Push)
        if push.type not in ("files", "edit", "recall"):
            return super().parse(verified)
        at = datetime.fromtimestamp(push.at / 1000, UTC)
        address = Address(
            scheme=self.channel, account=self.account.key, kind="user", id=push.sender
        )
        if push.type == "recall":
            return (self._amended(push, at, address, AmendmentKind.RECALL, {}),)
        parts = parts_of(push.text)
        if push.type == "edit":
            data = {"parts": msgspec.to_builtins(parts)}
            return (self._amended(push, at, address, AmendmentKind.EDIT, data),)
        return (Message(key=push.id, at=at, address=address, parts=parts, vendor_ids=(push.id,)),)

    def _amended(
        self,
        push: Push,
        at: datetime,
        address: Address,
        kind: AmendmentKind,
        data: dict[str, Any],
    ) -> Amendment:
        return Amendment(
            key=push.id,
            at=at,
            address=address,
            target=Target(vendor_id=push.ref),
            kind=kind,
            data=data,
        )

    async def fetch_media(self, media: Media, address: str) -> Fetched:
        assert address.startswith("sample:")
        base = self.account.settings.files_url  # type: ignore[attr-defined]
        host = base.partition("://")[2]
        return await self.context.fetch(
            f"{base}/{media.vendor_ref}", hosts=[host], headers={"Authorization": "Bearer key"}
        )


def parts_of(text: str) -> tuple[AnyPart, ...]:
    """Return the parts that a push names; texts between them are texts."""
    parts: list[AnyPart] = []
    for each in msgspec.json.decode(text):
        if isinstance(each, str):
            parts.append(Text(text=each))
            continue
        named = msgspec.convert(each, Named)
        media = Media(
            vendor_ref=named.ref,
            blob=named.blob,
            mime=named.mime,
            name=named.name,
            state=MediaState.PENDING,
        )
        parts.append(KINDS[named.kind](media=media))
    return tuple(parts)


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [SampleWithFiles]
