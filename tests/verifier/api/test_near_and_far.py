"""R24: the same enrolments with the verifier in the issuing process, and with another verifier.

*Near* devices send evidence, which the issuer judges itself (background check). *Far* ones attest
to the judge and show its result (passport). Whatever goes well or wrong must do so both ways.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.evidence import certify_qualifying_data
from device_agent.ports import KeyRole
from tests.simulators.est import as_passport, issued
from tests.simulators.two_verifiers import Door, Traveller, TwoVerifiers
from tests.simulators.verifier_site import Answer, Client, boot_log, decode_nonce
from verifier.services.devices import Devices

_SERIALS = itertools.count(1)


@dataclass(frozen=True)
class Way:
    """Near or far, and the door that is gone through."""

    where: str
    door: Door

    @property
    def unacceptable(self) -> str:
        """The code that says that a device's state is not good enough."""
        return "evidence-not-acceptable" if self.where == "near" else "result-not-acceptable"

    def traveller(self, two: TwoVerifiers) -> Traveller:
        """A new machine of the class that is judged here, or elsewhere."""
        return two.traveller(f"{self.where.upper()}-{next(_SERIALS):04}")

    def enrol(
        self,
        machine: Traveller,
        *,
        client: Client | None = None,
        challenge: dict[str, Any] | None = None,
        **parts: object,
    ) -> Answer:
        """Enrol with fresh evidence, or a fresh result; ``parts`` replace fields."""
        result = machine.result() if self.where == "far" else ""
        client = client or machine.issued.idevid_client()
        asked = challenge or self.door.challenge(client)
        request = machine.issued.enrolment_request(asked)
        if result:
            request = as_passport(result, decode_nonce(asked))(request)
        return self.door.send(
            machine.issued,
            client,
            replace(request, **parts),  # type: ignore[arg-type]
        )


WAYS = [Way(where, Door(door)) for where in ("near", "far") for door in ("cbor", "est")]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoVerifiers]:
    with TwoVerifiers(tmp_path_factory.mktemp("ways")) as running:
        yield running


@pytest.fixture(params=WAYS, ids=lambda way: f"{way.where}-{way.door.name}")
def way(request: pytest.FixtureRequest) -> Way:
    chosen = request.param
    assert isinstance(chosen, Way)
    return chosen


def certificate_of(way: Way, answer: Answer) -> x509.Certificate:
    assert answer.status == way.door.accepted, answer.body
    if way.door.name == "est":
        return issued(answer)
    return x509.load_pem_x509_certificates(answer.json["certificate_chain_pem"].encode())[0]


def pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def refused(answer: Answer, code: str) -> None:
    assert (answer.json.get("code"), answer.status) == (code, 403), answer.body


def test_honest_device_enrols_and_attests_with_what_it_was_given(
    two: TwoVerifiers, way: Way
) -> None:
    machine = way.traveller(two)

    certificate = certificate_of(way, way.enrol(machine))

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uri.endswith(machine.judged.device_id)
    assert certificate.public_key() == machine.issued.tpm.keys[KeyRole.LDEVID].private.public_key()
    machine.issued.device_id = machine.judged.device_id
    machine.issued.chain_pem = pem_of(certificate)
    assert machine.issued.attest().json["status"] == "affirming"


def test_device_whose_boot_nobody_knows_is_refused(two: TwoVerifiers, way: Way) -> None:
    machine = way.traveller(two)
    machine.boot(boot_log(b"kernel of somebody else"))

    refused(way.enrol(machine), way.unacceptable)


def test_device_whose_state_no_log_explains_is_refused(two: TwoVerifiers, way: Way) -> None:
    machine = way.traveller(two)
    machine.judged.tamper()

    refused(way.enrol(machine), way.unacceptable)


def test_other_tpm_with_a_known_serial_is_refused(two: TwoVerifiers, way: Way) -> None:
    machine = way.traveller(two)
    certificate_of(way, way.enrol(machine))
    twin = Traveller(machine.judged, two.issuer.device(machine.judged.tpm.serial))

    answer = way.enrol(twin)

    if way.where == "near":
        assert (answer.status, answer.json["code"]) == (409, "device-id-taken")
    else:
        refused(answer, way.unacceptable)


def test_key_outside_of_the_tpm_is_refused(two: TwoVerifiers, way: Way) -> None:
    machine, other = way.traveller(two), way.traveller(two).issued.tpm
    client = machine.issued.idevid_client()
    challenge = way.door.challenge(client)
    other.create_ldevid()
    qualifying = certify_qualifying_data(decode_nonce(challenge), "ldevid")
    elsewhere = other.certify(KeyRole.LDEVID, qualifying)

    answer = way.enrol(machine, client=client, challenge=challenge, ldevid_certify=elsewhere)

    refused(answer, "certify-signature-invalid")


def test_challenge_of_another_connection_is_refused(two: TwoVerifiers, way: Way) -> None:
    machine, other = way.traveller(two), way.traveller(two)
    challenge = way.door.challenge(other.issued.idevid_client())

    refused(way.enrol(machine, challenge=challenge), "nonce-forged")


def test_device_that_shows_nothing_is_told_what_is_missing(two: TwoVerifiers, way: Way) -> None:
    answer = way.enrol(way.traveller(two), evidence=b"", result="")

    refused(answer, "proofs-missing")
    assert answer.json["missing"] == ["evidence" if way.where == "near" else "result"]


def test_revoked_device_does_not_come_back(two: TwoVerifiers, way: Way) -> None:
    machine = way.traveller(two)
    certificate_of(way, way.enrol(machine))
    devices = Devices(two.issuer.running.store)
    devices.revoke(machine.judged.device_id, "stolen", datetime.now(UTC))

    refused(way.enrol(machine), "device-revoked")


def test_device_that_fell_at_the_issuer_does_not_come_back_by_an_older_result(
    two: TwoVerifiers,
) -> None:
    """Judged at both places: what the issuer has seen itself since counts, too."""
    way = Way("near", Door("cbor"))
    machine = way.traveller(two)
    older = machine.result()
    machine.issued.chain_pem = pem_of(certificate_of(way, way.enrol(machine)))
    machine.issued.tamper()
    assert machine.issued.attest().json["status"] == "contraindicated"
    machine.boot(boot_log())

    refused(way.enrol(machine, result=older), "result-not-acceptable")

    threading.Event().wait(1.0)  # moments in results are whole seconds
    assert way.enrol(machine, result=machine.result()).status == way.door.accepted
