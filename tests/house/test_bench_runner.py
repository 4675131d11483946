"""The measurement runner: JSON lines, selection, and honesty about what cannot run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from bench.__main__ import load, main, run
from bench.measure import Bench, Line, Unable, compare, held_to, percentile


def bench_of(*names: str, raising: Exception | None = None) -> Bench:
    def lines() -> Iterator[Line]:
        for name in names:
            yield Line(name=name, value=1.23456, unit="s", vs="other", ratio=0.5)
        if raising is not None:
            raise raising

    return Bench(names=names, run=lines)


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, object]], str]:
    out, err = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


def test_each_figure_is_one_json_object_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([bench_of("one", "two")], []) == 0

    objects, _ = printed(capsys)
    assert objects == [
        {"name": name, "value": 1.235, "unit": "s", "vs": "other", "ratio": 0.5}
        for name in ("one", "two")
    ]


def test_only_the_chosen_figures_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    run([bench_of("one", "two"), bench_of("three")], ["two"])

    assert [line["name"] for line in printed(capsys)[0]] == ["two"]


def test_bench_that_cannot_run_prints_no_line_and_says_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = run([Bench(names=("one",), run=bench_of(raising=Unable("no swtpm")).run)], [])

    assert (status, printed(capsys)) == (0, ([], "bench: one: cannot run here: no swtpm\n"))


def test_broken_bench_does_not_hide_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    broken = Bench(names=("one",), run=bench_of(raising=ValueError("slip")).run)

    assert run([broken, bench_of("two")], []) == 1

    objects, err = printed(capsys)
    assert [line["name"] for line in objects] == ["two"]
    assert "one: failed: ValueError: slip" in err


def test_unknown_name_is_refused_with_the_names_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([], "no_such_figure") == 2

    objects, err = printed(capsys)
    assert objects == []
    assert "no such figure: no_such_figure" in err
    assert "appraisal_first_sight_ms" in err


def test_every_group_loads_and_every_figure_has_one_bench() -> None:
    names = [name for bench in load() for name in bench.names]

    assert len(names) == len(set(names))
    assert {"crypto_floor_us", "http_attestations_per_s", "daemon_rss_mb"} <= set(names)


def test_compared_calls_give_their_ratio() -> None:
    def spin(count: int) -> Callable[[], int]:
        return lambda: sum(range(count))

    _, _, ratio = compare(spin(20_000), spin(10_000), total_s=0.3)

    assert 1.4 < ratio < 3


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (1, 1)])
def test_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == expected


def test_figure_with_a_budget_says_which() -> None:
    line = held_to("speed", 500, "1/s", 1000, "≥")

    assert (line.vs, line.ratio) == ("budget ≥ 1000", 0.5)
