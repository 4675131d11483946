"""Kind ``tcg-csr``: read the request, hold it against the line's list, prove its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attestation.ek.certificate import parse_maker_certificate
from attestation.tpm.csr_idevid import parse
from tests.conformance.cases import octets
from tests.conformance.run.bench import moment
from tests.conformance.run.outcome import Outcome
from verifier.endorsement.vendor_roots import VendorRoots
from verifier.issuance.manufacture import EkTerms, judge_manufacture


def run(given: Mapping[str, Any]) -> Outcome:
    """Judge one request; a refusal is raised."""
    terms = given.get("ek")
    inventory = given.get("inventory")
    judge_manufacture(
        parse(octets(given["request"])),
        inventory=None if inventory is None else frozenset(inventory),
        ek=None if terms is None else _terms(terms["roots"]),
        at=None if terms is None else moment(terms["at"]),
    )
    return Outcome(verdict="accepted")


def _terms(roots: list[Any]) -> EkTerms:
    makers = tuple(parse_maker_certificate(octets(der)) for der in roots)
    return EkTerms(roots=VendorRoots(roots=makers), required=True)
