"""What commands print: tables and colours on a terminal, plain lines in a pipe, JSON on request."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

STYLES = {
    "affirming": "green",
    "allow": "green",
    "passed": "green",
    "ok": "green",
    "warning": "yellow",
    "skipped": "dim",
    "contraindicated": "red",
    "deny": "red",
    "failed": "red",
    "revoked": "red",
    "ended": "dim",
    "ending": "yellow",
    "superseded": "yellow",
    "in force": "green",
}
"""Colours of the words that matter."""


def say_json(document: object) -> None:
    """Print a document as JSON."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """Print one line; a word that matters is coloured on a terminal."""
    console = Console(highlight=False, soft_wrap=True)
    line = Text(text)
    if console.is_terminal:
        for word, style in STYLES.items():
            line.highlight_words([word], style)
    console.print(line)


def tell(document: object, text: str, *, as_json: bool) -> None:
    """Print one line, or the document in its place if JSON was asked for."""
    if as_json:
        say_json(document)
    else:
        say(text)


def say_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: drawn on a terminal, tab-separated with a heading line in a pipe."""
    if not sys.stdout.isatty():
        print("\t".join(columns))
        for row in rows:
            print("\t".join(str(cell) for cell in row))
        return
    draw_table(
        columns,
        [[Text(str(cell), style=STYLES.get(str(cell), "")) for cell in row] for row in rows],
    )


def draw_table(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """Draw a table on a terminal; a cell too wide for it goes on below, none is cut."""
    table = Table()
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
