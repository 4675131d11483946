"""Steps of kind ``http`` around revocation: what an operator says, what others see."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from attestation.identity import device_id
from attestation.wire.enrolment_codec import encode_enrolment
from attestation.wire.est import encode_body
from attestation.wire.media_types import ENROLMENT, EVIDENCE, PKCS10
from tests.conformance.run.outcome import Outcome
from tests.simulators.est import csr_of, current_names
from tests.simulators.verifier_site import SiteDevice, VerifierSite, now
from verifier.issuance.revocation_policy import UNKNOWN_EVENT, Event
from verifier.services.decommission import Decommission
from verifier.services.revocation import Revocation

OPERATOR: Final = "operator"
RELYING_PARTY: Final = "relying-party"
_CERTIFICATE_EVENTS: Final = {
    "revoke-certificate": Event.CERTIFICATE,
    "revoke-certificate-key-compromised": Event.KEY_COMPROMISE,
}
_UNSEEN: Final = {
    "let-an-hour-pass-unseen": timedelta(hours=1),
    "let-a-day-pass-unseen": timedelta(days=1, hours=1),
}
"""The packaged revocation policy takes a device for stale 24 hours after its result has ended."""
_YEAR: Final = timedelta(days=365)
_PLANNED: Final = {
    "plan-end-in-a-year": _YEAR,
    "plan-end-within-the-hour": timedelta(minutes=30),
}
"""The date that an operator sets. The packaged profile has no certificate shorter than an hour."""
_OVERLAP: Final = timedelta(hours=1, seconds=1)
"""Of the packaged enrolment policy, and a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a device had in hand when its certificate fell: bodies by name, with media type."""

    bodies: dict[str, tuple[bytes, str]]

    @staticmethod
    def by(device: SiteDevice) -> Begun:
        """Have a device ask for both challenges and answer them, without sending anything."""
        evidence = device.evidence(device.ask())
        challenge = device.client.post("/enrol/v1/challenges").json
        request = device.enrolment_request(challenge)
        csr = csr_of(device, request, current_names(device))
        return Begun(
            bodies={
                "evidence-begun": (evidence, EVIDENCE),
                "renewal-begun": (encode_enrolment(request), ENROLMENT),
                "renewal-csr-begun": (encode_body(csr), PKCS10),
                "agent-name": (json.dumps({"agent": "planner"}).encode(), "application/json"),
            }
        )


def operator(site: VerifierSite, device: SiteDevice, what: str) -> Outcome:
    """Do what an operator's command, or the passing of time, does."""
    told = Revocation(site.running.store, site.running.revocation)
    if what == "revoke-device":
        found = told.holder(Event.OPERATOR, device.device_id, now(), why="sold")
    elif what in _CERTIFICATE_EVENTS:
        certificate = told.find(device.device_id)[-1]
        found = told.certificate(_CERTIFICATE_EVENTS[what], certificate, now(), why="as the case")
    elif what in _UNSEEN:
        while told.sweep(now() + _UNSEEN[what]) or told.sweeping:
            pass
        return Outcome(verdict="accepted")
    elif what in _PLANNED:
        ends = now() + _PLANNED[what]
        Decommission(site.running.store).plan(device.device_id, ends, now())
        return Outcome(verdict="accepted")
    elif what == "let-planned-end-come":
        return Outcome(verdict="accepted" if told.tend(now() + _YEAR) else "refused")
    elif what == "let-overlap-end":
        return Outcome(verdict="accepted" if told.tend(now() + _OVERLAP) else "refused")
    else:
        found = told.holder("x-unheard-of", device.device_id, now(), why="somebody said so")
        return _alarmed(site, device) if found.revoked == 0 else Outcome(verdict="refused")
    return Outcome(verdict="accepted" if found.revoked else "refused")


def _alarmed(site: VerifierSite, device: SiteDevice) -> Outcome:
    """Say whether an event without a rule has told somebody."""
    alarms = site.running.store.alarms()
    codes = frozenset(one.code for one in alarms if one.subject == device_id(device.device_id))
    return Outcome(verdict="warning" if UNKNOWN_EVENT in codes else "accepted", codes=codes)


def check(site: VerifierSite, chain_pem: bytes, what: str) -> Outcome:
    """Ask as whoever relies on a certificate does; each answer is verified before it is read."""
    leaf, issuer = x509.load_pem_x509_certificates(chain_pem)[:2]
    asks = {"check-by-crl": _by_crl, "check-by-ocsp": _by_ocsp, "check-by-status-list": _by_list}
    return Outcome(verdict="refused" if asks[what](site, leaf, issuer) else "accepted")


def _by_crl(site: VerifierSite, leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(issuer.public_bytes(Encoding.DER))
    name = digest.finalize().hex()[:16]
    crl = x509.load_der_x509_crl(site.client().get(f"/pki/v1/crl/{name}.crl").body)
    assert crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    return crl.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None


def _by_ocsp(site: VerifierSite, leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA256()).build()
    answer = site.client().post(
        "/pki/v1/ocsp", asked.public_bytes(Encoding.DER), "application/ocsp-request"
    )
    return (
        ocsp.load_der_ocsp_response(answer.body).certificate_status is ocsp.OCSPCertStatus.REVOKED
    )


def _by_list(site: VerifierSite, leaf: x509.Certificate, _issuer: x509.Certificate) -> bool:
    stored = site.running.store.certificate_by_serial(leaf.serial_number)
    assert stored is not None
    token = site.client().get(f"/pki/v1/status/{stored.number // 131072}").body.decode()
    claims = jwt.decode(token, options={"verify_signature": False})
    packed = claims["status_list"]["lst"]
    bits = zlib.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    place = stored.number % 131072
    return bool(bits[place // 8] >> place % 8 & 1)
