from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.identity import agent_name
from device_agent.agents import AgentRecord, Certified
from device_agent.checks import Check, Grade
from device_agent.collector import InitialTrust, Sources
from device_agent.doctor import Patient, examine
from device_agent.errors import (
    DeviceAgentError,
    TlsSeamUnusable,
    TpmUnavailable,
    VerifierUnreachable,
    VerifierUntrusted,
)
from device_agent.lifecycle import Credential, Fault
from device_agent.ports import KeyRole, TpmStatus
from device_agent.settings import parse_settings
from device_agent.sources.firmware_log import FirmwareLogFile
from device_agent.sources.host import HostFacts
from device_agent.sources.ima_list import ImaListFile
from device_agent.state.files import SavedState
from tests.simulators import soft_agent
from tests.simulators.soft_device import SoftManufacturer, SoftTpm
from tests.simulators.soft_endorsement import SoftEk
from tests.simulators.soft_ima import entry, field, ng, tagged

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MANUFACTURER = SoftManufacturer()
CREDENTIAL = Credential(
    device_id="dev-a",
    certificate_chain_pem="",
    obtained_at=NOW - timedelta(days=30),
    not_after=NOW + timedelta(days=89),
)


class Verifier:
    """Answers a probe with a clock or an error."""

    def __init__(self, answer: datetime | DeviceAgentError | None) -> None:
        self.answer = answer

    def probe(self, _role: KeyRole | None) -> tuple[datetime | None, str]:
        if isinstance(self.answer, DeviceAgentError):
            raise self.answer
        return self.answer, "TLSv1.3"


class SickTpm(SoftTpm):
    fault: DeviceAgentError | None = None
    counted = 0
    locked = False

    def status(self) -> TpmStatus:
        if self.fault is not None:
            raise self.fault
        return replace(super().status(), in_lockout=self.locked, lockout_counter=self.counted)


def patient(folder: Path, tpm: SoftTpm | None = None, trust: InitialTrust | None = None) -> Patient:
    (folder / "log").write_bytes(b"log")
    tpm = tpm or SickTpm(MANUFACTURER)
    tpm.create_ldevid()
    return Patient(
        settings=parse_settings(f'[state]\ndirectory = "{folder}/state"', "t.toml", {}),
        sources=Sources(
            tpm=tpm,
            firmware_log=FirmwareLogFile(folder / "log"),
            host=HostFacts(agent_version="test"),
            trust=trust or InitialTrust(),
        ),
        verifier=Verifier(NOW),
        saved=SavedState(phase="attesting", saved_at=NOW, credential=CREDENTIAL),
        tls_self_test=lambda: None,
        now=lambda: NOW,
    )


def found(sick: Patient, name: str) -> Check:
    return next(check for check in examine(sick) if check.name == name)


def test_a_healthy_device_is_well(tmp_path: Path) -> None:
    assert {check.grade for check in examine(patient(tmp_path))} == {Grade.OK}


def test_everything_that_is_not_well_says_how_to_mend_it(tmp_path: Path) -> None:
    sick = replace(
        patient(tmp_path, SickTpm(banks=(HashAlgorithm.SHA1,))),
        verifier=Verifier(VerifierUnreachable("down")),
        saved=None,
    )

    unwell = [check for check in examine(sick) if check.grade is not Grade.OK]

    assert len(unwell) >= 5
    assert all(check.mend for check in unwell)


def test_a_tpm_that_does_not_open_fails_and_hides_nothing_behind_it(tmp_path: Path) -> None:
    tpm = SickTpm(MANUFACTURER)
    tpm.fault = TpmUnavailable("no such device")

    sick = patient(tmp_path, tpm)

    assert found(sick, "tpm").grade is Grade.FAIL
    assert "tpm-unavailable" in found(sick, "tpm").reason
    assert found(sick, "verifier").grade is Grade.OK


def test_lockout_fails_and_counted_failures_warn(tmp_path: Path) -> None:
    tpm = SickTpm(MANUFACTURER)
    tpm.counted = 3
    assert found(patient(tmp_path, tpm), "tpm lockout").grade is Grade.WARN

    tpm.locked = True
    assert found(patient(tmp_path, tpm), "tpm lockout").grade is Grade.FAIL


@pytest.mark.parametrize("role", [KeyRole.IDEVID, KeyRole.IAK])
def test_a_missing_key_fails(tmp_path: Path, role: KeyRole) -> None:
    tpm = SickTpm(MANUFACTURER)
    tpm.forget(role)

    assert found(patient(tmp_path, tpm), f"key {role}").grade is Grade.FAIL


