"""Hold files and functions to the house's sizes.

Packages and tools: files of at most 400 lines, functions of at most 60 with nine in ten at most
30. Tests: files of at most 600 lines, functions of at most 60.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tools.tracked import ROOT, report, tracked_files

MAX_FILE_LINES: Final = 400
MAX_TEST_FILE_LINES: Final = 600
MAX_FUNCTION_LINES: Final = 60
MAX_P90_FUNCTION_LINES: Final = 30


def function_lengths(source: str) -> list[tuple[int, str, int]]:
    """Return (first line, name, lines) of every function in Python source."""
    return [
        (node.lineno, node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def file_faults(path: Path, source: str) -> list[str]:
    """Return what is too large in one file."""
    cap = MAX_TEST_FILE_LINES if path.parts[0] == "tests" else MAX_FILE_LINES
    lines = len(source.splitlines())
    faults = []
    if lines > cap:
        faults.append(f"{path}: {lines} lines, at most {cap}: split it by what it says")
    faults.extend(
        f"{path}:{line}: {name} has {length} lines, at most {MAX_FUNCTION_LINES}"
        for line, name, length in function_lengths(source)
        if length > MAX_FUNCTION_LINES
    )
    return faults


def faults(root: Path, paths: Iterable[Path]) -> list[str]:
    """Return everything too large among the Python files of ``paths``."""
    found: list[str] = []
    lengths: list[int] = []
    for path in paths:
        if path.suffix != ".py":
            continue
        source = (root / path).read_text(encoding="utf-8")
        found.extend(file_faults(path, source))
        if path.parts[0] != "tests":
            lengths.extend(length for _, _, length in function_lengths(source))
    lengths.sort()
    if lengths and lengths[len(lengths) * 9 // 10] > MAX_P90_FUNCTION_LINES:
        found.append(
            f"one function in ten has more than {MAX_P90_FUNCTION_LINES} lines "
            f"(90th percentile: {lengths[len(lengths) * 9 // 10]})"
        )
    return found


def main() -> int:
    """Check the checkout this file stands in."""
    return report("sizes", faults(ROOT, tracked_files()), "every file and function fits")


if __name__ == "__main__":
    sys.exit(main())
