"""Proves an AI agent's key to the verifier that is asked for a token over it (RFC 9449)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from attestation.tpm.public import parse_public
from attestation.wire.dpop import make_proof
from device_agent.ports import AgentKeys, WrappedKey

_P256_BYTES: Final = 32


def token_proof(
    keys: AgentKeys, key: WrappedKey, *, target: str, nonce: bytes, at: datetime
) -> str:
    """Return a proof by an agent's key (P-256) for one request.

    Args:
        keys: The TPM as it holds agents' keys.
        key: The agent's key.
        target: The URI that will be asked.
        nonce: The verifier's challenge.
        at: Now (aware).

    Raises:
        TpmError: If the TPM fails, or the key is not of this TPM.
    """

    def sign(message: bytes) -> bytes:
        signature = keys.sign_wrapped(key, hashlib.sha256(message).digest())
        numbers = decode_dss_signature(signature)
        return b"".join(number.to_bytes(_P256_BYTES) for number in numbers)

    public = parse_public(key.public).key
    return make_proof(public, sign, target=target, nonce=nonce, at=at)
