"""Which runner takes which kind of case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.conformance.cases import Case
from tests.conformance.run import (
    agents,
    clouds,
    endorsement_keys,
    enrolments,
    logs,
    manufacture,
    passports,
    quotes,
    runtime,
    sequences,
    site,
    token_proofs,
)
from tests.conformance.run.outcome import Outcome, attempt

RUNNERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Outcome]]] = {
    "quote": quotes.run,
    "firmware-log": logs.run,
    "evidence-sequence": sequences.run,
    "enrolment": enrolments.run,
    "attested-csr": enrolments.run_csr,
    "ek-certificate": endorsement_keys.run_certificate,
    "activation": endorsement_keys.run_activation,
    "ima-list": runtime.run,
    "tcg-csr": manufacture.run,
    "agent": agents.run,
    "token-proof": token_proofs.run,
    "cloud-statement": clouds.run,
    "initial-trust": clouds.run_expression,
    "passport": passports.run,
    "http": site.run,
}
"""Kind to runner."""


def run_case(case: Case) -> Outcome:
    """Run one case against this verifier."""
    return attempt(lambda: RUNNERS[case.kind](case.input))


def faults(case: Case, said: Outcome) -> list[str]:
    """Return in what way an answer is not the one expected; empty for a good answer."""
    wanted = case.expected
    found = []
    if said.verdict != wanted["verdict"]:
        found.append(f"verdict is {said.verdict}, wanted {wanted['verdict']}: {said.detail}")
    code = wanted["code"]
    if code is not None and code not in said.codes:
        found.append(f"codes are {sorted(said.codes)}, wanted {code}: {said.detail}")
    if code is None and wanted["verdict"] == "accepted" and said.codes:
        found.append(f"codes are {sorted(said.codes)}, wanted none")
    found += [
        f"{note} is not told, only {sorted(said.told)}"
        for note in wanted.get("told", ())
        if note not in said.told
    ]
    if "pcr" in wanted and wanted["pcr"] not in said.pcrs:
        found.append(f"PCR {sorted(said.pcrs)} accused, wanted {wanted['pcr']}")
    facts = dict(said.facts)
    found += [
        f"fact {name} is {facts.get(name)!r}, wanted {value!r}"
        for name, value in wanted.get("facts", {}).items()
        if facts.get(name) != value
    ]
    return found
