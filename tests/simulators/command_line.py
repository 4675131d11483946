"""The operator's commands, run in this process through their real entry point."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from verifier.cli import main as command_line

Run = Callable[..., tuple[int, str, str]]
"""Takes the words of a command; returns exit code, output and errors."""


def runner(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *first: str | Path
) -> Run:
    """Return what runs ``verifier`` with these first words, then those it is called with."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        words = [str(word) for word in (*first, *arguments)]
        monkeypatch.setattr(sys, "argv", ["verifier", *words])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        said = capfd.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), said.out, said.err

    return run_command
