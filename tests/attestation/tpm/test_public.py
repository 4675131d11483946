from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.errors import (
    AttestationError,
    IdentityMismatch,
    InputError,
    MalformedInput,
    SignatureInvalid,
    Unsupported,
)
from attestation.refusals import RefusalCode
from attestation.tpm.constants import KeyType, ObjectAttributes, SignatureScheme
from attestation.tpm.public import (
    parse_public,
    parse_public_any,
    require_accepted_key,
    require_attestation_key,
    require_device_key,
)
from tests.attestation.tpm.structures import (
    ATTESTZ,
    IAK_BITS,
    IDEVID_BITS,
    P256,
    P384,
    QUOTE_SET,
    RSA,
    WINDOWS,
    ecc_public,
    rsa_public,
    sized,
)

AES_128_CFB = b"\x00\x06\x00\x80\x00\x43"
NO_SCHEME = b"\x00\x10"
STORAGE_BITS = 0x00030472
WEAK_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - must be refused


def refusal(raw: bytes) -> AttestationError:
    with pytest.raises(AttestationError) as caught:
        parse_public(raw)
    return caught.value


def spki(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_an_ecc_key_is_read_with_its_name() -> None:
    raw = ecc_public(policy=b"p" * 32)
    seen = parse_public(raw)
    assert seen.raw == raw
    assert seen.type is KeyType.ECC
    assert seen.name_alg is HashAlgorithm.SHA256
    assert seen.attributes == ObjectAttributes(IAK_BITS)
    assert seen.auth_policy == b"p" * 32
    assert seen.scheme == (SignatureScheme.ECDSA, HashAlgorithm.SHA256)
    assert seen.name == b"\x00\x0b" + hashlib.sha256(raw).digest()
    assert seen.spki_der == spki(P256)
    assert seen.is_restricted_signing


def test_a_p384_key_is_named_by_sha384() -> None:
    raw = ecc_public(P384, name_alg=0x0C, scheme=b"\x00\x18\x00\x0c", policy=b"p" * 48)
    seen = parse_public(raw)
    assert seen.name == b"\x00\x0c" + hashlib.sha384(raw).digest()
    assert seen.spki_der == spki(P384)


@pytest.mark.parametrize("exponent", [0, 65537])
def test_an_rsa_key_is_read(exponent: int) -> None:
    seen = parse_public(rsa_public(exponent=exponent))
    assert seen.type is KeyType.RSA
    assert seen.scheme == (SignatureScheme.RSASSA, HashAlgorithm.SHA256)
    assert seen.spki_der == spki(RSA)


def test_a_storage_key_is_read() -> None:
    seen = parse_public(ecc_public(bits=STORAGE_BITS, symmetric=AES_128_CFB, scheme=NO_SCHEME))
    assert seen.scheme == (None, None)
    assert not seen.is_restricted_signing


def test_coordinates_without_leading_zeros_are_read() -> None:
    while True:
        key = ec.generate_private_key(ec.SECP256R1())
        numbers = key.public_key().public_numbers()
        if numbers.x < 1 << 248:
            break
    raw = ecc_public(key, point=(numbers.x.to_bytes(31), numbers.y.to_bytes(32)))
    assert parse_public(raw).spki_der == spki(key)


def test_real_keys_have_the_names_their_tpms_gave_them() -> None:
    ak = parse_public_any((QUOTE_SET / "ak.pub").read_bytes())
    assert ak.name == (QUOTE_SET / "ak.name").read_bytes()
    pem = load_pem_public_key((QUOTE_SET / "akpub.pem").read_bytes())
    assert ak.spki_der == pem.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    certify = (ATTESTZ / "challengeResp-iak_certify_info").read_bytes()
    assert parse_public((ATTESTZ / "iak-TPMT_PUBLIC").read_bytes()).name in certify


def test_real_keys_with_and_without_their_size_are_equal() -> None:
    with_size = parse_public_any((ATTESTZ / "challengeResp-iak_pub").read_bytes())
    without = parse_public_any((ATTESTZ / "iak-TPMT_PUBLIC").read_bytes())
    assert with_size == without
    assert hash(with_size) == hash(without)
    assert parse_public_any(sized(ecc_public())) == parse_public(ecc_public())


def test_a_real_endorsement_key_is_read_and_is_no_attestation_key() -> None:
    ek = parse_public_any((QUOTE_SET / "ek.pub").read_bytes())
    assert ObjectAttributes.DECRYPT in ek.attributes
    with pytest.raises(SignatureInvalid):
        require_attestation_key(ek)


def test_a_real_key_that_signs_with_sha1_is_refused() -> None:
    seen = refusal((WINDOWS / "windows_gcp_shielded_vm.ak.tpmt_public").read_bytes())
    assert isinstance(seen, Unsupported)
    assert "SHA-1" in seen.reason


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x08" + ecc_public()[2:],
        ecc_public(name_alg=0x04),
        ecc_public(name_alg=0x12, policy=b""),
        ecc_public(curve=0x10),
        ecc_public(curve=0x20),
        ecc_public(curve=0x01),
        ecc_public(kdf=b"\x00\x20\x00\x0b"),
        ecc_public(scheme=b"\x00\x1a\x00\x0b\x00\x00"),
        ecc_public(scheme=b"\x00\x18\x00\x04"),
        ecc_public(symmetric=b"\x00\x13\x00\x80\x00\x43"),
        ecc_public(symmetric=b"\x00\x06\x00\x40\x00\x43"),
        ecc_public(symmetric=b"\x00\x06\x00\x80\x00\x42"),
        rsa_public(key_bits=1024),
        rsa_public(exponent=3),
        rsa_public(scheme=b"\x00\x17\x00\x0b"),
    ],
    ids=[
        "keyed hash",
        "SHA-1 name",
        "SM3 name",
        "BN-256",
        "SM2",
        "P-192",
        "kdf",
        "ECDAA",
        "ECDSA SHA-1",
        "SM4",
        "AES-64",
        "CBC",
        "RSA-1024",
        "exponent 3",
        "OAEP",
    ],
)
def test_other_algorithms_are_refused_as_unsupported(raw: bytes) -> None:
    seen = refusal(raw)
    assert isinstance(seen, Unsupported)
    assert seen.code is RefusalCode.UNSUPPORTED_ALGORITHM


