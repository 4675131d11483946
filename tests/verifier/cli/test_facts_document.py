"""Boot facts as JSON: what docs/boot-facts.md names, in words, and nothing raw."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.command_line import runner

ROOT = Path(__file__).parents[3]
LOG = ROOT / "tests/data/keylime_keylime/create-mb-policy" / "binary_bios_measurements-secureboot"


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code, out, err = runner(monkeypatch, capfd)("eventlog", LOG, "--facts", "--json")
    assert (code, err) == (0, "")
    told: dict[str, Any] = json.loads(out)["facts"]["facts"]
    return told


def test_every_fact_of_the_documentation_is_told(facts: dict[str, Any]) -> None:
    text = (ROOT / "docs/boot-facts.md").read_text()
    table = text.partition("## Which facts")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert named <= facts.keys()
    assert facts.keys() - named == {"covered", "not_covered", "troubles", "quirks"}


@pytest.mark.parametrize(
    ("fact", "keys"),
    [
        ("images", ["kind", "digest", "path", "before_separator"]),
        ("boot_entries", ["number", "description", "path"]),
        ("authorities", ["variable", "digest", "subject", "before_separator"]),
        ("loader_files", ["name", "digest"]),
    ],
)
def test_facts_of_several_parts_name_them(
    facts: dict[str, Any], fact: str, keys: list[str]
) -> None:
    assert [list(one["value"]) for one in facts[fact]] == [keys] * len(facts[fact])
    assert facts[fact]


def test_commands_and_revocations_are_told_in_full(facts: dict[str, Any]) -> None:
    assert all(isinstance(one["value"], str) for one in facts["loader_commands"])
    assert len(facts["loader_commands"]) > 40
    dbx = facts["databases"]["dbx"]["value"]
    assert len(dbx["hashes"]) == 371
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in dbx["hashes"])
