"""The phone channel: calls to a number at Twilio, led through a menu that is data.

Read in this order: :mod:`menus` and :mod:`hours` (what an operator writes), :mod:`proving` (that
it works), :mod:`settings`; :mod:`requests` and :mod:`callers` (what Twilio says, and of whom);
:mod:`state` (where a call is), :mod:`hearing`, :mod:`flow` and :mod:`calls` (what happens next,
and what the timeline is told), :mod:`script` and :mod:`twiml` (how Twilio is told); :mod:`loops`,
:mod:`recordings`, :mod:`transcripts`, :mod:`tidying`, :mod:`checking`, :mod:`samples`; and
:mod:`connector`, which ties them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.ivr.connector import IvrConnector
from hub import Connector, hookimpl

omniline_api = 1


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [IvrConnector]
