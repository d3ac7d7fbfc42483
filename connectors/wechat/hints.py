"""The typing indicator: "对方正在输入…", shown for about 15 s (unverified).

It is no message: it takes no place in a window, and it is refused where a window is closed.
"""

from __future__ import annotations

from collections import OrderedDict

from connectors.wechat.api import Api, Refusal
from hub import Clock

TYPING = "/cgi-bin/message/custom/typing"
SHOWN_S = 15.0
AGAIN_S = 10.0  # an agent's page says it with every key; WeChat is told before it goes out
MOST_PEOPLE = 10_000


class TypingHints:
    """Whom the account shows as being written to, in this process."""

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._shown: OrderedDict[str, float] = OrderedDict()  # since when

    async def show(self, openid: str, on: bool) -> None:
        """Tell WeChat, unless it shows just that. Raises a Failure."""
        now = self._clock.monotonic()
        since = self._shown.get(openid)
        if on and since is not None and now - since < AGAIN_S:
            return
        if not on and (since is None or now - since > SHOWN_S):
            return
        self._shown.pop(openid, None)
        if on:
            self._shown[openid] = now
            if len(self._shown) > MOST_PEOPLE:
                self._shown.popitem(last=False)
        body = {"touser": openid, "command": "Typing" if on else "CancelTyping"}
        try:
            await self._api.post(TYPING, body)
        except Refusal as refusal:
            raise self._api.failure(refusal) from None
