from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.errors import (
    AttestationError,
    InputError,
    MalformedInput,
    SignatureInvalid,
    Unsupported,
)
from attestation.refusals import RefusalCode
from attestation.tpm.constants import SignatureScheme
from attestation.tpm.public import PublicKey, TpmPublic, parse_public, parse_public_any
from attestation.tpm.signature import TpmSignature, _by_fields, parse_signature, verify_attest
from tests.attestation.tpm.structures import (
    ATTESTZ,
    BUNDLES,
    P256,
    P384,
    QUOTE_SET,
    RSA,
    WINDOWS,
    attest,
    ecc_public,
    ecdsa,
    rsa_public,
    rsapss,
    rsassa,
    sized,
)

MESSAGE = attest()
NO_SCHEME = b"\x00\x10"
REAL_BUNDLES = ["IMN-SUPERMICRO-no-epp", "failed-1", "good-1", "latitude-7520"]


def real_bundle(name: str) -> tuple[PublicKey, bytes, bytes]:
    folder = BUNDLES / name
    key = load_pem_public_key((folder / "ak.pem").read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key, (folder / "quote.attest").read_bytes(), (folder / "quote.sig").read_bytes()


def refusal(public: TpmPublic | PublicKey, signature: bytes, message: bytes = MESSAGE):
    with pytest.raises(AttestationError) as caught:
        verify_attest(public, message, signature)
    return caught.value


@pytest.mark.parametrize("name", REAL_BUNDLES)
def test_real_quotes_verify(name: str) -> None:
    assert verify_attest(*real_bundle(name)) is HashAlgorithm.SHA256


@pytest.mark.parametrize("name", REAL_BUNDLES)
def test_a_real_quote_does_not_verify_with_another_devices_key(name: str) -> None:
    _, quote, signature = real_bundle(name)
    other = "good-1" if name == "latitude-7520" else "latitude-7520"
    key, _, _ = real_bundle(other)
    assert refusal(key, signature, quote).code is RefusalCode.QUOTE_SIGNATURE_INVALID


def test_a_real_rsa_quote_verifies_with_its_public_area_and_with_its_pem() -> None:
    quote = (QUOTE_SET / "quote.out").read_bytes()
    signature = (QUOTE_SET / "quotesig.out").read_bytes()
    pem = load_pem_public_key((QUOTE_SET / "akpub.pem").read_bytes())
    assert isinstance(pem, rsa.RSAPublicKey)
    for key in (parse_public_any((QUOTE_SET / "ak.pub").read_bytes()), pem):
        assert verify_attest(key, quote, signature) is HashAlgorithm.SHA256


def test_a_real_signature_over_sha1_is_refused() -> None:
    signature = (WINDOWS / "windows_gcp_shielded_vm.quote.sig").read_bytes()
    quote = (WINDOWS / "windows_gcp_shielded_vm.quote.attest").read_bytes()
    assert isinstance(refusal(RSA.public_key(), signature, quote), Unsupported)


@pytest.mark.parametrize(
    ("public", "signature", "expected"),
    [
        (ecc_public(), ecdsa(P256, MESSAGE), HashAlgorithm.SHA256),
        (
            ecc_public(P384, scheme=b"\x00\x18\x00\x0c"),
            ecdsa(P384, MESSAGE, 0x0C),
            HashAlgorithm.SHA384,
        ),
        (ecc_public(scheme=NO_SCHEME), ecdsa(P256, MESSAGE, 0x0D), HashAlgorithm.SHA512),
        (rsa_public(), rsassa(RSA, MESSAGE), HashAlgorithm.SHA256),
        (rsa_public(scheme=b"\x00\x16\x00\x0b"), rsapss(RSA, MESSAGE), HashAlgorithm.SHA256),
        (
            rsa_public(scheme=b"\x00\x16\x00\x0b"),
            rsapss(RSA, MESSAGE, salt=222),
            HashAlgorithm.SHA256,
        ),
        (rsa_public(scheme=NO_SCHEME), rsapss(RSA, MESSAGE, 0x0C), HashAlgorithm.SHA384),
    ],
    ids=["P-256", "P-384", "free hash", "RSASSA", "RSAPSS", "RSAPSS full salt", "RSAPSS free"],
)
def test_each_scheme_verifies_and_tells_its_hash(public, signature, expected) -> None:
    assert verify_attest(parse_public(public), MESSAGE, signature) is expected


@pytest.mark.parametrize(
    ("public", "signature"),
    [
        (rsa_public(), ecdsa(P256, MESSAGE)),
        (ecc_public(), rsassa(RSA, MESSAGE)),
        (rsa_public(scheme=NO_SCHEME), ecdsa(P256, MESSAGE)),
        (ecc_public(scheme=NO_SCHEME), rsapss(RSA, MESSAGE)),
        (ecc_public(), ecdsa(P256, MESSAGE, 0x0C)),
        (rsa_public(), rsapss(RSA, MESSAGE)),
        (rsa_public(scheme=b"\x00\x16\x00\x0b"), rsassa(RSA, MESSAGE)),
        (rsa_public(), rsassa(RSA, MESSAGE, 0x0D)),
    ],
    ids=[
        "RSA key, ECDSA signature",
        "ECC key, RSASSA signature",
        "free RSA key, ECDSA signature",
        "free ECC key, RSAPSS signature",
        "ECDSA-SHA-256 key, SHA-384 signature",
        "RSASSA key, RSAPSS signature",
        "RSAPSS key, RSASSA signature",
        "RSASSA-SHA-256 key, SHA-512 signature",
    ],
)
def test_a_signature_of_another_scheme_than_the_keys_is_refused(public, signature) -> None:
    seen = refusal(parse_public(public), signature)
    assert isinstance(seen, SignatureInvalid)
    assert seen.code is RefusalCode.SIGNATURE_SCHEME_MISMATCH


def test_a_bare_key_of_the_other_type_is_refused() -> None:
    mismatch = RefusalCode.SIGNATURE_SCHEME_MISMATCH
    assert refusal(RSA.public_key(), ecdsa(P256, MESSAGE)).code is mismatch
    assert refusal(P256.public_key(), rsassa(RSA, MESSAGE)).code is mismatch


def test_a_bare_key_on_another_curve_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    assert isinstance(refusal(key.public_key(), ecdsa(key, MESSAGE)), Unsupported)


@pytest.mark.parametrize(
    ("public", "signature"),
    [
        (ecc_public(), ecdsa(P256, MESSAGE)),
        (rsa_public(), rsassa(RSA, MESSAGE)),
        (rsa_public(scheme=b"\x00\x16\x00\x0b"), rsapss(RSA, MESSAGE)),
    ],
    ids=["ECDSA", "RSASSA", "RSAPSS"],
)
def test_one_changed_bit_of_the_message_is_refused(public, signature) -> None:
    key = parse_public(public)
    for place in range(0, len(MESSAGE), 7):
        changed = bytearray(MESSAGE)
        changed[place] ^= 1
        seen = refusal(key, signature, bytes(changed))
        assert seen.code is RefusalCode.QUOTE_SIGNATURE_INVALID


@pytest.mark.parametrize("coordinate", [b"", b"\x00", b"\xff" * 66])
def test_an_impossible_ecdsa_signature_is_refused(coordinate: bytes) -> None:
    signature = struct.pack(">HH", 0x18, 0x0B) + sized(coordinate) + sized(coordinate)
    seen = refusal(parse_public(ecc_public()), signature)
    assert seen.code is RefusalCode.QUOTE_SIGNATURE_INVALID


@pytest.mark.parametrize("scheme", [0x0005, 0x0010, 0x001A, 0x001B, 0x001C, 0x0000, 0xFFFF])
def test_other_schemes_are_refused_as_unsupported(scheme: int) -> None:
    with pytest.raises(Unsupported):
        parse_signature(struct.pack(">HH", scheme, 0x0B) + sized(bytes(32)))


def test_a_real_hmac_is_no_signature() -> None:
    with pytest.raises(Unsupported):
        parse_signature((ATTESTZ / "challengeResp-iak_certify_info_signature").read_bytes())


@pytest.mark.parametrize("hash_id", [0x0004, 0x0012, 0x0000])
def test_sha1_and_unknown_hashes_are_refused(hash_id: int) -> None:
    for scheme, size in ((0x14, 256), (0x16, 256), (0x18, 32)):
        with pytest.raises(Unsupported):
            parse_signature(struct.pack(">HH", scheme, hash_id) + sized(bytes(size)) * 2)


def test_bytes_after_the_end_are_refused() -> None:
    for raw in (ecdsa(P256, MESSAGE), rsassa(RSA, MESSAGE)):
        with pytest.raises(MalformedInput) as caught:
            parse_signature(raw + b"\x00")
        assert caught.value.code is RefusalCode.TRAILING_BYTES


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack(">HH", 0x18, 0x0B) + sized(bytes(67)) + sized(bytes(32)),
        struct.pack(">HH", 0x18, 0x0B) + sized(bytes(32)) + sized(bytes(67)),
        struct.pack(">HH", 0x14, 0x0B) + sized(bytes(513)),
        struct.pack(">HH", 0x14, 0x0B) + sized(bytes(256)) + bytes(4096),
    ],
    ids=["r", "s", "RSA", "whole"],
)
def test_fields_larger_than_any_accepted_keys_are_refused(raw: bytes) -> None:
    with pytest.raises(InputError) as caught:
        parse_signature(raw)
    assert caught.value.code is RefusalCode.TOO_LARGE


