"""`make setup` and `.ci/run`: tested with stand-in programs on PATH, so nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tools.tracked import ROOT


def program(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with only what set-up reads, and programs that pretend all is installed."""
    tree = tmp_path / "checkout"
    (tree / "deploy").mkdir(parents=True)
    for name in ("deploy/setup.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tree / name)
    fakes = tmp_path / "bin"
    program(fakes, "dpkg-query", "printf installed")
    program(fakes, "apt-get", 'echo "$DEBIAN_FRONTEND apt-get $*" >>"$CALLS"')
    program(fakes, "sudo", "exit 1")
    program(fakes, "id", "echo 0")
    interpreter = 'case "$*" in *venv*--clear*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;; esac'
    program(fakes, "python3.11", f'echo "python $*" >>"$CALLS"\n{interpreter}')
    return tree


def set_up(tree: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run set-up; return how it ended and what it called."""
    calls = tree.parent / "calls"
    calls.write_text("")
    run = subprocess.run(
        ["sh", "deploy/setup.sh"],
        cwd=tree,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={
            "PATH": f"{tree.parent / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(calls),
            **environment,
        },
    )
    return run, calls.read_text()


def test_setup_builds_the_environment_from_the_lock_and_touches_no_package_that_is_there(
    checkout: Path,
) -> None:
    run, calls = set_up(checkout)

    assert run.returncode == 0, run.stderr
    assert "apt-get" not in calls
    assert "python -m venv --clear .venv" in calls
    assert "-m pip install -qq --editable .[dev]" in calls


def test_second_setup_does_nothing_and_says_nothing(checkout: Path) -> None:
    set_up(checkout)

    began = time.monotonic()
    run, calls = set_up(checkout)

    assert time.monotonic() - began < 1
    assert (run.returncode, run.stdout, run.stderr, calls) == (0, "", "", "")


@pytest.mark.parametrize("changed", ["deploy/setup.sh", "pyproject.toml", "constraints.txt"])
def test_changed_input_makes_setup_run_again(checkout: Path, changed: str) -> None:
    set_up(checkout)
    with (checkout / changed).open("a") as file:
        file.write("# changed\n")

    _, calls = set_up(checkout)

    assert "pip install" in calls


def test_failed_installation_is_not_taken_for_done(checkout: Path) -> None:
    fakes = checkout.parent / "bin"
    good = (fakes / "python3.11").read_text()
    program(fakes, "python3.11", good + 'case "$*" in *pip*install*) exit 1;; esac')

    assert set_up(checkout)[0].returncode != 0
    assert set_up(checkout)[0].returncode != 0


def test_missing_packages_are_installed_without_a_question(checkout: Path) -> None:
    fake = 'case "$*" in *swtpm) exit 1;; esac; printf installed'
    program(checkout.parent / "bin", "dpkg-query", fake)

    run, calls = set_up(checkout)

    assert run.returncode == 0, run.stderr
    asked = [line for line in calls.splitlines() if "install" in line and "apt-get" in line]
    assert asked == ["noninteractive apt-get install -qq -y --no-install-recommends swtpm"]
    assert "swtpm" in run.stderr


def test_missing_packages_without_rights_end_with_the_command_to_run(checkout: Path) -> None:
    program(checkout.parent / "bin", "dpkg-query", "exit 1")
    program(checkout.parent / "bin", "id", "echo 1000")

    run, calls = set_up(checkout)

    assert run.returncode != 0
    assert "sudo apt-get install --no-install-recommends build-essential" in run.stderr
    assert calls == ""


def test_absent_python_ends_with_what_to_do(checkout: Path) -> None:
    run, _ = set_up(checkout, PYTHON="/bin/false", SETUP_SKIP_PACKAGES="1")

    assert run.returncode != 0
    assert "no Python 3.11 or newer with the venv module among: /bin/false" in run.stderr
    assert "apt-get install python3 python3-venv" in run.stderr


def test_setup_leaves_standard_output_to_the_target_that_needs_it(checkout: Path) -> None:
    run, _ = set_up(checkout)

    assert run.stdout == ""
    assert "setup: ready" in run.stderr


@pytest.mark.parametrize(("failing", "seen"), [("none", 3), ("check", 1), ("test", 2), ("fuzz", 3)])
def test_ci_runs_checks_tests_and_fuzzing_and_stops_at_the_first_error(
    tmp_path: Path, failing: str, seen: int
) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    program(tmp_path / "bin", "make", f'echo "$1" >>"$CALLS"; [ "$1" != {failing} ]')
    calls = tmp_path / "calls"

    run = subprocess.run(
        [tmp_path / ".ci/run"],
        check=False,
        capture_output=True,
        env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(calls)},
    )

    assert calls.read_text().split() == ["check", "test", "fuzz"][:seen]
    assert (run.returncode == 0) == (failing == "none")
