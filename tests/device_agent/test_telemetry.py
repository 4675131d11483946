from __future__ import annotations

import io
import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device_agent.main import VERSION
from device_agent.telemetry import Log, open_log

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def log_of(form: str, level: str = "info") -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    return open_log(level, form, lambda: AT, stream), stream


def test_a_json_line_holds_event_level_time_and_fields() -> None:
    log, stream = log_of("json")

    log.warning("fault_occurred", code="overloaded", reason='say "no"\nmore')

    assert json.loads(stream.getvalue()) == {
        "event": "fault_occurred",
        "level": "warning",
        "timestamp": "2026-03-01T12:00:00.000+00:00",
        "code": "overloaded",
        "reason": 'say "no"\nmore',
    }
    assert stream.getvalue().count("\n") == 1


def test_a_console_line_is_one_line_too() -> None:
    log, stream = log_of("console")

    log.info("evidence_judged", status="affirming", reasons=["a: b", "c\nd"])

    assert stream.getvalue().count("\n") == 1
    assert 'evidence_judged status=affirming reasons="a: b; c\\nd"' in stream.getvalue()


def test_without_a_terminal_the_log_is_json() -> None:
    log, stream = log_of("auto")

    log.info("daemon_started")

    assert stream.getvalue().startswith("{")


@pytest.mark.parametrize(("level", "lines"), [("debug", 3), ("info", 2), ("warning", 1)])
def test_lesser_levels_are_left_out(level: str, lines: int) -> None:
    log, stream = log_of("json", level)

    log.debug("a")
    log.info("b")
    log.warning("c")

    assert len(stream.getvalue().splitlines()) == lines


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    log, stream = log_of("json")
    stream.close()

    log.warning("fault_occurred")


def test_the_version_is_the_distributions() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"

    assert tomllib.loads(project.read_text())["project"]["version"] == VERSION
