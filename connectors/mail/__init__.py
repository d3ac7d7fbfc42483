"""The mail channel: one mailbox for each account, read by IMAP and answered by SMTP.

Read in this order: :mod:`settings`; :mod:`outcomes` (what servers' refusals mean); :mod:`names`
and :mod:`imap` (the wire); :mod:`positions`, :mod:`parsing` with :mod:`parse_child`, and
:mod:`taking` (from bytes to drafts, which :mod:`reading` makes); :mod:`folders` and :mod:`held`
(new mail as it comes), :mod:`history` (old mail for imports); :mod:`composing`, :mod:`smtp`,
:mod:`autoreplies` and :mod:`sent` (the way out); :mod:`checking`; and :mod:`connector`, which
ties them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.mail.connector import MailConnector
from hub import Connector, hookimpl

omniline_api = 1


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [MailConnector]
