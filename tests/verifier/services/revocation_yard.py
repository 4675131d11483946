"""A store with a device and an agent below one CA, for tests of revocation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from attestation.identity import DeviceId
from tests.simulators.soft_ca import soft_ca
from tests.simulators.stored import AT, a_certificate, a_device
from tests.verifier.store.credential_cases import an_agent
from verifier.errors import ServiceError
from verifier.issuance.profiles import Issuer
from verifier.issuance.revocation_policy import (
    RevocationPolicy,
)
from verifier.ports.authority import CertificateAuthority
from verifier.ports.credentials import CredentialKind, IssuedCertificate
from verifier.services.issue import issued_entry
from verifier.services.revocation_lists import issuer_digest
from verifier.sources import revocation_policy_named
from verifier.store.migrate import migrate
from verifier.store.sql_store import SqlStore, open_store

DAY = timedelta(days=1)
NAME = DeviceId("sn-0001")
DEFAULT = revocation_policy_named("revocation-default")
SILENT = RevocationPolicy(id="silent", rules={})


class Authorities(CertificateAuthority):
    """The CAs of a test."""

    def __init__(self, *issuers: Issuer) -> None:
        self.known = list(issuers)
        self.mute: list[tuple[x509.Certificate, ServiceError]] = []

    def keyless(self) -> Sequence[tuple[x509.Certificate, ServiceError]]:
        return self.mute

    def issuer(self) -> Issuer:
        return self.known[0]

    def issuers(self) -> Sequence[Issuer]:
        return self.known

    def certificates(self) -> Sequence[x509.Certificate]:
        return self.roots()

    def roots(self) -> Sequence[x509.Certificate]:
        return [one.certificate for one in self.known]


CA = soft_ca(AT)
OLD_CA = soft_ca(AT, name="Old CA")


def of_ca(certificate: IssuedCertificate, issuer: Issuer = CA) -> IssuedCertificate:
    return replace(certificate, issuer_sha256=issuer_digest(issuer.certificate))


def agents_certificate(name: str = "planner") -> IssuedCertificate:
    digest = hashlib.sha256(name.encode()).digest()
    return replace(
        a_certificate(a_device()),
        sha256=digest,
        serial=2**128 + int.from_bytes(digest[:15]),
        kind=CredentialKind.AGENT,
        agent=name,
        holder=f"spiffe://fleet.example/device/sn-0001/agent/{name}",
        spki_sha256=hashlib.sha256(digest).digest(),
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/store.db"
    migrate(url)
    return url


@pytest.fixture
def store(url: str) -> SqlStore:
    """Holds a device with an LDevID certificate and an agent with its own."""
    store = open_store(url, with_outbox=False)
    device, agent = of_ca(a_certificate(a_device())), of_ca(agents_certificate())
    with store.work() as work:
        work.enrol(a_device())
        work.issue(device, issued_entry(device), AT)
        work.issue(agent, issued_entry(agent), AT)
        work.put_agent(an_agent())
    return store


def state(store: SqlStore) -> dict[str, int | None]:
    """The reason of each certificate; None while it is in force."""
    return {
        one.certificate.agent or "device": one.revoked_code if one.revoked_at else None
        for one in store.certificates()
    }


def revoke_one(store: SqlStore, certificate: IssuedCertificate, code: int = 9) -> None:
    with store.work() as work:
        assert work.revoke_certificate(certificate.sha256, code, "test", AT)
