"""Each import contract is seen to bite: a fault is planted in a copy of the tree.

All faults are planted at once and linted once; each test looks under its own contract's heading.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tools.tracked import ROOT

PACKAGES = ("attestation", "device_agent", "verifier")
CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
}

PLANTED = {
    "house": ("device_agent/collector.py", "verifier.appraisal.freshness"),
    "vocabulary-floors": ("attestation/pcr.py", "attestation.wire.strict_cbor"),
    "agent-floors": ("device_agent/ports.py", "device_agent.daemon"),
    "verifier-floors": ("verifier/appraisal/freshness.py", "verifier.store.tables"),
    "pure": ("attestation/tpm/attest.py", "time"),
    "tpm-stack": ("device_agent/notify.py", "tpm2_pytss"),
    "database": ("verifier/ports.py", "sqlalchemy"),
    "agent-wiring": ("device_agent/loop.py", "device_agent.sources.host"),
    "verifier-wiring": ("verifier/api/door.py", "verifier.policy_engine.rego"),
    "cbor": ("device_agent/notify.py", "cbor2"),
    "xml": ("device_agent/notify.py", "lxml"),
}


def lint(tree: Path) -> str:
    """Lint a tree; return the report as plain text."""
    run = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=tree,
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tree), "COLUMNS": "200", "NO_COLOR": "1"},
    )
    return run.stdout + run.stderr


def copy_of_the_house(target: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", target)
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return target


def module_of(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


@pytest.fixture(scope="module")
def report_with_faults(tmp_path_factory: pytest.TempPathFactory) -> str:
    tree = copy_of_the_house(tmp_path_factory.mktemp("house"))
    for path, imported in PLANTED.values():
        with (tree / path).open("a") as module:
            module.write(f"\n\nimport {imported}\n")
    for package in PACKAGES:
        (tree / package / "utils.py").write_text('"""A drawer for everything."""\n')
    return lint(tree)


def section(report: str, contract: str) -> str:
    """Return what the report says under one broken contract's heading."""
    _, _, details = report.partition("Broken contracts")
    parts = re.split(r"(?m)^(.+)\n-{5,}$", details)
    return dict(zip(parts[1::2], parts[2::2], strict=True)).get(CONTRACTS[contract], "")


def test_house_as_it_stands_keeps_every_contract(tmp_path: Path) -> None:
    report = lint(copy_of_the_house(tmp_path))

    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in report, report


def test_every_contract_has_a_planted_fault() -> None:
    assert sorted(PLANTED) == sorted(CONTRACTS)


@pytest.mark.parametrize("contract", PLANTED)
def test_contract_bites(report_with_faults: str, contract: str) -> None:
    path, imported = PLANTED[contract]

    assert f"{module_of(path)} -> {imported}" in section(report_with_faults, contract)


@pytest.mark.parametrize(
    ("contract", "package"),
    [
        ("vocabulary-floors", "attestation"),
        ("agent-floors", "device_agent"),
        ("verifier-floors", "verifier"),
    ],
)
def test_room_that_nobody_decided_on_is_refused(
    report_with_faults: str, contract: str, package: str
) -> None:
    assert f"- {package}.utils" in section(report_with_faults, contract)
