"""Kind ``tcg-csr``: read the request, hold it against the line's list, prove its keys, make it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from attestation.ek.certificate import parse_maker_certificate
from attestation.tpm.csr_idevid import parse
from tests.conformance.cases import octets
from tests.conformance.run.bench import NOW, moment
from tests.conformance.run.outcome import Outcome
from tests.simulators.soft_ca import soft_ca
from verifier.endorsement.vendor_roots import VendorRoots
from verifier.errors import Conflict
from verifier.issuance.manufacture import EkTerms, judge_manufacture
from verifier.keys.journal import FileJournal
from verifier.services.manufacture import LineTerms, ManufacturingLine
from verifier.sources import SystemEntropy


@dataclass(frozen=True, slots=True)
class _StoppedClock:
    at: datetime

    def now(self) -> datetime:
        return self.at


def run(given: Mapping[str, Any]) -> Outcome:
    """Judge one request; a refusal is raised."""
    ek = given.get("ek")
    inventory = given.get("inventory")
    terms = LineTerms(
        inventory=None if inventory is None else frozenset(inventory),
        ek=None if ek is None else _terms(ek["roots"]),
        activation=given.get("activation", False),
    )
    at = NOW if ek is None else moment(ek["at"])
    if "made" in given:
        return _made(given, terms, at)
    judge_manufacture(
        parse(octets(given["request"])),
        inventory=terms.inventory,
        ek=terms.ek,
        at=None if terms.ek is None else at,
    )
    return Outcome(verdict="accepted")


def _made(given: Mapping[str, Any], terms: LineTerms, at: datetime) -> Outcome:
    """Grant what was granted before, then ask a line that has just been started again."""
    with tempfile.TemporaryDirectory() as folder:
        for earlier in given["made"]:
            _issue(Path(folder), terms, at, octets(earlier))
        try:
            _issue(Path(folder), terms, at, octets(given["request"]))
        except Conflict as taken:
            code = frozenset({taken.code.value})
            return Outcome(verdict="refused", codes=code, told=code, detail=taken.reason)
    return Outcome(verdict="accepted")


def _issue(folder: Path, terms: LineTerms, at: datetime, request: bytes) -> None:
    with FileJournal(folder / "journal") as journal:
        line = ManufacturingLine(
            issuer=soft_ca(at),
            journal=journal,
            terms=terms,
            clock=_StoppedClock(at),
            entropy=SystemEntropy(),
        )
        line.issue(request)


def _terms(roots: list[Any]) -> EkTerms:
    makers = tuple(parse_maker_certificate(octets(der)) for der in roots)
    return EkTerms(roots=VendorRoots(roots=makers), required=True)
