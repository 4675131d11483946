"""A terminal of 80 columns, and what a program draws on it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios


def on_terminal(*words: str, kind: str = "dumb") -> str:
    """Return what Python prints on a terminal of 80 columns; a ``dumb`` one has no colours."""
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (40, 80))
    environment = {name: text for name, text in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        [sys.executable, *words], stdin=side, stdout=side, env=environment | {"TERM": kind}
    ) as child:
        os.close(side)
        said = b""
        while chunk := read(main):
            said += chunk
    os.close(main)
    assert child.returncode == 0
    return said.decode()


def read(main: int) -> bytes:
    """Return the next bytes of a terminal; none when its last writer is gone."""
    try:
        return os.read(main, 65536)
    except OSError:
        return b""


def column(said: str, index: int, *, between: str = "") -> str:
    """Return the text of one column, without the frame and without what lines it was folded to."""
    rows = [line.replace("┃", "│").split("│") for line in said.splitlines()]
    return between.join(row[1 + index].strip() for row in rows if len(row) > 1 + index)
