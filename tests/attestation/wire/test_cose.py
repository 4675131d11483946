"""COSE_Sign1: only what a trusted key signed, in the way the protected header says."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from attestation.errors import InputError, MalformedInput, SignatureInvalid, Unsupported
from attestation.refusals import RefusalCode
from attestation.wire.cose import UnverifiedSign1, parse_sign1, verify_sign1
from attestation.wire.strict_cbor import CborKey, CborValue, Tagged, decode, encode
from tests.simulators.corim_press import PrivateKey, protected_header, sign, signed

P256, P384, P521 = (ec.generate_private_key(curve()) for curve in (
    ec.SECP256R1, ec.SECP384R1, ec.SECP521R1
))  # fmt: skip
ED25519 = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048)


def read(raw: bytes) -> UnverifiedSign1:
    value = decode(
        raw, limit_bytes=2**20, structure="test", integer_keys=True, tags=frozenset({18, 501})
    )
    return parse_sign1(value, understood=frozenset({8}))


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (P256, -7),
        (P256, -9),
        (P384, -35),
        (P384, -51),
        (P521, -36),
        (P521, -52),
        (ED25519, -8),
        (ED25519, -19),
        (RSA, -37),
        (RSA, -38),
        (RSA, -39),
    ],
)
def test_signature_is_checked(key: PrivateKey, algorithm: int) -> None:
    message = read(signed(key, b"payload", algorithm=algorithm))

    verify_sign1(message, key.public_key())

    assert message.payload == b"payload"
    for stranger in (ec.generate_private_key(ec.SECP256R1()), P384, ED25519, RSA):
        if stranger is not key:
            with pytest.raises(SignatureInvalid) as refused:
                verify_sign1(message, stranger.public_key())
            assert refused.value.code in {
                RefusalCode.CORIM_SIGNATURE_INVALID,
                RefusalCode.UNSUPPORTED_ALGORITHM,
            }


def test_every_byte_of_payload_header_and_signature_counts() -> None:
    raw = signed(P256, b"payload")
    for what in (b"payload", b"application/rim+cbor", b"ACME"):
        changed = raw.replace(what, what[:-1] + bytes([what[-1] ^ 1]))
        with pytest.raises(SignatureInvalid):
            verify_sign1(read(changed), P256.public_key())
    with pytest.raises(SignatureInvalid):
        verify_sign1(read(raw[:-1] + bytes([raw[-1] ^ 1])), P256.public_key())


def test_algorithm_is_bound_to_its_curve() -> None:
    """A P-384 key's signature under SHA-256 must not pass as ES256, whatever verifies."""
    message = read(signed(P256, b"payload", algorithm=-7))

    with pytest.raises(SignatureInvalid, match="secp256r1"):
        verify_sign1(message, P384.public_key())


@pytest.mark.parametrize("algorithm", [0, -6, 5, -257, -65535, -47])
def test_other_algorithms_are_not_taken(algorithm: int) -> None:
    header = encode(protected_header(algorithm))
    raw = encode(Tagged(18, [header, {}, b"payload", bytes(64)]))

    with pytest.raises(Unsupported) as caught:
        verify_sign1(read(raw), P256.public_key())
    assert caught.value.code is RefusalCode.UNSUPPORTED_ALGORITHM


def test_signature_of_another_size_is_refused() -> None:
    header = encode(protected_header())
    signature = sign(P256, -7, encode(["Signature1", header, b"", b"payload"]))
    raw = encode(Tagged(18, [header, {}, b"payload", b"\x00" + signature]))

    with pytest.raises(SignatureInvalid, match="65 bytes"):
        verify_sign1(read(raw), P256.public_key())


def test_weak_rsa_key_is_refused() -> None:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - what is refused

    with pytest.raises(SignatureInvalid, match="1024"):
        verify_sign1(read(signed(weak, b"payload", algorithm=-37)), weak.public_key())


@pytest.mark.parametrize(
    ("protected", "unprotected", "named"),
    [
        (protected_header(label_1=None), {}, "names no algorithm"),
        (protected_header(label_1=None), {1: -7}, "nothing protects"),
        (protected_header(), {1: -7}, "nothing protects"),
        (protected_header(label_1="ES256"), {}, "a number"),
        (protected_header(), {2: [8]}, "nothing protects"),
        (protected_header(), {3: "application/rim+cbor"}, "twice"),
        (protected_header(label_2=[8, 99], label_99=1), {}, "critical"),
        (protected_header(label_2=[15]), {}, "critical"),
        (protected_header(label_2=[]), {}, "critical"),
        (protected_header(label_2=[[8]]), {}, "critical"),
        (protected_header(label_2=8), {}, "critical"),
        (protected_header(label_258=-16), {}, "hash envelope"),
        (protected_header(label_3=[1]), {}, "content type"),
        (protected_header(label_4="kid"), {}, "key id"),
        (protected_header(label_4=bytes(257)), {}, "key id"),
    ],
)
def test_header_that_could_mean_another_thing_is_refused(
    protected: dict[CborKey, CborValue], unprotected: dict[CborKey, CborValue], named: str
) -> None:
    with pytest.raises(MalformedInput, match=named):
        read(signed(P256, b"payload", protected=protected, unprotected=unprotected))


def test_known_critical_label_and_hints_are_taken() -> None:
    header = protected_header(label_2=[1, 8])

    message = read(signed(P256, b"payload", protected=header, unprotected={4: b"kid", 33: b"x5"}))

    verify_sign1(message, P256.public_key())
    assert message.key_id == b"kid"


@pytest.mark.parametrize(
    "value",
    [
        [b"", {}, b"payload", b""],
        Tagged(501, [b"", {}, b"payload", b""]),
        Tagged(18, [b"", {}, b"payload"]),
        Tagged(18, {1: 2}),
        Tagged(18, [{}, {}, b"payload", b""]),
        Tagged(18, [encode(protected_header()), [], b"payload", b""]),
        Tagged(18, [encode(protected_header()), {}, None, b""]),
        Tagged(18, [encode(protected_header()), {}, b"", b""]),
        Tagged(18, [encode(protected_header()), {}, b"payload", None]),
        Tagged(18, [encode([1]), {}, b"payload", b""]),
        Tagged(18, [b"", {}, b"payload", b""]),
        Tagged(18, [b"\xa2\x01\x26\x01\x26", {}, b"payload", b""]),
        Tagged(18, [encode(protected_header()) + b"\x00", {}, b"payload", b""]),
    ],
)
def test_what_is_no_sign1_is_refused(value: CborValue) -> None:
    with pytest.raises(InputError):
        read(encode(value))
