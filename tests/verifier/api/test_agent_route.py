"""Agent logs over HTTPS: what the device agent measures, which AIBOMs are known, and lies."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.identity import DeviceId
from attestation.logs.cel import decode_cel, encode_record
from attestation.refusals import RefusalCode as Code
from device_agent.measure.agent_log import MeasuredAgent
from device_agent.measure.build import measured_agent
from device_agent.measure.register import UNWATCHED
from device_agent.settings import AgentSettings, Settings, StateSettings
from tests.simulators import soft_agent
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.soft_provider import SoftProvider
from tests.simulators.verifier_site import Answer, SiteDevice, VerifierSite
from verifier.ports import DocumentKind
from verifier.reference_values.aibom import load_aibom, pack_aibom
from verifier.services.reference_documents import ReferenceDocuments
from verifier.services.reference_values import REFRESH

_SERIALS = itertools.count(1)
PCR = 13
POLICY = f"""
id = "agent-test/1"
description = "the boot chain must replay, and the AI agent be as its AIBOM lists it"
[quote]
selection = "sha256:0,1,2,3,4,5,6,7,8,9,{PCR}"
[log]
separators = false
[[pcrs]]
indices = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
claim = "hardware"
known = 2
unknown = 96
missing = 96
match = "log"
[[pcrs]]
indices = [{PCR}]
claim = "executables"
known = 3
unknown = 96
missing = 96
match = "log"
[agent]
providers = ["acme"]
"""
LIMITS = "[limits]\nrequests_per_s = 1000.0\nburst = 100000\n"


@dataclass
class Shelf:
    """What the verifier knows of AI agents."""

    site: VerifierSite
    provider: SoftProvider

    def add(self, document: bytes) -> str:
        """Add an endorsed AIBOM, and wait until it is in use; return its name."""
        text = pack_aibom(document.decode(), json.dumps(self.provider.endorse(document)))
        bom = load_aibom(text, "test", {"acme": self.provider.pem})
        self._documents.put(DocumentKind.AIBOM, bom.name, text, datetime.now(UTC))
        in_use()
        return bom.name

    def remove(self, name: str) -> None:
        self._documents.remove(DocumentKind.AIBOM, name)
        in_use()

    def trust(self) -> None:
        self._documents.put(DocumentKind.PROVIDER, "acme", self.provider.pem, datetime.now(UTC))

    @property
    def _documents(self) -> ReferenceDocuments:
        return ReferenceDocuments(self.site.running.store)


@dataclass
class Machine:
    """An enrolled device with an AI agent on its disk, measured by the daemon's own code."""

    device: SiteDevice
    root: Path
    document: Path
    agent: MeasuredAgent

    def attest(self) -> Answer:
        return self.device.attest()

    def sends(self, log: Callable[[bytes], bytes | None]) -> Answer:
        """Measure, and send this in place of the log."""
        self.device.agent_log = lambda: log(self.agent.read() or b"")
        try:
            return self.device.attest()
        finally:
            self.device.agent_log = self.agent.read

    def vector(self, site: VerifierSite) -> dict[str, int]:
        newest = site.running.store.newest_result(DeviceId(self.device.device_id))
        assert newest is not None
        return dict(newest.vector)


def in_use() -> None:
    threading.Event().wait(REFRESH.total_seconds() + 0.1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierSite]:
    folder = tmp_path_factory.mktemp("agent")
    (folder / "agent.toml").write_text(POLICY)
    with VerifierSite(
        folder / "site", SoftManufacturer(), policy=str(folder / "agent.toml"), extra=LIMITS
    ) as running:
        yield running


@pytest.fixture(scope="module")
def shelf(site: VerifierSite) -> Shelf:
    """Holds the agent of :mod:`tests.simulators.soft_agent`."""
    made = Shelf(site, SoftProvider())
    made.trust()
    made.add(soft_agent.text(soft_agent.aibom()))
    return made


@pytest.fixture
def machine(site: VerifierSite, shelf: Shelf, tmp_path: Path) -> Machine:
    return installed(site, tmp_path)


def installed(site: VerifierSite, folder: Path, *, enrol: bool = True) -> Machine:
    """A device whose agent and AIBOM are on its disk."""
    device = site.device(f"AGENT-{next(_SERIALS):04}")
    root, document = soft_agent.install(folder)
    settings = Settings(
        agent=AgentSettings(root=str(root), aibom=str(document), pcr=PCR),
        state=StateSettings(directory=str(folder / "state")),
    )
    agent = measured_agent(settings, device.tpm, "boot-1", lambda: datetime.now(UTC), UNWATCHED)
    assert agent is not None
    device.agent_log = agent.read
    made = Machine(device=device, root=root, document=document, agent=agent)
    if enrol:
        answer = device.enrol()
        assert answer.status == 201, answer.body
    return made


def told(answer: Answer) -> tuple[str, list[str]]:
    assert answer.status == 200, answer.body
    return answer.json["status"], [reason.split(":")[0] for reason in answer.json["reasons"]]


