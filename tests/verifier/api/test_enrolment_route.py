"""Enrolment over real TLS, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attestation import der
from attestation.wire.enrolment_codec import encode_enrolment
from attestation.wire.media_types import ENROLMENT
from device_agent.ports import KeyRole
from tests.simulators.soft_device import SoftTpm
from tests.simulators.verifier_site import SiteDevice, VerifierSite
from verifier.services.devices import Devices

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256 (SP 800-186, 3.2.1.3)."""


def send(device: SiteDevice, **changes: object) -> tuple[int, dict[str, object]]:
    client = device.idevid_client()
    challenge = client.post("/enrol/v1/challenges").json
    request = replace(device.enrolment_request(challenge), **changes)  # type: ignore[arg-type]
    answer = client.post("/enrol/v1/requests", encode_enrolment(request), ENROLMENT)
    return answer.status, answer.json


def test_accepted_device_gets_a_certificate_with_its_id_and_identity(device: SiteDevice) -> None:
    leaf, issuer = x509.load_pem_x509_certificates(device.chain_pem)

    leaf.verify_directly_issued_by(issuer)
    assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == device.device_id
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"spiffe://fleet.example/device/{device.device_id}"
    ]


def test_enrolment_records_a_first_result(site: VerifierSite, device: SiteDevice) -> None:
    _, newest = Devices(site.running.store).show(device.device_id)

    assert newest is not None
    assert newest.seq == 1
    assert [verdict for _, _, verdict, _ in newest.steps[:4]] == ["passed"] * 4


def test_same_device_may_enrol_again_and_keeps_its_history(
    site: VerifierSite, device: SiteDevice
) -> None:
    device.attest()

    assert device.enrol().status == 201

    results = Devices(site.running.store).history(device.device_id, before=0, limit=10)
    assert [result.seq for result in results] == [3, 2, 1]
    assert device.attest().status == 200


def test_replayed_enrolment_request_is_refused(device: SiteDevice) -> None:
    client = device.idevid_client()
    message = encode_enrolment(device.enrolment_request(client.post("/enrol/v1/challenges").json))
    assert client.post("/enrol/v1/requests", message, ENROLMENT).status == 201

    again = client.post("/enrol/v1/requests", message, ENROLMENT)

    assert (again.status, again.json["code"]) == (403, "nonce-reused")


def test_id_of_another_tpm_is_taken(site: VerifierSite, device: SiteDevice) -> None:
    thief = SiteDevice(site=site, tpm=SoftTpm(site.manufacturer, serial=device.tpm.serial))

    answer = thief.enrol()

    assert (answer.status, answer.json["code"]) == (409, "device-id-taken")
    assert device.attest().status == 200


def test_revoked_device_cannot_enrol_again(site: VerifierSite, device: SiteDevice) -> None:
    Devices(site.running.store).revoke(device.device_id, "stolen", datetime.now(UTC))

    answer = device.enrol()

    assert (answer.status, answer.json["code"]) == (403, "device-revoked")


def test_other_ldevid_key_than_the_certified_one_is_refused(
    new_device: Callable[[], SiteDevice],
) -> None:
    device, other = new_device(), new_device()
    other.tpm.create_ldevid()

    status, problem = send(device, csr=other.tpm.csr(KeyRole.LDEVID, "device", ()))

    assert (status, problem["code"]) == (403, "csr-key-mismatch")


def test_refused_enrolment_leaves_nothing_behind(
    site: VerifierSite, new_device: Callable[[], SiteDevice]
) -> None:
    device = new_device()
    device.tamper()

    answer = device.enrol()

    assert (answer.status, answer.json["code"]) == (403, "evidence-not-acceptable")
    known = [record.hardware_serial for record in site.running.store.devices(limit=500)]
    assert device.tpm.serial not in known


def test_refused_enrolment_is_counted_and_logged_with_its_reason(
    site: VerifierSite, new_device: Callable[[], SiteDevice], capfd: pytest.CaptureFixture[str]
) -> None:
    device = new_device()
    device.tamper()
    device.enrol()

    assert 'requests_refused_total{code="evidence-not-acceptable"}' in (
        site.running.metrics.render().decode()
    )
    told = [line for line in "".join(capfd.readouterr()).splitlines() if "proof_refused" in line]
    assert told
    assert "evidence-not-acceptable" in told[0]


def test_malformed_enrolment_is_a_400(new_device: Callable[[], SiteDevice]) -> None:
    answer = new_device().idevid_client().post("/enrol/v1/requests", b"\xff", ENROLMENT)

    assert answer.status == 400


def signed_otherwise(leaf: x509.Certificate) -> x509.Certificate:
    """The same certificate with the other signature: of (r, s), (r, n - s) is as valid."""
    r, s = decode_dss_signature(leaf.signature)
    other = encode_dss_signature(r, ORDER - s)
    made = der.write(
        der.SEQUENCE,
        leaf.tbs_certificate_bytes
        + der.write(der.SEQUENCE, der.write_oid(leaf.signature_algorithm_oid.dotted_string))
        + der.write(der.BIT_STRING, b"\0" + other),
    )
    return x509.load_der_x509_certificate(made)


def test_certificate_of_ours_with_its_other_signature_is_not_taken_for_the_makers(
    device: SiteDevice,
) -> None:
    """It holds in TLS as the recorded one does, and has another digest."""
    leaf, *above = x509.load_pem_x509_certificates(device.chain_pem)
    other = signed_otherwise(leaf)
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in (other, *above))

    answer = replace(device, chain_pem=chain).new_client().post("/enrol/v1/challenges")

    assert other.tbs_certificate_bytes == leaf.tbs_certificate_bytes
    assert other != leaf
    assert (answer.status, answer.json["code"]) == (403, "client-certificate-wrong")
