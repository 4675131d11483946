"""Kind ``tcg-csr``: read the request, prove its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attestation.tpm.csr_idevid import parse, prove_device_keys
from tests.conformance.cases import octets
from tests.conformance.run.outcome import Outcome


def run(given: Mapping[str, Any]) -> Outcome:
    """Judge one request; a refusal is raised."""
    prove_device_keys(parse(octets(given["request"])))
    return Outcome(verdict="accepted")
