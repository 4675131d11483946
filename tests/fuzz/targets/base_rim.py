"""Base RIMs of PC Clients: their signature, and what stands in a tag that nobody signed."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import AttestationError
from verifier.reference_values.corim_sets import load_signer
from verifier.reference_values.rim import match_support, read_base_rim
from verifier.reference_values.rim_signature import _parse, _plain, open_signed_tag

_PEM = (
    ec.derive_private_key(1, ec.SECP256R1())
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
_SIGNER = load_signer(_PEM, "signer", datetime(2026, 5, 1, tzinfo=UTC))


def run(data: bytes) -> None:
    """Read hostile bytes."""
    with suppress(AttestationError):
        open_signed_tag(data, [_SIGNER])
    match_support(read_base_rim(_plain(_parse(data))), {"box.rimel": data})
