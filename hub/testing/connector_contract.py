"""What every connector has to do, as tests: subclass, say how to get one, run pytest.

::

    class TestAcme(ConnectorContract):
        connector = AcmeConnector
        settings = {"secrets": ["one"]}  # as in [[accounts]]
        other_secrets = {"secrets": ["two"]}  # another account's
        both_secrets = {"secrets": ["two", "one"]}  # while they are rotated
        no_secrets = {"secrets": None}  # None takes a setting away
        window_s = 300  # how old a signed time may be
        recipient = "acme:main:user:ann"  # whom the fake vendor takes messages for
        golden = Path(__file__).parent / "golden" / "acme.json"

        @contextlib.asynccontextmanager
        async def vendor(self):
            async with AcmeFake() as fake:  # a hub.testing.FakeVendor
                yield fake

The webhook's checks live on the connector's samples: each is forged in every way and has to be
refused, mutated and has to be survived, repeated and has to have the same keys. Polls, held
connections and sends are tried on the fake vendor.

What does not apply is said with its reason: ``exempt = {"webhook": "it is polled"}``; the names
are in :data:`EXEMPTIONS`. There is more to say about a scheme:

================  =================================================================================
``signs_url``     the signature covers the URL, ``context.public_url`` and what is behind it
``signs_path``    a secret path stands where others have a signature
``signed_spans``  a method: the signature covers a part of the body only
``ahead_s``       how far in the future a signed time may be, if not as far as ``window_s``
``make_other``    a method: another account's connector, where settings alone do not make one
``many_pushes``   a method: many different pushes, where the samples cannot be varied
``unknown``       the name of the sample of a type that the connector does not know
================  =================================================================================

The tests are async where they meet the vendor: set ``asyncio_mode = auto``.
``OMNILINE_UPDATE_GOLDEN=1`` writes the golden file; ``OMNILINE_SCALE=full`` mutates more.
"""

from __future__ import annotations

from hub.testing.connector_checks.doors import HoldChecks, PollChecks
from hub.testing.connector_checks.general import GeneralChecks
from hub.testing.connector_checks.sends import SendChecks
from hub.testing.connector_checks.subject import EXEMPTIONS
from hub.testing.connector_checks.webhook import WebhookChecks

__all__ = ["EXEMPTIONS", "ConnectorContract"]


class ConnectorContract(GeneralChecks, WebhookChecks, PollChecks, HoldChecks, SendChecks):
    """All checks. Those that a connector has no side for are skipped and say so."""
