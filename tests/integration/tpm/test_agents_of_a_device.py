"""AI agents on a machine with a (software) TPM, their owner, and a real verifier, over real TLS."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.agent_certificate import read_agent_claims
from attestation.algorithms import HashAlgorithm
from attestation.identity import AgentName, agent_name
from attestation.logs.event_types import EventType
from attestation.logs.tcg import parse_firmware_log
from attestation.tpm.public import parse_public
from attestation.wire.owner_binding import BindingRequest, OwnerBinding, sign_binding
from attestation.wire.wit import verify_wit
from deploy.demo.swtpm import SoftwareTpm
from device_agent.agents import AgentRecord, Wish
from device_agent.agents_kept import agent_shelf
from device_agent.errors import VerifierRefused
from device_agent.main import (
    Parts,
    StopSignal,
    assemble,
    run_daemon,
)
from device_agent.once import agents_tender, attest_now, enrol_now, rotate_now
from device_agent.ports import KeyRole
from device_agent.settings import Settings, parse_settings
from device_agent.state.files import StateFile
from device_agent.tpm.adapter import EsapiTpm
from tests.simulators.soft_ai_agent import SoftOwner
from tests.simulators.swtpm import Manufactured
from tests.simulators.verifier_site import VerifierSite, boot_log
from verifier.issuance.owners import pack_owner
from verifier.ports import DocumentKind
from verifier.services.reference_documents import ReferenceDocuments

pytestmark = pytest.mark.tpm

ENROLMENT = """
id = "agents-end-to-end"
[[device]]
class = "default"
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
accept = "warning"
[[agent]]
class = "assistant"
proofs = ["pop", "residency", "evidence", "owner-binding"]
scope = ["calendar.read", "mail.read", "mail.send"]
token_proof = "dpop"
"""
PLANNER, MAILER = agent_name("planner"), agent_name("mailer")
READ = Wish(capabilities=("mail.read",))


class Machine:
    """One device with its settings, and the owner of its agents."""

    def __init__(self, folder: Path, chip: SoftwareTpm, site: VerifierSite) -> None:
        (folder / "log").write_bytes(boot_log())
        self.chip = chip
        self.boot()
        self.site, self.owner = site, SoftOwner()
        self.settings: Settings = parse_settings(
            f"""
            [tpm]
            tcti = "{chip.tcti}"
            [verifier]
            url = "https://localhost:{site.port}"
            ca_file = "{site.service_ca}"
            [evidence]
            firmware_log = "{folder / "log"}"
            ima_list = ""
            interval_min_s = 0.1
            interval_max_s = 0.3
            [state]
            directory = "{folder / "state"}"
            [log]
            level = "error"
            """,
            "test.toml",
            {},
        )
        self.tpm = EsapiTpm(chip.tcti)
        documents = ReferenceDocuments(site.running.store)
        packed = pack_owner(self.owner.pem, None)
        documents.put(DocumentKind.OWNER, self.owner.name, packed, datetime.now(UTC))

    def boot(self) -> None:
        """Measure what is booted."""
        for event in parse_firmware_log(boot_log()).events:
            if event.type != EventType.NO_ACTION:
                digests = dict(event.digests)
                banks = (HashAlgorithm.SHA1, HashAlgorithm.SHA256)
                self.chip.extend(event.pcr, {bank: digests[bank] for bank in banks})

    @property
    def parts(self) -> Parts:
        return assemble(self.settings, self.tpm)

    def add(self, name: AgentName, wish: Wish = READ) -> AgentRecord | BindingRequest:
        with agents_tender(self.settings, self.tpm) as (_, tender):
            done = tender.add(name, wish)
            return tender.enrol(name) if isinstance(done, AgentRecord) else done

    def signed(self, request: BindingRequest, scope: tuple[str, ...] = ("mail.read",)) -> str:
        binding = OwnerBinding(
            thumbprint=request.thumbprint,
            owner=self.owner.name,
            scope=scope,
            expires_at=(datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0),
            nonce=request.nonce,
        )
        return sign_binding(binding, self.owner.key)

    def added(self, name: AgentName) -> AgentRecord:
        request = self.add(name)
        assert isinstance(request, BindingRequest)
        done = self.add(name, Wish(capabilities=("mail.read",), owner_binding=self.signed(request)))
        assert isinstance(done, AgentRecord)
        return done


@pytest.fixture
def machine(
    manufactured: Manufactured, manufactured_swtpm: SoftwareTpm, tmp_path: Path
) -> Iterator[Machine]:
    (tmp_path / "enrolment.toml").write_text(ENROLMENT)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = VerifierSite(
        tmp_path / "site",
        manufactured.manufacturer,
        server=f'port = {port}\npublic_url = "https://localhost:{port}"',
        extra=f'enrolment = "{tmp_path}/enrolment.toml"\n'
        "[limits]\nrequests_per_s = 1000.0\nburst = 100000\n",
    )
    with site:
        made = Machine(tmp_path, manufactured_swtpm, site)
        enrol_now(made.parts)
        yield made
        made.tpm.close()


def certificate(record: AgentRecord) -> x509.Certificate:
    assert record.certified is not None
    return x509.load_pem_x509_certificate(record.certified.certificate_chain_pem.encode())


def spki(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def uri(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (only,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    return only


def until(question: Callable[[], bool], *, within_s: float = 30) -> None:
    end = time.monotonic() + within_s
    while not question():
        assert time.monotonic() < end
        time.sleep(0.02)


def while_the_daemon_runs(machine: Machine, play: Callable[[], None]) -> None:
    stop = StopSignal()

    def run() -> None:
        try:
            play()
        finally:
            stop.stop()

    player = threading.Thread(target=run)
    player.start()
    run_daemon(machine.settings, machine.tpm, stop)
    player.join()


def test_two_agents_have_identities_of_their_own_below_their_devices(machine: Machine) -> None:
    """Two subjects, two keys in the TPM, two certificates; neither is the device's."""
    planner, mailer = machine.added(PLANNER), machine.added(MAILER)
    saved = StateFile(Path(machine.settings.state.directory)).load()
    assert saved is not None
    assert saved.credential is not None
    own = x509.load_pem_x509_certificate(saved.credential.certificate_chain_pem.encode())

    every = (own, certificate(planner), certificate(mailer))

    assert len({uri(one) for one in every}) == 3
    assert len({spki(one) for one in every}) == 3
    assert len({one.subject.rfc4514_string() for one in every}) == 3
    for record in (planner, mailer):
        assert uri(certificate(record)) == f"{uri(own)}/agent/{record.name}"
        assert spki(certificate(record)) == parse_public(record.key.public).spki_der
        claims = read_agent_claims(certificate(record))
        assert claims.owner == machine.owner.name
        assert claims.capabilities == ("mail.read",)


