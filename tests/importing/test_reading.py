"""What the sources make of files, good ones and broken ones.

Pure: files on disk, no store, no hub.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.importing import csv_rows, json_lines, mbox_file
from hub.importing.csv_rows import CsvRows
from hub.importing.files import FileSource
from hub.importing.found import Found, ImportProblem, Unreadable
from hub.importing.json_lines import JsonLines
from hub.importing.mbox_file import split
from hub.importing.rows import Columns, read_row, read_time
from hub.testing import FakeClock
from normalizer.drafts import Message
from normalizer.model import Direction, Role
from normalizer.parts import Text

PLAIN = Columns()
ACCOUNTS = frozenset({"sms:main"})
NOW = datetime(2026, 3, 2, tzinfo=UTC)
ROW = {
    "channel": "sms",
    "account": "main",
    "address": "+8613800138000",
    "direction": "in",
    "at": "2019-05-17T08:30:00Z",
    "text": "你好",
}
HEADER = "channel,account,address,direction,at,text,name"


def clock() -> FakeClock:
    return FakeClock(NOW)


def kept(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


async def found_in(source: FileSource, cursor: str | None = None) -> list[Found]:
    return [each async for page in source.pages(cursor) for each in page.found]


async def csv_of(path: Path, data: bytes, columns: Columns = PLAIN, **more: Any) -> list[Found]:
    return await found_in(CsvRows(kept(path, data), columns, clock(), ACCOUNTS, **more))


async def lines_of(path: Path, data: bytes, columns: Columns = PLAIN) -> list[Found]:
    return await found_in(JsonLines(kept(path, data), columns, clock(), ACCOUNTS))


def row(text: str = "你好", **more: str) -> str:
    fields = {**ROW, "text": text, "name": "", **more}
    return ",".join(fields[name] for name in HEADER.split(","))


def said(found: Found) -> str:
    assert not found.failed, found
    [message] = found.drafts
    assert isinstance(message, Message)
    [part] = message.parts
    assert isinstance(part, Text)
    return part.text


def texts(found: Sequence[Found]) -> list[str]:
    return [said(each) for each in found]


# --- rows ----------------------------------------------------------------------------------------


def read(tmp_path: Path, columns: Columns = PLAIN, **fields: Any) -> Found:
    return read_row({**ROW, **fields}, "line 1", columns, ACCOUNTS, tmp_path, NOW)


def test_a_row_is_a_message(tmp_path: Path) -> None:
    found = read(tmp_path, name="Li", id="17", thread="t", subject="s")
    assert (found.channel, found.account) == ("sms", "main")
    [message] = found.drafts
    assert isinstance(message, Message)
    assert str(message.address) == "tel::e164:+8613800138000"
    assert message.at == datetime(2019, 5, 17, 8, 30, tzinfo=UTC)
    assert (message.key, message.vendor_ids) == ("17", ("17",))
    assert (message.thread, message.subject) == ("t", "s")
    assert message.direction is Direction.IN
    assert message.profile is not None
    assert message.profile.name == "Li"


def test_what_our_side_said_has_an_agent_and_tells_nothing_of_the_customer(tmp_path: Path) -> None:
    [message] = read(tmp_path, direction="out", name="Mei").drafts
    assert isinstance(message, Message)
    assert message.sender is not None
    assert (message.sender.role, message.sender.name) == (Role.AGENT, "Mei")
    assert message.profile is None


def test_a_row_without_an_id_has_the_same_key_each_time_and_another_row_another(
    tmp_path: Path,
) -> None:
    keys = [
        read(tmp_path, **more).drafts[0].key
        for more in ({}, {}, {"text": "x"}, {"at": "2019-05-17T08:30:01Z"}, {"direction": "out"})
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"channel": ""}, "--set channel="),
        ({"account": "other"}, "sms:other is configured"),
        ({"account": "a b"}, "account is not the name"),
        ({"address": ""}, "address is missing"),
        ({"address": "somebody"}, "no mailbox, no phone number"),
        ({"address": "li@@example"}, "address:"),
        ({"address": "a:b:c:d e"}, "address:"),
        ({"address": "+12"}, "no phone number"),
        ({"direction": "sideways"}, "`in`"),
        ({"at": ""}, "at is missing"),
        ({"at": None}, "at is missing"),
        ({"at": "yesterday"}, "--time-format"),
        ({"at": "2019-05-17 08:30"}, "--time-zone"),
        ({"at": "1969-12-31T00:00:00Z"}, "before 1970"),
        ({"at": "2036-01-01T00:00:00Z"}, "future"),
        ({"at": "99999999999999"}, "at"),
        ({"text": "  "}, "says nothing"),
        ({"text": 1.5}, "text is no text"),
        ({"text": ["a"]}, "text is no text"),
        ({"text": "a\udc80b"}, "--encoding"),
        ({"attachments": "nowhere.png"}, "is not there"),
        ({"attachments": "../outside.png"}, "outside the folder"),
        ({"attachments": "/etc/passwd"}, "outside the folder"),
        ({"attachments": "a\x00b"}, "cannot be read"),
        ({"attachments": [1]}, "has no name"),
        ({"attachments": ";".join("abcdefgh" * 10)}, "at most"),
        ({"attachments": "empty.png"}, "is empty"),
    ],
)
def test_a_row_that_cannot_be_read_says_why_and_never_what_it_said(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    (tmp_path / "empty.png").touch()
    found = read(tmp_path, **fields)
    assert words in found.failed
    assert "你好" not in found.failed
    assert not found.drafts


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "photo.png").symlink_to(tmp_path / "secret")
    assert "outside the folder" in read(inner, attachments="photo.png").failed
    (inner / "real.png").write_bytes(b"x")
    assert read(inner, text="", attachments="real.png; real.png").files == (
        inner / "real.png",
        inner / "real.png",
    )


@pytest.mark.parametrize(
    ("written", "columns"),
    [
        ("2019-05-17T08:30:00Z", Columns()),
        ("2019-05-17T16:30:00+08:00", Columns()),
        ("2019-05-17 16:30:00", Columns(time_zone="Asia/Shanghai")),
        ("2019/5/17 16:30", Columns(time_zone="Asia/Shanghai")),
        ("2019年5月17日 16时30分", Columns(time_zone="Asia/Shanghai")),
        ("2019.5.17 16\uff1a30", Columns(time_zone="Asia/Shanghai")),
        ("17.05.2019 08h30", Columns(time_zone="UTC", time_format="%d.%m.%Y %Hh%M")),
        ("1558081800", Columns()),
        ("1558081800.0", Columns()),
        (1558081800, Columns()),
        (1558081800000, Columns()),
    ],
)
def test_times_are_read_as_people_write_them(written: Any, columns: Columns) -> None:
    assert read_time(written, columns) == datetime(2019, 5, 17, 8, 30, tzinfo=UTC)


def test_a_time_that_is_true_or_false_is_none() -> None:
    with pytest.raises(Unreadable):
        read_time(True, Columns())


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (Columns(map={"body": "x"}), "no field 'body'"),
        (Columns(fixed={"when": "x"}), "no field 'when'"),
        (Columns(time_zone="Mars/Olympus"), "no time zone"),
        (Columns(time_zone="../../etc/passwd"), "no time zone"),
    ],
)
def test_columns_that_lead_nowhere_are_refused(
    tmp_path: Path, columns: Columns, words: str
) -> None:
    with pytest.raises(ImportProblem, match=words):
        JsonLines(tmp_path / "f", columns, clock(), ACCOUNTS)


# --- JSON lines ----------------------------------------------------------------------------------


async def test_broken_lines_cost_only_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is named by its line and byte; the ones around it are read."""
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 400)
    good = msgspec.json.encode(ROW)
    lines = [
        b"\xef\xbb\xbf" + good,
        b"",
        b'{"channel": "sms", ',
        b"[1, 2]",
        b"\xff\xfe",
        b'{"text": "' + b"x" * 5000 + b'"}',
        b"[" * 300,
        good,
    ]
    found = await lines_of(tmp_path / "a.jsonl", b"\n".join(lines))
    assert [bool(each.failed) for each in found] == [False, *[True] * 5, False]
    assert found[1].place == f"line 3, byte {len(lines[0]) + 2}"
    assert "no object" in found[2].failed
    assert "more than" in found[4].failed
    assert texts([found[0], found[-1]]) == ["你好", "你好"]
    assert found[-1].place == f"line 8, byte {sum(len(each) + 1 for each in lines[:-1])}"


