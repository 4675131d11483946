"""The table of all cases: id, verdict, code; as lines or as JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence

from tests.conformance.cases import Case, load
from tests.conformance.run import site
from tests.conformance.run.kinds import faults, run_case


def judge(case: Case) -> dict[str, object]:
    """Run one case; a fault of our own fails it too."""
    try:
        said = run_case(case)
    except Exception as error:  # noqa: BLE001 - whatever breaks, the other cases go on
        wrong = [f"{type(error).__name__}: {error}"]
        return _line(case, "failed", None, wrong)
    code = case.expected["code"]
    shown = code if code in said.codes else ", ".join(sorted(said.codes)) or None
    return _line(case, said.verdict, shown, faults(case, said))


def _line(case: Case, verdict: str, code: str | None, wrong: list[str]) -> dict[str, object]:
    return {
        "id": case.id,
        "anchors": list(case.anchors),
        "importance": case.importance,
        "verdict": verdict,
        "code": code,
        "as_expected": not wrong,
        "faults": wrong,
    }


def main(arguments: Sequence[str]) -> int:
    """Run the cases named, or all; 0 if every answer is the one expected."""
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("ids", nargs="*", help="case ids; all without any")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    given = parser.parse_args(arguments)
    cases = load()
    unknown = [name for name in given.ids if name not in cases]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the service's own log lines
            lines = [judge(cases[name]) for name in given.ids or cases]
    finally:
        site.close()
    failed = [line for line in lines if not line["as_expected"]]
    if given.json:
        print(json.dumps({"cases": lines, "failed": len(failed)}, indent=1))  # noqa: T201
    else:
        _print_table(lines)
    return 1 if failed else 0


def _print_table(lines: Sequence[dict[str, object]]) -> None:
    width = max(len(str(line["id"])) for line in lines)
    for line in lines:
        mark = "ok  " if line["as_expected"] else "FAIL"
        code = line["code"] or "-"
        print(f"{mark} {line['id']:{width}}  {line['verdict']:9}  {code}")  # noqa: T201
        for fault in line["faults"]:  # type: ignore[attr-defined]
            print(f"       {fault}")  # noqa: T201
    good = sum(1 for line in lines if line["as_expected"])
    print(f"{good} of {len(lines)} cases as expected")  # noqa: T201