def test_a_missing_ldevid_key_only_warns(tmp_path: Path) -> None:
    sick = patient(tmp_path)
    tpm = sick.sources.tpm
    assert isinstance(tpm, SoftTpm)
    tpm.forget(KeyRole.LDEVID)

    assert found(sick, "key ldevid").grade is Grade.WARN


def test_a_certificate_of_another_tpm_fails(tmp_path: Path) -> None:
    tpm = SickTpm(MANUFACTURER)
    tpm.certificates = dict(SoftTpm(MANUFACTURER).certificates)

    check = found(patient(tmp_path, tpm), "certificate iak")

    assert check.grade is Grade.FAIL
    assert "another key" in check.reason


def test_a_certificate_that_is_none_fails(tmp_path: Path) -> None:
    tpm = SickTpm(MANUFACTURER)
    tpm.certificates[KeyRole.IDEVID] = b"noise"
    tpm.certificates.pop(KeyRole.IAK)

    assert found(patient(tmp_path, tpm), "certificate idevid").grade is Grade.FAIL
    assert found(patient(tmp_path, tpm), "certificate iak").reason == "not in NV"


def test_no_firmware_log_warns_and_an_unreadable_one_fails(tmp_path: Path) -> None:
    sick = patient(tmp_path)
    none = replace(sick, sources=replace(sick.sources, firmware_log=FirmwareLogFile(None)))
    folder = replace(sick, sources=replace(sick.sources, firmware_log=FirmwareLogFile(tmp_path)))

    assert found(none, "firmware log").grade is Grade.WARN
    assert found(folder, "firmware log").grade is Grade.FAIL


@pytest.mark.parametrize(
    ("seconds", "grade"), [(0, Grade.OK), (-60, Grade.WARN), (600, Grade.FAIL), (-600, Grade.FAIL)]
)
def test_a_wrong_clock_is_noticed(tmp_path: Path, seconds: int, grade: Grade) -> None:
    sick = replace(patient(tmp_path), verifier=Verifier(NOW + timedelta(seconds=seconds)))

    assert found(sick, "clock").grade is grade


def test_an_untrusted_verifier_fails(tmp_path: Path) -> None:
    sick = replace(patient(tmp_path), verifier=Verifier(VerifierUntrusted("self-signed")))

    assert "verifier-untrusted" in found(sick, "verifier").reason


def test_a_tls_seam_that_cannot_work_fails(tmp_path: Path) -> None:
    def broken() -> None:
        raise TlsSeamUnusable("static Python")

    sick = replace(patient(tmp_path), tls_self_test=broken)

    assert found(sick, "tls seam").grade is Grade.FAIL


@pytest.mark.parametrize(("days", "grade"), [(3, Grade.WARN), (-1, Grade.FAIL)])
def test_a_certificate_near_or_past_its_end_is_noticed(
    tmp_path: Path, days: int, grade: Grade
) -> None:
    late = replace(CREDENTIAL, not_after=NOW + timedelta(days=days))
    saved = SavedState(phase="attesting", saved_at=NOW, credential=late)

    assert found(replace(patient(tmp_path), saved=saved), "enrolment").grade is grade


def test_the_enrolment_says_when_it_is_renewed_and_how_old_the_key_is(tmp_path: Path) -> None:
    saved = SavedState(
        phase="attesting",
        saved_at=NOW,
        credential=replace(CREDENTIAL, key_since=NOW - timedelta(days=99, hours=3)),
        renew_at=NOW + timedelta(days=50),
    )

    check = found(replace(patient(tmp_path), saved=saved), "enrolment")

    assert check.grade is Grade.OK
    assert "renewal 2026-04-20T12:00:00+00:00, key 99 d 3 h old" in check.reason


def test_a_renewal_that_failed_is_told_long_before_the_certificate_ends(tmp_path: Path) -> None:
    fault = Fault(code="store-unavailable", reason="the disk is full", at=NOW)
    saved = SavedState(phase="attesting", saved_at=NOW, credential=CREDENTIAL, renewal_fault=fault)

    check = found(replace(patient(tmp_path), saved=saved), "enrolment")

    assert check.grade is Grade.WARN
    assert "it ends in 89 d 0 h; the last renewal failed: store-unavailable" in check.reason
    assert check.mend


def test_a_key_left_over_in_the_other_slot_is_told_and_a_missing_one_there_is_not(
    tmp_path: Path,
) -> None:
    well = patient(tmp_path)
    assert not [check for check in examine(well) if check.name == "key ldevid-2"]

    well.sources.tpm.create_ldevid(KeyRole.LDEVID_2)

    assert "left over" in found(well, "key ldevid-2").reason


