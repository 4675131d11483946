"""Enrolment with somebody else's proofs: N11, N13, N17, N18, N41, N43 and their kin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attestation.errors import AttestationError, InputError, VerificationError
from attestation.evidence import certify_qualifying_data
from attestation.refusals import RefusalCode as Code
from attestation.result import TrustTier
from attestation.wire.evidence_codec import decode_evidence
from device_agent.ports import KeyRole
from tests.simulators.soft_device import (
    IAK_ATTRIBUTES,
    IDEVID_ATTRIBUTES,
    LDEVID_ATTRIBUTES,
    Lies,
    SoftManufacturer,
    SoftTpm,
    soft_key,
)
from tests.verifier.appraisal.courtroom import NOW, SHA256
from tests.verifier.issuance.factory_floor import FactoryFloor
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.issuance.enrol import enrolment_subject, require_id_free
from verifier.issuance.enrolment_policy import DEFAULT_POLICY


@pytest.fixture
def floor() -> FactoryFloor:
    return FactoryFloor()


def refused(code: Code, enrol: Callable[[], object]) -> AttestationError:
    with pytest.raises(VerificationError) as caught:
        enrol()
    assert caught.value.code is code, caught.value
    return caught.value


def another(floor: FactoryFloor, maker: SoftManufacturer | None = None) -> SoftTpm:
    tpm = SoftTpm(serial="BOX-0666", manufacturer=maker or floor.maker)
    tpm.create_ldevid()
    return tpm


# --- the connection and the certificates ---------------------------------------------------


def test_request_over_a_connection_of_another_idevid_is_refused(floor: FactoryFloor) -> None:
    other = another(floor).certificates[KeyRole.IDEVID]

    refused(Code.CLIENT_CERTIFICATE_WRONG, lambda: floor.enrol(presented=other))


def test_device_of_a_foreign_manufacturer_is_refused(floor: FactoryFloor) -> None:
    """N41: same names, another key."""
    floor.maker = SoftManufacturer()
    floor.tpm = another(floor)
    floor.tpm.load_pcrs({SHA256: {}})

    refused(Code.CERTIFICATE_UNTRUSTED, floor.enrol)


def test_iak_of_a_foreign_manufacturer_is_refused(floor: FactoryFloor) -> None:
    foreign = SoftManufacturer()
    key = floor.tpm.keys[KeyRole.IAK].private.public_key()
    chain = (foreign.issue(KeyRole.IAK, key, "BOX-0042"),)

    refused(Code.CERTIFICATE_UNTRUSTED, lambda: floor.enrol(floor.request(iak_chain=chain)))


def test_iak_of_a_second_trusted_manufacturer_with_the_same_serial_is_refused(
    floor: FactoryFloor,
) -> None:
    """Serial numbers are unique for one manufacturer only."""
    second = SoftManufacturer("Second Maker")
    floor.terms = replace(
        floor.terms, anchors=TrustAnchors.from_pem(floor.maker.root_pem, second.root_pem)
    )
    key = floor.tpm.keys[KeyRole.IAK].private.public_key()
    chain = (second.issue(KeyRole.IAK, key, "BOX-0042"),)

    refused(Code.IDEVID_IAK_MISMATCH, lambda: floor.enrol(floor.request(iak_chain=chain)))


def short_lived(floor: FactoryFloor, role: KeyRole, start: datetime, end: datetime) -> bytes:
    key = floor.tpm.keys[role].private.public_key()
    return floor.maker.issue(role, key, "BOX-0042", not_before=start, not_after=end)


@pytest.mark.parametrize("role", [KeyRole.IDEVID, KeyRole.IAK])
def test_expired_device_certificate_is_refused(floor: FactoryFloor, role: KeyRole) -> None:
    """N43."""
    floor.tpm.certificates[role] = short_lived(
        floor, role, NOW - timedelta(days=9), NOW - timedelta(seconds=1)
    )

    refused(Code.CERTIFICATE_EXPIRED, floor.enrol)


@pytest.mark.parametrize("role", [KeyRole.IDEVID, KeyRole.IAK])
def test_device_certificate_from_the_future_is_refused(floor: FactoryFloor, role: KeyRole) -> None:
    floor.tpm.certificates[role] = short_lived(
        floor, role, NOW + timedelta(seconds=1), NOW + timedelta(days=9)
    )

    refused(Code.CERTIFICATE_NOT_YET_VALID, floor.enrol)


def test_device_of_an_expired_manufacturer_is_refused(floor: FactoryFloor) -> None:
    """N43: the anchor's own end counts."""
    floor.maker = SoftManufacturer(
        not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=NOW - timedelta(days=1)
    )
    floor.tpm = another(floor)
    floor.terms = replace(floor.terms, anchors=TrustAnchors.from_pem(floor.maker.root_pem))

    refused(Code.CERTIFICATE_EXPIRED, floor.enrol)


