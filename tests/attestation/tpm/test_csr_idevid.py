from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.errors import (
    AttestationError,
    IdentityMismatch,
    InputError,
    LimitExceeded,
    MalformedInput,
    SignatureInvalid,
    Unsupported,
)
from attestation.refusals import RefusalCode
from attestation.tpm.csr_idevid import (
    TcgCsrIdevid,
    TcgCsrIdevidContent,
    build,
    build_content,
    parse,
    parse_content,
    prove_device_keys,
)
from attestation.tpm.public import parse_public
from tests.attestation.tpm.structures import (
    ATTESTZ,
    IAK_BITS,
    IDEVID_BITS,
    P256,
    attest,
    certified,
    ecc_public,
    ecdsa,
    quoted,
)

CONTENT = (ATTESTZ / "csrResponse-csr_contents").read_bytes()
SIGNATURE = (ATTESTZ / "csrResponse-idevid_signature_csr").read_bytes()
SIZES_AT = 12 + 48
IDEVID = ec.generate_private_key(ec.SECP256R1())
ENTROPY = bytes(range(16))


def rehash(content: bytes) -> bytes:
    """Give changed content the hash that fits it, as a liar would."""
    return content[:12] + hashlib.sha384(content[60:]).digest() + content[60:]


def made(**changes: bytes) -> TcgCsrIdevidContent:
    """A device's request content, IDevID certified by the IAK (P256)."""
    idevid = ecc_public(IDEVID, bits=IDEVID_BITS)
    certify = attest(kind=0x8017, body=certified(parse_public(idevid).name))
    content = TcgCsrIdevidContent(
        hash=HashAlgorithm.SHA256,
        product_model=b"EDGE-1",
        product_serial=b"SN0001",
        ek_certificate=b"",
        iak_public=ecc_public(P256, bits=IAK_BITS),
        idevid_public=idevid,
        idevid_certify=certify,
        idevid_certify_signature=ecdsa(P256, certify),
    )
    return replace(content, **changes)


def request(content: TcgCsrIdevidContent, key: ec.EllipticCurvePrivateKey = IDEVID) -> TcgCsrIdevid:
    raw = build_content(content, entropy=ENTROPY)
    return parse(build(raw, ecdsa(key, raw)))


def refusal(content: TcgCsrIdevidContent, key: ec.EllipticCurvePrivateKey = IDEVID):
    with pytest.raises(AttestationError) as caught:
        prove_device_keys(request(content, key))
    return caught.value


def test_a_real_devices_content_is_read() -> None:
    seen = parse_content(CONTENT)
    assert seen.hash is HashAlgorithm.SHA384
    assert seen.product_model == b"DCS-7001-SUP-L"
    assert len(seen.product_serial) == 11
    assert seen.ek_certificate.startswith(b"\x30\x82")
    assert seen.iak_public == (ATTESTZ / "iak-TPMT_PUBLIC").read_bytes()
    assert seen.ca_data == seen.boot_log == seen.iak_create_ticket == seen.iak_certify == b""


def test_a_real_devices_keys_are_proven() -> None:
    keys = prove_device_keys(parse(build(CONTENT, SIGNATURE)))
    assert keys.iak.is_restricted_signing
    assert not keys.idevid.is_restricted_signing
    assert keys.idevid.raw == parse_content(CONTENT).idevid_public


def test_a_real_content_is_rebuilt_byte_for_byte() -> None:
    assert build_content(parse_content(CONTENT), entropy=CONTENT[-9:] + bytes(6)) == CONTENT


def test_our_own_request_is_read_back_and_proven() -> None:
    seen = request(made(boot_log=b"log", ca_data=b"order 7"))
    assert (seen.content.product_serial, seen.content.boot_log) == (b"SN0001", b"log")
    assert prove_device_keys(seen).idevid.raw == ecc_public(IDEVID, bits=IDEVID_BITS)


@given(st.binary(max_size=40), st.sampled_from([HashAlgorithm.SHA256, HashAlgorithm.SHA512]))
def test_content_is_a_multiple_of_sixteen_bytes_and_round_trips(model, algorithm) -> None:
    content = replace(made(), product_model=model, hash=algorithm)
    raw = build_content(content, entropy=ENTROPY)
    assert len(raw) % 16 == 0
    assert parse_content(raw) == content


def test_too_little_entropy_is_our_own_fault() -> None:
    content = made()
    bare = len(build_content(content, entropy=ENTROPY))
    for model in (b"", b"x", b"xx"):
        with pytest.raises(ValueError, match="entropy"):
            build_content(replace(content, product_model=model), entropy=b"")
    assert bare % 16 == 0


@pytest.mark.parametrize("place", [0, 12, 60, 120, 900, 1807])
def test_content_that_differs_from_its_hash_is_refused(place: int) -> None:
    changed = bytearray(CONTENT)
    changed[place] ^= 1
    with pytest.raises(InputError):
        parse_content(bytes(changed))


