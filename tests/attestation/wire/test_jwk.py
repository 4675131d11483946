"""Public keys as JWK, against the examples of the standards."""

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from attestation.wire.jwk import PublicKey, algorithm_of, key_of, public_jwk, thumbprint
from tests.simulators.soft_jose import b64

P256 = ec.derive_private_key(7, ec.SECP256R1())
P384 = ec.derive_private_key(9, ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RSA = rsa.generate_private_key(65537, 2048)
KEYS: list[PublicKey] = [one.public_key() for one in (P256, P384, ED, RSA)]

RFC7638 = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJ"
    "ECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Qvzq"
    "Y368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4l"
    "Fd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    "e": "AQAB",
}
"""RFC 7638, 3.1."""


@pytest.mark.parametrize("key", KEYS, ids=["p256", "p384", "ed25519", "rsa"])
def test_what_is_written_is_read(key: PublicKey) -> None:
    assert key_of(public_jwk(key)) == key
    assert key_of({**public_jwk(key), "kid": "one", "use": "sig"}) == key


def test_thumbprint_is_that_of_the_standard() -> None:
    assert thumbprint(key_of(RFC7638)) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_thumbprint_of_ed25519_is_that_of_the_standard() -> None:
    """RFC 8037, A.3."""
    x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"

    key = key_of({"kty": "OKP", "crv": "Ed25519", "x": x})

    assert thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize("key", KEYS, ids=["p256", "p384", "ed25519", "rsa"])
def test_another_implementation_reads_our_keys(key: PublicKey) -> None:
    assert jwt.PyJWK.from_json(json.dumps(public_jwk(key))).key == key


def test_each_kind_of_key_has_one_algorithm() -> None:
    assert [algorithm_of(key) for key in KEYS] == ["ES256", "ES384", "EdDSA", "RS256"]


@pytest.mark.parametrize(
    "key",
    [
        ec.derive_private_key(5, ec.SECP521R1()).public_key(),
        ec.derive_private_key(5, ec.SECP256K1()).public_key(),
    ],
)
def test_other_curves_are_refused(key: ec.EllipticCurvePublicKey) -> None:
    for use in (algorithm_of, public_jwk, thumbprint):
        with pytest.raises(ValueError, match="P-256"):
            use(key)


def test_short_rsa_is_refused() -> None:
    short = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - to be refused

    with pytest.raises(ValueError, match="2048"):
        public_jwk(short)


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        ({**public_jwk(KEYS[0]), "d": "AQAB"}, "private"),
        ({"kty": "oct", "k": b64(b"secret")}, "private"),
        ({}, "no JWK"),
        ({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, "no JWK"),
        ({**public_jwk(KEYS[0]), "x": public_jwk(KEYS[0])["x"] + "="}, "canonical|no JWK"),
        ({**public_jwk(KEYS[3]), "n": "AA" + public_jwk(KEYS[3])["n"]}, "canonical|no JWK"),
        ({**public_jwk(KEYS[0]), "crv": "P-384"}, "no JWK"),
        ({**public_jwk(KEYS[0]), "x": 5}, "no JWK"),
        ({"kty": ["EC"]}, "no JWK"),
    ],
)
def test_anything_else_is_refused(jwk: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        key_of(jwk)
