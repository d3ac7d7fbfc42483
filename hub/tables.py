"""Tables on the command line: ids stay whole, and what a cell says is never read as markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_CHARS = 400  # no terminal: whoever greps wants each row on one line


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    whole: Sequence[str] = ("id",),
) -> None:
    """Print a table as wide as it needs to be, at most as the terminal; long cells are folded.

    Cells may hold what strangers wrote, so that brackets in them mean nothing. ``whole`` names
    the columns that people copy from: they are the last ones to be folded.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_CHARS)
    table = Table(title=Text(title) if title else None, title_justify="left")
    for column in columns:
        table.add_column(Text(column), overflow="fold", no_wrap=column in whole)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
