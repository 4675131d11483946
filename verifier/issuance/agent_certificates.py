"""The certificates of AI agents: below their device's identity, with what was proven of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from attestation.agent_certificate import AgentClaims, agent_extensions
from attestation.identity import AgentName, DeviceId
from verifier.issuance.certificate_profile import AGENT, CertificateProfile, HolderForm, Told
from verifier.issuance.profiles import Issuer, PublicKey, require_holder, spiffe_id, start_held

_NAME: Final = x509.ObjectIdentifier("2.5.4.41")
"""id-at-name (RFC 5280, appendix A.1)."""


def agent_spiffe_id(trust_domain: str, device: DeviceId, agent: AgentName) -> str:
    """Return the workload identity of an AI agent, below that of its device (SPIFFE-ID, 2)."""
    return f"{spiffe_id(trust_domain, device)}/agent/{agent}"


def agent_certificate(
    device: DeviceId,
    agent: AgentName,
    key: PublicKey,
    issuer: Issuer,
    *,
    claims: AgentClaims,
    trust_domain: str,
    serial: int,
    at: datetime,
    lifetime: timedelta,
    profile: CertificateProfile = AGENT,
) -> x509.Certificate:
    """Sign an AI agent's certificate below its device's identity.

    Its subject has no common name: whoever takes that for a user's name must not mistake an agent
    for a device. What the profile does not tell is left out.

    Args:
        device: Becomes the subject's organizational unit.
        agent: Becomes the subject's name (2.5.4.41).
        key: The certified key.
        issuer: The owner's CA.
        claims: What was proven of the agent.
        trust_domain: First part of the URI.
        serial: From :func:`certificate_serial`.
        at: Now (aware).
        lifetime: How long it lasts; never longer than the issuer's certificate.
        profile: What it may be used for and tells; of agents.

    Raises:
        ValueError: If the profile is of devices, or the certificate would last too short or long.
        InputError: If the claims cannot be written.
    """
    require_holder(profile, HolderForm.AGENT)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, device),
            x509.NameAttribute(_NAME, agent),
        ]
    )
    uri = agent_spiffe_id(trust_domain, device, agent)
    builder = start_held(subject, uri, key, issuer, serial, at, lifetime, profile)
    told = AgentClaims(
        owner=claims.owner if Told.OWNER in profile.extensions else "",
        capabilities=claims.capabilities if Told.CAPABILITIES in profile.extensions else (),
        locator=claims.locator if Told.LOCATOR in profile.extensions else "",
        validation_methods=claims.validation_methods
        if Told.VALIDATION_METHODS in profile.extensions
        else (),
    )
    for extension in agent_extensions(told):
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer.key, issuer.digest)
