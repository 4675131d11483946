"""Every kept input gives a value or one of our errors; every parser has a target."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attestation.errors import AttestationError
from tools.fuzz import CORPUS, MOST_BYTES, names
from tools.tracked import ROOT

INPUTS = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
MAX_CORPUS_BYTES = 1024 * 1024


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_kept_input_gives_a_value_or_one_of_our_errors(path: Path) -> None:
    target = importlib.import_module(f"tests.fuzz.targets.{path.parent.name}")

    with contextlib.suppress(AttestationError):
        target.run(path.read_bytes())


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert {path.parent.name for path in INPUTS} == set(names())


def test_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in INPUTS) < MAX_CORPUS_BYTES
    assert all(path.stat().st_size <= MOST_BYTES for path in INPUTS)


def test_seeds_written_twice_are_the_same(tmp_path: Path) -> None:
    """In two processes: neither a random signature nor the order of a set is in them."""
    said = [
        subprocess.run(
            [sys.executable, "-m", "tests.fuzz.seeds", str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]

    assert said[0] != "0 written\n"
    assert said[1] == "0 written\n"
    assert {path.name for path in tmp_path.iterdir()} <= set(names())


@pytest.mark.parametrize("target", names())
def test_empty_input_is_no_crash(target: str) -> None:
    with contextlib.suppress(AttestationError):
        importlib.import_module(f"tests.fuzz.targets.{target}").run(b"")


def test_finding_fails_the_run(tmp_path: Path) -> None:
    """The harness tells an error of ours from any other."""
    pytest.importorskip("atheris")
    code = (
        "import sys, types\n"
        "target = types.ModuleType('tests.fuzz.targets.broken')\n"
        "def run(data):\n"
        "    if data:\n"
        "        raise KeyError(data[0])\n"
        "target.run = run\n"
        "sys.modules['tests.fuzz.targets.broken'] = target\n"
        f"sys.argv = ['fuzz', 'broken', '-runs=20', '-artifact_prefix={tmp_path}/']\n"
        "from tests.fuzz.harness import main\n"
        "main()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode != 0
    assert "KeyError" in done.stderr + done.stdout
    assert list(tmp_path.iterdir())


def test_absent_target_is_told() -> None:
    pytest.importorskip("atheris")

    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.harness", "nowhere", "-runs=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 3
    assert "absent" in done.stderr
