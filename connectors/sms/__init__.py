"""The SMS channel: Twilio in full, Aliyun and Tencent Cloud with approved templates.

Read in this order: :mod:`settings`; :mod:`provider` (what the channel needs of one);
:mod:`senders`, :mod:`keywords` and :mod:`segments` (who wrote, words that mean no more, what a text
costs); :mod:`twilio_inbound`, :mod:`twilio_polling`, :mod:`twilio_sending` and
:mod:`twilio_provider`; :mod:`pushes` (unsigned pushes behind a secret path), :mod:`signing`,
:mod:`templated`, :mod:`aliyun` and :mod:`tencent`; :mod:`automatic`; :mod:`connector`, which ties
them together; and :mod:`routes`, which tells what a text would cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.sms import routes
from connectors.sms.connector import SmsConnector
from hub import Connector, PluginContext, hookimpl

omniline_api = 1


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [SmsConnector]


@hookimpl
def plugin_started(context: PluginContext) -> None:
    routes.register(context)
