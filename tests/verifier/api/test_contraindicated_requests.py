"""Whoever asks for a certificate and shows that it is unwell: what falls, and what must not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from attestation.refusals import RefusalCode as Code
from attestation.result import TrustTier
from attestation.wire.enrolment_codec import EnrolmentRequest, encode_enrolment
from attestation.wire.media_types import ENROLMENT
from tests.simulators import est
from tests.simulators.soft_device import SoftTpm
from tests.simulators.trust_yard import TrustYard, without_idevid
from tests.simulators.verifier_site import Answer, Client, SiteDevice, VerifierSite
from verifier.issuance.reasons import Reason
from verifier.ports import StoredResult
from verifier.services.devices import Devices

Ask = Callable[[SiteDevice], Answer]
NewDevice = Callable[[], SiteDevice]


def request_of(device: SiteDevice, client: Client) -> EnrolmentRequest:
    return device.enrolment_request(client.post("/enrol/v1/challenges").json)


def send(client: Client, request: EnrolmentRequest) -> Answer:
    return client.post("/enrol/v1/requests", encode_enrolment(request), ENROLMENT)


def by_idevid(device: SiteDevice) -> Answer:
    client = device.idevid_client()
    return send(client, request_of(device, client))


def by_certificate(device: SiteDevice) -> Answer:
    return send(device.client, without_idevid(request_of(device, device.client)))


def by_est(device: SiteDevice) -> Answer:
    return est.enrol(device)


def by_est_renewal(device: SiteDevice) -> Answer:
    return est.enrol(
        device,
        without_idevid,
        client=device.client,
        operation="simplereenroll",
        names=est.current_names(device),
    )


def newest(device: SiteDevice) -> StoredResult:
    _, found = Devices(device.site.running.store).show(device.device_id)
    assert found is not None
    return found


def reasons(device: SiteDevice) -> list[int | None]:
    """For each certificate of a device why it was revoked; None while it is in force."""
    return [
        one.revoked_code if one.revoked_at else None
        for one in device.site.running.store.certificates(device=device.device_id)  # type: ignore[arg-type]
    ]


def refused(answer: Answer, code: Code = Code.EVIDENCE_NOT_ACCEPTABLE, status: int = 403) -> None:
    assert (answer.status, answer.json["code"]) == (status, code), answer.body


def stands(device: SiteDevice) -> None:
    """Nothing has happened to the device: neither result nor certificate nor door."""
    assert newest(device).seq == 1
    assert newest(device).status < TrustTier.CONTRAINDICATED
    assert reasons(device) == [None]
    assert device.attest().status == 200


# --- what falls ---------------------------------------------------------------------------------
@pytest.mark.parametrize("ask", [by_idevid, by_certificate, by_est, by_est_renewal])
def test_known_device_that_asks_with_contraindicated_evidence_falls(
    device: SiteDevice, ask: Ask
) -> None:
    store = device.site.running.store
    device.tamper()

    refused(ask(device))

    found = newest(device)
    assert (found.seq, found.status, found.allow) == (2, TrustTier.CONTRAINDICATED, False)
    assert any("log-replay-mismatch" in line for line in found.reasons)
    assert store.last_evidence(found.device) is not None
    assert reasons(device) == [Reason.PRIVILEGE_WITHDRAWN]
    assert ("contraindicated", device.device_id) in {
        (one.code, one.subject) for one in store.alarms()
    }


def test_device_that_fell_at_the_enrolment_door_is_told_so_at_every_other(
    device: SiteDevice,
) -> None:
    assert device.attest().status == 200  # the verifier holds it in memory
    device.tamper()
    by_idevid(device)

    refused(device.client.post("/enrol/v1/tokens"), Code.CERTIFICATE_REVOKED)
    again = device.attest()
    assert (again.status, again.json["status"]) == (200, "contraindicated")


def test_device_that_fell_at_the_enrolment_door_comes_back_once_it_is_well(
    device: SiteDevice,
) -> None:
    device.tamper()
    by_idevid(device)
    device.tpm.reboot()
    assert device.log is not None
    device.boot(device.log)

    assert device.enrol().status == 201

    assert newest(device).status < TrustTier.CONTRAINDICATED
    assert reasons(device) == [Reason.PRIVILEGE_WITHDRAWN, None]
    assert device.attest().status == 200


def test_what_fell_at_the_enrolment_door_is_logged_and_told_to_whoever_asks_for_decisions(
    site: VerifierSite, device: SiteDevice, capfd: pytest.CaptureFixture[str]
) -> None:
    device.tamper()

    by_idevid(device)

    logged = "".join(capfd.readouterr()).splitlines()
    (line,) = [one for one in logged if "evidence_appraised" in one and device.device_id in one]
    assert "status=contraindicated" in line

    reader = site.client(token=site.token(name=f"reader of {device.device_id}"))
    told = reader.get(f"/decisions/v1/devices/{device.device_id}").json
    assert told["allow"] is False
    assert any("contraindicated" in reason for reason in told["reasons"])


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrustYard]:
    made = TrustYard(tmp_path_factory.mktemp("yard"))
    with made.site:
        yield made


def test_device_that_is_known_by_its_endorsement_key_falls_without_a_client_certificate(
    yard: TrustYard,
) -> None:
    device, ek = yard.device("ANY-0001"), yard.certified_ek()
    assert yard.enrol(device, ek=ek, idevid=False).status == 201
    device.tamper()

    refused(yard.enrol(device, ek=ek, idevid=False))

    assert newest(device).status == TrustTier.CONTRAINDICATED
    assert reasons(device) == [Reason.PRIVILEGE_WITHDRAWN]


def test_endorsement_key_with_another_attestation_key_fells_nobody(yard: TrustYard) -> None:
    """Whoever owns the TPM can make another attestation key in it; that is not the device's."""
    device, ek = yard.device("ANY-0002"), yard.certified_ek()
    assert yard.enrol(device, ek=ek, idevid=False).status == 201
    other = yard.device("ANY-0003")
    other.tamper()

    refused(yard.enrol(other, ek=ek, idevid=False))

    stands(device)


