"""Let every parser read hostile bytes: ``python -m tools.fuzz [--seconds N] [TARGET …]``.

A target is one file in ``tests/fuzz/targets``. Each runs in a process of its own under libFuzzer
(atheris), three at a time, with five seconds for one input and 512 MB for the process. Whatever is
neither a value nor one of our errors is a finding; its input is kept in ``.fuzz/`` and fails the
run. A target whose parser is not there is listed as absent, and fails the run too.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from tools.tracked import ROOT

TARGETS: Final = ROOT / "tests/fuzz/targets"
CORPUS: Final = ROOT / "tests/fuzz/corpus"
FINDINGS: Final = ROOT / ".fuzz"
INPUT_SECONDS: Final = 5
MEMORY_MB: Final = 512
MOST_BYTES: Final = 65_536
_AT_ONCE: Final = 3
_ABSENT: Final = 3
_SPARE_SECONDS: Final = 90
"""For starting up, and for reading the kept corpus."""
_RUNS: Final = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_PEAK: Final = re.compile(r"stat::peak_rss_mb:\s+(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuzzed:
    """What became of one target: how many inputs it read, its peak memory, what was found."""

    target: str
    runs: int
    peak_mb: int
    fault: str


def names() -> list[str]:
    """Return every target."""
    return sorted(path.stem for path in TARGETS.glob("*.py"))


def fuzz(target: str, seconds: int) -> Fuzzed:
    """Run one target for so many seconds."""
    FINDINGS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as found:
        kept = CORPUS / target
        command = [
            sys.executable,
            *("-m", "tests.fuzz.harness", target),
            f"-max_total_time={seconds}",
            f"-timeout={INPUT_SECONDS}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-max_len={MOST_BYTES}",
            f"-artifact_prefix={FINDINGS}/{target}-",
            *("-print_final_stats=1", found),
            *([str(kept)] if kept.is_dir() else []),
        ]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                check=False,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds + _SPARE_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return Fuzzed(target=target, runs=0, peak_mb=0, fault="did not end")
    told = done.stderr + done.stdout
    return Fuzzed(
        target=target,
        runs=_number(_RUNS, told),
        peak_mb=_number(_PEAK, told),
        fault=_fault(done.returncode, told),
    )


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(found[1]) if found else 0


def _fault(code: int, told: str) -> str:
    if code == 0:
        return ""
    if code == _ABSENT:
        return "absent: " + told.rpartition("absent: ")[2].strip()
    lines = told.splitlines()
    start = next((n for n, line in enumerate(lines) if "Uncaught Python exception" in line), -40)
    return "\n".join(lines[start:][:40])


def main(arguments: Sequence[str]) -> int:
    """Run the targets named, or all; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="all without any")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    given = parser.parse_args(arguments)
    known = names()
    unknown = sorted(set(given.targets) - set(known))
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(known)}")
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: atheris is not for this platform; nothing was fuzzed", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as workers:
        done = list(workers.map(lambda name: fuzz(name, given.seconds), given.targets or known))
    width = max(len(one.target) for one in done)
    for one in done:
        mark = "FAIL" if one.fault else "ok  "
        print(f"{mark} {one.target:{width}}  {one.runs:9} inputs  {one.peak_mb:4} MB")
        if one.fault:
            print("     " + one.fault.replace("\n", "\n     "))
    failed = sum(1 for one in done if one.fault)
    print(f"{len(done) - failed} of {len(done)} targets without a finding")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
