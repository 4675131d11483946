"""What is recorded of a certificate when it is issued."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.identity import DeviceId
from verifier.ports.credentials import CredentialKind, IssuedCertificate


def record_of(
    certificate: x509.Certificate,
    *,
    device: DeviceId,
    holder: str,
    profile: str,
    issuer: x509.Certificate,
    kind: CredentialKind = CredentialKind.DEVICE,
    agent: str = "",
) -> IssuedCertificate:
    """Return a certificate as the store keeps it.

    Args:
        certificate: As signed.
        device: Whose, or whose agent's.
        holder: The SPIFFE id in it.
        profile: The certificate profile.
        issuer: The CA certificate that issued it.
        kind: A device's or an agent's.
        agent: The agent's name.
    """
    der = certificate.public_bytes(Encoding.DER)
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return IssuedCertificate(
        sha256=hashlib.sha256(der).digest(),
        device=device,
        serial=certificate.serial_number,
        der=der,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        kind=kind,
        agent=agent,
        holder=holder,
        profile=profile,
        issuer_sha256=hashlib.sha256(issuer.public_bytes(Encoding.DER)).digest(),
        spki_sha256=hashlib.sha256(key).digest(),
    )


def issued_entry(
    certificate: IssuedCertificate,
    *,
    ear: bytes = b"",
    evidence: bytes = b"",
    owner: bytes = b"",
    proofs: Sequence[str] = (),
) -> dict[str, object]:
    """Return the entry of the issuance log: what the certificate rests on, by digest.

    Args:
        certificate: What is issued.
        ear: The attestation result (JWT) that it was issued on; empty without one.
        evidence: The evidence message behind that; empty without one.
        owner: The owner's signed binding; empty without one.
        proofs: Names of the proofs that were shown.
    """
    return {
        "certificate": certificate.sha256.hex(),
        "serial": f"{certificate.serial:x}",
        "holder": certificate.holder,
        "profile": certificate.profile,
        "issuer": certificate.issuer_sha256.hex(),
        "key": certificate.spki_sha256.hex(),
        "ear": _digest(ear),
        "evidence": _digest(evidence),
        "owner": _digest(owner),
        "proofs": list(proofs),
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if content else ""
