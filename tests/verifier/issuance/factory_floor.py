"""An enrolment as an honest device makes it; tests change one part and judge."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from attestation.evidence import certify_qualifying_data
from attestation.identity import Nonce
from attestation.wire.enrolment_codec import EnrolmentRequest
from device_agent.ports import KeyRole
from tests.simulators.soft_device import SoftTpm
from tests.verifier.appraisal.courtroom import NOW, Courtroom
from verifier.issuance.enrol import (
    AcceptedEnrolment,
    EnrolmentTerms,
    enrolment_subject,
    judge_enrolment,
)
from verifier.issuance.profiles import Issuer


class FactoryFloor(Courtroom):
    """A courtroom whose device has not enrolled yet."""

    def __init__(self, kind: str = "p256") -> None:
        super().__init__(kind)
        self.tpm.create_ldevid()
        self.terms = EnrolmentTerms(
            anchors=self.anchors, reference=self.reference, policy=self.policy
        )

    def idevid(self) -> bytes:
        return self.tpm.certificates[KeyRole.IDEVID]

    def enrolment_nonce(self) -> Nonce:
        return self.nonce(enrolment_subject(self.idevid()))

    def request(
        self, nonce: Nonce | None = None, *, witness: SoftTpm | None = None, **parts: object
    ) -> EnrolmentRequest:
        """An honest request; ``parts`` replace its fields, ``witness`` certifies instead."""
        nonce = self.enrolment_nonce() if nonce is None else nonce
        tpm, certifier = self.tpm, witness or self.tpm
        honest = EnrolmentRequest(
            idevid_chain=(tpm.certificates[KeyRole.IDEVID], *self.maker.intermediates),
            iak_chain=(tpm.certificates[KeyRole.IAK], *self.maker.intermediates),
            idevid_public=tpm.public_area(KeyRole.IDEVID),
            iak_public=tpm.public_area(KeyRole.IAK),
            ldevid_public=tpm.public_area(KeyRole.LDEVID),
            idevid_certify=certifier.certify(
                KeyRole.IDEVID, certify_qualifying_data(nonce, "idevid")
            ),
            ldevid_certify=certifier.certify(
                KeyRole.LDEVID, certify_qualifying_data(nonce, "ldevid")
            ),
            csr=tpm.csr(KeyRole.LDEVID, "whatever-i-like", ()),
            evidence=self.message(nonce),
        )
        return replace(honest, **parts)  # type: ignore[arg-type]

    def enrol(
        self, request: EnrolmentRequest | None = None, *, presented: bytes | None = None
    ) -> AcceptedEnrolment:
        return judge_enrolment(
            self.request() if request is None else request,
            presented=self.idevid() if presented is None else presented,
            challenge=self.authority,
            terms=self.terms,
            at=self.at,
        )


@cache
def owner_ca() -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Owner CA")])
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=30))
        .not_valid_after(NOW + timedelta(days=300))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Issuer(certificate=certificate, key=key)
