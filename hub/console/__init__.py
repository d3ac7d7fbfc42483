"""The agents' pages: recent customers, and each customer's one timeline with a box to answer from.

The console is a client of the API: it shows what the API's own handlers answer to the same caller.
"""

from __future__ import annotations

from hub.console.pages import add_console

__all__ = ["add_console"]
