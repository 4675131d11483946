"""Tables on a narrow terminal: cells are folded, and every character of them is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from tests.simulators.stored import a_result
from tests.simulators.terminal import column, on_terminal
from verifier.cli.devices import first_reasons

LOG = next((Path(__file__).parents[2] / "data").rglob("h12ssl/eventlog"))

SAY_TABLE = """
import sys
from verifier.cli.output import say_table
say_table(("who [bold]", "when", "digest"), [sys.argv[1:]])
"""


def test_digests_of_a_log_are_whole_on_80_columns() -> None:
    said = on_terminal("-m", "verifier", "eventlog", str(LOG))

    replayed = replay(parse_firmware_log(LOG.read_bytes()))
    values = [value.hex() for bank in replayed.pcrs.values() for value in bank.values()]
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 80
    shown = column(said, 2)
    assert values
    assert [value for value in values if value not in shown] == []


def test_names_and_moments_are_whole_and_never_markup() -> None:
    name = "CN=Red Hat Secure Boot (CA key 1),O=Red Hat[bold],EMAIL=secalert@redhat.com"
    moment = "2026-05-04T03:02:01.123456+00:00"

    said = on_terminal("-c", SAY_TABLE, name, moment, "f" * 64)

    assert "…" not in said
    assert "who [bold]" in said
    assert column(said, 0, between=" ").replace(" ", "").endswith(name.replace(" ", ""))
    assert moment in column(said, 1)
    assert "f" * 64 in column(said, 2)


def reasons(*given: tuple[str, ...], shortened: bool = True) -> list[str]:
    return first_reasons([replace(a_result(), reasons=one) for one in given], shortened=shortened)


def test_a_reason_of_the_result_above_is_told_there_only() -> None:
    both, one, none = ("a: first", "b: second"), ("a: first",), ()
    assert reasons(both, both, one, none, one) == [
        "a: first (and 1 more)",
        "as above",
        "a: first",
        "",
        "a: first",
    ]


def test_a_long_reason_is_cut_at_a_word_and_whole_in_a_pipe() -> None:
    long = "code: " + "reference " * 30 + "end"
    [cut] = reasons((long,))
    assert len(cut) <= 120
    assert cut.endswith("reference …")
    assert reasons((long,), (long,), shortened=False) == [long, long]
