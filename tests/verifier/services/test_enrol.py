"""What gets in between while a request is judged, and requests that come too late."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import AttestationError
from attestation.evidence import certify_qualifying_data
from attestation.identity import DeviceId
from attestation.result import TrustTier
from attestation.tpm.public import parse_public
from attestation.wire.enrolment_codec import encode_enrolment
from attestation.wire.media_types import ENROLMENT
from device_agent.ports import KeyRole
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.trust_yard import without_idevid
from tests.simulators.verifier_site import SiteDevice, VerifierSite, decode_nonce
from verifier.appraisal.replay_cache import ReplayCache
from verifier.errors import Conflict, NotAuthorised, Unavailable
from verifier.issuance.enrolment_terms import EnrolmentTerms
from verifier.issuance.hierarchy import issuing_certificate
from verifier.issuance.profiles import (
    SERIAL_ENTROPY_BYTES,
    Issuer,
    certificate_serial,
    iak_certificate,
)
from verifier.issuance.reasons import Reason
from verifier.keys.ca_keys import CaKeys
from verifier.keys.ceremony import Ceremony
from verifier.keys.offline_root import OFFLINE_ROOT, open_root
from verifier.keys.register import load_register
from verifier.reference_values.model import ReferenceLibrary
from verifier.services.challenge import Nonces
from verifier.services.enrol import JUDGED_AT_ONCE, TURN_S, Enrol
from verifier.services.workload_tokens import WorkloadTokens
from verifier.sources import SystemEntropy

Happens = Callable[[], None]


def nothing() -> None:
    """Nothing happens."""


@dataclass
class Interrupted:
    """A real store in which something happens before a device is asked for the second time."""

    store: Any
    happens: Happens
    asked: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def device(self, name: Any) -> Any:
        self.asked += 1
        if self.asked == 2:
            self.happens()
        return self.store.device(name)


@dataclass
class Overtaken(Interrupted):
    """The same, but it happens right after a device was read for the second time."""

    def device(self, name: Any) -> Any:
        found = self.store.device(name)
        self.asked += 1
        if self.asked == 2:
            self.happens()
        return found


@pytest.fixture
def site(tmp_path: Any) -> Iterator[VerifierSite]:
    with VerifierSite(tmp_path / "site", SoftManufacturer()) as made:
        yield made


def enrol_of(
    site: VerifierSite,
    judging: Happens = nothing,
    issuing: Happens = nothing,
    store: type[Interrupted] = Interrupted,
    turn_s: float = TURN_S,
) -> Enrol:
    """The use case over a running verifier's parts: something happens while it judges or issues."""
    running = site.running

    def terms(_at: datetime) -> EnrolmentTerms:
        return EnrolmentTerms(
            anchors=running.anchors,
            reference=ReferenceLibrary(sets=()),
            policy=running.policy,
            enrolment=running.rules.policy,
        )

    def issuer() -> Issuer:
        issuing()
        return running.authority.issuer()

    return Enrol(
        store=store(running.store, judging),  # type: ignore[arg-type]
        writer=running.issuing,
        attest=running.services.attest,
        nonces=Nonces(lambda: running.ring.nonce_keys, timedelta(minutes=2)),
        terms=terms,
        replays=ReplayCache(),
        issuer=issuer,
        entropy=running.entropy,
        trust_domain="fleet.example",
        lifetime=timedelta(days=1),
        enrolled=nothing,
        tokens=WorkloadTokens(
            signer=running.ring,
            entropy=running.entropy,
            trust_domain="fleet.example",
            lifetime=timedelta(minutes=5),
            status=lambda _number: None,
        ),
        turn_s=turn_s,
    )


def der_of(device: SiteDevice) -> bytes:
    return x509.load_pem_x509_certificates(device.chain_pem)[0].public_bytes(Encoding.DER)


def renewal(device: SiteDevice) -> bytes:
    """A renewal with another key, as whoever holds the certificate's key may ask for."""
    challenge = device.client.post("/enrol/v1/challenges").json
    return encode_enrolment(without_idevid(device.enrolment_request(challenge)))


def revoke(site: VerifierSite, der: bytes) -> None:
    at = datetime.now(UTC)
    with site.running.store.work() as work:
        assert work.revoke_certificate(
            hashlib.sha256(der).digest(), Reason.KEY_COMPROMISE.value, "stolen", at
        )


