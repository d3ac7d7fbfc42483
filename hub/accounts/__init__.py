"""Accounts, backends and components at run time: how they do, and who may switch them off.

========================  =======================================================================
module                    does
========================  =======================================================================
``states``                one process' view of everything that can be up or down
``switches``              ``inbound`` and ``outbound``, for every process; pause and resume
``reports``               each process tells the others its view
``overview``              all views, pauses and silences as one answer for the space
``rhythm``                pure: how often an account hears something, and when silence is odd
``silence``               counts, learns, and says which account has been silent for too long
``telling``               a settled change becomes an event of the feed
``keeper``                one process of the space does the last two
``foreseen``              what connectors see coming, shown before it happens
``skipping``              a door that is stuck on one thing is told to pass it
``operating``             pause, resume and skip, as the API and the command line ask
``trying``                the credentials of an account or a backend, now
``measures``              the states as metrics
========================  =======================================================================
"""

from hub.accounts.states import SENDING, AccountState, StateName, States
from hub.accounts.switches import REFRESH_S, SWITCHES, Pause, Switches

__all__ = [
    "REFRESH_S",
    "SENDING",
    "SWITCHES",
    "AccountState",
    "Pause",
    "StateName",
    "States",
    "Switches",
]
