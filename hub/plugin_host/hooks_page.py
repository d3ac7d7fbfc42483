"""`python -m hub.plugin_host.hooks_page` prints the reference page of the hooks."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

from hub.hookspecs import Hooks

_GROUP = re.compile(r"^ *# --- (.+?) -*$", re.MULTILINE)
_HOOK = re.compile(r"^ *(?:async )?def (\w+)", re.MULTILINE)


def hook_groups() -> dict[str, list[str]]:
    """The names of the hooks under the headings that they have in `hub/hookspecs.py`."""
    groups: dict[str, list[str]] = {}
    source = inspect.getsource(Hooks)
    marks = [(m.start(), m[1], "") for m in _GROUP.finditer(source)]
    marks += [(m.start(), "", m[1]) for m in _HOOK.finditer(source)]
    for _, heading, hook in sorted(marks):
        if heading:
            groups[heading.strip()] = []
        else:
            groups[list(groups)[-1]].append(hook)
    return groups


def signature(hook: str) -> str:
    """A hook as a plugin writes it."""
    found = inspect.signature(getattr(Hooks, hook))
    arguments = [
        f"{name}: {parameter.annotation}"
        for name, parameter in found.parameters.items()
        if name != "self"
    ]
    return f"def {hook}({', '.join(arguments)}) -> {found.return_annotation}"


def hooks_page() -> str:
    """The page `docs/reference/hooks.md`. A test holds the file equal to this text."""
    lines = [_HEAD]
    for heading, hooks in hook_groups().items():
        lines.append(f"## {heading[0].upper()}{heading[1:]}\n")
        for hook in hooks:
            text: Any = inspect.getdoc(getattr(Hooks, hook))
            lines.append(f"### `{hook}`\n\n```python\n{signature(hook)}\n```\n\n{text}\n")
    return "\n".join(lines)


_HEAD = """\
# Hooks

This page is made from the code: `python -m hub.plugin_host.hooks_page > docs/reference/hooks.md`.

A plugin is a module that says for which plugin interface it is written and implements some of the
hooks below as plain functions, sync or async:

```python
from hub import Route, hookimpl

omniline_api = 1


@hookimpl
def choose_ticket_route(messages):
    return [Route(backends=("helpdesk",), queue="night") for _ in messages]
```

It is found as a folder in `connectors/` or `plugins/`, or through the entry-point group `omniline`
of an installed package. Its name is that of the folder or entry point, and its settings are the
table `[plugins.NAME]`.

Leave out the arguments that you do not need.
Plugins are asked one after the other, in the order of their tables; those without a table follow.
What a plugin raises or returns amiss is logged under its name, and the next plugin is asked.
A call has `hook_timeout_s` seconds. A plugin that fails 5 times in a row at a hook, or hangs twice,
is not asked it for 60 seconds; then one call tries whether it has recovered.
At start there is no second try: a plugin that cannot be registered keeps the hub from starting, and
the error says which plugin it is and what to do.
Wrappers, `tryfirst`, `trylast` and generators are refused.
"""

if __name__ == "__main__":
    sys.stdout.write(hooks_page())
