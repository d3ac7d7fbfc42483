"""What WeChat says of a follower: little, since it gives no names and pictures any more (2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.wechat import errors
from connectors.wechat.api import Api, Refusal
from normalizer.drafts import Profile
from normalizer.outcomes import Misconfigured

INFO = "/cgi-bin/user/info"
NOBODY = "微信用户"
_LAST = 4  # characters of the OpenID that tell one nameless person from another
_KEPT = {
    "unionid": "unionid",
    "remark": "remark",
    "subscribe_scene": "subscribe_scene",
    "qr_scene_str": "scene",
}


async def profile_of(api: Api, openid: str) -> Profile | None:
    """Return what is known of a person. Raises a Failure; an unknown OpenID is Unreachable."""
    try:
        said = await api.get(INFO, openid=openid, lang="zh_CN")
    except Refusal as refusal:
        raise api.failure(refusal) from None
    except Misconfigured as failure:
        if failure.code not in {str(number) for number in errors.NOT_ALLOWED}:
            raise
        return _profile({}, openid)  # accounts that are not verified may not ask
    return _profile(said, openid)


def _profile(said: Mapping[str, Any], openid: str) -> Profile:
    told = {ours: _text(said, theirs) for theirs, ours in _KEPT.items()}
    if "subscribe" in said:
        told["follows"] = "yes" if said["subscribe"] == 1 else "no"
    return Profile(
        name=_text(said, "nickname") or f"{NOBODY}{openid[-_LAST:]}",
        locale=_text(said, "language").replace("_", "-"),
        avatar=_text(said, "headimgurl"),
        attributes={name: value for name, value in told.items() if value},
    )


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name, "")
    return value.strip() if isinstance(value, str) else ""
