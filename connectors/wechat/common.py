"""What all pushes have in common: for whom, from whom, when, of which type."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec

from connectors.wechat.wire import Fields, Unreadable, read, text
from normalizer.addresses import Address

CHANNEL = "wechat"
KIND = "openid"
_OPENID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")  # 28 characters today, case-sensitive
_TIME = re.compile(r"[0-9]{1,10}\Z")


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """A push that was read. ``kind`` is MsgType in lower case; ``created`` is CreateTime."""

    account: str
    fields: Fields
    kind: str
    created: str
    address: Address

    @property
    def at(self) -> datetime | None:
        """When WeChat received it, whole seconds UTC; None where it does not say."""
        return datetime.fromtimestamp(int(self.created), UTC) if _TIME.match(self.created) else None


def read_push(body: bytes, account: str) -> Push:
    """Return a push's common part. Raises Unreadable."""
    fields = read(body)
    kind = text(fields, "MsgType").strip().lower()
    if not kind:
        raise Unreadable("the push has no MsgType")
    return Push(
        account=account,
        fields=fields,
        kind=kind,
        created=text(fields, "CreateTime").strip(),
        address=address_of(account, text(fields, "FromUserName")),
    )


def address_of(account: str, openid: str) -> Address:
    """Return a person's address; OpenIDs are of one account, and are kept to the letter."""
    if not is_openid(openid):
        raise Unreadable("the push names nobody: FromUserName is no OpenID")
    return Address(scheme=CHANNEL, account=account, kind=KIND, id=openid)


def is_openid(text: str) -> bool:
    return _OPENID.match(text) is not None