def test_the_key_in_the_tpm_proves_certificate_and_token(machine: Machine) -> None:
    record = machine.added(PLANNER)
    assert record.certified is not None
    jwks = machine.site.client().get("/.well-known/jwks.json").json
    digest = hashlib.sha256(b"a challenge of whom it speaks to").digest()

    signature = machine.tpm.sign_wrapped(record.key, digest)
    token = verify_wit(
        record.certified.token, jwks, trust_domain="fleet.example", at=datetime.now(UTC)
    )

    key = certificate(record).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    assert token.key == key
    assert token.subject == uri(certificate(record)) == record.certified.agent_id
    assert (token.owner, token.capabilities) == (machine.owner.name, ("mail.read",))


def test_more_scope_than_the_owner_signed_is_refused_not_trimmed(machine: Machine) -> None:
    request = machine.add(PLANNER)
    assert isinstance(request, BindingRequest)
    wish = Wish(capabilities=("mail.read", "mail.send"), owner_binding=machine.signed(request))

    with pytest.raises(VerifierRefused) as refused:
        machine.add(PLANNER, wish)

    assert refused.value.code == "scope-exceeded"
    kept = agent_shelf(machine.settings).load(PLANNER)
    assert kept.certified is None
    assert kept.thumbprint == request.thumbprint


