"""The list of mutants keeps to the source and to the cases; ``make mutants`` tries it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.cases import load as load_cases
from tools.mutants import Edit, Mutant, attempt, load
from tools.tracked import ROOT

MUTANTS = load()


@pytest.mark.parametrize("mutant", MUTANTS, ids=[one.id for one in MUTANTS])
def test_text_to_find_still_stands_in_the_source_once(mutant: Mutant) -> None:
    for edit in mutant.edits:
        assert (ROOT / edit.file).read_text(encoding="utf-8").count(edit.find) == 1, edit.file
        assert edit.find != edit.replace


def test_every_case_has_a_mutant_and_every_mutant_has_cases() -> None:
    named = {name for mutant in MUTANTS for name in mutant.cases}

    assert named == set(load_cases())
    assert all(mutant.cases and mutant.edits for mutant in MUTANTS)
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)


def test_mutant_that_is_seen_turns_its_cases_red() -> None:
    (mutant,) = [one for one in MUTANTS if one.id == "tpm-magic"]

    assert attempt(mutant).killed


def test_mutant_that_changes_nothing_is_told() -> None:
    edit = Edit(file="attestation/pcr.py", find="PCR_COUNT: Final = 24", replace="PCR_COUNT = 24")
    tried = attempt(Mutant(id="idle", edits=(edit,), cases=("quote-magic-wrong",)))

    assert (tried.killed, tried.survived) == (False, ("quote-magic-wrong",))


def test_edit_that_no_longer_fits_is_told(tmp_path: Path) -> None:
    edit = Edit(file="attestation/pcr.py", find="no such line", replace="")
    tried = attempt(Mutant(id="lost", edits=(edit,), cases=("quote-magic-wrong",)))

    assert not tried.killed
    assert "0 times" in tried.fault
