"""Proofs of possession as our device makes them, with every kind of key that tokens name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from attestation.errors import MalformedInput
from attestation.limits import MAX_TOKEN_PROOF_CHARS
from attestation.refusals import RefusalCode as Code
from attestation.wire.dpop import make_proof, verify_proof
from tests.simulators.soft_jose import PrivateKey, signature, taken_apart

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
TARGET = "https://verifier.example:8443/enrol/v1/agents/planner/tokens"
NONCE = bytes(range(56))

KEYS: dict[str, PrivateKey] = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "RS256": rsa.generate_private_key(65537, 2048),
}


def proof(key: PrivateKey, nonce: bytes = NONCE) -> str:
    return make_proof(
        key.public_key(),
        lambda message: signature(key, message),
        target=TARGET,
        nonce=nonce,
        at=AT,
    )


@pytest.mark.parametrize("algorithm", KEYS)
def test_proof_by_every_kind_of_key_holds_and_gives_the_nonce(algorithm: str) -> None:
    key = KEYS[algorithm]
    made = proof(key)

    assert verify_proof(made, key.public_key(), target=TARGET, at=AT) == NONCE
    header, claims, _ = taken_apart(made)
    assert header.keys() == {"typ", "alg", "jwk"}
    assert (header["typ"], header["alg"]) == ("dpop+jwt", algorithm)
    assert claims["htm"] == "POST"
    assert claims["iat"] == int(AT.timestamp())


def test_each_challenge_makes_another_jti_that_does_not_tell_it() -> None:
    key = KEYS["ES256"]
    names = [taken_apart(proof(key, nonce))[1]["jti"] for nonce in (bytes(56), NONCE)]
    assert names[0] != names[1]


def test_longer_proof_than_any_key_makes_is_not_read() -> None:
    with pytest.raises(MalformedInput) as refused:
        verify_proof(
            "a" * (MAX_TOKEN_PROOF_CHARS + 1), KEYS["ES256"].public_key(), target=TARGET, at=AT
        )
    assert refused.value.code is Code.TOKEN_PROOF_MALFORMED
