"""``device-agent agent`` as a process, on a software TPM; and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.wire.jwk import thumbprint
from attestation.wire.owner_binding import OwnerBinding, read_binding_request, sign_binding
from device_agent.cli import main
from device_agent.errors import VerifierRefused
from tests.device_agent.test_cli import ROOT, agent, manufacture, verifier
from tests.simulators.soft_device import SoftManufacturer
from tests.simulators.verifier_simulator import VerifierSimulator

__all__ = ["verifier"]

Site = tuple[VerifierSimulator, SoftManufacturer, Path]
Config = tuple[str, str]


@pytest.fixture
def config(verifier: Site, tmp_path: Path) -> Config:
    """The settings of a device that is manufactured, and has asked for no more."""
    config = ("--config", str(verifier[2]))
    manufacture(verifier[1], config, tmp_path)
    return config


def certificate(place: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((place / "certificate.pem").read_bytes())


@pytest.mark.tpm
@pytest.mark.system
def test_an_agent_is_added_once_its_owner_has_signed(
    verifier: Site, config: Config, tmp_path: Path
) -> None:
    agents = verifier[0].agents
    agents.proofs = frozenset({"pop", "residency", "evidence", "owner-binding"})
    owner = ec.generate_private_key(ec.SECP256R1())
    agents.owner = owner.public_key()
    assert agent(*config, "enrol").returncode == 0
    wish = ("agent", "add", "planner", "--scope", "mail.send,mail.read", "--validation", "wit")
    asked, signed = tmp_path / "to-sign.json", tmp_path / "signed.jws"

    done = agent(*config, *wish, "--binding-request", str(asked))
    assert done.returncode == 1, done.stderr
    assert "is not enrolled yet\n-> let the owner sign" in done.stdout
    request = read_binding_request(asked.read_bytes())
    assert request.scope == ("mail.read", "mail.send")
    binding = OwnerBinding(
        thumbprint=request.thumbprint,
        owner="alice",
        scope=request.scope,
        expires_at=datetime.now(UTC).replace(microsecond=0) + timedelta(days=9),
        nonce=request.nonce,
    )
    signed.write_text(sign_binding(binding, owner) + "\n")
    done = agent(*config, *wish, "--owner-binding", str(signed), "--json")
    assert done.returncode == 0, done.stderr

    said = json.loads(done.stdout)
    assert said["owner"] == "alice"
    assert said["capabilities"] == ["mail.read", "mail.send"]
    key = certificate(Path(said["folder"])).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert said["key"] == request.thumbprint == thumbprint(key)
    assert (Path(said["folder"]) / "token").read_text().startswith("token-of-planner")


@pytest.mark.tpm
@pytest.mark.system
def test_an_agent_is_listed_checked_renewed_and_removed(config: Config) -> None:
    done = agent(*config, "agent", "add", "planner")
    assert (done.returncode, done.stderr[:31]) == (3, "device-agent: tpm-key-missing: ")
    assert agent(*config, "enrol").returncode == 0
    done = agent(*config, "agent", "add", "planner", "--json")
    assert done.returncode == 0, done.stderr
    place = Path(json.loads(done.stdout)["folder"])
    first = certificate(place)

    done = agent(*config, "agent", "renew", "planner")
    assert done.returncode == 0, done.stderr
    second = certificate(place)
    assert second.serial_number != first.serial_number
    assert second.public_key() == first.public_key()
    done = agent(*config, "agent", "list")
    assert "planner  spiffe://example.test/device/dev-a/agent/planner, until " in done.stdout
    done = agent(*config, "check", "--json")
    assert done.returncode == 0, done.stdout
    names = {check["name"]: check["reason"] for check in json.loads(done.stdout)}
    assert names["agent identities"] == "1 of 1 agents have a certificate"

    done = agent(*config, "agent", "remove", "planner")
    assert "removed planner and its key\nits certificate is in force until" in done.stdout
    assert not place.exists()
    assert json.loads(agent(*config, "agent", "list", "--json").stdout) == []


@pytest.mark.tpm
@pytest.mark.system
def test_an_agent_is_added_beside_a_daemon_that_runs_and_gets_it(
    verifier: Site, config: Config, tmp_path: Path
) -> None:
    simulator = verifier[0]
    assert agent(*config, "enrol").returncode == 0
    with (tmp_path / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "device_agent", *config, "run"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=log,
        )
    try:
        while "submit" not in simulator.calls:
            time.sleep(0.02)
            assert daemon.poll() is None
        done = agent(*config, "agent", "add", "planner", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["complete"] is True
        no_more = VerifierRefused("scope-exceeded", "no more of that", http_status=403)
        simulator.agents.fail("enrol", no_more)
        refused = agent(*config, "agent", "add", "coder", "--scope", "mail.read")
        before = simulator.calls.count("submit")
        while simulator.calls.count("submit") < before + 2:
            time.sleep(0.02)
            assert daemon.poll() is None
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(15) == 0

    assert refused.returncode == 5
    assert refused.stderr == "device-agent: scope-exceeded: no more of that\n"
    lines = (tmp_path / "daemon.log").read_text()
    assert '"event": "agent_renewed"' in lines
    assert '"event": "agent_troubled"' in lines
    assert '"event": "fault_occurred"' not in lines


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (("add", "Planner"), "settings-invalid: 'Planner' is not an agent's name"),
        (("add", "planner", "--scope", "two words"), "'two words' is not 1 to"),
        (("add", "planner", "--locator", "nowhere"), "'nowhere' is not an absolute URI"),
        (("add", "planner", "--group", "nobody-has-this"), "settings-invalid: there is no group"),
        (("add", "planner", "--owner-binding", "/nowhere"), "cannot be read"),
        (("remove", "planner"), "agent-unknown: no agent planner"),
    ],
)
def test_what_cannot_be_an_agent_is_refused_before_tpm_and_verifier_are_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], seen: str
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f'[state]\ndirectory = "{tmp_path}/state"\n')

    assert main(["--config", str(file), "agent", *words]) == 2

    error = capsys.readouterr().err
    assert seen in error
    assert error.count("\n") == 1