def test_agent_as_its_aibom_lists_it_is_accepted(site: VerifierSite, machine: Machine) -> None:
    first = machine.attest()
    again = machine.attest()

    for answer in (first, again):
        assert told(answer) == ("affirming", [])
        assert answer.json["allow"] is True
    assert machine.vector(site) == {
        "instance-identity": 2,
        "hardware": 2,
        "executables": 3,
        "file-system": 2,
    }


@pytest.mark.parametrize(
    ("path", "claim"), [("agent.py", "executables"), ("config/agent.toml", "file-system")]
)
def test_changed_file_is_contraindicated_by_name_and_remembered(
    site: VerifierSite, machine: Machine, path: str, claim: str
) -> None:
    before = (machine.root / path).read_bytes()
    machine.attest()
    (machine.root / path).write_bytes(b"something else")
    changed = machine.attest()
    vector = machine.vector(site)
    (machine.root / path).write_bytes(before)
    mended = machine.attest()

    assert told(changed) == ("contraindicated", ["agent-file-changed"])
    assert changed.json["allow"] is False
    assert f"not as the AIBOM lists it: {path}" in changed.json["reasons"][0]
    assert vector[claim] == 96
    assert told(mended) == ("warning", ["agent-file-changed"])
    assert f"something else earlier in this boot: {path}" in mended.json["reasons"][0]


def test_missing_and_extra_files_are_named(machine: Machine) -> None:
    (machine.root / "models/tiny.onnx").unlink()
    (machine.root / "plugin.py").write_bytes(b"import os")

    answer = machine.attest()

    assert told(answer) == ("contraindicated", ["agent-file-missing", "agent-file-unlisted"])
    assert "models/tiny.onnx" in answer.json["reasons"][0]
    assert "plugin.py" in answer.json["reasons"][1]


def update(machine: Machine) -> bytes:
    """Bring the next version of the agent to the device: the same files, another AIBOM."""
    component = soft_agent.aibom()["metadata"]["component"] | {"version": "2.2"}
    document = soft_agent.text(soft_agent.aibom(metadata={"component": component}))
    machine.document.write_bytes(document)
    return document


def test_aibom_that_the_verifier_does_not_hold_is_refused_until_it_does(
    shelf: Shelf, machine: Machine
) -> None:
    machine.attest()
    document = update(machine)
    unknown = machine.attest()
    name = shelf.add(document)
    known = machine.attest()
    shelf.remove(name)
    gone = machine.attest()

    assert name == "field-assistant 2.2"
    assert told(known) == ("affirming", [])
    for answer in (unknown, gone):
        assert told(answer) == ("contraindicated", [Code.AIBOM_UNKNOWN])
        assert soft_agent.sha256(document) in answer.json["reasons"][0]
        assert "verifier aibom add" in answer.json["reasons"][0]


def test_device_with_an_unknown_aibom_does_not_enrol(site: VerifierSite, tmp_path: Path) -> None:
    machine = installed(site, tmp_path, enrol=False)
    update(machine)

    answer = machine.device.enrol()

    assert answer.status == 403, answer.body
    assert "does not hold" in answer.json["detail"]


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (slice(0, -1), Code.AGENT_LOG_MALFORMED),
        (slice(9, None), Code.AGENT_LOG_MALFORMED),
        (slice(0, 0), Code.EVIDENCE_MALFORMED),
    ],
)
def test_malformed_log_is_refused_and_accuses_nobody(
    site: VerifierSite, machine: Machine, broken: slice, code: Code
) -> None:
    machine.attest()
    device = DeviceId(machine.device.device_id)
    before = site.running.store.history(device)

    answer = machine.sends(lambda log: log[broken])

    assert (answer.status, answer.json["code"]) == (400, code), answer.body
    assert site.running.store.history(device) == before
    assert told(machine.attest()) == ("affirming", [])


def without_last(log: bytes) -> bytes:
    """The log as it was before its last record."""
    whole = decode_cel(log)
    return b"".join(
        encode_record(
            number,
            whole.pcr,
            {HashAlgorithm(bank): value for bank, value in record.digests.items()},
            record.content,
        )
        for number, record in enumerate(whole.records[:-1])
    )


def test_log_that_hides_a_record_does_not_lead_to_the_pcr(machine: Machine) -> None:
    machine.attest()
    (machine.root / "agent.py").write_bytes(b"something else")

    lied = machine.sends(without_last)

    assert told(lied) == ("contraindicated", [Code.AGENT_REPLAY_MISMATCH])
    assert told(machine.attest()) == ("contraindicated", [Code.AGENT_FILE_CHANGED])


def test_log_that_is_left_out_is_missed(machine: Machine) -> None:
    assert told(machine.sends(lambda _: None)) == ("contraindicated", [Code.AGENT_LOG_MISSING])


def test_log_that_the_quote_does_not_bind_is_refused(machine: Machine) -> None:
    """The parts travel beside the quote: one that is exchanged underway fits no longer."""
    device, log = machine.device, machine.agent.read() or b""
    (machine.root / "agent.py").write_bytes(b"something else")
    message = device.evidence(device.ask())
    measured = machine.agent.read() or b""
    assert len(measured) > len(log)

    answer = device.submit(message.replace(measured, log.ljust(len(measured), b"\0")))

    status, codes = told(answer)
    assert (status, set(codes)) == ("contraindicated", {Code.QUALIFYING_DATA_MISMATCH})
