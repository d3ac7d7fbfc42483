"""Writing to customers who did not ask: consent, quiet hours, frequency caps.

``policy`` (what each purpose may do), ``quiet`` (when), ``caps`` (how often) and ``consents``
(who agreed) are pure; the command that uses them is :mod:`hub.planning.commands.notifying`.
``gate`` looks again just before a notification leaves.
"""

NOTIFICATION = "notification"
"""``event`` of the entries that notifications are."""

EVERYTHING = "*"
"""The purpose that stands for all: an address that opted out of it gets no notification."""

OPTED_OUT = "contact.opted_out"
OPTED_IN = "contact.opted_in"
