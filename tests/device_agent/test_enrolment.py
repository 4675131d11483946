from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from attestation.algorithms import HashAlgorithm
from attestation.evidence import certify_qualifying_data
from attestation.pcr import PcrSelection
from attestation.tpm.attest import parse_attest
from attestation.tpm.public import parse_public
from attestation.tpm.signature import verify_attest
from attestation.wire.enrolment_codec import decode_enrolment
from attestation.wire.evidence_codec import decode_evidence
from device_agent.collector import Sources
from device_agent.enrolment import build_enrolment
from device_agent.errors import TpmKeyMissing
from device_agent.ports import ChallengeReply, KeyRole
from device_agent.sources.firmware_log import FirmwareLogFile
from device_agent.sources.host import HostFacts
from tests.simulators.soft_device import SoftManufacturer, SoftTpm

CHALLENGE = ChallengeReply(
    nonce=b"\x09" * 56,
    selections=(PcrSelection(bank=HashAlgorithm.SHA256, indices=(0,)),),
    expires_in_s=60,
)


def sources(tpm: SoftTpm, log: Path | None = None) -> Sources:
    return Sources(tpm=tpm, firmware_log=FirmwareLogFile(log), host=HostFacts(agent_version="test"))


def test_every_part_of_a_request_answers_the_same_nonce() -> None:
    manufacturer = SoftManufacturer(intermediate=True)
    tpm = SoftTpm(manufacturer)

    request = decode_enrolment(
        build_enrolment(sources(tpm), CHALLENGE, intermediates=manufacturer.intermediates)
    )

    iak = parse_public(request.iak_public)
    for certify, subject, public in (
        (request.idevid_certify, "idevid", request.idevid_public),
        (request.ldevid_certify, "ldevid", request.ldevid_public),
    ):
        verify_attest(iak, certify.attest, certify.signature)
        said = parse_attest(certify.attest)
        assert said.extra == certify_qualifying_data(CHALLENGE.nonce, subject)
        assert said.certified is not None
        assert said.certified.name == parse_public(public).name
    assert decode_evidence(request.evidence).nonce == CHALLENGE.nonce
    assert request.idevid_chain == (
        tpm.certificate(KeyRole.IDEVID),
        *manufacturer.intermediates,
    )


def test_the_csr_is_of_the_certified_ldevid_key() -> None:
    tpm = SoftTpm(SoftManufacturer())

    request = decode_enrolment(build_enrolment(sources(tpm), CHALLENGE))

    csr = x509.load_der_x509_csr(request.csr)
    assert csr.is_signature_valid
    assert csr.public_key() == parse_public(request.ldevid_public).key


def test_an_enrolment_always_brings_the_whole_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"log")
    tpm = SoftTpm(SoftManufacturer())

    request = decode_enrolment(build_enrolment(sources(tpm, tmp_path / "log"), CHALLENGE))

    log = decode_evidence(request.evidence).firmware_log
    assert log is not None
    assert log.content == b"log"


@pytest.mark.parametrize("role", [KeyRole.IDEVID, KeyRole.IAK])
def test_a_missing_key_says_what_to_do(role: KeyRole) -> None:
    tpm = SoftTpm(SoftManufacturer())
    tpm.forget(role)

    with pytest.raises(TpmKeyMissing, match=f"no {role.value} key; run 'device-agent factory"):
        build_enrolment(sources(tpm), CHALLENGE)


def test_a_missing_certificate_says_what_to_do() -> None:
    with pytest.raises(TpmKeyMissing, match="device-agent factory install"):
        build_enrolment(sources(SoftTpm()), CHALLENGE)