async def test_names_that_are_not_read_are_told(tmp_path: Path) -> None:
    path = kept(tmp_path / "a.jsonl", msgspec.json.encode({**ROW, "body": "hello", "agent": "x"}))
    source = JsonLines(path, Columns(map={"text": "body"}), clock(), ACCOUNTS)
    assert texts(await found_in(source)) == ["hello"]
    assert source.ignored == {"agent", "text"}


# --- CSV -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le-bom", "utf-32", "gb-bom"]
)
async def test_every_encoding_that_spreadsheets_write_is_read(
    tmp_path: Path, encoding: str
) -> None:
    text = "\r\n".join([HEADER, row("镕基先生，您好"), row("𠮷野家")])
    data = {
        "gb-bom": lambda: ("\ufeff" + text).encode("gb18030"),
        "utf-16-le-bom": lambda: ("\ufeff" + text).encode("utf-16-le"),
    }.get(encoding, lambda: text.encode(encoding))()
    assert texts(await csv_of(tmp_path / "a.csv", data)) == ["镕基先生，您好", "𠮷野家"]


async def test_an_encoding_that_is_none_of_them_has_to_be_said(tmp_path: Path) -> None:
    data = "\n".join([HEADER, row("caf\xe9 \xff\xff")]).encode("latin-1", "replace")
    with pytest.raises(ImportProblem, match="--encoding"):
        await csv_of(tmp_path / "a.csv", data)
    assert texts(await csv_of(tmp_path / "a.csv", data, encoding="latin-1")) == ["caf\xe9 \xff\xff"]
    [failed] = await csv_of(tmp_path / "a.csv", data, encoding="utf-8")
    assert "--encoding" in failed.failed
    with pytest.raises(ImportProblem, match="no encoding"):
        await csv_of(tmp_path / "a.csv", data, encoding="klingon")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
