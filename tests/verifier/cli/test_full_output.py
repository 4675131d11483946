"""Output onto a full disk: one line and exit code 3, never a traceback, never success."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOG = next((Path(__file__).parents[2] / "data").rglob("h12ssl/eventlog"))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("verifier", ("--help",)),
        ("verifier", ("policy", "list", "--json")),
        ("verifier", ("eventlog", str(LOG))),
        ("verifier", ("eventlog", str(LOG), "--json", "--facts")),
        ("device_agent", ("settings",)),
        ("device_agent", ("--help",)),
        ("device_agent", ("factory", "request", "--help")),
    ],
)
def test_full_output_is_told_in_one_line(program: str, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", program, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )

    named = program.replace("_", "-")
    told = f"{named}: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (3, told)


def test_closed_output_is_no_fault() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" -m verifier eventlog "$1" >&-', sys.executable, str(LOG)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
