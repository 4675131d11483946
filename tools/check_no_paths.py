"""Refuse paths of one developer's machine and package-registry hosts in what git tracks.

Real measurements under ``tests/data`` are other machines' own words and are left alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tools.tracked import ROOT, report, tracked_files

EXEMPT: Final = ("tests/data/",)
PATTERNS: Final = {
    "a path of somebody's machine": re.compile(
        r"(?<![\w.])/(?:work|root|farm|home/[a-z]|Users/[a-z]|opt/pypi|tmp/[a-z])[\w./-]*"
    ),
    "a registry host": re.compile(
        r"\b(?:files\.pythonhosted\.org|test\.pypi\.org|pypi\.org/simple|deb\.debian\.org"
        r"|(?:pypi|registry|artifactory|nexus|mirror)\.[a-z0-9-]+\.[a-z]{2,})\b"
        r"|--(?:extra-)?index-url|--find-link[s]"
    ),
}


def text_faults(path: Path, text: str) -> list[str]:
    """Return each line that holds such a path or host."""
    return [
        f"{path}:{number}: {match.group()!r} is {what}; use a relative path or a setting"
        for number, line in enumerate(text.splitlines(), start=1)
        for what, pattern in PATTERNS.items()
        for match in pattern.finditer(line)
    ]


def faults(root: Path, paths: Iterable[Path]) -> list[str]:
    """Return the faults of every text file among ``paths``; binary files are passed over."""
    found: list[str] = []
    for path in paths:
        if path.as_posix().startswith(EXEMPT):
            continue
        content = (root / path).read_bytes()
        if b"\0" not in content:
            found.extend(text_faults(path, content.decode("utf-8", errors="replace")))
    return found


def main() -> int:
    """Check the checkout this file stands in."""
    return report("paths", faults(ROOT, tracked_files()), "no machine path, no registry host")


if __name__ == "__main__":
    sys.exit(main())
