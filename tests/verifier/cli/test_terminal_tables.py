"""Tables on a narrow terminal: cells are folded, and every character of them is there."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log

LOG = next((Path(__file__).parents[2] / "data").rglob("h12ssl/eventlog"))

SAY_TABLE = """
import sys
from verifier.cli.output import say_table
say_table(("who [bold]", "when", "digest"), [sys.argv[1:]])
"""


def on_terminal(*words: str) -> str:
    """Return what Python prints on a terminal of 80 columns."""
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (40, 80))
    environment = {name: text for name, text in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        [sys.executable, *words], stdin=side, stdout=side, env=environment | {"TERM": "dumb"}
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


def test_digests_of_a_log_are_whole_on_80_columns() -> None:
    said = on_terminal("-m", "verifier", "eventlog", str(LOG))

    replayed = replay(parse_firmware_log(LOG.read_bytes()))
    values = [value.hex() for bank in replayed.pcrs.values() for value in bank.values()]
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 80
    shown = column(said, 2)
    assert values
    assert [value for value in values if value not in shown] == []


def test_names_and_moments_are_whole_and_never_markup() -> None:
    name = "CN=Red Hat Secure Boot (CA key 1),O=Red Hat[bold],EMAIL=secalert@redhat.com"
    moment = "2026-05-04T03:02:01.123456+00:00"

    said = on_terminal("-c", SAY_TABLE, name, moment, "f" * 64)

    assert "…" not in said
    assert "who [bold]" in said
    assert column(said, 0, between=" ").replace(" ", "").endswith(name.replace(" ", ""))
    assert moment in column(said, 1)
    assert "f" * 64 in column(said, 2)
