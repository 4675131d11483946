"""Signed EARs: whose key, which algorithm, which moment."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from attestation.errors import (
    AttestationError,
    LimitExceeded,
    MalformedInput,
    NotFresh,
    SignatureInvalid,
)
from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from attestation.wire.ear import Ear, verify_ear_jwt

AT = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
KEY = ec.derive_private_key(7, ec.SECP256R1())
OTHER = ec.derive_private_key(8, ec.SECP256R1())
WIDE = ec.derive_private_key(9, ec.SECP384R1())


def jwk(key: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, object]:
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid}


JWKS: dict[str, object] = {"keys": [jwk(OTHER, "older"), jwk(KEY, "now")]}


def payload(**changes: object) -> dict[str, object]:
    value: dict[str, object] = {
        "eat_profile": "tag:ietf.org,2026:rats/ear#03",
        "iat": int(AT.timestamp()),
        "exp": int(AT.timestamp()) + 300,
        "ear_verifier_id": {"developer": "d", "build": "b"},
        "submods": {"dev-1": {"ear_status": "affirming"}},
        **changes,
    }
    return {name: item for name, item in value.items() if item is not None}


def sign(
    claims: Mapping[str, object] | None = None,
    *,
    key: ec.EllipticCurvePrivateKey = KEY,
    alg: str = "ES256",
    **header: object,
) -> str:
    headers = {"kid": "now", **header}
    return jwt.encode(
        dict(claims or payload()),
        key,
        algorithm=alg,
        headers={name: value for name, value in headers.items() if value != ""},
    )


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_hand(header: Mapping[str, object], signature: bytes | None = None) -> str:
    """A token with any header, signed by KEY unless a signature is given."""
    body = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(payload()).encode())}"
    if signature is None:
        signature = ECAlgorithm(ECAlgorithm.SHA256).sign(body.encode(), KEY)
    return f"{body}.{b64(signature)}"


def verify(token: str, *, jwks: Mapping[str, object] = JWKS, at: datetime = AT) -> Ear:
    return verify_ear_jwt(token, jwks, at=at)


def refusal(token: str, **others: object) -> AttestationError:
    with pytest.raises(AttestationError) as caught:
        verify(token, **others)  # type: ignore[arg-type]
    return caught.value


def assert_unproven(token: str, **others: object) -> None:
    error = refusal(token, **others)
    assert isinstance(error, SignatureInvalid)
    assert error.code is RefusalCode.RESULT_SIGNATURE_INVALID


def test_a_signed_result_is_verified_by_the_key_its_kid_names() -> None:
    ear = verify(sign())

    assert ear.submods["dev-1"].status is TrustTier.AFFIRMING
    assert verify(sign(key=OTHER, kid="older")).issued_at == AT
    assert verify(by_hand({"alg": "ES256", "typ": "JWT", "kid": "now"})) == ear


def test_any_changed_character_is_refused() -> None:
    token = sign()

    for place, letter in enumerate(token):
        for other in {"A", "B", ".", "="} - {letter}:
            with pytest.raises(AttestationError):
                verify(token[:place] + other + token[place + 1 :])


def test_every_bit_of_the_signature_counts() -> None:
    head, _, text = sign().rpartition(".")
    signature = base64.urlsafe_b64decode(text + "==")

    for place in range(0, len(signature) * 8, 7):
        flipped = bytearray(signature)
        flipped[place // 8] ^= 1 << place % 8
        assert_unproven(f"{head}.{b64(bytes(flipped))}")


def test_another_spelling_of_the_same_signature_is_refused() -> None:
    """The last of 86 characters has four bits that no byte needs."""
    token = sign()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    sibling = alphabet[alphabet.index(token[-1]) ^ 1]

    assert refusal(token[:-1] + sibling).code is RefusalCode.RESULT_MALFORMED


@pytest.mark.parametrize("suffix", ["=", "==", "\n", " ", ".", ".AAAA"])
def test_a_token_with_something_behind_it_is_refused(suffix: str) -> None:
    with pytest.raises(AttestationError):
        verify(sign() + suffix)


def test_a_key_that_the_kid_does_not_name_is_refused() -> None:
    assert_unproven(sign(kid="older"))
    assert_unproven(sign(kid="nobody"))
    assert_unproven(sign(kid=""))


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "ES384", "", None, 3])
def test_no_other_algorithm_is_tried(alg: object) -> None:
    header = {"alg": alg, "typ": "JWT", "kid": "now"}

    assert_unproven(by_hand(header, b""))
    assert_unproven(by_hand(header))


def test_a_mac_keyed_with_our_public_key_is_refused() -> None:
    public = KEY.public_key()
    body = by_hand({"alg": "HS256", "typ": "JWT", "kid": "now"}).rpartition(".")[0]

    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(jwk(KEY, "now")).encode(),
    ):
        mac = hmac.new(secret, body.encode(), hashlib.sha256).digest()
        assert_unproven(f"{body}.{b64(mac)}")


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_a_key_inside_the_token_is_never_used(name: str) -> None:
    carried = jwk(OTHER, "now") if name == "jwk" else "https://attacker.example/"

    assert_unproven(sign(key=OTHER, **{name: carried}))
    assert_unproven(sign(**{name: carried}))


def test_a_critical_extension_is_refused() -> None:
    header = {"alg": "ES256", "typ": "JWT", "kid": "now"}

    assert_unproven(by_hand({**header, "b64": True, "crit": ["b64"]}))
    assert refusal(by_hand({**header, "crit": ["exp"]})).code is RefusalCode.RESULT_MALFORMED


@pytest.mark.parametrize("typ", ["jwt", "ear+jwt", "wimse-wit+jwt", "", None, "JWT "])
def test_another_type_of_token_is_refused(typ: str | None) -> None:
    header = {"alg": "ES256", "typ": typ, "kid": "now"}

    assert refusal(by_hand(header)).code is RefusalCode.RESULT_MALFORMED


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": b64(b"k" * 32)},
        {**jwk(WIDE, "now")},
        {**jwk(KEY, "now"), "use": "enc"},
        {**jwk(KEY, "now"), "x": "AAAA"},
        {"kty": "EC", "crv": "P-256"},
        {"kty": "EC", "crv": "P-256", "x": 1, "y": 2},
    ],
)
def test_a_key_that_is_no_p256_signature_key_is_not_used(key: dict[str, object]) -> None:
    assert_unproven(sign(), jwks={"keys": [{**key, "kid": "now"}]})


@pytest.mark.parametrize(
    "jwks",
    [
        {},
        {"keys": []},
        {"keys": None},
        {"keys": "now"},
        {"keys": ["now"]},
        {"keys": [jwk(KEY, "now"), jwk(OTHER, "now")]},
    ],
)
def test_a_key_set_that_does_not_name_one_key_proves_nothing(jwks: dict[str, object]) -> None:
    assert_unproven(sign(), jwks=jwks)


def test_a_result_lives_until_its_end_and_the_leeway() -> None:
    end = AT + timedelta(seconds=300)

    assert verify(sign(), at=end + timedelta(seconds=29)).expires_at == end
    error = refusal(sign(), at=end + timedelta(seconds=30))

    assert isinstance(error, NotFresh)
    assert error.code is RefusalCode.RESULT_EXPIRED


def test_a_result_from_the_future_is_refused_beyond_the_leeway() -> None:
    assert verify(sign(), at=AT - timedelta(seconds=30))

    error = refusal(sign(), at=AT - timedelta(seconds=31))

    assert isinstance(error, NotFresh)
    assert error.code is RefusalCode.RESULT_NOT_YET_VALID


def test_the_moment_is_the_callers_not_the_clocks() -> None:
    """Both lie far from any clock this test may run under."""
    for year in (1999, 2199):
        at = datetime(year, 1, 1, tzinfo=UTC)
        moment = int(at.timestamp())
        assert verify(sign(payload(iat=moment, exp=moment + 9)), at=at).issued_at == at


def test_the_leeway_is_the_callers() -> None:
    end = AT + timedelta(seconds=300)

    with pytest.raises(NotFresh):
        verify_ear_jwt(sign(), JWKS, at=end, leeway_s=0)
    assert verify_ear_jwt(sign(), JWKS, at=end - timedelta(microseconds=1), leeway_s=0)


def test_a_naive_moment_is_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="aware"):
        verify(sign(), at=AT.replace(tzinfo=None))


@pytest.mark.parametrize(
    "changes",
    [{"exp": None}, {"iat": None}, {"exp": "soon"}, {"submods": None}, {"ear_status": "none"}],
)
def test_a_signed_but_malformed_result_is_refused(changes: dict[str, object]) -> None:
    if changes == {"ear_status": "none"}:
        changes = {"ear_status": "none", "submods": {"d": {"ear_status": "warning"}}}

    assert refusal(sign(payload(**changes))).code is RefusalCode.RESULT_MALFORMED


@pytest.mark.parametrize("body", [b"[]", b"null", b"{", b"\xff", b"[" * 20_000])
def test_a_signed_body_that_is_no_object_is_refused(body: bytes) -> None:
    token = jwt.api_jws.encode(body, KEY, algorithm="ES256", headers={"kid": "now"})

    assert refusal(token).code is RefusalCode.RESULT_MALFORMED


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "é.é.é", "\ud800", "e30.e30.", b64(b"[" * 9999) + ".e30.AA"]
)
def test_something_else_than_a_token_is_refused(token: str) -> None:
    error = refusal(token)

    assert error.code in (RefusalCode.RESULT_MALFORMED, RefusalCode.RESULT_SIGNATURE_INVALID)
    assert isinstance(error, (MalformedInput, SignatureInvalid))


def test_a_token_above_its_size_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        verify("a" * (64 * 1024 + 1))


def test_audience_and_issuer_of_others_do_not_disturb() -> None:
    assert verify(sign(payload(aud="someone", iss="https://verifier.example")))