@pytest.mark.parametrize("bit", [0, 3, 12, 13, 14, 15, 20, 31])
def test_a_reserved_attribute_bit_is_refused(bit: int) -> None:
    assert refusal(ecc_public(bits=IAK_BITS | 1 << bit)).code is RefusalCode.VALUE_OUT_OF_RANGE


@pytest.mark.parametrize("size", [1, 31, 33, 48])
def test_a_policy_of_another_size_than_the_hash_is_refused(size: int) -> None:
    assert refusal(ecc_public(policy=bytes(size))).code is RefusalCode.VALUE_OUT_OF_RANGE


@pytest.mark.parametrize("point", [(b"IAK", b"IAK"), (b"", b""), (b"\x01" * 32, b"\x01" * 32)])
def test_a_point_off_the_curve_is_refused(point: tuple[bytes, bytes]) -> None:
    seen = refusal(ecc_public(point=point))
    assert isinstance(seen, MalformedInput)
    assert seen.code is RefusalCode.KEY_MALFORMED
    assert isinstance(seen.__cause__, ValueError)


def test_a_point_of_another_curve_is_refused() -> None:
    assert refusal(ecc_public(P384, curve=3)).code is RefusalCode.TOO_LARGE


def test_a_coordinate_longer_than_its_field_is_refused_even_if_padded_with_zeros() -> None:
    numbers = P256.public_key().public_numbers()
    for sizes in ((33, 32), (32, 33)):
        point = (numbers.x.to_bytes(sizes[0]), numbers.y.to_bytes(sizes[1]))
        assert refusal(ecc_public(point=point)).code is RefusalCode.TOO_LARGE


@pytest.mark.parametrize("modulus", [b"", b"IAK", b"\x7f" + b"\xff" * 255, b"\x01" + bytes(256)])
def test_a_modulus_of_another_size_is_refused(modulus: bytes) -> None:
    assert refusal(rsa_public(modulus=modulus)).code is RefusalCode.KEY_MALFORMED


def test_a_scheme_of_the_other_key_type_is_refused() -> None:
    assert refusal(ecc_public(scheme=b"\x00\x14\x00\x0b")).code is RefusalCode.VALUE_OUT_OF_RANGE
    assert refusal(rsa_public(scheme=b"\x00\x18\x00\x0b")).code is RefusalCode.VALUE_OUT_OF_RANGE


@pytest.mark.parametrize("raw", [ecc_public(), rsa_public()], ids=["ecc", "rsa"])
def test_bytes_after_the_end_are_refused(raw: bytes) -> None:
    assert refusal(raw + b"\x00").code is RefusalCode.TRAILING_BYTES


@pytest.mark.parametrize(
    "raw",
    [ecc_public(policy=bytes(65)), rsa_public(modulus=bytes(513)), ecc_public() + bytes(4096)],
    ids=["policy", "modulus", "whole"],
)
def test_fields_larger_than_any_real_one_are_refused(raw: bytes) -> None:
    assert refusal(raw).code is RefusalCode.TOO_LARGE


