"""The way out: from an answer in the timeline to the channel it leaves by, once.

    loading    the entry -> what the connector is given
    windows    may this person be written to now, and how often
    quotas     how many sends the vendor allows in a period
    ledger     the places of both that were taken, so that they are never exceeded
    gate       which accounts may be called now: pauses, pace, breaker
    sender     one attempt, from loading to what the router is told

docs/decisions/0009-windows-quotas-and-breakers.md says why.
"""

from hub.outbound.gate import AccountGate
from hub.outbound.ledger import Ledger
from hub.outbound.sender import Sender

__all__ = ["AccountGate", "Ledger", "Sender"]
