"""Every hook is one sentence, is typed, and stands in the reference; the reference is up to date.

Nothing is faked. The sample on the page is run.
"""

from __future__ import annotations

import inspect
import re
import types
from pathlib import Path
from typing import Any

import pytest

from hub import Route
from hub.hookspecs import Hooks
from hub.plugin_host import PluginHost
from hub.plugin_host.hooks_page import hook_groups, hooks_page

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "hooks.md"
HOOKS = [name for name, member in vars(Hooks).items() if hasattr(member, "omniline_spec")]


def test_the_page_is_made_from_the_code() -> None:
    assert PAGE.read_text() == hooks_page(), (
        "python -m hub.plugin_host.hooks_page > docs/reference/hooks.md"
    )


def test_the_page_has_every_hook_in_the_order_in_which_things_happen() -> None:
    assert len(HOOKS) >= 5
    assert [hook for hooks in hook_groups().values() for hook in hooks] == HOOKS
    assert re.findall(r"^### `(\w+)`$", PAGE.read_text(), re.MULTILINE) == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_says_in_one_line_what_it_is_for(hook: str) -> None:
    text = inspect.getdoc(getattr(Hooks, hook)) or ""
    assert re.fullmatch(r"[A-Z][^\n]{20,110}\.", text), text
    assert f"\n{text}\n" in PAGE.read_text()


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_typed(hook: str) -> None:
    signature = inspect.signature(getattr(Hooks, hook))
    assert signature.return_annotation is not inspect.Signature.empty
    for name, parameter in signature.parameters.items():
        if name != "self":
            assert parameter.annotation is not inspect.Parameter.empty, name
            assert parameter.default is inspect.Parameter.empty, f"{name}: pluggy drops defaults"


@pytest.mark.parametrize("hook", HOOKS)
def test_no_hook_lets_one_plugin_answer_for_all_or_hides_an_option_of_the_host(hook: str) -> None:
    function: Any = getattr(Hooks, hook)
    assert not function.omniline_spec["firstresult"]
    assert not function.omniline_spec["historic"]
    options = {
        name
        for ask in (PluginHost.ask, PluginHost.ask_one)
        for name, parameter in inspect.signature(ask).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert options >= {"items", "deadline_s"}
    assert not options & set(inspect.signature(function).parameters)


async def test_the_sample_on_the_page_is_a_plugin_that_works() -> None:
    sample = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    module = types.ModuleType("sample")
    exec(compile(sample, str(PAGE), "exec"), module.__dict__)
    host = PluginHost()
    host.add(module, "night")
    (answer,) = await host.ask("choose_ticket_route", items=2, kind=Route, messages=["a", "b"])
    assert answer.value == [Route(backends=("helpdesk",), queue="night")] * 2