def test_the_key_is_looked_for_in_the_slot_that_the_certificate_is_for(tmp_path: Path) -> None:
    in_second = replace(CREDENTIAL, slot=KeyRole.LDEVID_2)
    saved = SavedState(phase="attesting", saved_at=NOW, credential=in_second, slot=KeyRole.LDEVID_2)
    sick = replace(patient(tmp_path), saved=saved)

    assert found(sick, "key ldevid-2").grade is Grade.WARN
    assert "left over" in found(sick, "key ldevid").reason


def test_a_state_directory_in_the_way_fails(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")

    assert found(patient(tmp_path), "state directory").grade is Grade.FAIL


def test_a_broker_that_is_not_there_fails(tmp_path: Path) -> None:
    text = f'[mqtt]\nenabled = true\nhost = "localhost"\nport = 1\nca_file = "{tmp_path}/log"'
    sick = replace(patient(tmp_path), settings=parse_settings(text, "t.toml", {}))

    assert found(sick, "mqtt").grade is Grade.FAIL


def with_agent(folder: Path, **files: bytes) -> Patient:
    root, document = soft_agent.install(folder)
    for name, content in files.items():
        (root / name).write_bytes(content)
    text = (
        f'[state]\ndirectory = "{folder}/state"\n[agent]\nroot = "{root}"\naibom = "{document}"\n'
    )
    return replace(patient(folder), settings=parse_settings(text, "t.toml", {}))


def test_an_agent_as_its_aibom_lists_it_is_well(tmp_path: Path) -> None:
    check = found(with_agent(tmp_path), "agent")

    assert check.grade is Grade.OK
    assert "field-assistant 2.1: 4 files" in check.reason
    assert [path.name for path in (tmp_path / "state").iterdir()] == []


def test_an_agent_that_differs_is_a_warning(tmp_path: Path) -> None:
    check = found(with_agent(tmp_path, extra=b"x"), "agent")

    assert check.grade is Grade.WARN
    assert check.reason.endswith("1 not listed")


def test_an_agent_whose_aibom_is_unreadable_fails(tmp_path: Path) -> None:
    sick = with_agent(tmp_path)
    document = Path(sick.settings.agent.aibom)
    document.write_bytes(b"{}")
    malformed = found(sick, "agent")
    document.unlink()

    assert malformed.grade is found(sick, "agent").grade is Grade.FAIL


def test_no_agent_no_check(tmp_path: Path) -> None:
    assert "agent" not in [check.name for check in examine(patient(tmp_path))]


# --- the IMA list --------------------------------------------------------------------------------
def with_list(folder: Path, *entries: bytes) -> Patient:
    """A device whose kernel keeps this list; no file at all without entries."""
    path = folder / "binary_runtime_measurements"
    if entries:
        path.write_bytes(b"".join(entries))
    text = f'[state]\ndirectory = "{folder}/state"\n[evidence]\nima_list = "{path}"\n'
    sick = patient(folder)
    return replace(
        sick,
        settings=parse_settings(text, "t.toml", {}),
        sources=replace(sick.sources, ima_list=ImaListFile(path)),
    )


def aggregate(content: bytes = b"boot", *, digest: bytes | None = None) -> bytes:
    value = tagged(content) if digest is None else b"sha256:\0" + digest
    return entry(field(value) + field(b"boot_aggregate\0"))


def test_list_that_is_not_sent_is_said_and_no_fault(tmp_path: Path) -> None:
    check = found(patient(tmp_path), "ima list")

    assert (check.grade, check.reason) == (Grade.OK, "not sent (evidence.ima_list is empty)")


def test_list_with_entries_is_counted(tmp_path: Path) -> None:
    sick = with_list(tmp_path, aggregate(), entry(ng(b"/bin/sh", b"sh")), entry(ng(b"/x", b"x")))

    check = found(sick, "ima list")

    assert (check.grade, check.reason, check.mend) == (Grade.OK, "3 entries", "")


def test_list_that_is_too_long_is_no_matter_of_rights(tmp_path: Path) -> None:
    sick = with_list(tmp_path, aggregate(), entry(ng(b"/bin/sh", b"sh")))
    short = ImaListFile(tmp_path / "binary_runtime_measurements", limit_bytes=100)

    check = found(replace(sick, sources=replace(sick.sources, ima_list=short)), "ima list")

    assert check.grade is Grade.FAIL
    assert check.reason.startswith("ima-list-too-long: ")
    assert "boot the machine again" in check.mend
    assert "right to read" not in check.mend


def test_list_that_is_not_there_or_empty_says_how_to_get_one(tmp_path: Path) -> None:
    missing, empty = (
        found(with_list(tmp_path), "ima list"),
        found(with_list(tmp_path, b""), "ima list"),
    )

    assert missing.grade is empty.grade is Grade.WARN
    assert missing.reason == f"there is none at {tmp_path}/binary_runtime_measurements"
    assert "mount securityfs" in missing.mend
    assert empty.reason == "the kernel's list is empty"
    assert "ima_policy=tcb" in empty.mend
    assert "securityfs" not in empty.mend
    assert "empty evidence.ima_list" in empty.mend


def test_list_of_a_kernel_without_an_ima_policy_says_that_nothing_is_measured(
    tmp_path: Path,
) -> None:
    check = found(with_list(tmp_path, aggregate()), "ima list")

    assert check.grade is Grade.WARN
    assert check.reason.startswith("1 entry; only boot_aggregate: the kernel has no IMA policy")
    assert "/etc/ima/ima-policy" in check.mend


@pytest.mark.parametrize("more", [0, 2])
def test_list_of_a_kernel_that_found_no_tpm_is_worth_nothing(tmp_path: Path, more: int) -> None:
    sick = with_list(tmp_path, aggregate(digest=bytes(32)), *[entry(ng(b"/x", b"x"))] * more)

    check = found(sick, "ima list")

    assert check.grade is Grade.WARN
    assert "the kernel found no TPM when it began to measure" in check.reason
    assert "build the TPM's driver into the kernel" in check.mend


def test_list_that_does_not_begin_with_the_boot_is_doubted(tmp_path: Path) -> None:
    check = found(with_list(tmp_path, entry(ng(b"/bin/sh", b"sh")) * 2), "ima list")

    assert check.grade is Grade.WARN
    assert "begins with /bin/sh" in check.reason


@pytest.mark.parametrize(
    "content",
    [
        b"this is no list of measurements at all, but it is long enough to be one" * 3,
        aggregate() + entry(ng(b"/x", b"x"), template=b"ima-odd"),
        entry(b"\xff\xff\xff\xff"),
    ],
)
def test_list_that_the_verifier_would_refuse_fails(tmp_path: Path, content: bytes) -> None:
    check = found(with_list(tmp_path, content), "ima list")

    assert check.grade is Grade.FAIL
    assert check.mend


def test_list_that_may_not_be_read_fails(tmp_path: Path) -> None:
    sick = with_list(tmp_path)
    (tmp_path / "binary_runtime_measurements").mkdir()

    check = found(sick, "ima list")

    assert check.grade is Grade.FAIL
    assert "source-unreadable" in check.reason
    assert "the right to read it" in check.mend


def test_agents_that_cannot_be_renewed_are_told_by_name(tmp_path: Path) -> None:
    well = patient(tmp_path)
    assert not [check for check in examine(well) if check.name.startswith("agent identit")]
    record = AgentRecord(name=agent_name("planner"), key=SoftTpm().create_wrapped())
    certified = Certified(
        agent_id="spiffe://e.test/a",
        certificate_chain_pem="",
        obtained_at=NOW,
        not_after=NOW + timedelta(days=1),
        renew_at=NOW,
        token="",
        token_obtained_at=NOW,
        token_expires_at=NOW,
    )
    fault = Fault(code="scope-exceeded", reason="no more", at=NOW)
    troubled = replace(record, certified=certified, fault=fault)

    sick = replace(well, agents=(record, troubled))

    assert found(sick, "agent identities").reason == "1 of 2 agents have a certificate"
    assert found(sick, "agent identity").grade is Grade.WARN
    assert (
        "planner: the last request failed: scope-exceeded" in found(sick, "agent identity").reason
    )


def test_device_that_enrols_by_its_endorsement_key_needs_no_manufacturers_identity(
    tmp_path: Path,
) -> None:
    tpm = SickTpm()
    tpm.ek = SoftEk()
    tpm.keys.pop(KeyRole.IDEVID)
    trust = InitialTrust(idevid=False, tpm_ek=True)

    checks = {one.name: one for one in examine(patient(tmp_path, tpm, trust))}

    assert "key idevid" not in checks
    assert "idevid certificate" not in checks
    assert checks["key iak"].grade is Grade.OK
    assert checks["endorsement key"].grade is Grade.OK
    assert tpm.ek.digest.hex() in checks["endorsement key"].reason
    tpm.keys.pop(KeyRole.IAK)
    tpm.ek = None
    checks = {one.name: one for one in examine(patient(tmp_path, tpm, trust))}
    assert checks["key iak"].grade is Grade.WARN
    assert checks["endorsement key"].grade is Grade.FAIL
