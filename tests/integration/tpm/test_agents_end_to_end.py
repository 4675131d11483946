"""Two AI agents on one device: software TPM, device agent, owner and verifier, all by commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.agent_certificate import read_agent_claims
from attestation.certificates import spki_der
from attestation.logs.event_types import EventType
from attestation.logs.tcg import parse_firmware_log
from attestation.wire.wit import verify_wit
from deploy.demo.swtpm import SoftwareTpm
from device_agent.state.files import StateFile
from tests.simulators.swtpm import Manufactured
from tests.simulators.verifier_site import VerifierSite, boot_log, in_use
from verifier.services.reference_values import ReferenceValues

pytestmark = [pytest.mark.tpm, pytest.mark.system]

ROOT = Path(__file__).parents[3]
OWNER = "mailto:owner@fleet.example"
POLICY = """
id = "two-agents"
[[device]]
class = "default"
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
[[agent]]
class = "assistant"
proofs = ["pop", "residency", "result", "owner-binding"]
scope = ["calendar.read", "mail.send"]
"""


@pytest.fixture
def site(manufactured: Manufactured, tmp_path: Path) -> Iterator[VerifierSite]:
    (tmp_path / "enrolment.toml").write_text(POLICY)
    with VerifierSite(
        tmp_path / "site",
        manufactured.manufacturer,
        extra=f'enrolment = "{tmp_path}/enrolment.toml"\n[limits]\nrequests_per_s = 1000.0\n',
    ) as running:
        yield running


class Machine:
    """A device with its commands."""

    def __init__(self, folder: Path, chip: SoftwareTpm, site: VerifierSite) -> None:
        self.folder, self.site = folder, site
        log = boot_log()
        (folder / "log").write_bytes(log)
        for event in parse_firmware_log(log).events:
            if event.type != EventType.NO_ACTION:
                chip.extend(event.pcr, dict(event.digests))
        (folder / "device.toml").write_text(
            f"""
            [tpm]
            tcti = "{chip.tcti}"
            [verifier]
            url = "https://localhost:{site.port}"
            ca_file = "{site.service_ca}"
            [evidence]
            firmware_log = "{folder / "log"}"
            [state]
            directory = "{folder / "state"}"
            """
        )

    def agent(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self._run("device_agent", "--config", self.folder / "device.toml", *words)

    def verifier(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self._run("verifier", "-c", self.site.config, *words)

    def _run(self, module: str, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def add(self, name: str, key: Path) -> None:
        """An agent, as docs/agents.md tells it: asked for, signed by the owner, given."""
        words = ("agent", "add", name, "--scope", "mail.send")
        asked = self.agent(*words, "--binding-request", f"{name}.json")
        assert asked.returncode == 1, asked.stderr
        signed = self.verifier(
            "owners", "bind", f"{name}.json", "--key", key, "--owner", OWNER, "--expires", "30d"
        )
        assert signed.returncode == 0, signed.stderr
        given = self.agent(*words, "--owner-binding", f"{name}.jws")
        assert given.returncode == 0, given.stderr + given.stdout


@pytest.fixture
def machine(site: VerifierSite, manufactured_swtpm: SoftwareTpm, tmp_path: Path) -> Machine:
    return Machine(tmp_path, manufactured_swtpm, site)


def owner_key(folder: Path) -> Path:
    key = folder / "owner.key.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-out", str(key)],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        ["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(folder / "owner.pem")],
        check=True,
    )
    key.chmod(0o600)
    return key


def enrol_and_attest(machine: Machine) -> None:
    """Until the device's newest result is affirming, as its agents' class wants it."""
    enrolled = machine.agent("enrol")
    assert enrolled.returncode == 0, enrolled.stderr
    store = machine.site.running.store
    (device,) = store.devices()
    ReferenceValues(store, machine.site.running.policy).learn_device(
        device.device, "boot", datetime.now(UTC)
    )
    in_use()
    attested = machine.agent("attest")
    assert attested.returncode == 0, attested.stdout + attested.stderr


def test_two_agents_of_one_device_are_three_identities(machine: Machine, tmp_path: Path) -> None:
    """R3, R7, R20, R29: keys in one TPM, three subjects, keys and certificates, by commands."""
    key = owner_key(tmp_path)
    enrol_and_attest(machine)
    assert machine.verifier("owners", "add", OWNER, tmp_path / "owner.pem").returncode == 0

    for name in ("planner", "mailer"):
        machine.add(name, key)

    folder = tmp_path / "state" / "agents"
    jwks = machine.site.client().get("/.well-known/jwks.json").json
    state = StateFile(tmp_path / "state").load()
    assert state is not None
    assert state.credential is not None
    own = x509.load_pem_x509_certificates(state.credential.certificate_chain_pem.encode())[0]
    found = [own]
    for name in ("planner", "mailer"):
        chain = (folder / name / "certificate.pem").read_bytes()
        certificate = x509.load_pem_x509_certificates(chain)[0]
        token = verify_wit(
            (folder / name / "token").read_text().strip(),
            jwks,
            trust_domain="fleet.example",
            at=datetime.now(UTC),
        )
        assert token.key == certificate.public_key()
        assert token.subject.endswith(f"/agent/{name}")
        assert (token.owner, token.capabilities) == (OWNER, ("mail.send",))
        assert read_agent_claims(certificate).owner == OWNER
        found.append(certificate)
        roots = tmp_path / "roots.pem"
        roots.write_bytes(
            b"".join(
                one.public_bytes(Encoding.PEM) for one in machine.site.running.authority.roots()
            )
        )
        path = folder / name / "certificate.pem"
        told = subprocess.run(
            ["openssl", "verify", "-CAfile", str(roots), "-untrusted", str(path), str(path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
    assert len({spki_der(one) for one in found}) == 3
    assert len({one.subject.rfc4514_string() for one in found}) == 3
    listed = machine.verifier(
        "agents", "list", machine.site.running.store.devices()[0].device
    ).stdout
    assert "planner" in listed
    assert "mailer" in listed


def test_agent_that_asks_for_more_than_was_signed_is_refused(
    machine: Machine, tmp_path: Path
) -> None:
    key = owner_key(tmp_path)
    enrol_and_attest(machine)
    assert machine.verifier("owners", "add", OWNER, tmp_path / "owner.pem").returncode == 0
    machine.agent("agent", "add", "planner", "--scope", "mail.send", "--binding-request", "p.json")
    signed = machine.verifier(
        *("owners", "bind", "p.json", "--key", key, "--owner", OWNER, "--expires", "30d"),
        *("--scope", "calendar.read"),
    )
    assert "must ask for less" in signed.stdout

    refused = machine.agent(
        "agent", "add", "planner", "--scope", "mail.send", "--owner-binding", "p.jws"
    )

    assert refused.returncode != 0
    assert "scope-exceeded" in refused.stderr
    assert not (tmp_path / "state" / "agents" / "planner" / "certificate.pem").exists()
