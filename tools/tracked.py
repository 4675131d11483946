"""Which files the checks look at: what git tracks, or would track, below a root."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent


def tracked_files(root: Path = ROOT) -> list[Path]:
    """Return the files git knows or would take (not ignored), relative to ``root``, sorted.

    Raises:
        OSError: If git is not there.
        subprocess.CalledProcessError: If ``root`` is not in a git checkout.
    """
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    ).stdout.decode()
    names = sorted({name for name in listing.split("\0") if name})
    return [Path(name) for name in names if (root / name).is_file()]


def report(check: str, faults: Iterable[str], praise: str) -> int:
    """Print each fault on stderr, or the praise on stdout; return the exit status."""
    found = list(faults)
    for fault in found:
        print(f"{check}: {fault}", file=sys.stderr)
    if not found:
        print(f"{check}: {praise}")
    return 1 if found else 0
