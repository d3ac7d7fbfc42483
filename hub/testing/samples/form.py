"""The webhook door of a vendor that signs the URL: a form, and a handshake by GET.

The vendor is made up. When the webhook is entered in its console it asks for an echo; from then
on it sends forms, and signs the URL that was entered, with the form's fields behind it::

    GET  /in/sample_form/main?echo=WORD&signature=hex(hmac_sha256(secret, url without signature))
    POST /in/sample_form/main   x-form-signature: hex(hmac_sha256(secret, url + name + value ...))
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

import msgspec

from hub import Answer, Clock, Connector, Refused, Request, Sample, Secret, Verified, hookimpl
from normalizer.addresses import Address
from normalizer.drafts import AnyDraft, Message
from normalizer.parts import Text

omniline_api = 1

_MARK = "&signature="


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    secret: Annotated[Secret | None, msgspec.Meta(description="The shared secret.")] = None


class SampleForm(Connector[Settings]):
    channel: ClassVar[str] = "sample_form"
    settings: ClassVar[type[msgspec.Struct]] = Settings

    def check_settings(self) -> Sequence[str]:
        return () if self.account.settings.secret else ("the form channel needs a secret",)

    def verify(self, request: Request) -> Verified:
        if self.account.settings.secret is None and self.account.insecure:
            return request.verified()
        if request.method == "GET":
            signed, mark, given = request.url.rpartition(_MARK)
            if not mark:
                raise Refused("signature")
        else:
            try:
                fields = request.form()
            except ValueError as error:
                raise Refused("no form", status=400) from error
            signed = request.url + _joined(fields)
            given = request.headers.get("x-form-signature", "")
        if not hmac.compare_digest(self._sign(signed).encode(), given.encode(errors="replace")):
            raise Refused("signature")
        return request.verified()

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        if verified.request.method == "GET":
            return ()
        said = dict(verified.request.form())
        return (
            Message(
                key=said["id"],
                at=datetime.fromtimestamp(int(said["at"]), UTC),
                address=Address(
                    scheme=self.channel, account=self.account.key, kind="user", id=said["from"]
                ),
                parts=(Text(text=said["text"]),),
            ),
        )

    def answer(self, verified: Verified, drafts: Sequence[AnyDraft], clock: Clock) -> Answer:
        return Answer(body=verified.request.query.get("echo", "").encode())

    def samples(self, clock: Clock) -> Sequence[Sample]:
        at = int(clock.now().timestamp())
        query = urlencode({"echo": "a word"})
        signed = f"{self.context.public_url}?{query}"
        query += f"{_MARK}{self._sign(signed)}"
        fields = {"id": "f1", "from": "ann", "at": str(at), "text": "多少钱？"}
        url = self.context.public_url
        return [
            Sample(
                name="handshake",
                drafts=0,
                request=Request(
                    method="GET",
                    url=f"{url}?{query}",
                    query_string=query,
                    received_at=clock.now(),
                ),
                signed_query=("signature", "echo"),
                signs_body=False,
            ),
            Sample(
                name="text",
                request=Request(
                    method="POST",
                    url=url,
                    headers={
                        "content-type": "application/x-www-form-urlencoded",
                        "x-form-signature": self._sign(url + _joined(list(fields.items()))),
                    },
                    body=urlencode(fields).encode(),
                    received_at=clock.now(),
                ),
                signed_headers=("x-form-signature",),
            ),
        ]

    def _sign(self, text: str) -> str:
        secret = self.account.settings.secret
        key = secret.reveal().encode() if secret else b""
        return hmac.new(key, text.encode(errors="replace"), hashlib.sha256).hexdigest()


def _joined(fields: Sequence[tuple[str, str]]) -> str:
    return "".join(f"{name}{value}" for name, value in sorted(fields))


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [SampleForm]
