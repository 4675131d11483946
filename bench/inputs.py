"""What the measurements are made with: real logs of ``tests/data``, software TPMs, enrolments."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from attestation.errors import AttestationError
from attestation.limits import MAX_FIRMWARE_LOG_BYTES
from attestation.logs.tcg import parse_firmware_log
from bench.measure import Unable

ROOT: Final = Path(__file__).resolve().parent.parent
LOGS: Final = ROOT / "tests" / "data"


@cache
def largest_firmware_log() -> bytes:
    """Return the largest firmware log of ``tests/data`` that parses.

    Raises:
        Unable: If there is none.
    """
    files = [path for path in LOGS.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: -path.stat().st_size):
        content = path.read_bytes()
        if len(content) <= MAX_FIRMWARE_LOG_BYTES and _parses(content):
            return content
    raise Unable(f"no firmware log below {LOGS.relative_to(ROOT)}")


def _parses(content: bytes) -> bool:
    try:
        return parse_firmware_log(content).crypto_agile
    except AttestationError:
        return False
