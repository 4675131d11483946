"""What commands print: lines for people, JSON on request."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable


def say(options: argparse.Namespace, document: object, text: str) -> None:
    """Print the text, or the document if ``--json`` was given."""
    print(json.dumps(document, indent=2) if options.json else text)


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Return rows of (name, value) as aligned lines."""
    lines = list(rows)
    width = max((len(name) for name, _ in lines), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def word(value: object) -> str:
    """Return a value of a document as people read it."""
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
