"""The proof: a menu that works passes, and each way of breaking it is told with step and key."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.ivr import proving
from connectors.ivr.hours import is_open
from connectors.ivr.menus import Hours, Menu
from connectors.ivr.settings import IvrSettings, menu_problems
from hub import ConfigError, RawTable, parse_settings
from tests.ivr.calling import PAGE, example_menu, settings

Change = Callable[[dict[str, Any]], object]
BYE = {"zh-CN": "再见", "en-US": "Bye"}


def proved(change: Change) -> list[str]:
    menu = copy.deepcopy(example_menu())
    change(menu)
    return proving.problems(msgspec.convert(menu, Menu))


def test_the_example_of_the_docs_is_proved() -> None:
    assert proved(lambda menu: None) == []


def steps(name: str, **changes: Any) -> Change:
    return lambda menu: menu["steps"][name].update(changes)


def option(number: int, **changes: Any) -> Change:
    return lambda menu: menu["steps"]["main"]["options"][number].update(changes)


def both(*changes: Change) -> Change:
    def change(menu: dict[str, Any]) -> None:
        for each in changes:
            each(menu)

    return change


BROKEN: dict[str, tuple[Change, str]] = {
    "an option leads nowhere": (
        option(0, next="ordr"),
        "steps.main: key 1 leads to 'ordr', and there is no such step",
    ),
    "silence leads nowhere": (
        steps("main", silence="nobody"),
        "steps.main: silence leads to 'nobody', and there is no such step",
    ),
    "wrong keys lead nowhere": (
        steps("main", invalid="nobody"),
        "steps.main: invalid leads to 'nobody', and there is no such step",
    ),
    "nobody at a target leads nowhere": (
        steps("people", failed="box"),
        "steps.people: failed leads to 'box', and there is no such step",
    ),
    "the first step is not there": (
        lambda menu: menu.update(start="nowhere"),
        "start: there is no step 'nowhere'",
    ),
    "the operator is not there": (
        lambda menu: menu.update(operator="nowhere"),
        "operator: there is no step 'nowhere'",
    ),
    "a step is not reached": (
        lambda menu: menu["steps"].update(lost={"kind": "hangup", "say": BYE}),
        "steps.lost: no way leads there from hello",
    ),
    "a prompt lacks a language": (
        steps("order", say={"zh-CN": "请输入八位订单号。"}),
        "steps.order.say: there is no text in en-US",
    ),
    "a prompt is blank in a language": (
        steps("order", say={"zh-CN": "请输入八位订单号。", "en-US": "  "}),
        "steps.order.say: there is no text in en-US",
    ),
    "a prompt has a language nobody speaks": (
        steps("order", say={**BYE, "fr-FR": "Au revoir"}),
        "steps.order.say: fr-FR is not among the languages (zh-CN, en-US)",
    ),
    "a phrase lacks a language": (
        lambda menu: menu["phrases"].update(invalid={"zh-CN": "错"}),
        "phrases.invalid: there is no text in en-US",
    ),
    "screened targets need a question": (
        lambda menu: menu["phrases"].pop("accept"),
        "phrases.accept: there is no text in zh-CN",
    ),
    "recording needs consent": (
        lambda menu: menu["phrases"].pop("consent"),
        "phrases.consent: there is no text in zh-CN",
    ),
    "times to call back need a question": (
        lambda menu: menu["steps"]["call_me"].pop("ask_when"),
        "steps.call_me.ask_when: there is no text in zh-CN",
    ),
    "a recording is not fetched by http": (
        steps("closed", say={"zh-CN": "http://cdn.example.com/a.mp3", "en-US": "Bye"}),
        "steps.closed.say.zh-CN: a recording is fetched by https",
    ),
    "a recording has no address": (
        steps("closed", say={"zh-CN": "https://", "en-US": "Bye"}),
        "steps.closed.say.zh-CN: this is no address of a recording",
    ),
    "two options have one key": (
        option(1, key="1"),
        "steps.main: key 1 is bound twice",
    ),
    "0 is everywhere the operator": (
        option(1, key="0"),
        "steps.main: key 0 is bound twice: everywhere it is the operator",
    ),
    "* is everywhere repeat": (
        option(1, key="*"),
        "steps.main: key * is bound twice: everywhere it is repeat",
    ),
    "9 is everywhere the other language": (
        option(1, key="9"),
        "steps.main: key 9 is bound twice: everywhere it is the other language",
    ),
    "two times have one key": (
        steps("call_me", when=[{"key": "1", "label": "a"}, {"key": "1", "label": "b"}]),
        "steps.call_me.when: key 1 is bound twice",
    ),
    "two options have one word": (
        option(1, hears={"zh-CN": ["订单！"], "en-US": ["pay"]}),
        "steps.main: '订单！' (zh-CN) is bound twice, to the keys 1 and 2",
    ),
    "one option cannot be said": (
        option(1, hears={"zh-CN": ["付款"]}),
        "steps.main: key 2 hears nothing in en-US, and others do",
    ),
    "a word of nothing": (
        option(1, hears={"zh-CN": ["……"], "en-US": ["pay"]}),
        "steps.main: key 2 hears '……', in which nothing can be heard",
    ),
    "words in a language that is not heard": (
        lambda menu: menu["voices"]["en-US"].pop("hears"),
        "steps.main: key 1 hears words in en-US, and voices.en-US.hears does not say",
    ),
    "a target that is not there": (
        steps("people", targets=["mei", "desk", "bob"]),
        "steps.people: there is no target 'bob'; there are: desk, mei",
    ),
    "a target that nobody rings": (
        steps("people", targets=["mei"]),
        "targets.desk: no step of the kind transfer rings it",
    ),
    "a target abroad": (
        lambda menu: menu["targets"]["desk"].update(number="+19005551234"),
        "targets.desk: ",
    ),
    "a target that is not allowed": (
        lambda menu: menu["targets"]["desk"].update(number="+85221234567"),
        "targets.desk: +85221234567 may not be dialled",
    ),
    "a target without a country": (
        lambda menu: menu["targets"]["desk"].update(number="02155551234"),
        "targets.desk: '02155551234' is no phone number in E.164",
    ),
    "a target of two kinds": (
        lambda menu: menu["targets"]["desk"].update(client="bob"),
        "targets.desk: name one of number, client and sip; it has number and client",
    ),
    "a target of no kind": (
        lambda menu: menu["targets"]["desk"].pop("number"),
        "targets.desk: name one of number, client and sip",
    ),
    "a SIP address that is none": (
        lambda menu: menu["targets"].update(desk={"sip": "desk@example.com"}),
        "targets.desk: 'desk@example.com' is no SIP address",
    ),
    "a prefix that is none": (
        lambda menu: menu.update(allowed_prefixes=["+8621", "86"]),
        "allowed_prefixes: '86' is no beginning of a number",
    ),
    "payment data is not read back": (
        steps("card", read_back=BYE),
        "steps.card: payment data is not read back",
    ),
    "a payment line is not recorded": (
        steps("people", payment=True),
        "steps.people: a payment line is not recorded",
    ),
    "silence goes round for ever": (
        steps("main", silence="hello"),
        "a caller who does nothing goes round for ever: ",
    ),
    "a step that leads to itself": (
        steps("mailbox", next="mailbox"),
        "steps.mailbox: a caller who does nothing goes round for ever: mailbox -> mailbox",
    ),
    "no end from anywhere": (
        both(
            steps("mailbox", next="main"),
            steps("call_me", next="main"),
        ),
        "from where no way ends the call",
    ),
    "hours that are not there": (
        steps("hello", hours="shop"),
        "steps.hello: there are no hours 'shop'; there are: office",
    ),
    "hours in no zone": (
        lambda menu: menu["hours"]["office"].update(time_zone="Asia/Shangai"),
        "hours.office: there is no time zone 'Asia/Shangai'",
    ),
    "hours that end before they begin": (
        lambda menu: menu["hours"]["office"]["week"].update(mon=["18:00-09:00"]),
        "hours.office: mon: '18:00-09:00' is no span",
    ),
    "hours that overlap": (
        lambda menu: menu["hours"]["office"]["week"].update(mon=["09:00-12:00", "11:00-18:00"]),
        "hours.office: mon: two spans overlap",
    ),
    "a day that is none": (
        lambda menu: menu["hours"]["office"]["closed"].append("2026-02-30"),
        "hours.office: '2026-02-30' is no date",
    ),
    "a day that is closed and open": (
        lambda menu: menu["hours"]["office"]["closed"].append("2026-10-10"),
        "hours.office: 2026-10-10 is closed and has hours of its own",
    ),
    "a voice of no language": (
        lambda menu: menu["voices"].update({"fr-FR": {"voice": "Polly.Lea"}}),
        "voices.fr-FR: the menu does not speak it",
    ),
    "a language twice": (
        lambda menu: menu.update(languages=["zh-CN", "en-US", "zh-CN"]),
        "languages: zh-CN stands there twice",
    ),
    "hang_up is not another step": (
        lambda menu: menu["steps"].update(hang_up={"kind": "say", "say": BYE}),
        "steps.hang_up: this name belongs to the step that hangs up",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_way_of_breaking_a_menu_is_told(name: str) -> None:
    change, told = BROKEN[name]
    found = proved(change)
    assert any(told in problem for problem in found), found


def test_one_language_has_the_nine_for_itself() -> None:
    """Where nothing can be changed, the language key is free."""

    def one(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: one(each) for key, each in value.items() if key != "en-US"}
        return [one(each) for each in value] if isinstance(value, list) else value

    menu = one(example_menu())
    menu["languages"] = ["zh-CN"]
    menu["steps"]["main"]["options"][2]["key"] = "9"
    assert proving.problems(msgspec.convert(menu, Menu)) == []


# --- where it is told ----------------------------------------------------------------------------


def test_the_account_of_the_docs_is_one(tmp_path: Path) -> None:
    """Its block and the menu's file, written side by side as the page says."""
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    [menu] = [block for block in blocks if block.startswith("# hotline.toml")]
    (tmp_path / "hotline.toml").write_text(menu, "utf-8")
    [account] = tomllib.loads(blocks[0])["accounts"]
    assert (account.pop("channel"), account.pop("key"), account.pop("label")) == (
        "ivr",
        "main",
        "Hotline",
    )
    environ = {"TWILIO_AUTH_TOKEN": "token", "TWILIO_API_SECRET": "secret"}
    read = parse_settings(IvrSettings, RawTable.of(account, environ=environ, folder=tmp_path))
    assert read.load_menu().start == "hello"


