"""Who sent a request: the signature, its time, and what was encrypted.

Every failure is the same 403 from outside. The reasons are for our metrics: they are few.
"""

from __future__ import annotations

from connectors.wechat import crypto, wire
from connectors.wechat.crypto import NotGenuine
from connectors.wechat.settings import WechatSettings
from hub import Refused, Request, Verified

ECHO_CHARS = 512
_TIME_DIGITS = 10
_NOT_SEALED = ("", "raw")  # values of encrypt_type
_SEALED = "aes"


class Verifier:
    """Believes or refuses requests for one account."""

    def __init__(self, settings: WechatSettings, *, insecure: bool) -> None:
        self._settings = settings
        self._tokens = [token.reveal() for token in settings.tokens]
        self._keys = [crypto.aes_key(key.reveal()) for key in settings.encoding_aes_keys]
        self._open = insecure and not self._tokens

    def verify(self, request: Request) -> Verified:
        """Return the request with its plain payload. Raises Refused and nothing else.

        The facts of an encrypted push are which token signed it (``token``) and which key opened
        it (``key``), so that an answer is sealed with the same. ``plain`` is the fact of all
        others whose query is signed; :mod:`admission` looks at them.
        """
        query = request.query
        if request.method == "GET":
            return self._handshake(request, query)
        if request.method != "POST":
            raise Refused("method")
        sealing = query.get("encrypt_type", "").lower()
        if sealing == _SEALED and (self._keys or not self._open):
            return self._sealed(request, query)
        if self._open:
            return request.verified()
        if sealing not in _NOT_SEALED:
            raise Refused("encrypt_type")
        if self._settings.mode == "safe":
            raise Refused("downgrade")
        return self._plain(request, query)

    def _handshake(self, request: Request, query: dict[str, str]) -> Verified:
        if not self._open:
            self._signed(request, query, "signature")
        if not 0 < len(query.get("echostr", "")) <= ECHO_CHARS:
            raise Refused("echostr")
        return request.verified() if self._open else request.verified(plain="yes")

    def _plain(self, request: Request, query: dict[str, str]) -> Verified:
        """A plain push: the signature covers nothing of the body, so it must look like one.

        That one query is not used for two bodies is seen to by :mod:`admission`.
        """
        self._signed(request, query, "signature")
        fields = _readable(request.body)
        if fields is None:
            raise Refused("body")
        self._for_us(fields)
        return request.verified(plain="yes")

    def _sealed(self, request: Request, query: dict[str, str]) -> Verified:
        encrypted = wire.text(_readable(request.body) or {}, "Encrypt")
        if not encrypted:
            raise Refused("body")
        facts = {}
        if not self._open:
            facts["token"] = str(self._signed(request, query, "msg_signature", encrypted))
        payload, facts["key"] = self._opened(encrypted)
        # It is WeChat's, whatever it says. What cannot be read fails in parse, and is kept.
        if (fields := _readable(payload)) is not None:
            self._for_us(fields)
        return request.verified(payload, **facts)

    def _signed(self, request: Request, query: dict[str, str], name: str, *more: str) -> int:
        """Return which token signed the request in time."""
        timestamp, nonce = query.get("timestamp", ""), query.get("nonce", "")
        number = crypto.signer(self._tokens, query.get(name, ""), timestamp, nonce, *more)
        if number is None:
            raise Refused("signature")
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _TIME_DIGITS):
            raise Refused("timestamp")
        if abs(request.received_at.timestamp() - int(timestamp)) > self._settings.window_s:
            raise Refused("stale")
        return number

    def _opened(self, encrypted: str) -> tuple[bytes, str]:
        found: tuple[bytes, str] | None = None
        for number, key in enumerate(self._keys):
            try:
                found = crypto.decrypt(key, self._settings.appid, encrypted), str(number)
            except NotGenuine:
                continue
        if found is None:
            raise Refused("decrypt")
        return found

    def _for_us(self, fields: wire.Fields) -> None:
        ours = self._settings.original_id
        if ours and wire.text(fields, "ToUserName") != ours:
            raise Refused("account")


def _readable(body: bytes) -> wire.Fields | None:
    try:
        return wire.read(body)
    except wire.Unreadable:
        return None