def test_renewal_that_nothing_gets_in_between_of_is_given(site: VerifierSite) -> None:
    device = site.device()
    assert device.enrol().status == 201

    answer = enrol_of(site).enrol(renewal(device), der_of(device), datetime.now(UTC))

    assert answer["device_id"] == device.device_id


def test_certificate_that_is_revoked_while_its_renewal_is_judged_gets_nothing(
    site: VerifierSite,
) -> None:
    device = site.device()
    assert device.enrol().status == 201
    shown, message = der_of(device), renewal(device)

    with pytest.raises(NotAuthorised) as caught:
        enrol_of(site, judging=lambda: revoke(site, shown)).enrol(message, shown, datetime.now(UTC))

    assert caught.value.code == "certificate-revoked"


def test_older_certificate_that_is_revoked_while_its_renewal_is_issued_gets_nothing(
    site: VerifierSite,
) -> None:
    device = site.device()
    assert device.enrol().status == 201
    older, client = der_of(device), device.client
    assert device.enrol().status == 201
    challenge = client.post("/enrol/v1/challenges").json
    message = encode_enrolment(without_idevid(device.enrolment_request(challenge)))

    with pytest.raises(Conflict):
        enrol_of(site, issuing=lambda: revoke(site, older)).enrol(message, older, datetime.now(UTC))


# --- turns --------------------------------------------------------------------------------------
def test_enrolment_whose_turn_does_not_come_is_refused_and_the_turns_come_back(
    site: VerifierSite,
) -> None:
    """A token that does not answer holds two requests up, not every thread of the service."""
    devices = [site.device(f"SN-{number}") for number in range(JUDGED_AT_ONCE + 1)]
    assert [one.enrol().status for one in devices] == [201] * len(devices)
    signing, answers = threading.Semaphore(0), threading.Event()

    def hangs() -> None:
        signing.release()
        assert answers.wait(10)

    enrol, at = enrol_of(site, issuing=hangs, turn_s=0.1), datetime.now(UTC)
    asked = [(renewal(one), der_of(one), at) for one in devices]
    with ThreadPoolExecutor() as pool:
        held = [pool.submit(enrol.enrol, *one) for one in asked[:JUDGED_AT_ONCE]]
        assert all(signing.acquire(timeout=10) for _ in held)
        with pytest.raises(Unavailable) as refused:
            enrol.enrol(*asked[-1])
        answers.set()
        given = [one.result(10)["device_id"] for one in held]

    assert refused.value.code == "overloaded"
    assert given == [one.device_id for one in devices[:JUDGED_AT_ONCE]]
    assert enrol.enrol(*asked[-1])["device_id"] == devices[-1].device_id


# --- a CA that ends -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("minutes", "wanted"), [(30, (503, "ca-ends-too-soon")), (90, (201, None))]
)
def test_nothing_is_issued_that_the_cas_own_end_would_cut_too_short(
    tmp_path: Any, capfd: pytest.CaptureFixture[str], minutes: int, wanted: tuple[int, str | None]
) -> None:
    site = VerifierSite(tmp_path / "site", SoftManufacturer())
    directory, at = site.folder / "keys", datetime.now(UTC)
    own = CaKeys(directory, site.settings.authority, {})
    ceremony = Ceremony(directory, site.settings.authority, own, SystemEntropy())
    signed = issuing_certificate(
        ceremony.request("fleet", at).request,
        open_root(directory / OFFLINE_ROOT, None),
        serial=certificate_serial(SystemEntropy().take(SERIAL_ENTROPY_BYTES)),
        at=at,
        lifetime=timedelta(minutes=minutes),
    )
    ceremony.accept(signed, at)
    with site:
        answer = site.device().enrol()

    assert (answer.status, answer.json.get("code")) == wanted
    told = "ca rotate" in "".join(capfd.readouterr())
    assert told is (wanted[0] == 503)


