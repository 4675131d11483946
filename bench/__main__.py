"""Run measurements: one JSON object per line on stdout, progress and troubles on stderr.

``ONLY=name,name`` in the environment, or names as arguments, select figures. A measurement that
cannot run here says so on stderr and prints no line.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
import time
from collections.abc import Collection, Iterable
from typing import Final

import structlog

from bench.measure import Bench, Unable

GROUPS: Final = (
    "crypto",
    "logs",
    "ima",
    "appraisal",
    "growth",
    "decisions",
    "tpm",
    "service",
    "revocation",
    "issuance",
    "daemon",
)


def load(groups: Iterable[str] = GROUPS) -> list[Bench]:
    """Import the groups; one that cannot be imported says so and is left out."""
    found: list[Bench] = []
    for group in groups:
        try:
            found.extend(importlib.import_module(f"bench.{group}").BENCHES)
        except ImportError as error:
            _say(f"group {group} cannot run here: {error}")
    return found


def run(benches: Iterable[Bench], only: Collection[str]) -> int:
    """Run the benches with a chosen figure (all, if none is chosen); return the exit status."""
    status = 0
    for bench in benches:
        chosen = set(bench.names) & set(only) if only else set(bench.names)
        if not chosen:
            continue
        start = time.perf_counter()
        try:
            for line in bench.run():
                if line.name in chosen:
                    print(line.as_json(), flush=True)
        except Unable as reason:
            _say(f"{', '.join(sorted(chosen))}: cannot run here: {reason}")
        except Exception as error:  # noqa: BLE001 - one broken bench must not hide the others
            _say(f"{', '.join(sorted(chosen))}: failed: {type(error).__name__}: {error}")
            status = 1
        else:
            _say(f"{', '.join(sorted(chosen))}: {time.perf_counter() - start:.1f} s")
    return status


def main(arguments: list[str], environment_only: str) -> int:
    """Select and run; an unknown name is refused with the list of those there are."""
    only = {name.strip() for name in [*arguments, *environment_only.split(",")] if name.strip()}
    benches = load()
    known = {name for bench in benches for name in bench.names}
    if unknown := only - known:
        _say(f"no such figure: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
        return 2
    _quieten()
    gc.collect()
    gc.freeze()  # as `verifier serve` does once it is wired
    return run(benches, only)


def _quieten() -> None:
    """Let verifiers in this process tell troubles only, on stderr: stdout is for figures."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ.get("ONLY", "")))