@pytest.mark.parametrize("field", range(13))
@pytest.mark.parametrize("change", [-1, 1])
def test_sizes_that_do_not_add_up_are_refused(field: int, change: int) -> None:
    sizes = list(struct.unpack(">13I", CONTENT[SIZES_AT : SIZES_AT + 52]))
    sizes[field] = (sizes[field] + change) % (1 << 32)
    changed = CONTENT[:SIZES_AT] + struct.pack(">13I", *sizes) + CONTENT[SIZES_AT + 52 :]
    with pytest.raises(InputError) as caught:
        parse_content(rehash(changed))
    assert caught.value.code in {
        RefusalCode.TRUNCATED,
        RefusalCode.TRAILING_BYTES,
        RefusalCode.TOO_LARGE,
    }


@pytest.mark.parametrize("field", range(13))
@pytest.mark.parametrize("size", [0x7FFFFFFF, 0xFFFFFFFF])
def test_sizes_that_would_overflow_are_refused(field: int, size: int) -> None:
    at = SIZES_AT + 4 * field
    changed = CONTENT[:at] + struct.pack(">I", size) + CONTENT[at + 4 :]
    with pytest.raises(LimitExceeded):
        parse_content(rehash(changed))


def test_bytes_after_the_padding_are_refused() -> None:
    with pytest.raises(MalformedInput):
        parse_content(CONTENT + b"\x00")
    with pytest.raises(MalformedInput) as caught:
        parse_content(rehash(CONTENT + b"\x00"))
    assert caught.value.code is RefusalCode.TRAILING_BYTES


def test_every_truncation_is_refused_as_malformed() -> None:
    envelope = build(CONTENT, SIGNATURE)
    for length in range(0, len(envelope), 3):
        with pytest.raises(MalformedInput):
            parse(envelope[:length])
        with pytest.raises(MalformedInput):
            parse_content(CONTENT[: min(length, len(CONTENT) - 1)])


@pytest.mark.parametrize("version", [0, 0x00000101, 0x01000100, 0xFFFFFFFF])
def test_another_content_version_is_refused(version: int) -> None:
    with pytest.raises(Unsupported):
        parse_content(struct.pack(">I", version) + CONTENT[4:])


def test_another_envelope_version_is_refused() -> None:
    with pytest.raises(Unsupported):
        parse(struct.pack(">I", 0x00000100) + build(CONTENT, SIGNATURE)[4:])


def test_an_envelope_that_announces_too_much_is_refused() -> None:
    for sizes in ((1 << 31, 8), (8, 1 << 31)):
        with pytest.raises(LimitExceeded):
            parse(struct.pack(">III", 0x01000100, *sizes) + CONTENT)
    with pytest.raises(MalformedInput):
        parse(build(CONTENT, SIGNATURE) + b"\x00")


@pytest.mark.parametrize(("hash_id", "size"), [(0x04, 20), (0x12, 32)])
def test_a_weak_or_unknown_hash_is_refused(hash_id: int, size: int) -> None:
    with pytest.raises(Unsupported):
        parse_content(struct.pack(">III", 0x100, hash_id, size) + CONTENT[12:])


@pytest.mark.parametrize("size", [0, 32, 64, 0xFFFFFFFF])
def test_a_hash_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(MalformedInput, match="hashSz"):
        parse_content(CONTENT[:8] + struct.pack(">I", size) + CONTENT[12:])


def test_fields_too_large_to_be_read_are_not_built() -> None:
    with pytest.raises(LimitExceeded):
        build_content(made(product_model=bytes(1025)), entropy=ENTROPY)


def test_content_signed_by_another_key_is_refused() -> None:
    seen = refusal(made(), key=P256)
    assert isinstance(seen, SignatureInvalid)
    assert seen.code is RefusalCode.QUOTE_SIGNATURE_INVALID


def test_a_certification_of_another_key_is_refused() -> None:
    certify = attest(kind=0x8017, body=certified(b"\x00\x0b" + bytes(32)))
    seen = refusal(made(idevid_certify=certify, idevid_certify_signature=ecdsa(P256, certify)))
    assert isinstance(seen, IdentityMismatch)
    assert seen.code is RefusalCode.MANUFACTURE_REQUEST_INVALID


def test_a_quote_in_place_of_the_certification_is_refused() -> None:
    quote = attest(body=quoted())
    seen = refusal(made(idevid_certify=quote, idevid_certify_signature=ecdsa(P256, quote)))
    assert seen.code is RefusalCode.MANUFACTURE_REQUEST_INVALID


def test_a_certification_by_another_key_than_the_iak_is_refused() -> None:
    content = made()
    forged = ecdsa(IDEVID, content.idevid_certify)
    seen = refusal(replace(content, idevid_certify_signature=forged))
    assert seen.code is RefusalCode.QUOTE_SIGNATURE_INVALID


def test_an_unrestricted_iak_is_refused() -> None:
    seen = refusal(made(iak_public=ecc_public(P256, bits=IDEVID_BITS)))
    assert seen.code is RefusalCode.AK_NOT_RESTRICTED


def test_a_restricted_idevid_is_refused() -> None:
    seen = refusal(made(idevid_public=ecc_public(IDEVID, bits=IAK_BITS)))
    assert seen.code is RefusalCode.KEY_ATTRIBUTES_WRONG


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_but_our_errors(noise: bytes) -> None:
    for raw in (noise, CONTENT[:12] + noise, rehash(CONTENT[:60] + noise)):
        for read in (parse, parse_content):
            with pytest.raises(InputError):
                read(raw)
