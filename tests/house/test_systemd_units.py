"""The units are well formed, hardened, and run as users that sysusers makes.

``systemd-analyze verify`` ends with 0 for a misspelt key and only says so on stderr, so the tests
read stderr. These are static checks: no unit is started here.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from device_agent.settings import EvidenceSettings
from tools.tracked import ROOT

UNITS = ROOT / "systemd"
NAMES = sorted(path.name for path in UNITS.glob("*.service"))
INSTALLED = "/opt/device-attestation/bin/"


def settings(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def with_programs_that_exist(target: Path, source: Path = UNITS) -> list[str]:
    """Copy the units with our installed programs replaced by /bin/true; return their paths."""
    copies = []
    for name in NAMES:
        text = re.sub(rf"{INSTALLED}[a-z-]+", "/bin/true", (source / name).read_text())
        (target / name).write_text(text)
        copies.append(str(target / name))
    return copies


def complaints(target: Path, copies: list[str]) -> list[str]:
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *copies],
        check=False,
        capture_output=True,
        text=True,
    )
    ours = [str(target), *NAMES]
    return [line for line in run.stderr.splitlines() if any(word in line for word in ours)]


def test_systemd_has_nothing_to_complain_about_our_units(tmp_path: Path) -> None:
    assert len(NAMES) == 3
    assert complaints(tmp_path, with_programs_that_exist(tmp_path)) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("ProtectSystem=strict", "ProtectSytem=strict"),
        ("ProtectHome=yes", "ProtectHome=yess"),
        ("SystemCallFilter=@system-service", "SystemCallFilter=@sytem-service"),
        ("/bin/true", "/bin/not-there"),
    ],
)
def test_slip_in_a_unit_is_seen(tmp_path: Path, right: str, wrong: str) -> None:
    copies = with_programs_that_exist(tmp_path)
    unit = tmp_path / "verifier.service"
    text = unit.read_text()
    assert right in text
    unit.write_text(text.replace(right, wrong))

    assert complaints(tmp_path, copies) != []


def exposure_is_at_most_2(unit: Path) -> bool:
    run = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", unit],
        check=False,
        capture_output=True,
    )
    return run.returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_exposure_of_each_unit_is_at_most_2(name: str) -> None:
    assert exposure_is_at_most_2(UNITS / name)


def test_unit_without_its_hardening_is_too_exposed(tmp_path: Path) -> None:
    text = (UNITS / "verifier.service").read_text()
    bare = re.sub(r"(?m)^(Protect|Restrict|SystemCall|Private|Capability|Memory).*\n", "", text)
    (tmp_path / "verifier.service").write_text(bare)

    assert not exposure_is_at_most_2(tmp_path / "verifier.service")


def test_units_name_users_and_groups_that_sysusers_makes() -> None:
    lines = (UNITS / "sysusers.d/device-attestation.conf").read_text().splitlines()
    made = {shlex.split(line)[1] for line in lines if not line.startswith("#")} | {"root"}

    for name in NAMES:
        unit = settings(name)
        named = {*unit["User"], *unit["Group"], *unit.get("SupplementaryGroups", [])}
        assert named <= made, name


def test_only_the_device_agent_reaches_the_tpm() -> None:
    reaching = [name for name in NAMES if "tss" in settings(name).get("SupplementaryGroups", [])]
    with_device = [name for name in NAMES if "DeviceAllow" in settings(name)]

    assert reaching == with_device == ["device-agent.service"]
    assert settings("device-agent.service")["DeviceAllow"] == ["/dev/tpmrm0 rw"]


@pytest.mark.parametrize("name", ["device-agent.service", "verifier.service"])
def test_daemons_are_watched_and_run_an_installed_command(name: str) -> None:
    unit = settings(name)
    (command,) = unit["ExecStart"]

    assert unit["Type"] == ["notify"]
    assert int(unit["WatchdogSec"][0]) > 0
    assert command.startswith(INSTALLED)
    scripts = (ROOT / "pyproject.toml").read_text().partition("[project.scripts]")[2]
    assert f"\n{command.removeprefix(INSTALLED).split()[0]} = " in scripts


@pytest.mark.parametrize("name", NAMES)
def test_no_unit_keeps_a_capability(name: str) -> None:
    assert settings(name)["CapabilityBoundingSet"] == [""]
    assert settings(name)["NoNewPrivileges"] == ["yes"]


def test_firmware_log_is_copied_to_where_the_agent_may_read_it() -> None:
    copy = settings("device-agent-firmware-log.service")
    target = Path(shlex.split(copy["ExecStart"][0])[-1])

    assert target.parent == Path("/run") / copy["RuntimeDirectory"][0]
    assert copy["Group"] == settings("device-agent.service")["Group"]
    assert f"-{target.parent}" in settings("device-agent.service")["ReadOnlyPaths"][0].split()


def test_agent_may_read_the_ima_list_and_nothing_else_of_the_kernels_security_files() -> None:
    unit = settings("device-agent.service")
    lines = (UNITS / "tmpfiles.d/device-attestation.conf").read_text().splitlines()
    given = {row[1]: row for row in map(str.split, lines) if row and row[0] == "z"}
    default = Path(EvidenceSettings().ima_list)

    assert unit["TemporaryFileSystem"] == ["/sys/kernel/security:ro"]
    assert unit["BindReadOnlyPaths"] == [f"-{default.parent}"]
    assert set(given) == {f"{default}*", str(default.parent / "runtime_measurements_count")}
    assert {tuple(row[2:5]) for row in given.values()} == {("0440", "root", unit["Group"][0])}


def test_directories_belong_to_the_users_of_the_units() -> None:
    lines = (UNITS / "tmpfiles.d/device-attestation.conf").read_text().splitlines()
    rows = {row[1]: row for row in map(str.split, lines) if row and not row[0].startswith("#")}

    for user in ("device-agent", "verifier"):
        assert rows[f"/etc/{user}"][2:5] == ["0750", "root", user]
        assert rows[f"/var/lib/{user}"][2:5] == ["0700", user, user]
