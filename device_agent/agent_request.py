"""Builds an AI agent's request: whose key this is, in which TPM, on what machine, for whom.

What the class wants is shown, and nothing beside: each proof answers the same challenge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attestation.evidence import certify_qualifying_data
from attestation.wire.agent_codec import AgentRequest, certify_purpose, encode_agent
from attestation.wire.owner_binding import BindingRequest
from device_agent.agent_ports import AgentChallenge
from device_agent.agents import AgentRecord
from device_agent.collector import Sources, collect
from device_agent.errors import ProofUnknown
from device_agent.ports import AgentKeys

POP: Final = "pop"
RESIDENCY: Final = "residency"
EVIDENCE: Final = "evidence"
AIBOM: Final = "aibom"
PROVIDER_ENDORSEMENT: Final = "provider-endorsement"
OWNER_BINDING: Final = "owner-binding"
RESULT: Final = "result"
KNOWN: Final = frozenset(
    {POP, RESIDENCY, EVIDENCE, AIBOM, PROVIDER_ENDORSEMENT, OWNER_BINDING, RESULT}
)
_OF_EVIDENCE: Final = frozenset({EVIDENCE, AIBOM, PROVIDER_ENDORSEMENT})
_OF_AIBOM: Final = frozenset({AIBOM, PROVIDER_ENDORSEMENT})
CSR_COMMON_NAME: Final = "agent"
"""The verifier names the agent; what the request says here is not believed."""


def awaits_owner(record: AgentRecord, challenge: AgentChallenge) -> bool:
    """Say whether the owner must sign before this agent can be enrolled."""
    return OWNER_BINDING in challenge.proofs and not record.wish.owner_binding


def binding_request(record: AgentRecord, challenge: AgentChallenge) -> BindingRequest:
    """Return what the owner is to sign for this agent."""
    return BindingRequest(
        holder=challenge.agent_id,
        thumbprint=record.thumbprint,
        scope=record.wish.capabilities,
        nonce=challenge.owner_nonce,
    )


def build_agent_request(
    sources: Sources,
    keys: AgentKeys,
    record: AgentRecord,
    challenge: AgentChallenge,
    aibom_digest: Callable[[], bytes],
) -> bytes:
    """Build one request for a challenge.

    Args:
        sources: TPM, logs and host facts.
        keys: The TPM as it holds agents' keys.
        record: The agent.
        challenge: What to answer, and what is wanted.
        aibom_digest: Returns the SHA-256 of the AIBOM that the agent is measured against.

    Raises:
        ProofUnknown: If the class wants a proof that this program does not know.
        TpmError: If the TPM fails, or the key is not of this TPM.
        SourceUnreadable: If a log or the AIBOM cannot be read.
    """
    wanted = challenge.proofs
    if unknown := sorted(wanted - KNOWN):
        raise ProofUnknown(unknown)
    nonce = challenge.challenge.nonce
    purpose = certify_qualifying_data(nonce, certify_purpose(record.name))
    wish = record.wish
    return encode_agent(
        AgentRequest(
            agent=record.name,
            nonce=nonce,
            agent_public=record.key.public,
            csr=keys.csr_wrapped(record.key, CSR_COMMON_NAME, ()) if POP in wanted else b"",
            certify=keys.certify_wrapped(record.key, purpose) if RESIDENCY in wanted else None,
            evidence=_evidence(sources, challenge) if wanted & _OF_EVIDENCE else b"",
            aibom=aibom_digest() if wanted & _OF_AIBOM else b"",
            provider_endorsement=wish.provider_endorsement,
            owner_binding=wish.owner_binding,
            capabilities=wish.capabilities,
            locator=wish.locator,
            validation_methods=wish.validation_methods,
        )
    )


def _evidence(sources: Sources, challenge: AgentChallenge) -> bytes:
    return collect(
        sources,
        nonce=challenge.challenge.nonce,
        selections=challenge.challenge.selections,
        whole_log=True,
    )
