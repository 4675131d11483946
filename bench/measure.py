"""Timing for measurements: medians over batches, and ratios of two things timed in turn.

The machine is shared and its speed wanders, so what is compared is timed alternately, batch by
batch, and the median of the ratios is what counts.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MICROSECONDS: Final = 1e6
MILLISECONDS: Final = 1e3

_BATCH_S: Final = 0.02


class Unable(Exception):
    """A measurement cannot be made here; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measured figure.

    Attributes:
        name: Its stable name.
        value: The figure.
        unit: Its unit.
        vs: What it is held against: another figure, or a budget of docs/performance.md.
        ratio: The figure over what it is held against; None if there is nothing to hold it to.
    """

    name: str
    value: float
    unit: str
    vs: str = ""
    ratio: float | None = None

    def as_json(self) -> str:
        """Return the line's JSON object; figures keep four significant digits."""
        ratio = None if self.ratio is None else _rounded(self.ratio)
        return json.dumps(
            {
                "name": self.name,
                "value": _rounded(self.value),
                "unit": self.unit,
                "vs": self.vs,
                "ratio": ratio,
            },
            ensure_ascii=False,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One measurement that yields one or more figures.

    Attributes:
        names: The names of its figures.
        run: Makes them.
    """

    names: tuple[str, ...]
    run: Callable[[], Iterator[Line]]


def held_to(name: str, value: float, unit: str, budget: float, sign: str) -> Line:
    """Return a figure held to its budget; ``sign`` is ``≤`` or ``≥``."""
    return Line(
        name=name, value=value, unit=unit, vs=f"budget {sign} {budget:g}", ratio=value / budget
    )


def seconds_per_call(call: Callable[[], object], *, total_s: float = 1.0) -> float:
    """Return the median seconds of one call, over batches that fill ``total_s``."""
    count = _calls_per_batch(call)
    times: list[float] = []
    end = time.perf_counter() + total_s
    while time.perf_counter() < end or not times:
        times.append(_batch(call, count))
    return statistics.median(times)


def compare(
    call: Callable[[], object], base: Callable[[], object], *, total_s: float = 3.0
) -> tuple[float, float, float]:
    """Time two calls in turn.

    Returns:
        Median seconds of ``call``, of ``base``, and the median of their ratios.
    """
    call_count, base_count = _calls_per_batch(call), _calls_per_batch(base)
    times: list[float] = []
    bases: list[float] = []
    end = time.perf_counter() + total_s
    while time.perf_counter() < end or not times:
        times.append(_batch(call, call_count))
        bases.append(_batch(base, base_count))
    ratios = [one / other for one, other in zip(times, bases, strict=True)]
    return statistics.median(times), statistics.median(bases), statistics.median(ratios)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that ``percent`` of ``values`` do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = math.ceil(percent / 100 * len(ordered))
    return ordered[max(rank, 1) - 1]


def _calls_per_batch(call: Callable[[], object]) -> int:
    for _ in range(3):
        call()
    start = time.perf_counter()
    call()
    return max(1, int(_BATCH_S / max(time.perf_counter() - start, 1e-9)))


def _batch(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
