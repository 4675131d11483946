"""Devices that nobody has given an identity enrol by their TPM's endorsement key: swtpm, whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attestation.logs.tcg import parse_firmware_log
from attestation.tpm.public import parse_public
from attestation.tpm.templates import KeyTemplate
from attestation.wire.enrolment_codec import ActivationRequest, EkStatement, encode_activation
from deploy.demo.swtpm import SoftwareTpm
from device_agent import factory
from device_agent.enrolment import Shown, answer_activation, build_activation, build_enrolment
from device_agent.errors import TpmRefused, VerifierRefused
from device_agent.main import Parts, assemble
from device_agent.once import attest_now, enrol_now
from device_agent.ports import KeyRole
from device_agent.settings import Settings, parse_settings
from device_agent.steps import enrol_once
from device_agent.tpm.adapter import EsapiTpm
from device_agent.tpm.layout import TpmLayout
from tests.simulators.trust_yard import CLASSES, PROOFS, TrustYard
from tests.simulators.verifier_site import boot_log

pytestmark = pytest.mark.tpm

Computer = Callable[..., "Machine"]


class Machine:
    """A booted machine with a software TPM and a device agent."""

    def __init__(self, folder: Path, chip: SoftwareTpm, yard: TrustYard, **settings: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "log").write_bytes(boot_log())
        chip.power_cycle()
        for event in parse_firmware_log(boot_log()).events:
            if event.digests:
                chip.extend(event.pcr, dict(event.digests))
        template = KeyTemplate(settings.pop("template", KeyTemplate.P_256))
        self.tpm = EsapiTpm(chip.tcti, layout=TpmLayout(template=template))
        self.settings = self._settings(folder, yard, settings)
        self.parts: Parts = assemble(self.settings, self.tpm)

    def _settings(self, folder: Path, yard: TrustYard, given: Mapping[str, str]) -> Settings:
        lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
        text = f"""