def test_iak_certificate_shown_as_idevid_is_refused(floor: FactoryFloor) -> None:
    """N41."""
    iak = floor.tpm.certificates[KeyRole.IAK]
    nonce = floor.nonce(enrolment_subject(iak))
    request = floor.request(nonce, idevid_chain=(iak,))

    refused(Code.CERTIFICATE_PROFILE_WRONG, lambda: floor.enrol(request, presented=iak))


def test_idevid_certificate_shown_as_iak_is_refused(floor: FactoryFloor) -> None:
    """N41: without the attestation key usage no certificate endorses an attestation key."""
    request = floor.request(iak_chain=(floor.idevid(),))

    refused(Code.CERTIFICATE_PROFILE_WRONG, lambda: floor.enrol(request))


@pytest.mark.parametrize("weak", ["p192", "rsa1024"])
def test_device_key_that_is_too_weak_is_refused(floor: FactoryFloor, weak: str) -> None:
    key = (
        ec.generate_private_key(ec.SECP192R1())
        if weak == "p192"
        else rsa.generate_private_key(65537, 1024)  # noqa: S505 - weak on purpose
    )
    chain = (floor.maker.issue(KeyRole.IAK, key.public_key(), "BOX-0042"),)

    refused(Code.KEY_TOO_WEAK, lambda: floor.enrol(floor.request(iak_chain=chain)))


# --- one device ----------------------------------------------------------------------------


def test_iak_certificate_of_another_device_is_refused(floor: FactoryFloor) -> None:
    """N11: both genuine, of two devices."""
    other = another(floor)
    request = floor.request(
        iak_chain=(other.certificates[KeyRole.IAK],), iak_public=other.public_area(KeyRole.IAK)
    )

    refused(Code.IDEVID_IAK_MISMATCH, lambda: floor.enrol(request))


def test_iak_certificate_of_another_hardware_module_is_refused(floor: FactoryFloor) -> None:
    key = floor.tpm.keys[KeyRole.IAK].private.public_key()
    chain = (floor.maker.issue(KeyRole.IAK, key, "BOX-0042", hardware_serial="OTHER"),)

    refused(Code.IDEVID_IAK_MISMATCH, lambda: floor.enrol(floor.request(iak_chain=chain)))


def test_iak_certificate_that_names_no_device_is_refused(floor: FactoryFloor) -> None:
    key = floor.tpm.keys[KeyRole.IAK].private.public_key()
    chain = (floor.maker.issue(KeyRole.IAK, key, "BOX-0042", without=frozenset({"serial", "san"})),)

    refused(Code.IDEVID_IAK_MISMATCH, lambda: floor.enrol(floor.request(iak_chain=chain)))


def test_idevid_of_another_tpm_than_the_iaks_is_refused(floor: FactoryFloor) -> None:
    """N11: certificates of one serial, keys in two TPMs; only the certification tells."""
    stolen = another(floor)
    key = stolen.keys[KeyRole.IDEVID].private.public_key()
    floor.tpm.certificates[KeyRole.IDEVID] = floor.maker.issue(KeyRole.IDEVID, key, "BOX-0042")
    request = floor.request(idevid_public=stolen.public_area(KeyRole.IDEVID))

    refused(Code.IDEVID_IAK_MISMATCH, lambda: floor.enrol(request))


@pytest.mark.parametrize(
    ("field", "role"), [("idevid_public", KeyRole.IDEVID), ("iak_public", KeyRole.IAK)]
)
def test_public_area_of_another_key_than_the_certificates_is_refused(
    floor: FactoryFloor, field: str, role: KeyRole
) -> None:
    """N11, N17."""
    request = floor.request(**{field: another(floor).public_area(role)})

    refused(Code.CERTIFICATE_KEY_MISMATCH, lambda: floor.enrol(request))


# --- key attributes ------------------------------------------------------------------------