@pytest.mark.parametrize(
    "raw",
    [
        (ATTESTZ / "iak-TPMT_PUBLIC").read_bytes(),
        (QUOTE_SET / "ak.pub").read_bytes()[2:],
        (QUOTE_SET / "ek.pub").read_bytes()[2:],
    ],
    ids=["ecc", "rsa", "ek"],
)
def test_every_truncation_of_a_real_key_is_refused_as_malformed(raw: bytes) -> None:
    for length in range(len(raw)):
        with pytest.raises(MalformedInput):
            parse_public(raw[:length])
        with pytest.raises(InputError):
            parse_public_any(sized(raw)[:length])


@given(st.binary(max_size=300))
def test_random_bytes_never_raise_anything_but_our_errors(noise: bytes) -> None:
    for raw in (noise, ecc_public()[:10] + noise, rsa_public()[:10] + noise):
        try:
            parse_public_any(raw)
        except InputError:
            continue


def without(bits: int, flag: ObjectAttributes) -> int:
    return bits & ~int(flag)


def test_an_attestation_key_is_accepted() -> None:
    require_attestation_key(parse_public(ecc_public()))
    require_attestation_key(parse_public(rsa_public()))
    require_attestation_key(parse_public((ATTESTZ / "iak-TPMT_PUBLIC").read_bytes()))


@pytest.mark.parametrize(
    "bits",
    [
        without(IAK_BITS, ObjectAttributes.RESTRICTED),
        without(IAK_BITS, ObjectAttributes.SIGN),
        IAK_BITS | ObjectAttributes.DECRYPT,
    ],
)
def test_a_key_that_could_sign_a_forged_quote_is_no_attestation_key(bits: int) -> None:
    with pytest.raises(SignatureInvalid) as caught:
        require_attestation_key(parse_public(ecc_public(bits=bits)))
    assert caught.value.code is RefusalCode.AK_NOT_RESTRICTED


@pytest.mark.parametrize(
    "flag",
    [
        ObjectAttributes.FIXED_TPM,
        ObjectAttributes.FIXED_PARENT,
        ObjectAttributes.SENSITIVE_DATA_ORIGIN,
    ],
)
def test_a_key_that_could_live_elsewhere_is_neither_kind_of_key(flag: ObjectAttributes) -> None:
    with pytest.raises(SignatureInvalid) as caught:
        require_attestation_key(parse_public(ecc_public(bits=without(IAK_BITS, flag))))
    assert caught.value.code is RefusalCode.AK_ATTRIBUTES_WRONG
    with pytest.raises(IdentityMismatch) as mismatch:
        require_device_key(parse_public(ecc_public(bits=without(IDEVID_BITS, flag))))
    assert mismatch.value.code is RefusalCode.KEY_ATTRIBUTES_WRONG


def test_a_restricted_key_without_a_scheme_is_no_attestation_key() -> None:
    with pytest.raises(SignatureInvalid) as caught:
        require_attestation_key(parse_public(ecc_public(scheme=NO_SCHEME)))
    assert caught.value.code is RefusalCode.AK_ATTRIBUTES_WRONG


def test_a_device_key_is_accepted() -> None:
    require_device_key(parse_public(ecc_public(bits=IDEVID_BITS)))
    require_device_key(parse_public(ecc_public(bits=0x00040472, scheme=NO_SCHEME)))


@pytest.mark.parametrize(
    "bits",
    [
        IAK_BITS,
        IDEVID_BITS | ObjectAttributes.DECRYPT,
        without(IDEVID_BITS, ObjectAttributes.SIGN),
    ],
)
def test_a_key_that_cannot_sign_freely_is_no_device_key(bits: int) -> None:
    with pytest.raises(IdentityMismatch) as caught:
        require_device_key(parse_public(ecc_public(bits=bits)))
    assert caught.value.code is RefusalCode.KEY_ATTRIBUTES_WRONG


def test_bare_keys_are_held_to_the_same_rules() -> None:
    for key in (P256, P384, ec.generate_private_key(ec.SECP521R1()), RSA):
        require_accepted_key(key.public_key())
    with pytest.raises(Unsupported):
        require_accepted_key(ec.generate_private_key(ec.SECP256K1()).public_key())
    with pytest.raises(Unsupported):
        require_accepted_key(WEAK_RSA.public_key())
    with pytest.raises(Unsupported):
        require_accepted_key(rsa.generate_private_key(3, 2048).public_key())