[verifier]
url = "https://127.0.0.1:{yard.site.port}"
ca_file = "{yard.site.service_ca}"
[evidence]
firmware_log = "{folder}/log"
ima_list = ""
[state]
directory = "{folder}/state"
[enrolment]
"""
        (folder / "state").mkdir(exist_ok=True)
        return parse_settings(text + "\n".join(lines), "test", {})

    def ek_digest(self) -> bytes:
        return hashlib.sha256(parse_public(self.tpm.endorsement().public).spki_der).digest()

    def iak_name(self) -> bytes:
        return parse_public(self.tpm.public_area(KeyRole.IAK)).name

    def close(self) -> None:
        self.parts.verifier.close()
        self.tpm.close()


@pytest.fixture
def tpm_roots(endorsed_state: Path) -> bytes:
    """Whoever signed the EK certificates of swtpm_setup: its local CA."""
    authority = endorsed_state.parent / "authority"
    names = ("swtpm-localca-rootca-cert.pem", "issuercert.pem")
    return b"".join((authority / name).read_bytes() for name in names)


@pytest.fixture
def yard(tmp_path: Path, tpm_roots: bytes) -> Iterator[TrustYard]:
    made = TrustYard(tmp_path / "yard", tpm_roots=tpm_roots)
    with made.site:
        yield made


@pytest.fixture
def computer(tmp_path: Path, yard: TrustYard) -> Iterator[Computer]:
    made: list[Machine] = []

    def make(chip: SoftwareTpm, name: str = "machine", **settings: str) -> Machine:
        chosen = {"initial_trust": "tpm-ek", **settings}
        made.append(Machine(tmp_path / name, chip, yard, **chosen))
        return made[-1]

    yield make
    for one in made:
        one.close()


def refused(code: str, act: Callable[[], object]) -> None:
    with pytest.raises(VerifierRefused) as caught:
        act()
    assert caught.value.code == code, caught.value


@pytest.mark.parametrize("template", [KeyTemplate.RSA_2048, KeyTemplate.P_384])
def test_attestation_key_of_every_template_enrols_and_attests(
    yard: TrustYard, endorsed_swtpm: SoftwareTpm, computer: Computer, template: KeyTemplate
) -> None:
    machine = computer(endorsed_swtpm, template=template)

    credential = enrol_now(machine.parts)

    record = yard.site.running.store.device(credential.device_id)
    assert record is not None
    assert record.enrolment.ak_name == machine.iak_name()
    kind = rsa.RSAPublicKey if template is KeyTemplate.RSA_2048 else ec.EllipticCurvePublicKey
    assert isinstance(record.enrolment.ak.key, kind)
    assert attest_now(machine.parts).status == "warning"


def test_tpm_with_its_makers_certificate_enrols_attests_and_renews(
    yard: TrustYard, endorsed_swtpm: SoftwareTpm, computer: Computer
) -> None:
    machine = computer(endorsed_swtpm)
    assert not machine.tpm.has_key(KeyRole.IAK)

    credential = enrol_now(machine.parts)

    assert credential.device_id == f"ek-{machine.ek_digest().hex()[:32]}"
    assert not machine.tpm.has_key(KeyRole.IDEVID)
    record = yard.site.running.store.device(credential.device_id)
    assert record is not None
    assert record.enrolment.ak_name == machine.iak_name()
    assert record.enrolment.anchor_sha256 in yard.site.running.rules.sources.endorsers
    assert attest_now(machine.parts).status == "warning"
    machine.parts.identities.credential = credential
    renewed = enrol_once(machine.parts.sources, machine.parts.verifier, ())
    assert renewed.device_id == credential.device_id
    first, second = (
        x509.load_pem_x509_certificate(pem.encode())
        for pem in (credential.certificate_chain_pem, renewed.certificate_chain_pem)
    )
    assert first.serial_number != second.serial_number
    assert yard.site.running.store.certificate_by_serial(second.serial_number) is not None


def test_lost_state_is_mended_by_the_same_endorsement_key(
    endorsed_swtpm: SoftwareTpm, computer: Computer
) -> None:
    first = enrol_now(computer(endorsed_swtpm).parts)
    machine = computer(endorsed_swtpm, "restored")

    assert enrol_now(machine.parts).device_id == first.device_id


def test_attestation_key_of_a_second_tpm_is_not_resident(
    endorsed_swtpm: SoftwareTpm, swtpm: SoftwareTpm, computer: Computer
) -> None:
    """N11, R12: the first TPM answers rightly for itself, and lends its answer to the second."""
    genuine, other = computer(endorsed_swtpm), computer(swtpm, "other")
    other.tpm.create_iak()
    begun = genuine.parts.verifier.begin_activation(build_activation(genuine.tpm))
    lent = answer_activation(genuine.tpm, begun)
    request = build_enrolment(
        other.parts.sources, begun.challenge, shown=Shown(idevid=False, ek=lent)
    )

    refused("ak-not-resident", lambda: other.parts.verifier.enrol(request))


def test_tpm_gives_no_secret_for_a_second_tpms_attestation_key(
    endorsed_swtpm: SoftwareTpm, swtpm: SoftwareTpm, computer: Computer
) -> None:
    genuine, other = computer(endorsed_swtpm), computer(swtpm, "other")
    genuine.tpm.create_iak()
    other.tpm.create_iak()
    told = genuine.tpm.endorsement()
    assert told.certificate is not None
    asked = ActivationRequest(
        ek_public=told.public,
        ek_chain=(told.certificate, *told.chain),
        iak_public=other.tpm.public_area(KeyRole.IAK),
    )
    begun = other.parts.verifier.begin_activation(encode_activation(asked))

    for tpm in (genuine.tpm, other.tpm):
        with pytest.raises(TpmRefused):
            tpm.activate_credential(begun.credential, begun.seed)
    guess = replace(answered(genuine, other), answer=bytes(32), activation=begun.activation)
    request = build_enrolment(
        other.parts.sources, begun.challenge, shown=Shown(idevid=False, ek=guess)
    )
    refused("credential-activation-failed", lambda: other.parts.verifier.enrol(request))


def answered(genuine: Machine, other: Machine) -> EkStatement:
    begun = other.parts.verifier.begin_activation(build_activation(genuine.tpm))
    return answer_activation(genuine.tpm, begun)


def test_tpm_without_certificate_enrols_only_if_its_key_is_listed(
    tmp_path: Path, tpm_roots: bytes, swtpm: SoftwareTpm
) -> None:
    probe = EsapiTpm(swtpm.tcti)
    digest = hashlib.sha256(parse_public(probe.endorsement().public).spki_der).digest()
    probe.close()
    listing = TrustYard(tmp_path / "listing", tpm_roots=tpm_roots, listed=[digest])
    with listing.site:
        machine = Machine(tmp_path / "listed", swtpm, listing, initial_trust="tpm-ek")
        assert enrol_now(machine.parts).device_id == f"ek-{digest.hex()[:32]}"
        machine.close()
    strict = TrustYard(tmp_path / "strict", tpm_roots=tpm_roots)
    with strict.site:
        machine = Machine(tmp_path / "unlisted", swtpm, strict, initial_trust="tpm-ek")
        refused("ek-not-listed", lambda: enrol_now(machine.parts))
        machine.close()


def test_class_that_wants_identity_and_endorsement_key_gets_both(
    yard: TrustYard, endorsed_swtpm: SoftwareTpm, computer: Computer
) -> None:
    machine = computer(endorsed_swtpm, initial_trust="both")
    machine.tpm.create_identity_keys()
    idevid, iak = (
        yard.site.manufacturer.issue(
            role, parse_public(machine.tpm.public_area(role)).key, "BOTH-0001"
        )
        for role in (KeyRole.IDEVID, KeyRole.IAK)
    )
    factory.install(machine.tpm, idevid_chain_der=[idevid], iak_chain_der=[iak])
    by_idevid_alone = computer(endorsed_swtpm, "alone", initial_trust="idevid")

    refused("initial-trust-missing", lambda: enrol_now(by_idevid_alone.parts))
    assert enrol_now(machine.parts).device_id == "both-0001"


def test_clouds_word_is_sent_from_the_files_that_hold_it(
    tmp_path: Path, tpm_roots: bytes, endorsed_swtpm: SoftwareTpm
) -> None:
    classes = {**CLASSES, "endorsed": ("ek-*", "tpm-ek AND azure-msi AND aws-iid", PROOFS)}
    yard = TrustYard(tmp_path / "cloud", classes=classes, tpm_roots=tpm_roots)
    token, document = tmp_path / "token.json", tmp_path / "document"
    answer = {"access_token": yard.azure.token(datetime.now(UTC)), "token_type": "Bearer"}
    token.write_text(json.dumps(answer))
    document.write_bytes(yard.aws.document())
    files = {"azure_token": str(token), "aws_document": str(document)}
    with yard.site:
        bare = Machine(tmp_path / "bare", endorsed_swtpm, yard, initial_trust="tpm-ek")
        refused("initial-trust-missing", lambda: enrol_now(bare.parts))
        bare.close()
        told = Machine(tmp_path / "told", endorsed_swtpm, yard, initial_trust="tpm-ek", **files)
        assert enrol_now(told.parts).device_id.startswith("ek-")
        told.close()
