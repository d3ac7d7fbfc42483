"""The way of a call through its menu: what was asked and where it is give what happens next.

Pure: (menu, state, request, moment) -> what Twilio is told, and what the timeline is told. The
same request gives the same two, however often it comes. The words for what a state awaits:

==============  =========================================================================
``menu``        a key or a word of a menu
``collect``     digits; ``confirm``: whether those that were read back are right
``code``        a one-time code
``dial``        how ringing a target ended; ``screen`` and ``accept``: whoever picked up
``message``     a recorded message is over
``queue``       waiting is over; ``wait``: what is heard meanwhile
``number``      the number to call back; ``number_ok``: whether it is right; ``when``
``leg``         how a dialled leg does; ``message_file`` and ``call_file``: a recording
==============  =========================================================================

Read :mod:`turn` and :mod:`walk` first (a request, and which of the steps answers it), then
:mod:`entering` and :mod:`asking` (into a step, and what is asked there), :mod:`answers` (what the
caller pressed or said), :mod:`people` (transfers and queues) and :mod:`notices` (legs and
recordings, for which nobody waits).
"""

from connectors.ivr.flow.asking import goodbye
from connectors.ivr.flow.notices import told
from connectors.ivr.flow.people import screen, wait
from connectors.ivr.flow.turn import LEG, NEXT, RECORDING, SCREEN, WAIT, Turn, Turned
from connectors.ivr.flow.walk import begin, first_state, go_on

__all__ = [
    "LEG",
    "NEXT",
    "RECORDING",
    "SCREEN",
    "WAIT",
    "Turn",
    "Turned",
    "begin",
    "first_state",
    "go_on",
    "goodbye",
    "screen",
    "told",
    "wait",
]
