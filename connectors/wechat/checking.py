"""Whether an account works: its token, its place on the allow-list, its rights."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.wechat import errors
from connectors.wechat.api import Api, Refusal
from connectors.wechat.sending import SEND
from connectors.wechat.settings import WechatSettings
from connectors.wechat.tokens import Tokens
from normalizer.outcomes import Failure, Misconfigured, Unreachable

NOBODY = "o-omniline-check-nobody"  # no OpenID: the call is refused, and nobody is written to


async def problems(settings: WechatSettings, tokens: Tokens, api: Api) -> Sequence[str]:
    """Return what is wrong, with its remedy. It sends nothing to anybody."""
    if settings.app_secret is None and settings.token_server is None:
        return (
            "app_secret is not set: messages come in, but nothing can be sent or fetched."
            " Set it, or token_server",
        )
    try:
        await tokens.current()
        if await tokens.contested():
            return (errors.ANOTHER_SYSTEM,)
        return await _rights(settings, api)
    except Failure as failure:
        return (failure.reason,)


async def _rights(settings: WechatSettings, api: Api) -> Sequence[str]:
    """Try to write to nobody: who may send is told that there is no such person."""
    body = {"touser": NOBODY, "msgtype": "text", "text": {"content": "check"}}
    try:
        await api.post(SEND, body)
    except Refusal as refusal:
        return (api.failure(refusal).reason,)
    except Unreachable:
        if settings.rights == "passive":
            return (
                "this account has the right to customer-service messages: set"
                ' rights = "customer_service" to answer customers',
            )
        return ()
    except Misconfigured as failure:
        not_allowed = failure.code in {str(number) for number in errors.NOT_ALLOWED}
        return () if not_allowed and settings.rights == "passive" else (failure.reason,)
    return ()
