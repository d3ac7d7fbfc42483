"""The contract's check of template-only accounts notices the faults that it is there for."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.sms import SmsConnector
from hub import Outgoing
from normalizer.outcomes import Accepted, OutcomeUnknown, Unsupported
from tests.sms import test_contract_domestic as domestic

CHECK = "test_where_only_templates_leave_a_free_text_is_refused_and_names_them"


class SendsWhatIsTyped(SmsConnector):
    async def send(self, message: Outgoing) -> Accepted:
        return await super().send(message) if message.template else Accepted(vendor_ids=("x",))


class NamesNone(SmsConnector):
    async def send(self, message: Outgoing) -> Accepted:
        if not message.template:
            raise Unsupported("not like this")
        return await super().send(message)


class LosesTemplates(SmsConnector):
    async def send(self, message: Outgoing) -> Accepted:
        return Accepted(vendor_ids=("x",)) if message.template else await super().send(message)


class TellsDoubtAsARefusal(SmsConnector):
    async def send(self, message: Outgoing) -> Accepted:
        try:
            return await super().send(message)
        except OutcomeUnknown as error:
            raise Unsupported(error.reason) from error


async def check(kind: type[SmsConnector]) -> None:
    contract: Any = type(f"Of{kind.__name__}", (domestic.TestAliyun,), {"connector": kind})()
    await getattr(contract, CHECK)()


@pytest.mark.parametrize(
    "kind", [SendsWhatIsTyped, NamesNone, LosesTemplates, TellsDoubtAsARefusal]
)
async def test_the_contract_notices(kind: type[SmsConnector]) -> None:
    with pytest.raises((AssertionError, Unsupported, pytest.fail.Exception)):
        await check(kind)


async def test_the_check_passes_without_a_fault() -> None:
    await check(SmsConnector)
