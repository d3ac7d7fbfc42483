"""The REST paths: sessions, the fallback for messages, uploads, in-app messages, server calls.

Every answer is JSON and carries the caller's origin; errors are the ``error`` frame. The body of
an error is the same whether a socket or a request is told.

Read :mod:`routes` first (every path and the guard around it), then what a path does:
:mod:`sessions`, :mod:`conversations`, :mod:`files`, :mod:`inbox`, :mod:`public`, :mod:`server`.
:mod:`callers` says who asks, :mod:`wire` reads requests and writes answers.
"""

from connectors.site.rest.routes import Rest
from connectors.site.rest.wire import bearer

__all__ = ["Rest", "bearer"]
