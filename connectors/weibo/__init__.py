"""The Weibo channel: private messages between fans and a verified account (粉丝服务平台).

Facts are from the platform's archived wiki pages (2013 to 2016), which were never versioned, so
every field is optional here and unknown types are kept. What no reference page confirms is
marked "unverified" where it is relied on.

Read in this order: :mod:`settings`; :mod:`verifying` and :mod:`admission` (who is it, and not
twice); :mod:`envelope`, :mod:`parsing` and :mod:`events` (what it says); :mod:`splitting` and
:mod:`composing` (what is sent); :mod:`errors`, :mod:`tokens`, :mod:`client`, :mod:`delivering`
and :mod:`profiles` (the API); :mod:`samples`; and :mod:`connector`, which ties them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.weibo.connector import WeiboConnector
from hub import Connector, hookimpl

omniline_api = 1


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [WeiboConnector]
