"""Kind ``token-proof``: a DPoP proof for an agent's fresh token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attestation.identity import DeviceId, agent_name
from attestation.wire.dpop import verify_proof
from attestation.wire.jwk import key_of
from tests.conformance.generate.agents import NAME
from tests.conformance.generate.freshness import DEVICE, authority
from tests.conformance.run.bench import moment
from tests.conformance.run.outcome import Outcome
from verifier.issuance.agents import agent_subject


def run(given: Mapping[str, Any]) -> Outcome:
    """Judge one proof and the challenge that it answers; a refusal is raised."""
    at = moment(given["at"])
    nonce = verify_proof(given["proof"], key_of(given["key"]), target=given["target"], at=at)
    authority().open(nonce, agent_subject(DeviceId(DEVICE), agent_name(NAME)), at)
    return Outcome(verdict="accepted")
