"""Quotes that this device's TPM did not make: N8, N9 (magic, type), N18 (key), N19 (scheme)."""

from __future__ import annotations

import dataclasses

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.errors import InputError, MalformedInput
from attestation.evidence import Evidence, Quote
from attestation.identity import KeyName
from attestation.refusals import RefusalCode as Code
from attestation.result import AttestationResult, Claim, TrustTier
from device_agent.ports import KeyRole
from tests.simulators.soft_device import IAK_ATTRIBUTES, IDEVID_ATTRIBUTES, Lies, soft_key
from tests.verifier.appraisal.courtroom import (
    Courtroom,
    assert_nothing_believed,
    assert_refused,
)
from verifier.appraisal.enrolment import Enrolment

RESTRICTED, DECRYPT = 1 << 16, 1 << 17
FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN = 1 << 1, 1 << 4, 1 << 5


@pytest.fixture
def court() -> Courtroom:
    return Courtroom()


def refused_as_foreign(result: AttestationResult, code: Code) -> None:
    assert_refused(result, code, step=1)
    assert_nothing_believed(result)


def lying(court: Courtroom, lies: Lies) -> Evidence:
    court.tpm.lies = lies
    return court.evidence()


def test_quote_by_another_attestation_key_is_refused(court: Courtroom) -> None:
    other = soft_key("p256", KeyRole.IAK)

    result = court.judge(lying(court, Lies(sign_with=other)))

    refused_as_foreign(result, Code.QUOTE_SIGNATURE_INVALID)


def test_quote_with_one_bit_of_its_signature_changed_is_refused(court: Courtroom) -> None:
    result = court.judge(lying(court, Lies(flip_signature=True)))

    refused_as_foreign(result, Code.QUOTE_SIGNATURE_INVALID)


@pytest.mark.parametrize("position", [8, 60, 100])
def test_quote_changed_after_signing_is_refused(court: Courtroom, position: int) -> None:
    evidence = court.evidence()
    attest = bytearray(evidence.quote.attest)
    attest[position] ^= 0x40
    changed = dataclasses.replace(
        evidence, quote=Quote(attest=bytes(attest), signature=evidence.quote.signature)
    )

    try:
        result = court.judge(changed)
    except InputError:
        return
    refused_as_foreign(result, Code.QUOTE_SIGNATURE_INVALID)


def test_blob_without_the_tpm_magic_is_refused(court: Courtroom) -> None:
    """N8: signed by the right key, yet no TPM made it."""
    result = court.judge(lying(court, Lies(magic=0xFF544348)))

    refused_as_foreign(result, Code.QUOTE_MAGIC_WRONG)


def test_certification_presented_as_a_quote_is_refused(court: Courtroom) -> None:
    """N9: TPM2_Certify, honestly signed by the attestation key."""
    evidence = court.evidence()
    certify = court.tpm.certify(KeyRole.IDEVID, b"q" * 32)

    result = court.judge(dataclasses.replace(evidence, quote=certify))

    refused_as_foreign(result, Code.QUOTE_TYPE_WRONG)


@pytest.mark.parametrize("kind", [0x8014, 0x8016, 0x8019, 0x801A, 0x801C])
def test_other_attestation_presented_as_a_quote_is_refused(court: Courtroom, kind: int) -> None:
    """N9: NV, session audit, time and creation attestations."""
    result = court.judge(lying(court, Lies(attest_type=kind)))

    refused_as_foreign(result, Code.QUOTE_TYPE_WRONG)


def test_bytes_after_the_quote_are_refused_as_malformed(court: Courtroom) -> None:
    """N9: even when they are signed."""
    with pytest.raises(MalformedInput) as caught:
        court.judge(lying(court, Lies(trailing=b"\x00")))

    assert caught.value.code is Code.TRAILING_BYTES


