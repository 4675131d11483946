"""One machine, one (software) TPM, two verifiers: judged by one, enrolled by the other (R24).

The device carries the result itself (passport model, RFC 9334, 5.1); the two verifiers never speak
to each other.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.logs.event_types import EventType
from attestation.logs.tcg import parse_firmware_log
from deploy.demo.swtpm import SoftwareTpm
from device_agent.cli import main
from tests.simulators.swtpm import Manufactured
from tests.simulators.two_verifiers import KNOWN, POLICY, TwoVerifiers
from tests.simulators.verifier_site import VerifierSite

pytestmark = pytest.mark.tpm

REFUSED, SOURCE = 5, 3
DOORS = pytest.mark.parametrize("door", [(), ("--est",)], ids=["cbor", "est"])


@pytest.fixture(scope="module")
def two(
    tmp_path_factory: pytest.TempPathFactory, manufactured: Manufactured
) -> Iterator[TwoVerifiers]:
    rules = POLICY.replace("FAR-*", "SIM-*")
    folder = tmp_path_factory.mktemp("two")
    with TwoVerifiers(folder, manufactured.manufacturer, rules) as running:
        yield running


@pytest.fixture(scope="module")
def running_tpm(
    manufactured: Manufactured, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SoftwareTpm]:
    """One TPM for all tests: both verifiers remember its clock, which never goes back."""
    own = tmp_path_factory.mktemp("tpm") / "state"
    shutil.copytree(manufactured.state, own)
    with SoftwareTpm(own) as tpm:
        yield tpm


@dataclass(frozen=True)
class Machine:
    """What its operator sees: two settings files, and what the commands say."""

    folder: Path
    tpm: SoftwareTpm
    two: TwoVerifiers
    read: Callable[[], tuple[str, str]]

    def settings(self, name: str, site: VerifierSite, slots: tuple[int, int], more: str) -> Path:
        path = self.folder / f"{name}.toml"
        path.write_text(
            f"""
[tpm]
tcti = "{self.tpm.tcti}"
ldevid_handle = {slots[0]:#x}
ldevid_2_handle = {slots[1]:#x}
[verifier]
url = "https://localhost:{site.port}"
ca_file = "{site.service_ca}"
[enrolment]
{more}
[evidence]
firmware_log = "{self.folder}/log"
ima_list = ""
[state]
directory = "{self.folder}/{name}"
"""
        )
        return path

    def at_judge(self, *command: str) -> tuple[int, str, str]:
        config = self.settings("judge", self.two.judge, (0x81000010, 0x81000011), "")
        return main(["--config", str(config), *command]), *self.read()

    def at_issuer(self, *command: str, more: str = "") -> tuple[int, str, str]:
        config = self.settings("issuer", self.two.issuer, (0x81000012, 0x81000013), more)
        return main(["--config", str(config), *command]), *self.read()

    def judged(self, wanted: str = "affirming") -> str:
        """Attest to the judge; returns what it signed."""
        self.at_judge("attest")
        verdict = json.loads(self.at_judge("status", "--json")[1])["verdict"]
        assert verdict["status"] == wanted, verdict
        return str(verdict["result"])

    def attests_to_issuer(self) -> bool:
        """Say whether the certificate that the issuer gave is one to attest with."""
        self.at_issuer("attest")
        verdict = json.loads(self.at_issuer("status", "--json")[1])["verdict"]
        return verdict["status"] in {"affirming", "warning"}

    def issued_for(self) -> str:
        """Return the digest of the result that the newest certificate rests on."""
        entries = self.two.issuer.running.store.log_entries()
        entry = json.loads([one for one in entries if one.kind == "issued"][-1].entry)
        assert entry["proofs"] == ["idevid", "pop", "residency", "result"]
        return str(entry["ear"])


@pytest.fixture
def machine(
    two: TwoVerifiers,
    running_tpm: SoftwareTpm,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Machine:
    """A machine that has booted as the judge knows it, and that the judge has enrolled."""

    def read() -> tuple[str, str]:
        said = capsys.readouterr()
        return said.out, said.err

    (tmp_path / "log").write_bytes(KNOWN)
    running_tpm.power_cycle()
    for event in parse_firmware_log(KNOWN).events:
        if event.type != EventType.NO_ACTION:
            running_tpm.extend(event.pcr, dict(event.digests))
    made = Machine(folder=tmp_path, tpm=running_tpm, two=two, read=read)
    assert made.at_judge("enrol")[0] == 0
    return made


def test_device_that_shows_evidence_is_told_that_a_result_is_wanted(machine: Machine) -> None:
    code, _, said = machine.at_issuer("enrol")

    assert code == REFUSED
    assert said.startswith("device-agent: proofs-missing: ")
    assert "wants what was not sent: result" in said


@DOORS
def test_device_judged_at_one_verifier_enrols_at_the_other_by_its_result(
    machine: Machine, door: tuple[str, ...]
) -> None:
    result = machine.judged()

    code, out, said = machine.at_issuer("enrol", *door, "--result", f"{machine.folder}/judge")

    assert (code, said) == (0, ""), said
    assert "enrolled as sim-0001" in out
    assert machine.issued_for() == hashlib.sha256(result.encode()).hexdigest()
    assert machine.attests_to_issuer()
    assert machine.judged(), "the certificate of the other verifier still works"


@DOORS
def test_setting_names_the_file_with_the_result(machine: Machine, door: tuple[str, ...]) -> None:
    result = machine.judged()
    (machine.folder / "result.json").write_text(json.dumps({"result": result}))
    shown = f'result = "{machine.folder}/result.json"'

    assert machine.at_issuer("enrol", *door, more=shown)[0] == 0

    assert machine.issued_for() == hashlib.sha256(result.encode()).hexdigest()
    checks = json.loads(machine.at_issuer("check", "--json", more=shown)[1])
    (told,) = [one for one in checks if one["name"] == "result"]
    assert told["grade"] == "ok"


@DOORS
def test_newest_result_of_a_device_that_fell_is_refused(
    machine: Machine, door: tuple[str, ...]
) -> None:
    machine.judged()
    machine.tpm.extend(4, {HashAlgorithm.SHA256: bytes(range(32))})
    machine.judged("contraindicated")

    code, _, said = machine.at_issuer("enrol", *door, "--result", f"{machine.folder}/judge")

    assert code == REFUSED
    assert said.startswith("device-agent: result-not-acceptable: ")
    assert "contraindicated, wanted affirming" in said


def test_device_that_was_never_judged_is_told_what_to_do(machine: Machine) -> None:
    code, _, said = machine.at_issuer("enrol", "--result", f"{machine.folder}/judge")

    assert code == SOURCE
    assert "holds no result yet; let the agent of that state directory attest" in said

    shown = f'result = "{machine.folder}/judge"'
    checks = json.loads(machine.at_issuer("check", "--json", more=shown)[1])
    (told,) = [one for one in checks if one["name"] == "result"]
    assert (told["grade"], "attest to the verifier" in told["mend"]) == ("fail", True)
