"""The WeChat channel: one Official Account (服务号 or 订阅号) for each account of the hub.

Read in this order: :mod:`settings`; :mod:`crypto`, :mod:`wire`, :mod:`verifying` and
:mod:`admission` (who sent it); :mod:`common`, :mod:`messages`, :mod:`events`, :mod:`receipts` and
:mod:`parsing` (what it says); :mod:`passive` (the answer in the response); :mod:`errors`,
:mod:`token_state`, :mod:`tokens`, :mod:`fetching` and :mod:`api` (calls, and their token);
:mod:`texts`, :mod:`composing`, :mod:`templates` and :mod:`sending` (the way out); :mod:`media`,
:mod:`people`, :mod:`serving` (the token for other systems) and :mod:`checking`; :mod:`samples`;
and :mod:`connector`, which ties them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.wechat.connector import WechatConnector
from hub import Connector, hookimpl

omniline_api = 1


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [WechatConnector]