def test_a_menu_below_the_account_is_told_by_its_key() -> None:
    menu = example_menu()
    menu["steps"]["main"]["options"][0]["next"] = "ordr"
    with pytest.raises(ConfigError) as caught:
        parse_settings(IvrSettings, RawTable.of(settings(menu=menu)), "account ivr:main")
    [problem] = caught.value.problems
    assert problem.key.startswith("menu.steps.main")
    assert problem.what == "key 1 leads to 'ordr', and there is no such step"


def test_a_menu_in_a_file_is_told_by_the_files_name(tmp_path: Path) -> None:
    """Beside the configuration; every problem at once; no TOML, no file, too large: a sentence."""
    path = tmp_path / "hotline.toml"
    assert menu_problems(path) == [f"{path} cannot be read: No such file or directory"]
    path.write_text("languages = [", "utf-8")
    assert menu_problems(path)[0].startswith("hotline.toml is no TOML: ")
    path.write_bytes(b"# " + b"x" * 1_000_001)
    assert menu_problems(path) == ["hotline.toml: the file has more than 1000000 bytes"]
    path.write_text('languages = ["zh-CN"]\nstrat = "main"\n', "utf-8")
    found = menu_problems(path)
    assert any("strat" in problem and "unknown key" in problem for problem in found), found
    values: dict[str, Any] = settings(menu_file="hotline.toml")
    del values["menu"]
    with pytest.raises(ConfigError) as caught:
        parse_settings(IvrSettings, RawTable.of(values, folder=tmp_path), "account ivr:main")
    assert "menu_file" in str(caught.value)
    with pytest.raises(ConfigError, match="one of the two"):
        parse_settings(IvrSettings, RawTable.of(settings(menu_file="hotline.toml")))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"numbers": ["8615005550006"]}, "is no phone number in E.164"),
        ({"numbers": []}, "numbers"),
        ({"api_key": "SK1"}, "api_key and api_secret go together"),
        ({"transcriber": "nobody"}, "write package.module:function"),
        ({"transcriber": "no.such.module:transcribe"}, "cannot be used: ModuleNotFoundError"),
        ({"account_sid": "AC1"}, "account_sid"),
    ],
)
def test_wrong_settings_are_told(more: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(IvrSettings, RawTable.of(settings(**more)), "account ivr:main")
    assert told in str(caught.value)


# --- opening hours -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "there"),
    [
        ("2026-03-02T09:00", True),  # a Monday
        ("2026-03-02T08:59", False),
        ("2026-03-02T17:59", True),
        ("2026-03-02T18:00", False),
        ("2026-03-06T12:30", False),  # Friday's break
        ("2026-03-06T13:00", True),
        ("2026-03-07T10:00", False),  # a Saturday
        ("2026-10-01T10:00", False),  # a holiday on a Thursday
        ("2026-10-10T10:00", True),  # 调休: a Saturday to be worked
        ("2026-10-11T10:00", False),
    ],
)
def test_opening_hours_are_on_the_clock_of_their_zone(local: str, there: bool) -> None:
    hours = msgspec.convert(example_menu()["hours"]["office"], Hours)
    at = datetime.fromisoformat(f"{local}:00+08:00")
    assert is_open(hours, at) is there
    assert is_open(hours, at.astimezone(UTC)) is there


def test_open_to_midnight_ends_at_midnight() -> None:
    hours = Hours(time_zone="Asia/Shanghai", week={"mon": ["00:00-24:00"]})
    first = datetime.fromisoformat("2026-03-02T00:00:00+08:00")
    assert is_open(hours, first)
    assert is_open(hours, first + timedelta(hours=23, minutes=59))
    assert not is_open(hours, first + timedelta(hours=24))
    assert not is_open(hours, first - timedelta(minutes=1))