def with_key(floor: FactoryFloor, role: KeyRole, attributes: int) -> None:
    key = floor.tpm.keys[role] = soft_key("p256", role, attributes=attributes)
    if role is not KeyRole.LDEVID:
        certificate = floor.maker.issue(role, key.private.public_key(), "BOX-0042")
        floor.tpm.certificates[role] = certificate


def test_unrestricted_attestation_key_is_refused(floor: FactoryFloor) -> None:
    """N8, N18: even with a genuine certificate."""
    with_key(floor, KeyRole.IAK, IDEVID_ATTRIBUTES)

    refused(Code.AK_NOT_RESTRICTED, floor.enrol)


def test_duplicable_attestation_key_is_refused(floor: FactoryFloor) -> None:
    """N18."""
    with_key(floor, KeyRole.IAK, IAK_ATTRIBUTES & ~(1 << 1))

    refused(Code.AK_ATTRIBUTES_WRONG, floor.enrol)


@pytest.mark.parametrize("role", [KeyRole.IDEVID, KeyRole.LDEVID])
@pytest.mark.parametrize("bit", [1, 4, 5])
def test_device_key_that_may_leave_its_tpm_is_refused(
    floor: FactoryFloor, role: KeyRole, bit: int
) -> None:
    whole = IDEVID_ATTRIBUTES if role is KeyRole.IDEVID else LDEVID_ATTRIBUTES
    with_key(floor, role, whole & ~(1 << bit))

    refused(Code.KEY_ATTRIBUTES_WRONG, floor.enrol)


# --- certification -------------------------------------------------------------------------


def test_certification_by_another_tpm_is_refused(floor: FactoryFloor) -> None:
    """N11."""
    witness = another(floor)
    witness.keys[KeyRole.IDEVID] = floor.tpm.keys[KeyRole.IDEVID]
    witness.keys[KeyRole.LDEVID] = floor.tpm.keys[KeyRole.LDEVID]

    refused(Code.CERTIFY_SIGNATURE_INVALID, lambda: floor.enrol(floor.request(witness=witness)))


def test_certification_of_another_ldevid_key_is_refused(floor: FactoryFloor) -> None:
    """N17: a key outside the TPM, presented beside the certification of one inside."""
    software = soft_key("p256", KeyRole.LDEVID)

    refused(
        Code.CERTIFY_MISMATCH,
        lambda: floor.enrol(floor.request(ldevid_public=software.public_area)),
    )


def test_certification_for_another_challenge_is_refused(floor: FactoryFloor) -> None:
    """N10."""
    old = certify_qualifying_data(floor.enrolment_nonce(), "ldevid")
    certify = floor.tpm.certify(KeyRole.LDEVID, old)

    refused(Code.CERTIFY_MISMATCH, lambda: floor.enrol(floor.request(ldevid_certify=certify)))


def test_certification_of_one_purpose_does_not_serve_another(floor: FactoryFloor) -> None:
    nonce = floor.enrolment_nonce()
    certify = floor.tpm.certify(KeyRole.LDEVID, certify_qualifying_data(nonce, "idevid"))

    refused(
        Code.CERTIFY_MISMATCH, lambda: floor.enrol(floor.request(nonce, ldevid_certify=certify))
    )


def test_quote_presented_as_a_certification_is_refused(floor: FactoryFloor) -> None:
    """N9, the other way round."""
    nonce = floor.enrolment_nonce()
    quote = floor.tpm.quote(floor.policy.selections, certify_qualifying_data(nonce, "ldevid"))

    refused(Code.CERTIFY_MISMATCH, lambda: floor.enrol(floor.request(nonce, ldevid_certify=quote)))


# --- the request for a certificate ---------------------------------------------------------


def test_csr_for_another_key_than_the_certified_one_is_refused(floor: FactoryFloor) -> None:
    """N17."""
    csr = another(floor).csr(KeyRole.LDEVID, "box-0042", ())

    refused(Code.CSR_KEY_MISMATCH, lambda: floor.enrol(floor.request(csr=csr)))


def test_csr_whose_signature_does_not_verify_is_refused(floor: FactoryFloor) -> None:
    csr = bytearray(floor.tpm.csr(KeyRole.LDEVID, "box-0042", ()))
    csr[csr.index(b"box-0042")] ^= 1

    refused(Code.CSR_SIGNATURE_INVALID, lambda: floor.enrol(floor.request(csr=bytes(csr))))


