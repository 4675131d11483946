"""A running verifier with a class for every kind of initial trust, and devices that show it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.wire.enrolment_codec import (
    ActivationRequest,
    CloudStatement,
    EkStatement,
    EnrolmentRequest,
    encode_activation,
    encode_enrolment,
)
from attestation.wire.media_types import ACTIVATION, ENROLMENT
from device_agent.ports import KeyRole
from tests.simulators import soft_tpm_maker
from tests.simulators.soft_cloud import ACCOUNT, AUDIENCE, ISSUER, REGION, SoftAws, SoftAzure
from tests.simulators.soft_endorsement import SoftEk
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import Answer, Client, SiteDevice, VerifierSite
from verifier.issuance.credential_activation import Credential

OTHER_REGION = "us-east-1"
PROOFS = 'proofs = ["pop", "residency", "evidence"]'
CLASSES = {
    "both": ("BOTH-*", "idevid AND tpm-ek", PROOFS),
    "either": ("EITHER-*", "idevid OR tpm-ek", PROOFS),
    "shut": ("SHUT-*", "", PROOFS),
    "aws": ("AWS-*", "idevid AND aws-iid", PROOFS),
    "azure": ("AZURE-*", "idevid AND azure-msi", PROOFS),
    "cloud": ("CLOUD-*", "idevid AND (aws-iid OR azure-msi)", PROOFS),
    "passport": ("PASS-*", "idevid", 'proofs = ["pop", "residency", "result"]'),
    "plain": ("PLAIN-*", "idevid", PROOFS),
    "endorsed": ("ek-*", "tpm-ek OR ek-allow-list", PROOFS),
}
"""Name to pattern of the serial, initial trust, proofs."""


def policy_text(classes: Mapping[str, tuple[str, str, str]]) -> str:
    """An enrolment policy with these classes and every source."""
    text = 'id = "yard"\n'
    for name, (serial, trust, proofs) in classes.items():
        text += f'[[device]]\nclass = "{name}"\nmatch = {{ serial = "{serial}" }}\n'
        text += f'initial_trust = "{trust}"\n{proofs}\n'
    return (
        text
        + f"""
[ek]
allow_list = "eks.txt"
roots = ["maker-of-tpms.pem"]
packaged_roots = false
[aws]
certificates = {{ {REGION} = "aws.pem", {OTHER_REGION} = "other-aws.pem" }}
accounts = ["{ACCOUNT}"]
[azure]
jwks = "azure.json"
issuers = ["{ISSUER}"]
audience = "{AUDIENCE}"
resources = ["/subscriptions/5f2e/resourceGroups/FLEET/*"]
"""
    )


class TrustYard:
    """Everybody who vouches for somebody, and the verifier that believes them."""

    def __init__(
        self,
        folder: Path,
        *,
        classes: Mapping[str, tuple[str, str, str]] = CLASSES,
        store: str = "",
        extra: str = "",
        limits: str = "strangers_per_s = 1000.0",
        tpm_roots: bytes = b"",
        listed: Iterable[bytes] = (),
    ) -> None:
        self.tpm_maker = soft_tpm_maker.root()
        self.aws, self.other_aws, self.azure = SoftAws(0), SoftAws(1), SoftAzure(0)
        self.listed = SoftEk()
        self.ended = SoftEk.made_by(self.tpm_maker, not_after=datetime(2025, 1, 1, tzinfo=UTC))
        files = folder / "trust"
        files.mkdir(parents=True)
        maker = x509.load_der_x509_certificate(self.tpm_maker.der)
        (files / "maker-of-tpms.pem").write_bytes(maker.public_bytes(Encoding.PEM) + tpm_roots)
        (files / "aws.pem").write_bytes(self.aws.certificate_pem)
        (files / "other-aws.pem").write_bytes(self.other_aws.certificate_pem)
        (files / "azure.json").write_text(json.dumps(self.azure.jwks))
        digests = (self.listed.digest, self.ended.digest, *listed)
        text = "# looked at by hand\n" + "".join(f"{one.hex()}  # one\n" for one in digests)
        (files / "eks.txt").write_text(text)
        self.policy = files / "enrolment.toml"
        self.choose(classes)
        self.site = VerifierSite(
            folder / "site",
            SoftManufacturer(),
            store=store,
            extra=f'enrolment = "{self.policy}"\n{extra}\n[limits]\nrequests_per_s = 1000.0\n'
            f"burst = 100000\n{limits}\n",
        )

    def choose(self, classes: Mapping[str, tuple[str, str, str]]) -> None:
        """Write the policy; a verifier reads it when it starts."""
        self.policy.write_text(policy_text(classes))

    def device(self, serial: str) -> SiteDevice:
        """A device with IDevID and IAK certificates; who shows none is named by its EK."""
        return self.site.device(serial)

    def certified_ek(self) -> SoftEk:
        """An endorsement key with its maker's certificate."""
        return SoftEk.made_by(self.tpm_maker)

    def begin(self, client: Client, device: SiteDevice, ek: SoftEk) -> Answer:
        """Ask to be challenged by an endorsement key."""
        request = ActivationRequest(
            ek_public=ek.public_area,
            ek_chain=ek.chain,
            iak_public=device.tpm.public_area(KeyRole.IAK),
        )
        return client.post("/enrol/v1/activations", encode_activation(request), ACTIVATION)

    def activated(self, begun: Mapping[str, Any], device: SiteDevice, ek: SoftEk) -> EkStatement:
        """What a TPM with this attestation key and endorsement key answers."""
        told = begun["activation"]
        credential = Credential(
            blob=octets(told["credential"]), encrypted_seed=octets(told["seed"])
        )
        return EkStatement(
            public=ek.public_area,
            chain=ek.chain,
            activation=octets(told["id"]),
            answer=ek.activate(device.tpm.keys[KeyRole.IAK].name, credential),
        )

    def enrol(
        self,
        device: SiteDevice,
        *,
        ek: SoftEk | None = None,
        idevid: bool = True,
        cloud: CloudStatement | None = None,
        **parts: object,
    ) -> Answer:
        """Enrol; ``parts`` replace fields of the request."""
        client = device.idevid_client() if idevid else self.site.client()
        statement = None
        if ek is None:
            challenge = client.post("/enrol/v1/challenges")
        else:
            challenge = self.begin(client, device, ek)
        if challenge.status != 200:
            return challenge
        if ek is not None:
            statement = self.activated(challenge.json, device, ek)
        request = device.enrolment_request(challenge.json)
        if not idevid:
            request = without_idevid(request)
        request = replace(request, ek=statement, cloud=cloud or CloudStatement())
        return self.send(client, device, replace(request, **parts))  # type: ignore[arg-type]

    def send(self, client: Client, device: SiteDevice, request: EnrolmentRequest) -> Answer:
        """Send a request; an accepted device knows its id and certificate."""
        answer = client.post("/enrol/v1/requests", encode_enrolment(request), ENROLMENT)
        if answer.status == 201:
            device.device_id = answer.json["device_id"]
            device.chain_pem = answer.json["certificate_chain_pem"].encode()
            device._client = None
        return answer


def without_idevid(request: EnrolmentRequest) -> EnrolmentRequest:
    """The request of a device that no manufacturer has given an identity."""
    return replace(request, idevid_chain=(), iak_chain=(), idevid_public=b"", idevid_certify=None)


def octets(text: str) -> bytes:
    """base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