def test_a_binding_for_another_agents_key_is_refused(machine: Machine) -> None:
    other = machine.add(MAILER)
    assert isinstance(other, BindingRequest)
    machine.add(PLANNER)

    with pytest.raises(VerifierRefused) as refused:
        machine.add(PLANNER, Wish(owner_binding=machine.signed(other, ())))

    assert refused.value.code == "owner-binding-mismatch"


def test_the_daemon_renews_and_refreshes_and_its_own_attestation_goes_on(
    machine: Machine,
) -> None:
    first = machine.added(PLANNER)
    assert first.certified is not None
    shelf = agent_shelf(machine.settings)

    def play() -> None:
        with shelf.held(10):
            record = shelf.load(PLANNER)
            shelf.save(_asked(record))
        until(lambda: certificate(shelf.load(PLANNER)) != certificate(first))
        with shelf.held(10):
            shelf.save(_with_old_token(shelf.load(PLANNER)))
        until(lambda: _token(shelf.load(PLANNER)) != "old")
        store = StateFile(Path(machine.settings.state.directory))
        judged = _judged_at(store)
        until(lambda: _judged_at(store) > judged)

    while_the_daemon_runs(machine, play)

    second = shelf.load(PLANNER)
    assert second.fault is None
    assert second.key == first.key
    assert second.certified is not None
    assert second.certified.agent_id == first.certified.agent_id
    jwks = machine.site.client().get("/.well-known/jwks.json").json
    token = verify_wit(
        second.certified.token, jwks, trust_domain="fleet.example", at=datetime.now(UTC)
    )
    assert token.key == certificate(second).public_key()
    saved = StateFile(Path(machine.settings.state.directory)).load()
    assert saved is not None
    assert saved.fault is None


def test_a_device_whose_key_was_exchanged_keeps_its_agents(machine: Machine) -> None:
    record = machine.added(PLANNER)

    done = rotate_now(machine.parts)

    assert done.after.slot is KeyRole.LDEVID_2
    assert not done.left_over
    assert attest_now(machine.parts).status in ("affirming", "warning")
    with agents_tender(machine.settings, machine.tpm) as (_, tender):
        tender.renew(PLANNER, lambda wish: wish)
        renewed = tender.enrol(PLANNER)
    assert certificate(renewed) != certificate(record)
    assert uri(certificate(renewed)) == uri(certificate(record))
    assert machine.add(MAILER)


def test_an_agent_falls_with_its_device_and_comes_back_with_it(machine: Machine) -> None:
    first = machine.added(PLANNER)
    shelf = agent_shelf(machine.settings)
    store = StateFile(Path(machine.settings.state.directory))
    before = store.load()

    def verdict() -> str:
        saved = store.load()
        return saved.verdict.status if saved is not None and saved.verdict is not None else ""

    def play() -> None:
        until(lambda: verdict() in ("affirming", "warning"))
        machine.chip.extend(7, {HashAlgorithm.SHA256: bytes(32)})
        until(lambda: verdict() == "contraindicated")
        machine.chip.power_cycle()
        machine.boot()
        until(lambda: certificate(shelf.load(PLANNER)) != certificate(first), within_s=60)

    while_the_daemon_runs(machine, play)

    after, again = store.load(), shelf.load(PLANNER)
    assert before is not None
    assert before.credential is not None
    assert after is not None
    assert after.credential is not None
    assert after.credential.certificate_chain_pem != before.credential.certificate_chain_pem
    assert (again.key, again.fault) == (first.key, None)
    assert uri(certificate(again)) == uri(certificate(first))


def _asked(record: AgentRecord) -> AgentRecord:
    return replace(record, asked=True)


def _with_old_token(record: AgentRecord) -> AgentRecord:
    assert record.certified is not None
    begun = datetime.now(UTC) - timedelta(hours=1)
    certified = replace(
        record.certified,
        token="old",  # noqa: S106 - not one
        obtained_at=begun,
        token_obtained_at=begun,
        token_expires_at=datetime.now(UTC),
    )
    return replace(record, certified=certified)


def _token(record: AgentRecord) -> str:
    assert record.certified is not None
    return record.certified.token


def _judged_at(store: StateFile) -> datetime:
    saved = store.load()
    assert saved is not None
    assert saved.verdict is not None
    return saved.verdict.at
