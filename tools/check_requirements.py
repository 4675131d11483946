"""Hold ``tests/requirements.toml`` to the truth: every test it names is one that pytest collects.

Keys are rows of the requirement list (``R1`` to ``R114``) and of the list of known mistakes
(``N1`` to ``N45``); values are non-empty lists of test ids. A parametrised test may be named with
its brackets (one case) or without (all of them). A row not shown is simply absent.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Collection, Mapping
from typing import Final

from tools.tracked import ROOT, report

MAP: Final = "tests/requirements.toml"
LAST_ROW: Final = {"R": 114, "N": 45}
_KEY: Final = re.compile(r"([RN])([1-9][0-9]{0,2})")


def key_is_row(key: str) -> bool:
    """Say whether ``key`` names a row of one of the two lists."""
    match = _KEY.fullmatch(key)
    return match is not None and int(match[2]) <= LAST_ROW[match[1]]


def row_faults(key: str, tests: object, known: Collection[str]) -> list[str]:
    """Return what is wrong with one row of the map."""
    if not key_is_row(key):
        return [f"{key} is neither R1..R{LAST_ROW['R']} nor N1..N{LAST_ROW['N']}"]
    if not isinstance(tests, list) or not tests:
        return [f"{key} names no test: give a list of test ids, or leave the row out"]
    names = [str(test) for test in tests]
    doubled = [f"{key} names {name!r} twice" for name in set(names) if names.count(name) > 1]
    absent = [f"{key}: pytest does not collect {name!r}" for name in names if name not in known]
    return doubled + absent


def faults(rows: Mapping[str, object], collected: Collection[str]) -> list[str]:
    """Return every fault of the map against the ids that pytest collected."""
    known = set(collected) | {test.partition("[")[0] for test in collected}
    return [fault for key, tests in rows.items() for fault in row_faults(key, tests, known)]


def collected_tests() -> list[str]:
    """Ask pytest which tests there are.

    Raises:
        RuntimeError: If collection itself fails; its output says why.
    """
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:randomly"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if run.returncode != 0:
        raise RuntimeError(f"pytest cannot collect the tests:\n{run.stdout}{run.stderr}")
    return [line for line in run.stdout.splitlines() if "::" in line]


def main() -> int:
    """Check the map of the checkout this file stands in."""
    try:
        rows = tomllib.loads((ROOT / MAP).read_text(encoding="utf-8"))
        found = faults(rows, collected_tests())
    except (tomllib.TOMLDecodeError, RuntimeError) as error:
        return report("requirements", [f"{MAP}: {error}"], "")
    return report("requirements", found, f"{len(rows)} rows, every test is collected")


if __name__ == "__main__":
    sys.exit(main())