@pytest.mark.parametrize("junk", [b"\x30\x00", b"not a request"])
def test_csr_that_is_none_is_malformed(floor: FactoryFloor, junk: bytes) -> None:
    with pytest.raises(InputError) as caught:
        floor.enrol(floor.request(csr=junk))

    assert caught.value.code is Code.CSR_MALFORMED


def test_request_without_csr_lacks_a_proof(floor: FactoryFloor) -> None:
    error = refused(Code.PROOFS_MISSING, lambda: floor.enrol(floor.request(csr=b"")))

    assert "pop" in error.reason


def test_csr_followed_by_bytes_is_malformed(floor: FactoryFloor) -> None:
    csr = floor.tpm.csr(KeyRole.LDEVID, "x", ()) + b"\x00"

    with pytest.raises(InputError) as caught:
        floor.enrol(floor.request(csr=csr))

    assert caught.value.code is Code.CSR_MALFORMED


# --- freshness and state -------------------------------------------------------------------


def test_enrolment_nonce_of_another_device_is_refused(floor: FactoryFloor) -> None:
    """N10: bound to the IDevID certificate of the connection."""
    theirs = floor.nonce(enrolment_subject(another(floor).certificates[KeyRole.IDEVID]))

    refused(Code.NONCE_FORGED, lambda: floor.enrol(floor.request(theirs)))


def test_attestation_nonce_does_not_serve_enrolment(floor: FactoryFloor) -> None:
    refused(Code.NONCE_FORGED, lambda: floor.enrol(floor.request(floor.nonce("box-0042"))))


def test_enrolment_nonce_does_not_serve_attestation(floor: FactoryFloor) -> None:
    result = floor.judge(floor.evidence(floor.enrolment_nonce()))

    assert {one.code for one in result.findings} == {Code.NONCE_FORGED}


def test_enrolment_nonce_answered_too_late_is_refused(floor: FactoryFloor) -> None:
    request = floor.request()
    floor.at += timedelta(minutes=3)

    refused(Code.NONCE_EXPIRED, lambda: floor.enrol(request))


def test_tampered_device_may_not_enrol(floor: FactoryFloor) -> None:
    floor.tpm.extend(SHA256, 4, b"\x01" * 32)

    error = refused(Code.EVIDENCE_NOT_ACCEPTABLE, floor.enrol)

    assert "log-replay-mismatch: PCR 4 (sha256)" in error.reason


def test_evidence_of_another_tpm_may_not_enrol(floor: FactoryFloor) -> None:
    """N11: whatever the owner lets in, the quote must be by this attestation key."""
    lenient = replace(DEFAULT_POLICY.devices[0], accept=TrustTier.CONTRAINDICATED)
    policy = replace(DEFAULT_POLICY, devices=(lenient,))
    floor.terms = replace(floor.terms, enrolment=policy)
    nonce = floor.enrolment_nonce()
    floor.tpm.lies = Lies(sign_with=another(floor).keys[KeyRole.IAK])
    foreign = floor.message(nonce)
    floor.tpm.lies = Lies()

    error = refused(
        Code.EVIDENCE_NOT_ACCEPTABLE, lambda: floor.enrol(floor.request(nonce, evidence=foreign))
    )

    assert "quote-signature-invalid" in error.reason


def test_evidence_for_another_challenge_may_not_enrol(floor: FactoryFloor) -> None:
    stale, nonce = floor.message(floor.enrolment_nonce()), floor.enrolment_nonce()
    assert decode_evidence(stale).nonce != nonce

    refused(Code.CERTIFY_MISMATCH, lambda: floor.enrol(floor.request(nonce, evidence=stale)))


# --- the id --------------------------------------------------------------------------------


def test_device_id_of_another_attestation_key_is_taken(floor: FactoryFloor) -> None:
    """N13: another TPM under a known serial."""
    known = floor.enrol()
    other = FactoryFloor()

    refused(Code.DEVICE_ID_TAKEN, lambda: require_id_free(other.enrol(), known.enrolment))


def test_revoked_device_may_not_enrol_again(floor: FactoryFloor) -> None:
    accepted = floor.enrol()

    refused(
        Code.DEVICE_REVOKED,
        lambda: require_id_free(accepted, replace(accepted.enrolment, revoked=True)),
    )


def test_known_device_may_enrol_again(floor: FactoryFloor) -> None:
    require_id_free(floor.enrol(), floor.enrol().enrolment)
    require_id_free(floor.enrol(), None)
