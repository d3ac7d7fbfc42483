"""Plugins: found, checked, asked one by one; a plugin's failure stays its own.

:mod:`host` is where to begin; :mod:`discovery` finds plugins, :mod:`checks` refuses what cannot
work, :mod:`calls` makes one call, :mod:`strikes` leaves a failing plugin alone for a while,
:mod:`loop_watch` names whoever blocks the event loop.
"""

from hub.plugin_host.host import (
    API,
    Answer,
    HookFailed,
    HookState,
    PluginError,
    PluginHost,
    PluginInfo,
    shadowing,
)

__all__ = [
    "API",
    "Answer",
    "HookFailed",
    "HookState",
    "PluginError",
    "PluginHost",
    "PluginInfo",
    "shadowing",
]