def enrolled_with(court: Courtroom, attributes: int) -> Courtroom:
    """Enrol the device with a key of these attributes, as if enrolment had overlooked them."""
    court.tpm.keys[KeyRole.IAK] = soft_key("p256", KeyRole.IAK, attributes=attributes)
    public = court.tpm.public_area(KeyRole.IAK)
    court.enrolment = Enrolment(
        **{
            item.name: getattr(court.enrolment, item.name)
            for item in dataclasses.fields(court.enrolment)
            if item.init
        }
        | {"ak_public": public, "ak_name": KeyName(court.tpm.keys[KeyRole.IAK].name)}
    )
    return court


def test_quote_by_an_unrestricted_key_is_refused(court: Courtroom) -> None:
    """N8, N18: such a key signs whatever it is given, a forged TPMS_ATTEST too."""
    result = enrolled_with(court, IDEVID_ATTRIBUTES).judge()

    refused_as_foreign(result, Code.AK_NOT_RESTRICTED)


def test_quote_by_a_key_that_also_decrypts_is_refused(court: Courtroom) -> None:
    result = enrolled_with(court, IAK_ATTRIBUTES | DECRYPT).judge()

    refused_as_foreign(result, Code.AK_NOT_RESTRICTED)


@pytest.mark.parametrize("missing", [FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN])
def test_quote_by_a_key_that_may_live_elsewhere_is_refused(court: Courtroom, missing: int) -> None:
    """N8, N18: a duplicable or imported key proves no TPM."""
    result = enrolled_with(court, IAK_ATTRIBUTES & ~missing).judge()

    refused_as_foreign(result, Code.AK_ATTRIBUTES_WRONG)


def test_key_whose_name_is_not_the_enrolled_one_is_refused(court: Courtroom) -> None:
    """N18: the area that was certified is the area that is used."""
    name = bytearray(court.enrolment.ak_name)
    name[-1] ^= 1
    court.enrolment = dataclasses.replace(court.enrolment, ak_name=KeyName(bytes(name)))

    result = court.judge()

    assert_refused(result, Code.AK_UNKNOWN, step=2)
    assert_nothing_believed(result)


def test_rsa_signature_for_an_ecc_key_is_refused(court: Courtroom) -> None:
    """N19."""
    rsa = soft_key("rsa2048", KeyRole.IAK)

    result = court.judge(lying(court, Lies(sign_with=rsa)))

    refused_as_foreign(result, Code.SIGNATURE_SCHEME_MISMATCH)


def test_signature_with_another_hash_than_the_key_has_is_refused(court: Courtroom) -> None:
    """N19, N20."""
    key = court.tpm.keys[KeyRole.IAK]
    other = dataclasses.replace(key, scheme_hash=HashAlgorithm.SHA384)

    result = court.judge(lying(court, Lies(sign_with=other)))

    refused_as_foreign(result, Code.SIGNATURE_SCHEME_MISMATCH)


def test_signature_over_sha1_is_refused(court: Courtroom) -> None:
    """N19: not accepted from any key."""
    evidence = court.evidence()
    signature = bytearray(evidence.quote.signature)
    signature[2:4] = int(HashAlgorithm.SHA1).to_bytes(2, "big")
    changed = dataclasses.replace(
        evidence, quote=Quote(attest=evidence.quote.attest, signature=bytes(signature))
    )

    with pytest.raises(InputError) as caught:
        court.judge(changed)

    assert caught.value.code is Code.UNSUPPORTED_ALGORITHM


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "rsa2048-ssa"])
def test_honest_device_with_any_supported_key_is_affirming(kind: str) -> None:
    """N20: pcrDigest uses the signing scheme's hash, SHA-384 over a SHA-256 bank for P-384."""
    result = Courtroom(kind).judge()

    assert result.status is TrustTier.AFFIRMING
    assert result.vector.as_claims() == {
        Claim.INSTANCE_IDENTITY: 2,
        Claim.HARDWARE: 2,
        Claim.CONFIGURATION: 2,
        Claim.EXECUTABLES: 3,
    }
