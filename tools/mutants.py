"""Show that each conformance case can fail: remove its check in a copy, and see it turn red.

``tests/conformance/mutants.toml`` lists the mutations. Each is applied to a copy of the tree in a
temporary folder; the cases named must then be judged wrongly, every one of them. A mutation that
leaves a case green means that the case proves nothing, and fails.

``python -m tools.mutants [--json] [ID …]``
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.tracked import ROOT

MUTANTS: Final = "tests/conformance/mutants.toml"
_NEEDED: Final = ("attestation", "device_agent", "verifier", "tests", "pyproject.toml")
_AT_ONCE: Final = 2
_TIMEOUT_S: Final = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One change of the source.

    Attributes:
        file: The file, from the root of the tree.
        find: Text that stands there exactly once.
        replace: What it becomes.
    """

    file: str
    find: str
    replace: str

    def apply(self, tree: Path) -> None:
        """Change the file in a tree.

        Raises:
            ValueError: If the text to find does not stand there exactly once.
            SyntaxError: If what comes out is no Python.
        """
        target = tree / self.file
        source = target.read_text(encoding="utf-8")
        seen = source.count(self.find)
        if seen != 1:
            raise ValueError(f"{self.file} holds the text to find {seen} times: {self.find!r}")
        changed = source.replace(self.find, self.replace)
        compile(changed, self.file, "exec")
        target.write_text(changed, encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One check removed; where several stand behind each other, all of them.

    Attributes:
        id: Its name.
        edits: The changes.
        cases: The cases that must turn red.
    """

    id: str
    edits: tuple[Edit, ...]
    cases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What became of one mutant; ``survived`` are the cases that stayed green."""

    mutant: Mutant
    survived: tuple[str, ...]
    fault: str = ""

    @property
    def killed(self) -> bool:
        """Whether every case saw it."""
        return not self.survived and not self.fault


def load(root: Path = ROOT) -> tuple[Mutant, ...]:
    """Read the list of mutants."""
    table = tomllib.loads((root / MUTANTS).read_text(encoding="utf-8"))
    return tuple(
        Mutant(
            id=one["id"],
            edits=tuple(Edit(**edit) for edit in one["edit"]),
            cases=tuple(one["cases"]),
        )
        for one in table["mutant"]
    )


@contextmanager
def copied_tree(root: Path = ROOT) -> Iterator[Path]:
    """Give a copy of what the cases need, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        copy = Path(name)
        for part in _NEEDED:
            source = root / part
            if source.is_dir():
                shutil.copytree(
                    source, copy / part, ignore=shutil.ignore_patterns("__pycache__", "corpus")
                )
            else:
                shutil.copy2(source, copy / part)
        yield copy


def run_cases(tree: Path, cases: Sequence[str]) -> dict[str, bool]:
    """Run cases in a tree; tell for each whether it was judged as expected.

    Raises:
        RuntimeError: If the runner itself gave no document.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance.run", "--json", *cases],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )
    try:
        document = json.loads(done.stdout)
    except ValueError as error:
        raise RuntimeError(f"the cases did not run: {done.stderr[-600:]}") from error
    return {one["id"]: one["as_expected"] for one in document["cases"]}


def attempt(mutant: Mutant) -> Tried:
    """Apply one mutant to a copy and run its cases there."""
    with copied_tree() as tree:
        try:
            for edit in mutant.edits:
                edit.apply(tree)
            green = run_cases(tree, mutant.cases)
        except (OSError, ValueError, SyntaxError, RuntimeError) as error:
            return Tried(mutant=mutant, survived=(), fault=str(error))
        except subprocess.TimeoutExpired:
            return Tried(mutant=mutant, survived=(), fault=f"no answer in {_TIMEOUT_S} s")
    survived = tuple(name for name in mutant.cases if green[name])
    return Tried(mutant=mutant, survived=survived)


def main(arguments: Sequence[str]) -> int:
    """Try the mutants named, or all; 0 if every case saw its own."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("ids", nargs="*", help="mutant ids; all without any")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    given = parser.parse_args(arguments)
    mutants = [one for one in load() if not given.ids or one.id in given.ids]
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as workers:
        tried = list(workers.map(attempt, mutants))
    if given.json:
        print(
            json.dumps(
                [
                    {
                        "id": one.mutant.id,
                        "killed": one.killed,
                        "cases": list(one.mutant.cases),
                        "survived": list(one.survived),
                        "fault": one.fault,
                    }
                    for one in tried
                ],
                indent=1,
            )
        )
    else:
        _print_table(tried)
    return 0 if tried and all(one.killed for one in tried) else 1


def _print_table(tried: Sequence[Tried]) -> None:
    width = max((len(one.mutant.id) for one in tried), default=0)
    for one in tried:
        mark = "red  " if one.killed else "GREEN"
        places = ", ".join(dict.fromkeys(edit.file for edit in one.mutant.edits))
        print(f"{mark} {one.mutant.id:{width}}  {len(one.mutant.cases):3} cases  {places}")
        for name in one.survived:
            print(f"        {name} did not notice")
        if one.fault:
            print(f"        {one.fault}")
    killed = sum(1 for one in tried if one.killed)
    print(f"{killed} of {len(tried)} mutants were seen by every case named")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
