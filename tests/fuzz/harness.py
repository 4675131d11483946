"""One fuzz target under atheris: ``python -m tests.fuzz.harness TARGET [libFuzzer options]``.

The invariant of every target: a value, or one of our errors; in bounded time and memory.
"""

from __future__ import annotations

import importlib
import sys

import atheris

ABSENT = 3
"""Exit code: the target's parser is not there."""


def main() -> None:
    """Instrument the parsers, then let libFuzzer call the target; never returns."""
    name = sys.argv[1]
    with atheris.instrument_imports(include=["attestation", "verifier"]):
        try:
            target = importlib.import_module(f"tests.fuzz.targets.{name}")
        except ImportError as error:
            sys.stderr.write(f"absent: {error}\n")
            sys.exit(ABSENT)
        from attestation.errors import AttestationError  # noqa: PLC0415 - to be instrumented

    def one(data: bytes) -> None:
        try:
            target.run(data)
        except AttestationError:
            return

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
