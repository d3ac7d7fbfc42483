"""Where a call is in its menu: our own state, carried by the URLs that Twilio asks next.

It is sealed with AES-SIV under a key of the account: nobody can change it, move it to another
call, or read the caller's number out of a proxy's log; and the same state is always the same
text, so that an answer stays a function of what was asked. Steps are known by their names, which
stay the same through a deployment in mid-call.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import datetime, timedelta

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

VERSION = b"ivr-state-1"
# A call lasts four hours at most; what asks to go on with a later state begins anew.
FLOW_LIFE = timedelta(hours=5)
MAX_SEALED = 2000
PARAMETER = "s"


class BadState(ValueError):
    """The state is not ours, or was changed."""


class CallState(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """``hop`` counts what the call was asked; ``tries`` the wrong answers to this step's question.

    ``awaits`` is what Twilio's next request brings: a word of :mod:`connectors.ivr.flow`.
    """

    call: str
    began: int  # Unix time, seconds
    step: str
    awaits: str
    caller: str = ""
    called: str = ""
    language: str = ""
    hop: int = 0
    tries: int = 0
    target: int = 0  # which target of a transfer is being rung
    typed: str = ""  # a number that waits to be confirmed
    private: bool = False  # what is typed next is nobody's business

    def expired(self, at: datetime) -> bool:
        return at.timestamp() - self.began > FLOW_LIFE.total_seconds()


class Sealer:
    """Turns states into texts for URLs and back, under one account's secret."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESSIV(hmac.new(secret, VERSION, hashlib.sha512).digest())

    def seal(self, state: CallState) -> str:
        sealed = self._cipher.encrypt(msgspec.msgpack.encode(state), [VERSION])
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, text: str, *calls: str) -> CallState:
        """Return the state in ``text``, if it is of one of ``calls``. Raises :class:`BadState`."""
        if not text or len(text) > MAX_SEALED or not text.isascii():
            raise BadState("there is no state")
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
            state = msgspec.msgpack.decode(self._cipher.decrypt(sealed, [VERSION]), type=CallState)
        except (binascii.Error, ValueError, InvalidTag, msgspec.MsgspecError) as error:
            raise BadState("the state is not ours") from error
        if state.call not in calls:
            raise BadState("the state is another call's")
        if base64.urlsafe_b64encode(sealed).rstrip(b"=").decode() != text:
            raise BadState("the state is not ours")
        return state
