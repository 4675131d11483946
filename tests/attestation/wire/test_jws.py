"""JWS with a closed header: one reading, one writing, one algorithm for a key."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import AttestationError, MalformedInput
from attestation.refusals import RefusalCode
from attestation.wire.jwk import algorithm_of
from attestation.wire.jws import UnverifiedJws, read_jws
from tests.attestation.wire.test_jwk import ED, P256, P384, RSA
from tests.simulators.soft_jose import PrivateKey, b64, jws, jws_text

KIND = "example+jwt"
HEADER = {"alg": "ES256", "typ": KIND, "kid": "one"}
CLAIMS = {"sub": "x"}
TOKEN = jws(HEADER, CLAIMS, P256)


def wrong(reason: str) -> AttestationError:
    return MalformedInput(RefusalCode.WORKLOAD_TOKEN_MALFORMED, reason)


def read(token: str, limit: int = 4096) -> UnverifiedJws:
    return read_jws(token, kind=KIND, limit=limit, wrong=wrong)


@pytest.mark.parametrize("key", [P256, P384, ED, RSA], ids=["p256", "p384", "ed25519", "rsa"])
def test_signature_of_each_kind_of_key_holds_under_it_alone(key: PrivateKey) -> None:
    token = read(jws({**HEADER, "alg": algorithm_of(key.public_key())}, CLAIMS, key))

    assert token.claims == CLAIMS
    assert token.signed_by(key.public_key())
    for other in {P256, P384, ED, RSA} - {key}:
        assert not token.signed_by(other.public_key())


def test_key_signs_with_its_own_algorithm_only() -> None:
    """A P-384 key under the name of ES256, and the public key as an HMAC secret."""
    for algorithm in ("ES256", "HS256", "none", "ES256K"):
        token = read(jws({**HEADER, "alg": algorithm}, CLAIMS, P384))
        assert not token.signed_by(P384.public_key())


def test_kid_may_be_left_out() -> None:
    assert read(jws({"alg": "ES256", "typ": KIND}, CLAIMS, P256)).kid == ""


def test_every_change_of_one_character_is_seen() -> None:
    for place in range(len(TOKEN)):
        for other in "A_.":
            if TOKEN[place] == other:
                continue
            changed = TOKEN[:place] + other + TOKEN[place + 1 :]
            try:
                found = read(changed)
            except MalformedInput:
                continue
            assert not found.signed_by(P256.public_key()), place


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "compact"),
        ("a.b", "compact"),
        (TOKEN + ".x", "compact"),
        (TOKEN + "=", "base64url"),
        (TOKEN.replace(".", "!.", 1), "base64url"),
        (TOKEN + "é", "compact"),
        (jws_text("[]", "{}", P256), "no JSON object"),
        (jws_text(json.dumps(HEADER), '"x"', P256), "no JSON object"),
        (jws_text(json.dumps(HEADER), '{"a":1,"a":2}', P256), "cannot be read"),
        (jws_text("{", "{}", P256), "cannot be read"),
        (jws({**HEADER, "crit": ["exp"]}, CLAIMS, P256), "crit"),
        (jws({**HEADER, "jwk": {}}, CLAIMS, P256), "jwk"),
        (jws({**HEADER, "typ": "JWT"}, CLAIMS, P256), "typ"),
        (jws({**HEADER, "typ": KIND.upper()}, CLAIMS, P256), "typ"),
        (jws({"alg": "ES256", "kid": "one"}, CLAIMS, P256), "typ"),
        (jws({**HEADER, "alg": 5}, CLAIMS, P256), "no text"),
        (jws({**HEADER, "kid": []}, CLAIMS, P256), "no text"),
        (jws({"typ": KIND}, CLAIMS, P256), "no text"),
    ],
)
def test_anything_else_is_refused(token: str, why: str) -> None:
    with pytest.raises(MalformedInput, match=why):
        read(token)


def test_longer_than_the_limit_is_not_read() -> None:
    read(TOKEN, limit=len(TOKEN))
    with pytest.raises(MalformedInput, match="at most"):
        read(TOKEN, limit=len(TOKEN) - 1)


def test_spare_bits_of_base64_are_refused() -> None:
    """One signature has one writing: no second token with the same meaning."""
    token = jws_text(json.dumps(HEADER), '{"a":1}', P256)
    last = token.split(".")[1][-1]
    assert len(b64(b'{"a":1}')) % 4 == 2
    head, claims, made = token.split(".")
    with pytest.raises(MalformedInput, match="without padding"):
        read(f"{head}.{claims[:-1]}{chr(ord(last) + 1)}.{made}")


@given(st.text(max_size=60) | st.text("abcdefAZ09-_.=", max_size=200))
@settings(max_examples=200)
def test_hostile_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(MalformedInput):
        read(text)


def test_elliptic_keys_of_tests_are_fixed() -> None:
    """So that a failure can be looked at again."""
    assert isinstance(P256, ec.EllipticCurvePrivateKey)
    assert jws(HEADER, CLAIMS, P256) == TOKEN
