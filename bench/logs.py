"""Firmware logs: how fast bytes become replayed PCR values."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from bench.inputs import largest_firmware_log
from bench.measure import Bench, Line, seconds_per_call


def replay_speed() -> Iterator[Line]:
    """Time parse and replay, all banks, of the largest log."""
    content = largest_firmware_log()
    seconds = seconds_per_call(lambda: replay(parse_firmware_log(content)))
    yield Line(name="replay_mb_per_s", value=len(content) / 1e6 / seconds, unit="MB/s")


BENCHES = (Bench(names=("replay_mb_per_s",), run=replay_speed),)
