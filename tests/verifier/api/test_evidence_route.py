"""POST /attest/v1/evidence over real TLS with real client certificates."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from attestation.wire.ear import EarProfile, verify_ear_jwt
from attestation.wire.media_types import EVIDENCE
from tests.simulators.firmware_log import NO_ACTION, agile_event
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import Answer, SiteDevice, VerifierSite, boot_log, now
from verifier.appraisal.replay_cache import ReplayCache
from verifier.ports.credentials import SUPERSEDED
from verifier.services.attest import LOGS_KEPT_AT_ONCE, LogNotInMemory
from verifier.services.devices import Devices
from verifier.services.reference_values import ReferenceValues

AFTER_REFRESH = 0.6


def test_answer_holds_a_result_signed_by_a_published_key(
    site: VerifierSite, device: SiteDevice
) -> None:
    answer = device.attest().json

    keys = site.client().get("/.well-known/jwks.json").json
    ear = verify_ear_jwt(answer["result"], keys, at=datetime.now(UTC))

    assert set(ear.submods) == {device.device_id}
    assert ear.status.label == answer["status"] == "warning"


@pytest.mark.parametrize("profile", EarProfile)
def test_results_are_written_in_the_dialect_that_the_settings_name(
    profile: EarProfile, tmp_path: Path
) -> None:
    extra = f'[results]\ndialect = "{profile.word}"'
    with VerifierSite(tmp_path, SoftManufacturer(), extra=extra) as site:
        device = site.device("DIALECT-1")
        enrolled = device.enrol().json
        answer = device.attest().json
        keys = site.client().get("/.well-known/jwks.json").json

    for token in (enrolled["result"], answer["result"]):
        ear = verify_ear_jwt(token, keys, at=datetime.now(UTC))
        claims = jwt.decode(token, options={"verify_signature": False})
        assert (ear.profile, claims["eat_profile"]) == (profile, profile.value)
        dotted = "ear.status" in claims["submods"][device.device_id]
        assert dotted is (profile is not EarProfile.DRAFT_03)
    assert ear.status.label == answer["status"]


def test_quote_held_back_gains_no_belief_beyond_its_nonces_lifetime(
    site: VerifierSite, device: SiteDevice
) -> None:
    """A quote of a good boot, kept while a bad one runs, is believed from when its nonce began."""
    held_back = 1.5
    message = device.evidence(device.ask())
    threading.Event().wait(held_back)

    answer = device.submit(message).json

    keys = site.client().get("/.well-known/jwks.json").json
    ear = verify_ear_jwt(answer["result"], keys, at=datetime.now(UTC))
    believed = ear.expires_at - ear.issued_at
    assert believed <= site.running.lifetime - timedelta(seconds=1)
    assert believed > site.running.lifetime - timedelta(seconds=10)
    newest = site.running.store.newest_result(DeviceId(device.device_id))
    decision = site.client(token=site.token(name="held")).get(
        f"/decisions/v1/devices/{device.device_id}"
    )
    assert decision.status == 200
    assert newest.expires_at - newest.at <= site.running.lifetime - timedelta(seconds=held_back)


def test_device_like_the_golden_one_is_affirming_and_allowed(
    site: VerifierSite, new_device: Callable[[], SiteDevice]
) -> None:
    golden, like = new_device(), new_device()
    for one in (golden, like):
        assert one.enrol().status == 201
        one.attest()
    site.learn("golden", golden)
    threading.Event().wait(AFTER_REFRESH)

    answer = like.attest().json

    ReferenceValues(site.running.store, site.running.policy).remove("golden")
    threading.Event().wait(AFTER_REFRESH)
    assert (answer["status"], answer["allow"], answer["reasons"]) == ("affirming", True, [])


def test_unexplained_pcr_is_contraindicated_and_denied_in_words(device: SiteDevice) -> None:
    device.tamper()

    answer = device.attest().json

    assert (answer["status"], answer["allow"]) == ("contraindicated", False)
    assert answer["reasons"][0].startswith("log-replay-mismatch: PCR 4 (sha256) holds")


def test_known_log_may_be_sent_as_a_digest(device: SiteDevice) -> None:
    whole = device.evidence(device.ask())
    first = device.submit(whole)
    assert first.json["log_known"] is True

    short = device.evidence(device.challenge)

    assert len(short) < len(whole)
    assert device.submit(short).json["status"] == first.json["status"]


def test_log_that_the_last_evidence_names_is_not_forgotten(
    site: VerifierSite, device: SiteDevice
) -> None:
    """Whether it was sent whole or as a digest; one that nobody names goes."""
    device.boot(boot_log(b"a kernel of long ago"))
    old = hashlib.sha256(device.log or b"").digest()
    device.attest()
    device.attest()
    store, later = site.running.store, datetime.now(UTC) + timedelta(days=1)
    store.forget_logs(later)
    assert store.firmware_log(old) is not None

    device.boot(boot_log(b"the kernel of today"))
    device.attest()
    store.forget_logs(later)

    assert store.firmware_log(old) is None
    assert store.firmware_log(hashlib.sha256(device.log or b"").digest()) is not None


def test_log_that_must_be_replayed_first_is_not_judged_on_the_event_loop(
    site: VerifierSite, device: SiteDevice
) -> None:
    """A digest may name megabytes: while they are replayed, nobody else would be answered."""
    assert device.attest().json["log_known"]
    attest = site.running.services.attest
    record = site.running.store.device(DeviceId(device.device_id))
    assert record is not None
    message = device.evidence(device.ask())
    attest._replays = ReplayCache()

    with pytest.raises(LogNotInMemory):
        attest.judge(record, message, datetime.now(UTC), from_memory=True)
    assert device.submit(message).json["status"] == "warning"


def test_device_that_varies_its_log_does_not_fill_the_store(
    site: VerifierSite, new_device: Callable[[], SiteDevice]
) -> None:
    """Events that extend nothing can hold anything: every variant replays to the same PCRs."""
    device = new_device()
    device.enrol()
    variants = [boot_log() + agile_event(0, NO_ACTION, b"%d" % n) for n in range(12)]
    statuses = set()
    for log in variants:
        device.log, device.log_known = log, False
        statuses.add(device.attest().json["status"])

    kept = [site.running.store.firmware_log(hashlib.sha256(log).digest()) for log in variants]
    assert statuses == {"warning"}
    assert 0 < sum(log is not None for log in kept) <= LOGS_KEPT_AT_ONCE


def test_unknown_log_digest_is_asked_for_whole(device: SiteDevice) -> None:
    device.boot(boot_log(b"kernel never seen"))
    device.log_known = True

    refused = device.attest()
    device.log_known = False
    accepted = device.attest()

    assert (refused.status, refused.json["code"]) == (409, "log-unknown")
    assert accepted.status == 200


def test_reused_evidence_is_contraindicated(device: SiteDevice) -> None:
    message = device.evidence(device.ask())
    assert device.submit(message).json["status"] == "warning"

    again = device.submit(message)

    assert again.json["status"] == "contraindicated"
    assert again.json["reasons"][0].startswith("nonce-reused")


def test_one_evidence_sent_many_times_at_once_is_accepted_once(
    site: VerifierSite, device: SiteDevice
) -> None:
    message = device.evidence(device.ask())
    clients = [device.new_client() for _ in range(8)]
    for client in clients:
        client.get("/health/live")
    answers: list[Answer] = []
    barrier = threading.Barrier(len(clients))

    def send(number: int) -> None:
        barrier.wait()
        answers.append(clients[number].post("/attest/v1/evidence", message, EVIDENCE))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    done = [answer for answer in answers if answer.status == 200]
    accepted = [answer for answer in done if answer.json["status"] == "warning"]
    assert len(accepted) == 1
    assert {answer.status for answer in answers} <= {200, 409}
    results = Devices(site.running.store).history(device.device_id, before=0, limit=100)
    assert [result.seq for result in results] == list(range(len(results), 0, -1))
    assert len(results) == len(done) + 1  # and the enrolment's


def test_nonce_of_another_device_is_contraindicated(
    device: SiteDevice, new_device: Callable[[], SiteDevice]
) -> None:
    other = new_device()
    other.enrol()

    answer = device.submit(device.evidence(other.ask()))

    assert answer.json["status"] == "contraindicated"
    assert answer.json["reasons"][0].startswith("nonce-forged")


def test_evidence_of_another_device_is_contraindicated(
    device: SiteDevice, new_device: Callable[[], SiteDevice]
) -> None:
    other = new_device()
    other.enrol()

    answer = device.submit(other.evidence(device.ask()))

    assert answer.json["status"] == "contraindicated"
    assert answer.json["reasons"][0].startswith("quote-signature-invalid")


def test_malformed_evidence_is_an_error_and_changes_nothing(
    site: VerifierSite, device: SiteDevice
) -> None:
    before = Devices(site.running.store).show(device.device_id)

    answer = device.submit(b"\xa1\xff")

    assert answer.status == 400
    assert answer.json["code"] in set(RefusalCode)
    assert Devices(site.running.store).show(device.device_id) == before


@pytest.mark.parametrize("content_type", ["application/json", "", "application/cmw+json"])
def test_other_media_types_are_refused(device: SiteDevice, content_type: str) -> None:
    answer = device.client.post("/attest/v1/evidence", b"x", content_type)

    assert (answer.status, answer.json["code"]) == (415, "media-type-wrong")


def test_revoked_device_is_refused_at_once_though_it_was_in_memory(
    site: VerifierSite, device: SiteDevice
) -> None:
    message = device.evidence(device.ask())
    Devices(site.running.store).revoke(device.device_id, "stolen", datetime.now(UTC))

    answer = device.submit(message)

    assert (answer.status, answer.json["code"]) == (403, "device-revoked")
    assert "stolen" in answer.json["detail"]


def test_certificate_of_an_older_enrolment_is_good_for_the_overlap_and_then_refused(
    site: VerifierSite, device: SiteDevice
) -> None:
    old, newest = device.new_client(), device.chain_pem
    assert device.enrol().status == 201
    assert device.chain_pem != newest

    asked = old.post("/attest/v1/challenges").json
    answer = old.post("/attest/v1/evidence", device.evidence(asked), EVIDENCE)
    assert (answer.status, answer.json["status"]) == (200, "warning")

    first, second = site.running.store.certificates(device=DeviceId(device.device_id))
    record = site.running.store.device(first.certificate.device)
    assert record is not None
    assert (first.ends_at, second.ends_at) == (record.enrolled_at + timedelta(hours=1), None)
    with site.running.store.work() as work:
        assert work.revoke_certificate(first.certificate.sha256, SUPERSEDED, "superseded", now())

    answer = old.post("/attest/v1/challenges")

    assert (answer.status, answer.json["code"]) == (403, "client-certificate-wrong")
    assert device.attest().status == 200


def test_certificate_revoked_alone_is_refused_at_once(
    site: VerifierSite, device: SiteDevice
) -> None:
    assert device.attest().status == 200
    (only,) = site.running.store.certificates(device=DeviceId(device.device_id))
    with site.running.store.work() as work:
        assert work.revoke_certificate(only.certificate.sha256, 1, "key seen elsewhere", now())

    answer = device.attest()

    assert (answer.status, answer.json["code"]) == (403, "certificate-revoked")
    assert "key seen elsewhere" in answer.json["detail"]


def test_store_that_fails_is_a_503_and_never_a_result(
    site: VerifierSite, device: SiteDevice, capfd: pytest.CaptureFixture[str]
) -> None:
    message = device.evidence(device.ask())
    store = site.running.store
    with store.work():  # holds the write lock longer than the busy timeout
        answer = device.submit(message)

    assert answer.status == 503
    assert answer.json["code"] == "store-unavailable"
    assert "retry-after" in answer.headers
    assert "locked" not in answer.json["detail"]  # the driver's words stay with us
    assert "locked" in "".join(capfd.readouterr())
    assert device.submit(message).json["status"] == "warning"
