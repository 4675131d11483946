"""Every conformance case, against this verifier."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.conformance.cases import CASES_FILES, SCHEMA_FILE, Case, load, octets
from tests.conformance.generate.document import document
from tests.conformance.run.kinds import faults, run_case

MAX_FILE_BYTES = 1024 * 1024
ROWS = {f"N{number}" for number in range(1, 46)}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in load().items()])
def test_case_is_judged_as_expected(case: Case) -> None:
    assert not faults(case, run_case(case))


FILES = pytest.mark.parametrize("path", CASES_FILES, ids=lambda path: path.name)


@FILES
def test_file_is_what_the_generator_makes(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == document(path.name)


@FILES
def test_file_fits_its_schema_and_a_reader(path: Path) -> None:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    faults = Draft202012Validator(schema).iter_errors(json.loads(path.read_text()))

    assert [f"{list(fault.absolute_path)}: {fault.message[:200]}" for fault in faults] == []
    assert path.stat().st_size < MAX_FILE_BYTES


@FILES
def test_no_private_key_is_written(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert "PRIVATE" not in text


def test_every_row_has_an_accepted_neighbour() -> None:
    """A verifier that refuses everything must fail in every row."""
    accepted = {
        anchor
        for case in load().values()
        if case.expected["verdict"] == "accepted"
        for anchor in case.anchors
    }

    assert accepted == ROWS


def test_every_row_has_a_case_that_is_not_accepted() -> None:
    attacks = {
        anchor
        for case in load().values()
        if case.expected["verdict"] != "accepted"
        for anchor in case.anchors
    }

    assert attacks == ROWS


def test_patch_that_does_not_fit_is_refused() -> None:
    named = next(
        case.input["log"]
        for case in load().values()
        if case.kind == "firmware-log" and "patches" not in case.input["log"]
    )

    with pytest.raises(ValueError, match="does not fit"):
        octets({**named, "patches": [{"offset": 10**9, "delete": 0, "insert": ""}]})
    with pytest.raises(ValueError, match="not the file"):
        octets({**named, "sha256": "00" * 32})