# --- what must not ------------------------------------------------------------------------------
def test_device_that_is_not_known_leaves_nothing(new_device: NewDevice) -> None:
    stranger = new_device()
    stranger.tamper()

    refused(by_idevid(stranger))

    store = stranger.site.running.store
    assert stranger.tpm.serial not in {one.hardware_serial for one in store.devices(limit=500)}
    assert stranger.tpm.serial.lower() not in {one.subject for one in store.alarms()}


@pytest.mark.parametrize("ask", [by_idevid, by_est])
def test_contraindicated_evidence_of_another_tpm_with_the_same_serial_number_fells_nobody(
    site: VerifierSite, device: SiteDevice, ask: Ask
) -> None:
    impostor = SiteDevice(site=site, tpm=SoftTpm(site.manufacturer, serial=device.tpm.serial))
    impostor.tamper()

    refused(ask(impostor))

    stands(device)


@pytest.mark.parametrize("known", [True, False])
def test_evidence_that_another_device_signed_fells_neither(
    device: SiteDevice, new_device: NewDevice, *, known: bool
) -> None:
    other = new_device()
    assert other.enrol().status == 201
    other.tamper()
    client = device.client if known else device.idevid_client()
    challenge = client.post("/enrol/v1/challenges").json
    request = replace(device.enrolment_request(challenge), evidence=other.evidence(challenge))

    answer = send(client, without_idevid(request) if known else request)

    refused(answer)
    assert "quote-signature-invalid" in answer.json["detail"]
    stands(device)
    stands(other)


def test_device_that_names_another_in_its_request_fells_neither(
    device: SiteDevice, new_device: NewDevice
) -> None:
    other = new_device()
    assert other.enrol().status == 201
    other.tamper()
    challenge = device.client.post("/enrol/v1/challenges").json

    refused(send(device.client, other.enrolment_request(challenge)), Code.CLIENT_CERTIFICATE_WRONG)

    stands(device)
    stands(other)


def test_evidence_that_answers_another_doors_challenge_fells_nobody(device: SiteDevice) -> None:
    challenge = device.ask()
    device.tamper()
    attested = device.evidence(challenge)
    client = device.idevid_client()
    request = replace(request_of(device, client), evidence=attested)

    refused(send(client, request), Code.NONCE_FORGED)

    assert reasons(device) == [None]
    assert newest(device).seq == 1


def test_refused_request_that_is_replayed_after_recovery_fells_nobody(device: SiteDevice) -> None:
    device.tamper()
    client = device.idevid_client()
    request = request_of(device, client)
    refused(send(client, request))
    device.tpm.reboot()
    assert device.log is not None
    device.boot(device.log)
    assert device.enrol().status == 201

    refused(send(client, request))

    assert newest(device).seq == 3
    assert reasons(device) == [Reason.PRIVILEGE_WITHDRAWN, None]


def test_request_that_is_sent_twice_is_recorded_once(device: SiteDevice) -> None:
    device.tamper()
    client = device.idevid_client()
    request = request_of(device, client)

    refused(send(client, request))
    refused(send(client, request))

    assert newest(device).seq == 2


def test_contraindicated_evidence_whose_key_is_certified_by_another_fells_nobody(
    device: SiteDevice, new_device: NewDevice
) -> None:
    """Nobody is accused by a request that does not hold together."""
    other = new_device()
    other.tpm.create_ldevid()
    device.tamper()
    client = device.idevid_client()
    challenge = client.post("/enrol/v1/challenges").json
    theirs = other.enrolment_request(challenge)

    answer = send(
        client, replace(device.enrolment_request(challenge), ldevid_certify=theirs.ldevid_certify)
    )

    assert answer.status == 403
    assert answer.json["code"] != Code.EVIDENCE_NOT_ACCEPTABLE
    assert newest(device).seq == 1


def test_revoked_device_stays_as_it_was_judged(device: SiteDevice) -> None:
    Devices(device.site.running.store).revoke(device.device_id, "stolen", datetime.now(UTC))
    device.tamper()

    refused(by_idevid(device))

    assert newest(device).seq == 1
