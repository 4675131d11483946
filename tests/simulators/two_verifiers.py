"""Two verifiers of two owners: one judges, the other issues and believes what it signed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jwt

from attestation.wire.enrolment_codec import EnrolmentRequest, encode_enrolment
from attestation.wire.est import PATH, encode_body
from attestation.wire.media_types import ENROLMENT, PKCS10
from tests.simulators.est import as_passport, challenge_of, csr_of
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import (
    Answer,
    Client,
    SiteDevice,
    VerifierSite,
    boot_log,
    decode_nonce,
    in_use,
)

POLICY = """
id = "two"
[[device]]
class = "teacher"
match.serial = "TEACH-*"
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
[[device]]
class = "judged-here"
match.serial = "NEAR-*"
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
accept = "affirming"
[[device]]
class = "judged-elsewhere"
match.serial = "FAR-*"
initial_trust = "idevid"
proofs = ["pop", "residency", "result"]
"""

KNOWN = boot_log()
"""What both verifiers were taught."""

Changed = Callable[[dict[str, Any]], None]


@dataclass
class Traveller:
    """One machine with one TPM, as each of the two sees it."""

    judged: SiteDevice
    issued: SiteDevice

    def boot(self, log: bytes) -> None:
        """Boot; both see the same PCRs."""
        self.judged.boot(log)
        self.issued.boot(log)

    def result(self) -> str:
        """Attest to the judge, and return what it signed."""
        self.judged.challenge = {}
        answer = self.judged.attest()
        assert answer.status == 200, answer.body
        return str(answer.json["result"])


@dataclass
class TwoVerifiers:
    """A judge and an issuer; the issuer was given the judge's published keys in a file."""

    folder: Path
    maker: SoftManufacturer = field(default_factory=SoftManufacturer)
    rules: str = POLICY

    def __post_init__(self) -> None:
        self.judge = VerifierSite(self.folder / "judge", self.maker)
        self.keys = self.folder / "judge.jwks.json"
        self.judge.start()
        self.keys.write_bytes(self.judge.client().get("/.well-known/jwks.json").body)
        policy = self.folder / "enrolment.toml"
        policy.write_text(self.rules)
        limits = "\n[limits]\nrequests_per_s = 1000.0\nburst = 100000\n"
        self.issuer = VerifierSite(
            self.folder / "issuer",
            self.maker,
            trust=f'result_keys = ["{self.keys}"]',
            extra=f'enrolment = "{policy}"\n{limits}',
        )
        self.issuer.start()
        for site in (self.judge, self.issuer):
            teacher = site.device("TEACH-1")
            assert teacher.enrol().status == 201
            site.learn("known", teacher)
        in_use()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.judge.stop()
        self.issuer.stop()

    def traveller(self, serial: str) -> Traveller:
        """A machine that the judge knows and the issuer has never seen."""
        judged = self.judge.device(serial)
        issued = SiteDevice(site=self.issuer, tpm=judged.tpm)
        assert judged.enrol().status == 201
        return Traveller(judged, issued)

    def resigned(self, result: str, change: Changed) -> str:
        """Let the judge sign the same result with its claims changed."""
        claims = claims_of(result)
        change(claims)
        return self.judge.running.ring.sign_claims(claims)


def claims_of(result: str) -> dict[str, Any]:
    """What a result says."""
    claims: dict[str, Any] = jwt.decode(result, options={"verify_signature": False})
    return json.loads(json.dumps(claims))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Door:
    """One way to ask for a certificate: our own (CBOR), or EST with an attested CSR."""

    name: str

    @property
    def accepted(self) -> int:
        """The status of an enrolment that was let in."""
        return 201 if self.name == "cbor" else 200

    def challenge(self, client: Client) -> dict[str, Any]:
        """Ask for a nonce."""
        if self.name == "est":
            return challenge_of(client)
        return client.post("/enrol/v1/challenges").json

    def send(self, device: SiteDevice, client: Client, request: EnrolmentRequest) -> Answer:
        """Send a request as it is."""
        if self.name == "est":
            body = encode_body(csr_of(device, request))
            return client.post(f"{PATH}/simpleenroll", body, PKCS10)
        return client.post("/enrol/v1/requests", encode_enrolment(request), ENROLMENT)

    def enrol(self, device: SiteDevice, result: str | None = None, **parts: object) -> Answer:
        """Enrol, with a result in place of evidence if one is given."""
        client = device.idevid_client()
        challenge = self.challenge(client)
        request = device.enrolment_request(challenge)
        if result is not None:
            request = as_passport(result, decode_nonce(challenge))(request)
        return self.send(device, client, replace(request, **parts))  # type: ignore[arg-type]
