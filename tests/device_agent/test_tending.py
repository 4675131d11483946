"""AI agents added, renewed and refreshed, over a software TPM and a verifier in process."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.identity import agent_name
from attestation.pcr import parse_selection
from attestation.tpm.public import parse_public
from attestation.wire.owner_binding import BindingRequest, OwnerBinding, sign_binding
from device_agent.agents import AgentRecord, Wish
from device_agent.collector import Sources
from device_agent.errors import (
    AgentUnknown,
    CertificateUnusable,
    ProofUnknown,
    SettingsInvalid,
    StateCorrupt,
    TpmRefused,
    VerifierRefused,
    VerifierUnreachable,
)
from device_agent.lifecycle import Moment
from device_agent.pacing import Pacing, Renewal
from device_agent.ports import KeyRole
from device_agent.sources.firmware_log import FirmwareLogFile
from device_agent.sources.host import HostFacts
from device_agent.state.agents import AgentShelf
from device_agent.tending import MOST_AT_ONCE, AgentTender, records_of, remove_agent
from device_agent.transport.backoff import Backoff
from tests.device_agent.test_loop import Journal
from tests.simulators.agents_simulator import AgentsSimulator
from tests.simulators.authority import Authority
from tests.simulators.soft_device import SoftManufacturer, SoftTpm

PLANNER, CODER = agent_name("planner"), agent_name("coder")
WISH = Wish(capabilities=("mail.read",))


@dataclass
class Bench:
    folder: Path
    tpm: SoftTpm = field(default_factory=lambda: SoftTpm(SoftManufacturer()))
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    journal: Journal = field(default_factory=Journal)
    aibom: bytes = bytes(32)

    def __post_init__(self) -> None:
        (self.folder / "log").write_bytes(b"firmware log")
        self.verifier = AgentsSimulator(
            Authority(), parse_selection("sha256:0,7"), lambda: self.tpm.public_area(KeyRole.IAK)
        )
        self.verifier.clock = lambda: self.at
        self.shelf = AgentShelf(self.folder / "state")
        self.owner = ec.generate_private_key(ec.SECP256R1())
        self.verifier.owner = self.owner.public_key()

    @property
    def tender(self) -> AgentTender:
        return AgentTender(
            sources=Sources(
                tpm=self.tpm,
                firmware_log=FirmwareLogFile(self.folder / "log"),
                host=HostFacts(agent_version="test"),
            ),
            keys=self.tpm,
            verifier=self.verifier,
            shelf=self.shelf,
            pacing=Pacing(
                backoff=Backoff(base_s=1, cap_s=60),
                refused_s=600,
                interval_min_s=1,
                interval_max_s=100,
                renewal=Renewal(share=0.5, spread=0.1),
            ),
            now=lambda: Moment(at=self.at, elapsed_s=0, jitter=0.5),
            aibom_digest=lambda: self.aibom,
            log=self.journal,
        )

    def added(self, name: str = "planner", wish: Wish = WISH) -> AgentRecord:
        agent = agent_name(name)
        asked = self.tender.add(agent, wish)
        assert isinstance(asked, AgentRecord)
        return self.tender.enrol(agent)

    def signed(self, request: BindingRequest, *scope: str) -> str:
        return sign_binding(
            OwnerBinding(
                thumbprint=request.thumbprint,
                owner="alice",
                scope=tuple(scope) or request.scope,
                expires_at=(self.at + timedelta(days=30)).replace(microsecond=0),
                nonce=request.nonce,
            ),
            self.owner,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def token_file(bench: Bench, name: str = "planner") -> Path:
    return bench.folder / "state" / "agents" / name / "token"


def test_two_agents_get_two_keys_two_names_and_two_certificates(bench: Bench) -> None:
    bench.tpm.create_ldevid()
    planner, coder = bench.added("planner"), bench.added("coder")

    assert planner.certified is not None
    assert coder.certified is not None
    leaves = [
        x509.load_pem_x509_certificate(each.certificate_chain_pem.encode())
        for each in (planner.certified, coder.certified)
    ]
    spki = [
        leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for leaf in leaves
    ]
    device = parse_public(bench.tpm.public_area(KeyRole.LDEVID)).spki_der
    assert len({*spki, device}) == 3
    assert planner.certified.agent_id != coder.certified.agent_id
    assert token_file(bench).read_text() == planner.certified.token
    assert (token_file(bench).parent / "certificate.pem").read_text().startswith("-----BEGIN")


def test_the_request_shows_what_the_class_wants_and_nothing_beside(bench: Bench) -> None:
    bench.added("planner")
    bench.verifier.proofs = frozenset({"pop"})
    bench.added("coder", Wish(locator="https://e.test/coder", validation_methods=("wit",)))

    full, spare = bench.verifier.requests
    assert full.csr
    assert full.certify is not None
    assert full.evidence
    assert full.capabilities == ("mail.read",)
    assert spare.csr
    assert (spare.certify, spare.evidence, spare.aibom) == (None, b"", b"")
    assert (spare.locator, spare.validation_methods) == ("https://e.test/coder", ("wit",))


def test_the_aiboms_digest_goes_along_with_evidence_where_it_is_wanted(bench: Bench) -> None:
    bench.verifier.proofs = frozenset({"pop", "aibom"})
    bench.aibom = b"\x07" * 32

    bench.added()

    assert bench.verifier.requests[0].aibom == b"\x07" * 32
    assert bench.verifier.requests[0].evidence


def test_a_proof_that_is_not_known_is_named_and_nothing_is_sent(bench: Bench) -> None:
    bench.verifier.proofs = frozenset({"pop", "blood-sample"})

    with pytest.raises(ProofUnknown, match="blood-sample"):
        bench.added()

    assert bench.verifier.requests == []


def test_an_owner_signs_for_the_key_and_the_scope_that_the_agent_asks_for(bench: Bench) -> None:
    bench.verifier.proofs = frozenset({"pop", "residency", "owner-binding"})

    request = bench.tender.add(PLANNER, WISH)

    assert isinstance(request, BindingRequest)
    assert request.holder == "spiffe://example.test/device/dev-a/agent/planner"
    assert request.scope == ("mail.read",)
    waiting = bench.shelf.load(PLANNER)
    assert request.thumbprint == waiting.thumbprint
    assert waiting.certified is None
    bench.at += timedelta(days=2)
    assert bench.tender.tend().fault is None
    assert bench.verifier.requests == []

    done = bench.added(wish=replace(WISH, owner_binding=bench.signed(request)))

    assert done.certified is not None
    assert done.certified.owner == "alice"
    assert done.thumbprint == request.thumbprint


def test_a_renewal_needs_no_new_signature_of_the_owner(bench: Bench) -> None:
    bench.verifier.proofs = frozenset({"pop", "owner-binding"})
    request = bench.tender.add(PLANNER, WISH)
    assert isinstance(request, BindingRequest)
    first = bench.added(wish=replace(WISH, owner_binding=bench.signed(request)))

    bench.at += timedelta(days=4)
    assert bench.tender.tend().fault is None

    second = bench.shelf.load(PLANNER)
    assert first.certified is not None
    assert second.certified is not None
    assert second.certified.not_after > first.certified.not_after
    assert second.thumbprint == first.thumbprint


def test_more_scope_than_the_owner_signed_is_refused_and_the_key_is_kept(bench: Bench) -> None:
    bench.verifier.proofs = frozenset({"pop", "owner-binding"})
    request = bench.tender.add(PLANNER, WISH)
    assert isinstance(request, BindingRequest)
    wish = Wish(capabilities=("mail.read", "mail.send"), owner_binding=bench.signed(request))

    with pytest.raises(VerifierRefused, match="not allowed"):
        bench.added(wish=wish)

    kept = bench.shelf.load(PLANNER)
    assert kept.thumbprint == request.thumbprint
    assert kept.fault is not None
    assert kept.fault.code == "scope-exceeded"
    assert kept.asked is False
    assert bench.added(wish=replace(wish, capabilities=("mail.read",))).fault is None


def test_a_certificate_for_another_key_is_not_taken(bench: Bench) -> None:
    bench.verifier.other_key = ec.generate_private_key(ec.SECP256R1()).public_key()

    with pytest.raises(CertificateUnusable, match="for another key"):
        bench.added()

    assert bench.shelf.load(PLANNER).certified is None
    assert not token_file(bench).exists()


def test_an_agent_that_is_there_is_not_added_again(bench: Bench) -> None:
    bench.added()

    with pytest.raises(SettingsInvalid, match="is there already"):
        bench.tender.add(PLANNER, WISH)


def test_there_is_an_end_to_how_many_agents_one_device_takes(bench: Bench) -> None:
    record = bench.added()
    for number in range(63):
        bench.shelf.save(replace(record, name=agent_name(f"a{number}")))

    with pytest.raises(SettingsInvalid, match="64 agents are on this device"):
        bench.tender.add(CODER, WISH)


# --- the daemon's work -------------------------------------------------------------------------
def test_a_certificate_is_renewed_at_its_share_of_life_with_the_same_key(bench: Bench) -> None:
    first = bench.added()
    assert bench.tender.tend().attested is False
    bench.at += timedelta(days=3, hours=21)

    done = bench.tender.tend()

    second = bench.shelf.load(PLANNER)
    assert done.fault is None
    assert (done.attested, done.ima_next) == (True, 0)
    assert first.certified is not None
    assert second.certified is not None
    assert second.certified.certificate_chain_pem != first.certified.certificate_chain_pem
    assert second.key == first.key
    assert token_file(bench).read_text() == second.certified.token
    assert [line for line, _ in bench.journal.lines] == ["agent_renewed"]


def test_a_token_is_refreshed_without_a_new_certificate(bench: Bench) -> None:
    first = bench.added()
    bench.at += timedelta(minutes=45)

    done = bench.tender.tend()

    second = bench.shelf.load(PLANNER)
    assert (done.fault, done.attested) == (None, False)
    assert bench.verifier.calls[-1] == "token planner"
    assert first.certified is not None
    assert second.certified is not None
    assert second.certified.certificate_chain_pem == first.certified.certificate_chain_pem
    assert second.certified.token != first.certified.token
    assert token_file(bench).read_text() == second.certified.token


@pytest.mark.parametrize("anew", [True, False])
def test_an_agent_whose_certificate_fell_gets_another_for_the_same_key(
    bench: Bench, *, anew: bool
) -> None:
    first = bench.added()
    bench.verifier.fall("planner")
    if not anew:
        bench.at += timedelta(minutes=45)  # found out when the next token is asked for

    done = bench.tender.tend(anew=anew)

    second = bench.shelf.load(PLANNER)
    assert (done.fault, second.fault) == (None, None)
    assert bench.verifier.calls[-3:] == ["token planner", "challenge planner", "enrol planner"]
    assert second.key == first.key
    assert second.certified is not None
    assert token_file(bench).read_text() == second.certified.token


def test_an_agent_that_was_revoked_for_good_is_left_alone_for_long(bench: Bench) -> None:
    bench.added()
    bench.verifier.fail("token", VerifierRefused("agent-revoked", "gone", http_status=403))

    done = bench.tender.tend(anew=True)

    assert done.fault is not None
    assert bench.verifier.calls.count("enrol planner") == 1
    calls = len(bench.verifier.calls)
    bench.at += timedelta(minutes=5)
    bench.tender.tend()
    assert len(bench.verifier.calls) == calls


def test_asking_anew_leaves_agents_that_wait_for_their_owner_alone(bench: Bench) -> None:
    bench.verifier.proofs = frozenset({"owner-binding"})
    bench.tender.add(PLANNER, WISH)
    calls = len(bench.verifier.calls)

    assert bench.tender.tend(anew=True).fault is None

    assert len(bench.verifier.calls) == calls


def test_trouble_with_one_agent_is_not_the_others(bench: Bench) -> None:
    bench.added("coder")
    bench.added("planner")
    bench.at += timedelta(days=4)
    bench.verifier.fail("enrol", VerifierRefused("scope-exceeded", "no more", http_status=403))

    done = bench.tender.tend()

    assert done.fault is not None
    assert done.fault.code == "scope-exceeded"
    coder, planner = bench.shelf.load(CODER), bench.shelf.load(PLANNER)
    assert coder.fault is not None
    assert coder.certified is not None
    assert planner.fault is None
    assert len([call for call in bench.verifier.calls if call == "enrol planner"]) == 2

    bench.tender.tend()  # and it is left alone for its pause
    assert len([call for call in bench.verifier.calls if call == "enrol coder"]) == 2
    bench.at += timedelta(minutes=11)
    assert bench.tender.tend().fault is None
    assert bench.shelf.load(CODER).fault is None


def test_an_unreachable_verifier_is_tried_again_with_the_old_certificate_in_place(
    bench: Bench,
) -> None:
    first = bench.added()
    bench.at += timedelta(days=4)
    bench.verifier.fail("challenge", VerifierUnreachable("down"))

    assert bench.tender.tend().fault is not None
    assert first.certified is not None
    there = (token_file(bench).parent / "certificate.pem").read_text()
    assert there == first.certified.certificate_chain_pem
    bench.at += timedelta(seconds=2)
    assert bench.tender.tend().fault is None


def test_many_agents_do_not_keep_the_device_from_attesting(bench: Bench) -> None:
    for number in range(MOST_AT_ONCE + 3):
        bench.added(f"agent-{number:02}")
    bench.at += timedelta(days=4)
    begun = len(bench.verifier.requests)

    first = bench.tender.tend()
    second = bench.tender.tend()

    assert (first.served, second.served) == (MOST_AT_ONCE, 3)
    renewed = [request.agent for request in bench.verifier.requests[begun:]]
    assert renewed == list(bench.shelf.names())
    assert bench.tender.tend(anew=True).served == MOST_AT_ONCE + 3


def test_a_verifier_that_is_not_reached_is_asked_once_not_for_every_agent(bench: Bench) -> None:
    bench.added("coder")
    bench.added("planner")
    bench.at += timedelta(days=4)
    begun = len(bench.verifier.calls)
    bench.verifier.fail("challenge", *(VerifierUnreachable("down") for _ in range(2)))

    assert bench.tender.tend().fault is not None

    assert bench.verifier.calls[begun:] == ["challenge coder"]


def test_a_key_of_another_tpm_is_told_and_not_asked_for_again_at_once(bench: Bench) -> None:
    bench.added()
    bench.tpm.wrapped.clear()
    bench.at += timedelta(days=4)

    done = bench.tender.tend()

    assert isinstance(done.fault, TpmRefused)
    calls = len(bench.verifier.calls)
    bench.tender.tend()
    assert len(bench.verifier.calls) == calls


def test_a_damaged_record_is_told_and_the_others_are_tended(bench: Bench) -> None:
    bench.added("coder")
    bench.added("planner")
    (bench.folder / "state" / "agents" / "coder" / "agent.json").write_text("{")
    bench.at += timedelta(days=4)

    done = bench.tender.tend()

    assert isinstance(done.fault, StateCorrupt)
    assert bench.verifier.calls[-1] == "enrol planner"


def test_a_command_at_work_is_not_disturbed(bench: Bench) -> None:
    bench.added()
    bench.at += timedelta(days=4)
    with bench.shelf.held():
        assert bench.tender.tend().fault is None

    assert bench.verifier.calls.count("enrol planner") == 1


def test_what_a_command_asked_for_is_got_by_the_daemon(bench: Bench) -> None:
    asked = bench.tender.add(PLANNER, WISH)
    assert isinstance(asked, AgentRecord)
    assert asked.asked

    assert bench.tender.tend().fault is None

    assert bench.shelf.load(PLANNER).certified is not None
    renewed = bench.tender.renew(PLANNER, lambda wish: replace(wish, capabilities=("mail.send",)))
    assert isinstance(renewed, AgentRecord)
    assert bench.tender.tend().fault is None
    certified = bench.shelf.load(PLANNER).certified
    assert certified is not None
    assert certified.capabilities == ("mail.send",)


def test_an_emptied_folder_is_filled_again(bench: Bench) -> None:
    bench.added()
    token_file(bench).unlink()

    bench.tender.tend()

    assert token_file(bench).exists()


# --- the rest ----------------------------------------------------------------------------------
def test_a_removed_agent_is_gone_and_a_damaged_one_too(bench: Bench) -> None:
    bench.added("planner")
    bench.added("coder")
    (bench.folder / "state" / "agents" / "coder" / "agent.json").write_text("{")

    removed = remove_agent(bench.shelf, PLANNER)
    assert removed is not None
    assert removed.name == PLANNER
    assert remove_agent(bench.shelf, CODER) is None
    assert records_of(bench.shelf) == ()
    with pytest.raises(AgentUnknown):
        remove_agent(bench.shelf, PLANNER)


def test_no_record_and_no_line_ever_holds_a_nonce(bench: Bench) -> None:
    bench.verifier.proofs = frozenset({"pop", "residency", "evidence"})
    bench.added()
    bench.at += timedelta(days=4)
    bench.tender.tend()

    written = json.dumps(bench.journal.lines, default=str) + "".join(
        path.read_text() for path in (bench.folder / "state").rglob("*") if path.is_file()
    )
    assert len(bench.verifier.requests) == 2
    for request in bench.verifier.requests:
        assert request.nonce.hex() not in written
        assert repr(request.nonce)[2:-1] not in written


# --- proof of the key for a token --------------------------------------------------------------
def test_token_is_asked_for_with_proof_of_the_key_where_that_is_wanted(bench: Bench) -> None:
    bench.added()
    bench.verifier.wants_proof = True
    bench.verifier.calls.clear()
    for _ in range(2):
        bench.at += timedelta(minutes=50)
        assert bench.tender.tend().fault is None

    assert bench.verifier.calls == ["token planner", "challenge planner", "token planner"] * 2
    assert len(set(bench.verifier.proven)) == 2
    certified = bench.shelf.load(PLANNER).certified
    assert certified is not None
    assert certified.token_obtained_at == bench.at


def test_refused_proof_is_noted_and_not_tried_at_once(bench: Bench) -> None:
    bench.added()
    bench.verifier.fail("token", *(VerifierRefused("proofs-missing", "x", http_status=403),) * 2)
    bench.at += timedelta(minutes=50)

    fault = bench.tender.tend().fault

    assert fault is not None
    assert fault.code == "proofs-missing"
    noted = bench.shelf.load(PLANNER).fault
    assert noted is not None
    assert noted.code == "proofs-missing"