# --- one root that is the maker's and ours ------------------------------------------------------
def as_idevid(device: SiteDevice) -> bytes:
    """A request that calls the certificate of ours its maker's; the owner certified the IAK too."""
    issuer = device.site.running.authority.issuer()
    leaf = x509.load_pem_x509_certificates(device.chain_pem)[0].public_bytes(Encoding.DER)
    above = issuer.certificate.public_bytes(Encoding.DER)
    iak = iak_certificate(
        device.tpm.serial,
        parse_public(device.tpm.public_area(KeyRole.IAK)).key,
        issuer,
        serial=certificate_serial(device.site.running.entropy.take(SERIAL_ENTROPY_BYTES)),
        at=datetime.now(UTC),
    )
    challenge = device.client.post("/enrol/v1/challenges").json
    qualifying = certify_qualifying_data(decode_nonce(challenge), "idevid")
    return encode_enrolment(
        replace(
            device.enrolment_request(challenge),
            idevid_chain=(leaf, above),
            iak_chain=(iak.public_bytes(Encoding.DER), above),
            idevid_public=device.tpm.public_area(KeyRole.LDEVID),
            idevid_certify=device.tpm.certify(KeyRole.LDEVID, qualifying),
        )
    )


@pytest.mark.parametrize("is_revoked", [False, True])
def test_certificate_of_ours_that_is_shown_as_the_makers_is_looked_up_all_the_same(
    tmp_path: Any, *, is_revoked: bool
) -> None:
    site = VerifierSite(tmp_path / "site", SoftManufacturer())
    (root,) = load_register(site.folder / "keys").roots
    with (site.folder / "maker.pem").open("ab") as anchors:
        anchors.write((site.folder / "keys" / root).read_bytes())
    with site:
        device = site.device()
        assert device.enrol().status == 201
        message = as_idevid(device)
        if is_revoked:
            revoke(site, der_of(device))

        answer = device.client.post("/enrol/v1/requests", message, ENROLMENT)

    wanted = (403, "certificate-revoked") if is_revoked else (201, None)
    assert (answer.status, answer.json.get("code")) == wanted


# --- contraindicated evidence -------------------------------------------------------------------
def results(device: SiteDevice) -> list[tuple[int, bool]]:
    """Of each result of a device, oldest first: its number and whether it is contraindicated."""
    found = device.site.running.store.history(DeviceId(device.device_id))
    return [(one.seq, one.status == TrustTier.CONTRAINDICATED) for one in reversed(found)]


def refused(enrol: Enrol, message: bytes, shown: bytes, at: datetime) -> str:
    with pytest.raises(AttestationError) as caught:
        enrol.enrol(message, shown, at)
    return caught.value.code


def test_contraindicated_evidence_is_recorded_though_the_row_moved_on_meanwhile(
    site: VerifierSite,
) -> None:
    device = site.device()
    assert device.enrol().status == 201
    device.tamper()
    shown, message = der_of(device), renewal(device)
    enrol = enrol_of(site, judging=lambda: revoke(site, shown), store=Overtaken)

    assert refused(enrol, message, shown, datetime.now(UTC)) == "evidence-not-acceptable"

    assert results(device) == [(1, False), (2, True)]


def test_contraindicated_evidence_that_is_older_than_what_was_judged_meanwhile_is_not_recorded(
    site: VerifierSite,
) -> None:
    device = site.device()
    assert device.enrol().status == 201
    device.tamper()
    shown, message = der_of(device), renewal(device)

    def recovers() -> None:
        device.tpm.reboot()
        assert device.log is not None
        device.boot(device.log)
        assert device.attest().status == 200

    enrol = enrol_of(site, judging=recovers, store=Overtaken)

    assert refused(enrol, message, shown, datetime.now(UTC)) == "evidence-not-acceptable"

    assert results(device) == [(1, False), (2, False)]


def test_contraindicated_evidence_of_an_old_challenge_is_not_recorded(site: VerifierSite) -> None:
    device = site.device()
    assert device.enrol().status == 201
    device.tamper()
    late = datetime.now(UTC) + timedelta(minutes=3)

    assert refused(enrol_of(site), renewal(device), der_of(device), late) == "nonce-expired"

    assert results(device) == [(1, False)]


def test_policy_that_says_nothing_follows_still_has_the_result_recorded(tmp_path: Any) -> None:
    policy = tmp_path / "calm.toml"
    policy.write_text('id = "calm"\n[events.contraindicated]\naction = "nothing"\n')
    extra = f'revocation = "{policy}"'
    with VerifierSite(tmp_path / "site", SoftManufacturer(), extra=extra) as site:
        device = site.device()
        assert device.enrol().status == 201
        device.tamper()

        answer = device.enrol()

        assert (answer.status, answer.json["code"]) == (403, "evidence-not-acceptable")
        assert results(device) == [(1, False), (2, True)]
        (one,) = site.running.store.certificates(device=DeviceId(device.device_id))
        assert one.revoked_at is None
