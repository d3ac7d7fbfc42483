"""What happened beside messages: follows, scans, menus, receipts, permissions, sessions.

Names are compared without case, as the vendor's own spelling varies. Keys keep the spelling of
the push: a repetition has the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from connectors.wechat.common import Push, address_of, is_openid
from connectors.wechat.messages import coordinates
from connectors.wechat.receipts import mass_job, subscription_sent, template_job
from connectors.wechat.settings import WechatSettings
from connectors.wechat.wire import inner, items, text
from normalizer.drafts import AnyDraft, Event, Profile

FOLLOWED = "contact.followed"
UNFOLLOWED = "contact.unfollowed"
SCANNED = "contact.scanned"
LOCATED = "contact.located"
CLICKED = "menu.clicked"
CODE_SCANNED = "menu.code_scanned"
OPENED = "menu.opened"  # a page or a mini program: opens no reply window
OPENS_A_MINUTE = frozenset({FOLLOWED, SCANNED, CLICKED, CODE_SCANNED})
OTHER = "wechat.other"

_SCENE = "qrscene_"
_PURPOSE_CHARS = 25  # of a template's id: the ledger of consent takes 32 in all
_SEEN_NOWHERE = "what is said there does not reach the hub"

Read = Callable[[Push, WechatSettings], Sequence[AnyDraft]]


def read_event(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
    """Return the drafts of an event push: one, except for lists of permissions and receipts."""
    name = text(push.fields, "Event").strip().lower()
    return READERS.get(name, _other)(push, settings)


def _event(push: Push, name: str, *, key: str = "", said: str = "", **data: Any) -> Event:
    """Return an event draft; data without a value is left out."""
    told = {field: value for field, value in data.items() if value not in ("", None)}
    event, event_key = text(push.fields, "Event"), text(push.fields, "EventKey")
    union = text(push.fields, "UnionId")
    return Event(
        key=f"evt:{push.created}:{event}:{event_key}{key}",
        at=push.at,
        address=push.address,
        name=name,
        data=told,
        text=said,
        profile=Profile(attributes={"unionid": union}) if union else None,
    )


# --- people come and go --------------------------------------------------------------------------


def _subscribe(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
    """One event for a follow, also where a scan led to it: no SCAN comes beside it."""
    scene = text(push.fields, "EventKey")
    by_code = scene.startswith(_SCENE)
    return (
        _event(
            push,
            FOLLOWED,
            scene=scene.removeprefix(_SCENE) if by_code else "",
            via="qr" if by_code else "",
            ticket=text(push.fields, "Ticket"),
        ),
    )


def _unsubscribe(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
    return (_event(push, UNFOLLOWED),)


def _scan(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
    scene, ticket = text(push.fields, "EventKey"), text(push.fields, "Ticket")
    return (_event(push, SCANNED, scene=scene, via="qr", ticket=ticket),)


def _location(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
    """A report that the phone makes by itself, every few seconds perhaps: never a message."""
    if not settings.location_reports:
        return ()
    place = coordinates(text(push.fields, "Latitude"), text(push.fields, "Longitude"))
    lat, lon = place or (None, None)
    precision = text(push.fields, "Precision")
    return (_event(push, LOCATED, lat=lat, lon=lon, precision=precision, datum="gcj02"),)


# --- the menu ------------------------------------------------------------------------------------


def _menu(name: str) -> Read:
    def read(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
        fields = push.fields
        code, pictures = inner(fields, "ScanCodeInfo"), inner(fields, "SendPicsInfo")
        place = inner(fields, "SendLocationInfo")
        lat, lon = coordinates(text(place, "Location_X"), text(place, "Location_Y")) or (None, None)
        return (
            _event(
                push,
                name,
                key_name=text(fields, "EventKey"),
                menu=text(fields, "MenuId") or text(fields, "MenuID"),
                scan_type=text(code, "ScanType"),
                scan_result=text(code, "ScanResult"),
                pictures=text(pictures, "Count"),
                lat=lat,
                lon=lon,
                label=text(place, "Label"),
                place=text(place, "Poiname"),
            ),
        )

    return read


# --- permissions and privacy ---------------------------------------------------------------------


def _permissions(below: str) -> Read:
    """A person allows or refuses subscription templates: a line and a word on consent for each."""

    def read(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
        found = []
        for number, item in enumerate(items(inner(push.fields, below), "List")):
            template = text(item, "TemplateId")
            state = text(item, "SubscribeStatusString").strip().lower()
            names = {"accept": "contact.opted_in", "reject": "contact.opted_out"}
            found.append(
                _event(
                    push,
                    names.get(state, OTHER),
                    key=f":{template or number}",
                    template=template,
                    purpose=purpose_of(settings, template),
                    scene=text(item, "PopupScene"),
                    event=text(push.fields, "Event") if state not in names else "",
                    state=state if state not in names else "",
                )
            )
        return found or _other(push, settings)

    return read


def purpose_of(settings: WechatSettings, template: str) -> str:
    """Return what a subscription template is about; never empty, which would mean everything."""
    return settings.purposes.get(template) or f"wechat:{template[:_PURPOSE_CHARS] or 'template'}"


def _privacy(name: str) -> Read:
    """The vendor names the person in OpenID; FromUserName may be the same (unverified)."""

    def read(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
        openid = text(push.fields, "OpenID") or text(push.fields, "OpenId")
        if is_openid(openid) and openid != push.address.id:
            push = replace(push, address=address_of(push.account, openid))
        return (_event(push, name, revoked=text(push.fields, "RevokeInfo")),)

    return read


# --- the vendor's own console --------------------------------------------------------------------


def _session(name: str, said: str) -> Read:
    def read(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
        fields = push.fields
        return (
            _event(
                push,
                name,
                said=f"{said}; {_SEEN_NOWHERE}",
                account=text(fields, "KfAccount") or text(fields, "ToKfAccount"),
                before=text(fields, "FromKfAccount"),
            ),
        )

    return read


def _other(push: Push, settings: WechatSettings) -> Sequence[AnyDraft]:
    """Something that is new to us: a line of the timeline, and its raw request is kept."""
    event, key = text(push.fields, "Event").strip(), text(push.fields, "EventKey")
    said = f"WeChat told of something that the hub does not know: {event or 'no name'}"
    return (_event(push, OTHER, said=said, event=event, event_key=key),)


READERS: dict[str, Read] = {
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "scan": _scan,
    "location": _location,
    "click": _menu(CLICKED),
    "view": _menu(OPENED),
    "view_miniprogram": _menu(OPENED),
    "scancode_push": _menu(CODE_SCANNED),
    "scancode_waitmsg": _menu(CODE_SCANNED),
    "pic_sysphoto": _menu("menu.pictures_chosen"),
    "pic_photo_or_album": _menu("menu.pictures_chosen"),
    "pic_weixin": _menu("menu.pictures_chosen"),
    "location_select": _menu("menu.place_chosen"),
    "templatesendjobfinish": template_job,
    "masssendjobfinish": mass_job,
    "subscribe_msg_popup_event": _permissions("SubscribeMsgPopupEvent"),
    "subscribe_msg_change_event": _permissions("SubscribeMsgChangeEvent"),
    "subscribe_msg_sent_event": subscription_sent,
    "user_info_modified": _privacy("profile.changed"),
    "user_authorization_revoke": _privacy("contact.authorization_revoked"),
    "kf_create_session": _session(
        "console.session_began", "WeChat's own console took this conversation over"
    ),
    "kf_switch_session": _session(
        "console.session_moved", "WeChat's own console handed this conversation to a colleague"
    ),
    "kf_close_session": _session(
        "console.session_ended", "WeChat's own console closed this conversation"
    ),
}