@pytest.mark.parametrize(
    "path",
    [BUNDLES / "good-1/quote.sig", QUOTE_SET / "quotesig.out"],
    ids=["ECDSA", "RSASSA"],
)
def test_every_truncation_of_a_real_signature_is_refused_as_malformed(path) -> None:
    raw = path.read_bytes()
    for length in range(len(raw)):
        with pytest.raises(MalformedInput):
            parse_signature(raw[:length])


def test_a_real_signature_is_read() -> None:
    seen = parse_signature((ATTESTZ / "csrResponse-idevid_signature_csr").read_bytes())
    assert (seen.scheme, seen.hash) == (SignatureScheme.ECDSA, HashAlgorithm.SHA384)


def verdict(read: Callable[[bytes], TpmSignature], raw: bytes) -> object:
    try:
        return read(raw)
    except AttestationError as error:
        return type(error), error.describe(), error.offset


USUAL = ecdsa(P256, MESSAGE)


@pytest.mark.parametrize("place", range(len(USUAL)))
@pytest.mark.parametrize("flip", [0x01, 0x07, 0x0F, 0x80, 0xFF])
def test_a_signature_of_usual_sizes_is_read_as_field_by_field(place: int, flip: int) -> None:
    raw = USUAL[:place] + bytes((USUAL[place] ^ flip,)) + USUAL[place + 1 :]
    assert verdict(parse_signature, raw) == verdict(_by_fields, raw)


def test_the_usual_signature_is_of_usual_size() -> None:
    assert len(USUAL) == 72
    assert verdict(parse_signature, USUAL) == verdict(_by_fields, USUAL)


@given(st.binary(max_size=300))
def test_random_signatures_never_raise_anything_but_our_errors(noise: bytes) -> None:
    for head in (b"", b"\x00\x18\x00\x0b", b"\x00\x14\x00\x0b", b"\x00\x16\x00\x0c"):
        for key in (P256.public_key(), RSA.public_key()):
            assert refusal(key, head + noise) is not None
