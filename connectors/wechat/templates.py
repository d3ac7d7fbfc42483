"""The templates that WeChat approved for the account, as it lists them.

A template's name is its id. Those for subscription messages have ``subscribe:`` in front, as they
leave by another call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.wechat.api import Api, Refusal
from hub import Template
from normalizer.capabilities import Quota

PRIVATE = "/cgi-bin/template/get_all_private_template"
SUBSCRIPTIONS = "/wxaapi/newtmpl/gettemplate"
PREFIX = "subscribe:"
_BLANK = re.compile(r"\{\{\s*([A-Za-z0-9_]{1,64})\.DATA\s*\}\}")


def quota(sends: int) -> Quota:
    """Return what WeChat allows of templates in a day of China's, where it begins anew."""
    return Quota(name="templates", sends=sends, period_s=86_400, offset_s=-8 * 3600, templates=True)


def subscription_id(name: str) -> str:
    """Return the id of a subscription template, "" for a name of any other."""
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else ""


async def listed(api: Api, *, subscriptions: bool) -> Sequence[Template]:
    """Return all templates. Raises a Failure."""
    try:
        private = await api.get(PRIVATE)
        found = [_template(each, "template_id", "") for each in _objects(private, "template_list")]
        if subscriptions:
            said = await api.get(SUBSCRIPTIONS)
            found += [_template(each, "priTmplId", PREFIX) for each in _objects(said, "data")]
    except Refusal as refusal:
        raise api.failure(refusal) from None
    return [template for template in found if template is not None]


def _objects(said: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = said.get(name, [])
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _template(listed: Mapping[str, Any], field: str, prefix: str) -> Template | None:
    ident, content = str(listed.get(field, "")), str(listed.get("content", ""))
    if not ident:
        return None
    title = str(listed.get("title", "")).strip()
    preview = _BLANK.sub(lambda blank: f"{{{blank[1]}}}", content).strip()
    return Template(
        name=f"{prefix}{ident}",
        params=tuple(dict.fromkeys(_BLANK.findall(content))),
        preview="\n".join(line for line in (title, preview) if line),
    )
