"""Our readers against tpm2-pytss, which marshals by the reference TSS; no TPM is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tpm2_pytss.constants import TPM2_ALG, TPM2_ST, TPMA_OBJECT
from tpm2_pytss.types import (
    TPM2B_PUBLIC,
    TPML_PCR_SELECTION,
    TPMS_ATTEST,
    TPMS_CERTIFY_INFO,
    TPMS_QUOTE_INFO,
    TPMT_PUBLIC,
    TPMT_SIGNATURE,
    TPMU_ATTEST,
)

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError
from attestation.tpm.attest import parse_attest
from attestation.tpm.constants import (
    KNOWN_ATTRIBUTE_BITS,
    TPM_GENERATED,
    EccCurve,
    KeyType,
    ObjectAttributes,
    SignatureScheme,
)
from attestation.tpm.public import parse_public, parse_public_any
from attestation.tpm.signature import parse_signature

REAL_QUOTE = Path(__file__).parents[1] / "data/immune-gmbh_guard-oss/bundle/ludmilla/quote.attest"
BANKS = {"sha1": 0x04, "sha256": 0x0B, "sha384": 0x0C, "sha512": 0x0D, "sha3_256": 0x27}
HASHES = {
    TPM2_ALG.SHA256: HashAlgorithm.SHA256,
    TPM2_ALG.SHA384: HashAlgorithm.SHA384,
    TPM2_ALG.SHA512: HashAlgorithm.SHA512,
}
ECC_KEYS = {
    "ecc256": ec.generate_private_key(ec.SECP256R1()),
    "ecc384": ec.generate_private_key(ec.SECP384R1()),
    "ecc521": ec.generate_private_key(ec.SECP521R1()),
}
RSA_KEYS = {
    "rsa2048": rsa.generate_private_key(65537, 2048),
    "rsa3072": rsa.generate_private_key(65537, 3072),
}
names = st.binary(max_size=66)
selections = st.dictionaries(
    st.sampled_from(sorted(BANKS)), st.sets(st.integers(0, 23), min_size=1), max_size=5
)
attributes = st.integers(0, 0xFFFFFFFF).map(lambda bits: bits & KNOWN_ATTRIBUTE_BITS)


def attest_head(draw: st.DataObject, kind: int) -> TPMS_ATTEST:
    made = TPMS_ATTEST(magic=TPM_GENERATED, type=kind)
    made.qualifiedSigner.name = draw.draw(names)
    made.extraData.buffer = draw.draw(names)
    made.firmwareVersion = draw.draw(st.integers(0, 2**64 - 1))
    made.clockInfo.clock = draw.draw(st.integers(0, 2**64 - 1))
    made.clockInfo.resetCount = draw.draw(st.integers(0, 2**32 - 1))
    made.clockInfo.restartCount = draw.draw(st.integers(0, 2**32 - 1))
    made.clockInfo.safe = draw.draw(st.booleans())
    return made


def assert_same_head(raw: bytes, made: TPMS_ATTEST) -> None:
    seen = parse_attest(raw)
    assert seen.type == made.type
    assert seen.qualified_signer == bytes(made.qualifiedSigner.name)
    assert seen.extra == bytes(made.extraData.buffer)
    assert seen.firmware_version == made.firmwareVersion
    assert seen.clock.clock_ms == made.clockInfo.clock
    assert seen.clock.reset_count == made.clockInfo.resetCount
    assert seen.clock.restart_count == made.clockInfo.restartCount
    assert seen.clock.safe == bool(made.clockInfo.safe)


@given(st.data(), selections, st.binary(max_size=64))
def test_quotes_are_read_as_the_reference_library_writes_them(draw, chosen, digest) -> None:
    made = attest_head(draw, TPM2_ST.ATTEST_QUOTE)
    text = "+".join(f"{bank}:{','.join(map(str, sorted(chosen[bank])))}" for bank in chosen)
    listed = TPML_PCR_SELECTION.parse(text) if text else TPML_PCR_SELECTION()
    made.attested = TPMU_ATTEST(quote=TPMS_QUOTE_INFO(pcrSelect=listed, pcrDigest=digest))
    raw = made.marshal()
    assert_same_head(raw, made)
    quote = parse_attest(raw).quote
    assert quote is not None
    assert quote.pcr_digest == digest
    assert quote.selections == tuple(
        (BANKS[bank], tuple(sorted(indices))) for bank, indices in chosen.items()
    )


@given(st.data(), names, names)
def test_certifications_are_read_as_the_reference_library_writes_them(
    draw, name, qualified
) -> None:
    made = attest_head(draw, TPM2_ST.ATTEST_CERTIFY)
    certify = TPMS_CERTIFY_INFO(name=name, qualifiedName=qualified)
    made.attested = TPMU_ATTEST(certify=certify)
    raw = made.marshal()
    assert_same_head(raw, made)
    certified = parse_attest(raw).certified
    assert certified is not None
    assert (certified.name, certified.qualified_name) == (name, qualified)


def public_of(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    bits: int,
    name_alg: TPM2_ALG,
    scheme: str | None,
    policy: bytes,
) -> TPMT_PUBLIC:
    spki = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    made = TPM2B_PUBLIC.from_pem(
        spki,
        nameAlg=name_alg,
        objectAttributes=TPMA_OBJECT(bits),
        symmetric=None,
        scheme=None,
    ).publicArea
    if scheme is not None:
        label = "ecc256" if isinstance(key, ec.EllipticCurvePrivateKey) else "rsa2048"
        parsed = TPMT_PUBLIC.parse(
            f"{label}:{scheme}:null", objectAttributes=TPMA_OBJECT.SIGN_ENCRYPT
        )
        made.parameters.asymDetail.scheme = parsed.parameters.asymDetail.scheme
    made.authPolicy.buffer = policy
    return made


def assert_same_public(made: TPMT_PUBLIC, key, scheme) -> None:
    raw = made.marshal()
    seen = parse_public(raw)
    assert seen.name == bytes(made.get_name())
    assert seen.attributes == ObjectAttributes(int(made.objectAttributes))
    assert seen.name_alg is HASHES[TPM2_ALG(made.nameAlg)]
    assert seen.auth_policy == bytes(made.authPolicy.buffer)
    assert seen.scheme == scheme
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert seen.spki_der == spki
    assert parse_public_any(TPM2B_PUBLIC(publicArea=made).marshal()) == seen


@given(st.sampled_from(sorted(ECC_KEYS)), attributes, st.sampled_from(list(HASHES)), st.data())
def test_ecc_keys_are_read_and_named_as_by_the_reference_library(label, bits, name_alg, draw):
    key = ECC_KEYS[label]
    chosen = draw.draw(st.sampled_from([None, "sha256", "sha384", "sha512"]))
    policy = draw.draw(st.sampled_from([b"", bytes(HASHES[name_alg].size)]))
    text = f"ecdsa-{chosen}" if chosen else None
    made = public_of(key, bits, name_alg, text, policy)
    scheme = (SignatureScheme.ECDSA, HashAlgorithm[chosen.upper()]) if chosen else (None, None)
    assert_same_public(made, key, scheme)


@given(st.sampled_from(sorted(RSA_KEYS)), attributes, st.sampled_from(list(HASHES)), st.data())
def test_rsa_keys_are_read_and_named_as_by_the_reference_library(label, bits, name_alg, draw):
    key = RSA_KEYS[label]
    kind = draw.draw(st.sampled_from([None, "rsassa", "rsapss"]))
    chosen = draw.draw(st.sampled_from(["sha256", "sha384", "sha512"]))
    made = public_of(key, bits, name_alg, f"{kind}-{chosen}" if kind else None, b"")
    scheme = (
        (SignatureScheme[kind.upper()], HashAlgorithm[chosen.upper()]) if kind else (None, None)
    )
    assert_same_public(made, key, scheme)


@given(st.binary(max_size=66), st.binary(max_size=66), st.sampled_from(list(HASHES)))
def test_ecdsa_signatures_are_read_as_the_reference_library_writes_them(r, s, algorithm) -> None:
    made = TPMT_SIGNATURE(sigAlg=TPM2_ALG.ECDSA)
    made.signature.ecdsa.hash = algorithm
    made.signature.ecdsa.signatureR = r
    made.signature.ecdsa.signatureS = s
    seen = parse_signature(made.marshal())
    assert seen.scheme is SignatureScheme.ECDSA
    assert seen.hash is HASHES[algorithm]
    assert utils.decode_dss_signature(seen.der) == (int.from_bytes(r), int.from_bytes(s))


@pytest.mark.parametrize("scheme", [SignatureScheme.RSASSA, SignatureScheme.RSAPSS])
@given(st.binary(max_size=512), st.sampled_from(list(HASHES)))
def test_rsa_signatures_are_read_as_the_reference_library_writes_them(
    scheme, value, algorithm
) -> None:
    made = TPMT_SIGNATURE(sigAlg=scheme)
    rsa_signature = getattr(made.signature, scheme.name.lower())
    rsa_signature.hash = algorithm
    rsa_signature.sig = value
    seen = parse_signature(made.marshal())
    assert (seen.scheme, seen.hash, seen.der) == (scheme, HASHES[algorithm], value)


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_quote_that_we_read_is_the_same_to_the_reference_library(place, value) -> None:
    raw = bytearray(REAL_QUOTE.read_bytes())
    raw[place % len(raw)] = value
    try:
        seen = parse_attest(bytes(raw))
    except AttestationError:
        return
    again, used = TPMS_ATTEST.unmarshal(bytes(raw))
    assert used == len(raw)
    assert again.marshal() == bytes(raw)
    assert bytes(again.extraData.buffer) == seen.extra


def test_numbers_are_those_of_the_reference_library() -> None:
    for member in (*KeyType, *SignatureScheme):
        assert TPM2_ALG(member) == getattr(TPM2_ALG, member.name)
    assert EccCurve.NIST_P384.coordinate_size == 48
    assert ObjectAttributes.SIGN == TPMA_OBJECT.SIGN_ENCRYPT
    assert ObjectAttributes.NO_DA == TPMA_OBJECT.NODA
    assert ObjectAttributes.X509_SIGN == TPMA_OBJECT.X509SIGN
