"""What became of templates, subscription messages and mass messages.

A receipt may overtake the answer to its send: the hub keeps it until the message is known.
Customer-service messages have no receipts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from connectors.wechat.common import Push
from connectors.wechat.settings import WechatSettings
from connectors.wechat.wire import inner, items, text
from normalizer.drafts import AnyDraft, DeliveryState, Receipt, Scope, Target

# Status of TEMPLATESENDJOBFINISH, in lower case without blanks: reason, and whether for ever.
TEMPLATE_STATES = {
    "failed:userblock": ("user_blocked", True),
    "failed:systemfailed": ("system_failed", False),
}
# Status of MASSSENDJOBFINISH.
MASS_STATES = {
    "sendfail": "send_failed",
    "err(10001)": "advertising",
    "err(20001)": "political",
    "err(40001)": "refused_by_the_administrator",
    "err(40002)": "no_answer_of_the_administrator",
}
# ErrorCode of subscribe_msg_sent_event: those that the table of section 7 names.
REFUSED_BY_THE_PERSON = "43101"


def template_job(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
    ident, said = _ident(push), text(push.fields, "Status").strip()
    state = "".join(said.lower().split())
    if state == "success":
        return _receipt(push, ident, DeliveryState.DELIVERED)
    reason, permanent = TEMPLATE_STATES.get(state, (said or "unknown", False))
    return _receipt(push, ident, DeliveryState.FAILED, code=said, reason=reason, ever=permanent)


def mass_job(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
    """A mass message goes to many: its sender is no customer, so no address is named."""
    ident, said = _ident(push), text(push.fields, "Status").strip()
    state = "".join(said.lower().split())
    if state == "sendsuccess":
        return _receipt(push, ident, DeliveryState.DELIVERED, of_one=False)
    reason = MASS_STATES.get(state, said or "unknown")
    return _receipt(
        push, ident, DeliveryState.FAILED, code=said, reason=reason, ever=True, of_one=False
    )


def subscription_sent(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
    """One receipt for each item of the list (its fields are unverified)."""
    found: list[AnyDraft] = []
    for item in items(inner(push.fields, "SubscribeMsgSentEvent"), "List"):
        ident = text(item, "MsgID") or text(item, "MsgId")
        code, said = text(item, "ErrorCode").strip(), text(item, "ErrorStatus").strip()
        if not ident:
            continue
        if code in ("0", "") and said.lower() in ("success", ""):
            found += _receipt(push, ident, DeliveryState.DELIVERED)
            continue
        refused = code == REFUSED_BY_THE_PERSON
        reason = "refused_by_the_person" if refused else said or f"error {code}"
        found += _receipt(push, ident, DeliveryState.FAILED, code=code, reason=reason, ever=refused)
    return found


def _ident(push: Push) -> str:
    ident = text(push.fields, "MsgID") or text(push.fields, "MsgId")
    if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", ident):
        raise ValueError("the receipt does not say of which message it is: it has no MsgID")
    return ident


def _receipt(
    push: Push,
    ident: str,
    state: DeliveryState,
    *,
    code: str = "",
    reason: str = "",
    ever: bool = False,
    of_one: bool = True,
) -> Sequence[AnyDraft]:
    return (
        Receipt(
            key=f"job:{text(push.fields, 'Event')}:{ident}",
            scope=Scope.ACCOUNT,
            at=push.at,
            address=push.address if of_one else None,
            target=Target(vendor_id=ident),
            state=state,
            code=code,
            reason=reason,
            permanent=ever,
        ),
    )
