"""Who may use which route: the table is whole, and it is enforced (anchors N15)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter

from attestation.refusals import RefusalCode
from attestation.wire.est import PATH as EST_PATH
from device_agent.ports import KeyRole
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite, pem
from verifier.api.access import ACCESS, Access, Guard
from verifier.api.client_certificate import STATE_KEY
from verifier.api.routing import GuardedRoute
from verifier.errors import NotAuthenticated, NotAuthorised
from verifier.issuance.publication import issuer_id
from verifier.ports import AccessToken

OCSP_REQUEST = b"no request at all, which is answered like any other"
GUESSED, ODD = "dav_guessed", "dav_odd"
PROTECTED = sorted(key for key, access in ACCESS.items() if access is not Access.PUBLIC)
PUBLIC = sorted(key for key, access in ACCESS.items() if access is Access.PUBLIC)
NOT_OFFERED = ("serverkeygen", "fullcmc")
LABELLED = f"{EST_PATH}/{{label}}/"


@pytest.fixture(scope="module")
def description(site: VerifierSite) -> dict[str, Any]:
    return site.client().get("/openapi.json").json


def test_every_route_is_in_the_table_and_the_other_way_round(
    description: dict[str, Any],
) -> None:
    served = {
        (method.upper(), path) for path, item in description["paths"].items() for method in item
    }

    assert served == set(ACCESS)


def test_route_that_is_not_in_the_table_cannot_be_made() -> None:
    router = APIRouter(route_class=GuardedRoute)

    with pytest.raises(KeyError):
        router.get("/backdoor")(lambda: None)


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_protected_route_refuses_a_stranger(site: VerifierSite, method: str, path: str) -> None:
    answer = site.client().request(method, _filled(path), headers={"Content-Length": "0"})

    assert answer.status == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["code"] in {"client-certificate-required", "token-required"}


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_protected_route_refuses_a_wrong_token(site: VerifierSite, method: str, path: str) -> None:
    answer = site.client(token=GUESSED).request(method, _filled(path))

    assert answer.status == 401
    assert answer.json["code"] in {"client-certificate-required", "token-wrong"}


@pytest.mark.parametrize(("method", "path"), PUBLIC)
def test_public_route_needs_nothing(site: VerifierSite, method: str, path: str) -> None:
    expected = 501 if path.endswith(NOT_OFFERED) else 404 if path.startswith(LABELLED) else 200
    body, kind = (OCSP_REQUEST, "application/ocsp-request") if path.endswith("/ocsp") else ("", "")

    answer = site.client().request(
        method, _filled(path, site), body=body or None, content_type=kind
    )

    assert answer.status == expected, answer.body


@pytest.mark.parametrize(
    ("method", "path"),
    [key for key in PROTECTED if ACCESS[key] in (Access.LDEVID, Access.ATTESTING)],
)
def test_idevid_does_not_do_for_attestation(device: SiteDevice, method: str, path: str) -> None:
    answer = device.idevid_client().request(method, path)

    assert (answer.status, answer.json["code"]) == (401, "client-certificate-wrong")


def guard(site: VerifierSite, *, strangers: bool) -> Guard:
    return Guard(
        store=site.running.store,
        devices=site.running.services.cache,
        authorities=site.running.authority.subjects,
        admits_strangers=lambda: strangers,
    )


def shown(der: bytes | None) -> dict[str, Any]:
    return {"type": "http", "headers": [], "state": {STATE_KEY: der}}


def test_both_identities_of_a_device_may_enrol(site: VerifierSite, device: SiteDevice) -> None:
    ldevid = x509.load_pem_x509_certificates(device.chain_pem)[0].public_bytes(Encoding.DER)
    door = guard(site, strangers=False)

    for der in (device.tpm.certificate(KeyRole.IDEVID), ldevid):
        assert door.admit(Access.ENROLLING, shown(der), datetime.now(UTC)).certificate == der


def test_nobody_enrols_without_a_certificate_where_every_class_rests_on_one(
    site: VerifierSite,
) -> None:
    with pytest.raises(NotAuthenticated) as refused:
        guard(site, strangers=False).admit(Access.ENROLLING, shown(None), datetime.now(UTC))

    assert refused.value.code is RefusalCode.CLIENT_CERTIFICATE_REQUIRED
    admitted = guard(site, strangers=True).admit(Access.ENROLLING, shown(None), datetime.now(UTC))
    assert admitted.certificate is None


def test_certificate_of_our_ca_that_is_not_recorded_does_not_enrol(
    site: VerifierSite, device: SiteDevice
) -> None:
    ca = site.running.authority.issuer()
    leaf = x509.load_pem_x509_certificates(device.chain_pem)[0]
    unrecorded = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(ca.certificate.subject)
        .public_key(leaf.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
        .sign(ec.generate_private_key(ec.SECP256R1()), SHA256())
    )

    with pytest.raises(NotAuthorised) as refused:
        guard(site, strangers=True).admit(
            Access.ENROLLING, shown(unrecorded.public_bytes(Encoding.DER)), datetime.now(UTC)
        )

    assert refused.value.code is RefusalCode.CLIENT_CERTIFICATE_WRONG


def test_device_reads_about_itself_and_about_nobody_else(
    device: SiteDevice, new_device: Callable[[], SiteDevice]
) -> None:
    other = new_device()
    other.enrol()

    assert device.client.get(f"/results/v1/devices/{device.device_id}").status == 200
    refused = device.client.get(f"/results/v1/devices/{other.device_id}")
    assert (refused.status, refused.json["code"]) == (403, "role-missing")
    assert device.client.get("/results/v1/devices").status == 401


def test_reader_reads_everything(site: VerifierSite, device: SiteDevice) -> None:
    reader = site.client(token=site.token("reader", f"reader of {device.device_id}"))

    for path in (
        "/results/v1/devices",
        f"/results/v1/devices/{device.device_id}",
        f"/results/v1/devices/{device.device_id}/history",
        f"/decisions/v1/devices/{device.device_id}",
        "/metrics",
    ):
        assert reader.get(path).status == 200


def test_token_of_an_unknown_role_may_nothing(site: VerifierSite) -> None:
    with site.running.store.work() as work:
        work.put_token(
            AccessToken(
                name="odd",
                role="janitor",
                sha256=hashlib.sha256(ODD.encode()).digest(),
                created_at=datetime.now(UTC),
            )
        )

    answer = site.client(token=ODD).get("/results/v1/devices")

    assert (answer.status, answer.json["code"]) == (403, "role-missing")


def test_removed_token_is_refused(site: VerifierSite) -> None:
    secret = site.token("reader", "short-lived")
    assert site.client(token=secret).get("/results/v1/devices").status == 200

    with site.running.store.work() as work:
        work.remove_token("short-lived")

    assert site.client(token=secret).get("/results/v1/devices").status == 401


def test_token_is_not_stored_in_clear(site: VerifierSite) -> None:
    secret = site.token("reader", "secret-holder")

    for path in site.folder.glob("verifier.db*"):
        assert secret.encode() not in path.read_bytes()


def test_certificate_of_a_foreign_manufacturer_fails_in_the_handshake(
    site: VerifierSite,
) -> None:
    foreign = SoftManufacturer("Foreign")
    key = ec.generate_private_key(ec.SECP256R1())
    client = site.client(pem(foreign.issue(KeyRole.IDEVID, key.public_key(), "SN-9")), key)

    with pytest.raises(OSError, match=r"(?i)alert unknown ca|reset|closed|EOF"):
        client.post("/enrol/v1/challenges")


def _filled(path: str, site: VerifierSite | None = None) -> str:
    filled = path.replace("{device_id}", "nobody").replace("{code}", "log-unknown")
    filled = filled.replace("{label}", "unheard-of")
    if site is not None and "{issuer}" in path:
        issuer = site.running.services.published.authority.issuer().certificate
        filled = filled.replace("{issuer}", issuer_id(issuer))
    return filled.replace("{number}", "0").replace("{question}", "MAA=")