async def test_quotes_line_ends_and_delimiters_within_fields(
    tmp_path: Path, delimiter: str
) -> None:
    text = 'He said ""hi"",' + "\r\n\r\nthen;left|\t."
    cells = row('"{}"').split(",")
    line = delimiter.join(cells).format(text)
    data = "\r\n".join([HEADER.replace(",", delimiter), line, delimiter.join(row().split(","))])
    found = await csv_of(tmp_path / "a.csv", data.encode())
    assert texts(found) == ['He said "hi",\r\n\r\nthen;left|\t.', "你好"]
    assert [each.place for each in found] == ["line 2, row 1", "line 5, row 2"]


async def test_a_quote_that_is_not_closed_costs_its_own_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A huge field is cut off where it passes the bound, and the rows behind it are read."""
    monkeypatch.setattr(csv_rows, "MAX_FIELD_CHARS", 2000)
    lines = [HEADER, row("one"), row('"never closed'), *[row("x" * 90)] * 40, row("last")]
    found = await csv_of(tmp_path / "a.csv", "\n".join(lines).encode())
    assert said(found[0]) == "one"
    assert "is a quote not closed?" in found[1].failed
    assert said(found[-1]) == "last"
    huge = [HEADER, row("one"), row("y" * 5000), row("last")]
    found = await csv_of(tmp_path / "b.csv", "\n".join(huge).encode())
    assert [bool(each.failed) for each in found] == [False, True, False]


async def test_rows_that_do_not_fit_the_header(tmp_path: Path) -> None:
    lines = [HEADER, row() + ",more", "sms,main", "", row("good")]
    found = await csv_of(tmp_path / "a.csv", "\n".join(lines).encode())
    assert "8 fields, the header has 7" in found[0].failed
    assert found[1].failed
    assert texts(found[2:]) == ["good"]


async def test_a_file_without_the_columns_says_which_and_how_to_name_them(tmp_path: Path) -> None:
    data = b"Kanal,Zeit\nsms,2019-05-17T08:30:00Z\n"
    with pytest.raises(ImportProblem, match=r"account .*address .*direction .*--map") as caught:
        await csv_of(tmp_path / "a.csv", data, Columns(map={"channel": "Kanal", "at": "Zeit"}))
    assert "channel" not in str(caught.value).partition("its columns")[0]


async def test_names_and_fixed_values_make_any_file_readable(tmp_path: Path) -> None:
    columns = Columns(
        map={"address": "Telefon", "at": "Zeit", "text": "Inhalt"},
        fixed={"channel": "sms", "account": "main", "direction": "in"},
        time_zone="Asia/Shanghai",
    )
    data = "Zeit;Telefon;Inhalt;Rest\n2019/5/17 16:30;+8613800138000;hallo;x\n"
    assert texts(await csv_of(tmp_path / "a.csv", data.encode(), columns)) == ["hallo"]


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
async def test_an_empty_file_is_told(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ImportProblem):
        await csv_of(tmp_path / "a.csv", data)


async def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImportProblem, match="cannot be read"):
        await found_in(JsonLines(tmp_path / "none", Columns(), clock(), ACCOUNTS))


# --- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
async def test_reading_goes_on_behind_any_page(tmp_path: Path, kind: str) -> None:
    """Whatever page it stopped at, what follows is the rest, and nothing twice."""
    path = tmp_path / "a"
    numbers = range(350)
    if kind == "csv":
        lines = [HEADER, *[row(f'"{number}\n镕"') for number in numbers]]
        kept(path, "\r\n".join(lines).encode("gb18030"))
    else:
        rows = [msgspec.json.encode({**ROW, "text": f"{number}\n镕"}) for number in numbers]
        kept(path, b"\n".join(rows))

    def source() -> FileSource:
        kinds: dict[str, Any] = {"csv": CsvRows, "jsonl": JsonLines}
        made: FileSource = kinds[kind](path, Columns(), clock(), ACCOUNTS)
        return made

    pages = [page async for page in source().pages(None)]
    assert len(pages) == 4
    whole = [said(each) for page in pages for each in page.found]
    assert [text.partition("\n")[0] for text in whole] == [str(number) for number in numbers]
    before: list[str] = []
    for page in pages:
        before += texts(page.found)
        assert before + texts(await found_in(source(), page.cursor)) == whole
    kept(path, path.read_bytes() + b"\n")
    with pytest.raises(ImportProblem, match="was changed"):
        await found_in(source(), pages[0].cursor)


# --- mbox ----------------------------------------------------------------------------------------

FROM = b"From ann@example.com Fri May 17 08:30:00 2019\n"


def messages(data: bytes) -> list[bytes]:
    return [raw for _, _, raw, _ in split(io.BytesIO(data))]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("one", FROM + b"A: 1\n\nhello\n\n", [b"A: 1\n\nhello\n"]),
        ("two", (FROM + b"A: 1\n\nx\n\n") * 2, [b"A: 1\n\nx\n"] * 2),
        (
            "windows",
            (FROM + b"A: 1\n\nx\n\n").replace(b"\n", b"\r\n") * 2,
            [b"A: 1\r\n\r\nx\r\n"] * 2,
        ),
        (
            "no blank line",
            FROM + b"A: 1\n\nx\n" + FROM + b"B: 2\n\ny\n",
            [b"A: 1\n\nx\n", b"B: 2\n\ny\n"],
        ),
        (
            "cut",
            FROM + b"A: 1\n\nx\n\n" + FROM + b"B: 2\n\nthe e",
            [b"A: 1\n\nx\n", b"B: 2\n\nthe e"],
        ),
        ("cut in the head", FROM + b"A: 1\n\nx\n\n" + FROM + b"B:", [b"A: 1\n\nx\n", b"B:"]),
        (
            "escaped",
            FROM + b"A: 1\n\n>From me\n>>From you\n> From\n",
            [b"A: 1\n\nFrom me\n>From you\n> From\n"],
        ),
        (
            "not escaped",
            FROM + b"A: 1\n\nFrom now on: 10:30 it is, in 2019\nwe meet\n",
            [b"A: 1\n\nFrom now on: 10:30 it is, in 2019\nwe meet\n"],
        ),
        (
            "a sentence at the end",
            FROM + b"A: 1\n\nFrom 10:30 in 2019",
            [b"A: 1\n\nFrom 10:30 in 2019"],
        ),
        ("no time", FROM + b"A: 1\n\nFrom here\nTo: there\n", [b"A: 1\n\nFrom here\nTo: there\n"]),
        ("thunderbird", b"From - Fri Oct 10 22:01:02 2003\nA: 1\n\nx\n", [b"A: 1\n\nx\n"]),
        ("zone", b"From 17@xxx Mon Jan 01 10:20:30 +0000 2024\nA: 1\n\nx\n", [b"A: 1\n\nx\n"]),
        ("empty", FROM + b"\n" + FROM + b"A: 1\n\nx\n", [b"\n", b"A: 1\n\nx\n"]),
        ("blank lines first", b"\n\r\n" + FROM + b"A: 1\n\nx\n", [b"A: 1\n\nx\n"]),
        ("a mark first", b"\xef\xbb\xbf" + FROM + b"A: 1\n\nx\n", [b"A: 1\n\nx\n"]),
        ("only a separator", FROM, [b""]),
        ("no mbox", b"Subject: x\n\nFrom ann\n", []),
        ("nothing", b"", []),
        ("no text", b"\x00\xff" * 1000, []),
    ],
)
def test_an_mbox_is_split_at_its_separators(name: str, data: bytes, expected: list[bytes]) -> None:
    assert messages(data) == expected


def test_lines_of_any_length_are_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mbox_file, "MAX_LINE_BYTES", 16)
    long = b"x" * 15 + b">From here" * 10 + b"\n"
    assert messages(FROM + b"A: 1\n\n" + long)[0].endswith(long)


def test_every_separator_is_a_place_to_go_on_from() -> None:
    data = b"".join(FROM + b"A: %d\n\nFrom 10:30 in 2019\n\n" % number for number in range(5))
    whole = list(split(io.BytesIO(data)))
    assert [each[2][:4] for each in whole] == [b"A: %d" % number for number in range(5)]
    for number, (_, end, _, _) in enumerate(whole, start=1):
        assert list(split(io.BytesIO(data), end)) == whole[number:]


def test_a_message_over_the_bound_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mbox_file, "MAX_MESSAGE_BYTES", 100)
    data = FROM + b"A: 1\n\n" + b"y" * 60 + b"\n" + b"z" * 500 + b"\n" + FROM + b"B: 2\n\nx\n"
    [(_, _, held, size), (_, _, good, _)] = split(io.BytesIO(data))
    assert len(held) <= 100
    assert size > 500
    assert good == b"B: 2\n\nx\n"


async def test_reading_ends_when_nobody_takes_the_pages(tmp_path: Path) -> None:
    """The file is closed, and nothing goes on in a thread."""
    path = kept(tmp_path / "a.csv", "\n".join([HEADER, *[row()] * 500]).encode())
    pages = CsvRows(path, Columns(), clock(), ACCOUNTS).pages(None)
    await anext(pages)
    await pages.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    with pytest.raises(StopAsyncIteration):
        await anext(pages)
