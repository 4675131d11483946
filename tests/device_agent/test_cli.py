"""The installed command as a process: errors, exit codes, speed; and a whole life on swtpm."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.tpm.csr_idevid import parse
from attestation.tpm.public import parse_public
from deploy.demo.swtpm import SoftwareTpm
from device_agent.cli import main
from device_agent.errors import (
    DeviceAgentError,
    SettingsInvalid,
    SourceUnreadable,
    StateUnwritable,
    TpmUnavailable,
    VerifierRefused,
    VerifierUnreachable,
)
from device_agent.lifecycle import Credential, Fault, Verdict
from device_agent.ports import KeyRole
from device_agent.state.files import SavedState, StateFile
from tests.simulators.soft_device import SoftManufacturer
from tests.simulators.soft_ima import entry, ng
from tests.simulators.verifier_simulator import VerifierSimulator, https_verifier

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


BOOTED = entry(ng(b"boot_aggregate", b"PCR 0 to 9"))
MEASURED = BOOTED + entry(ng(b"/usr/bin/env", b"env"))


def agent(
    *arguments: str, timeout_s: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "device_agent", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])

    assert caught.value.code == 0
    words = capsys.readouterr().out
    for command in ("factory", "run", "enrol", "attest", "status", "check", "settings"):
        assert command in words


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["enroll"])

    assert caught.value.code == 2
    assert "enroll" in capsys.readouterr().err


def test_a_wrong_setting_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[mqtt]\nprot = 1\n")

    code = main(["--config", str(file), "settings"])

    assert code == 2
    assert capsys.readouterr().err == (
        f"device-agent: settings-invalid: {file}:2: mqtt.prot is not a setting; "
        "did you mean 'port'?\n"
    )


def test_settings_show_each_value_with_its_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[mqtt]\nport = 1884\n")
    monkeypatch.setenv("DEVICE_AGENT_LOG_LEVEL", "debug")

    assert main(["--config", str(file), "settings", "--show", "--json"]) == 0

    shown = {item["key"]: item for item in json.loads(capsys.readouterr().out)}
    assert (shown["mqtt.port"]["value"], shown["mqtt.port"]["origin"]) == (1884, "file")
    assert shown["log.level"]["origin"] == "DEVICE_AGENT_LOG_LEVEL"
    assert shown["tpm.tcti"]["origin"] == "default"


def test_what_settings_show_is_a_settings_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import tomllib  # noqa: PLC0415

    file = tmp_path / "a.toml"
    file.write_text("")
    main(["--config", str(file), "settings"])

    document = tomllib.loads(capsys.readouterr().out)

    assert document["mqtt"]["port"] == 8883


def state_directory(tmp_path: Path, saved: SavedState) -> Path:
    store = StateFile(tmp_path / "state")
    store.claim()
    store.save(saved)
    store.release()
    file = tmp_path / "a.toml"
    file.write_text(f'[state]\ndirectory = "{tmp_path}/state"\n')
    return file


SAVED = SavedState(
    phase="attesting",
    saved_at=AT,
    credential=Credential(
        device_id="dev-a", certificate_chain_pem="", obtained_at=AT, not_after=AT
    ),
    verdict=Verdict(
        status="contraindicated",
        allowed=False,
        reasons=("log-replay-mismatch: PCR 4 of sha256",),
        result="a.b.c",
        at=AT,
    ),
    fault=Fault(code="overloaded", reason="later", at=AT),
)


def test_status_tells_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = state_directory(tmp_path, SAVED)

    assert main(["--config", str(file), "status"]) == 0
    words = capsys.readouterr().out
    assert main(["--config", str(file), "status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)

    assert "contraindicated, denied" in words
    assert "log-replay-mismatch: PCR 4 of sha256" in words
    assert "overloaded: later" in words
    assert document["device_id"] == "dev-a"
    assert document["verdict"]["allow"] is False


def test_status_shows_renewal_key_and_what_will_hurt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    credential = Credential(
        device_id="dev-a",
        certificate_chain_pem="",
        obtained_at=now - timedelta(days=21),
        not_after=now + timedelta(days=9, minutes=1),
        slot=KeyRole.LDEVID_2,
        key_since=now - timedelta(days=50, minutes=1),
    )
    saved = replace(
        SAVED,
        credential=credential,
        renew_at=now - timedelta(days=1),
        renewal_fault=Fault(code="overloaded", reason="later", at=now),
    )
    file = state_directory(tmp_path, saved)

    assert main(["--config", str(file), "status"]) == 0
    words = capsys.readouterr().out
    assert main(["--config", str(file), "status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)

    assert "slot ldevid-2, in use for 50 d 0 h" in words
    assert "WARNING" in words
    assert "it ends in 9 d 0 h; the last renewal failed: overloaded: later" in words
    assert document["warning"].startswith("it ends in 9 d 0 h; ")
    assert document["key"]["slot"] == "ldevid-2"
    assert document["renewal_fault"]["code"] == "overloaded"
    assert document["renew_at"] == (now - timedelta(days=1)).isoformat(timespec="seconds")


def test_status_before_the_first_run_says_what_to_do_and_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.toml"
    state = f'[state]\ndirectory = "{tmp_path}/none"\n'
    file.write_text(state)

    assert main(["--config", str(file), "status"]) == 1
    assert "has not run yet\n-> verifier.url is not set" in capsys.readouterr().out
    file.write_text(f'{state}[verifier]\nurl = "https://v.example"\nca_file = "/ca.pem"\n')
    assert main(["--config", str(file), "status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["mend"].startswith("run: device-agent check; ")


def test_a_corrupt_state_file_is_exit_code_6(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = state_directory(tmp_path, SAVED)
    (tmp_path / "state" / "state.json").write_text("{")

    assert main(["--config", str(file), "status"]) == 6
    assert capsys.readouterr().err.startswith("device-agent: state-corrupt: ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsInvalid("x"), 2),
        (TpmUnavailable("x"), 3),
        (SourceUnreadable("source-unreadable", "x"), 3),
        (VerifierUnreachable("x"), 4),
        (VerifierRefused("device-unknown", "x", http_status=404), 5),
        (StateUnwritable("x"), 6),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: DeviceAgentError, code: int) -> None:
    from device_agent.cli import exit_code  # noqa: PLC0415

    assert exit_code(error) == code


@pytest.mark.system
def test_light_commands_load_no_tpm_stack_and_no_network(tmp_path: Path) -> None:
    file = state_directory(tmp_path, SAVED)
    script = (
        "import sys; from device_agent.cli import main\n"
        f"for word in ('status', 'settings'): main(['--config', {str(file)!r}, word])\n"
        "print([m for m in ('tpm2_pytss', 'ssl', 'structlog', 'paho') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.splitlines()[-1] == "[]"


# --- a whole life ------------------------------------------------------------------------------
@pytest.fixture
def verifier(tmp_path: Path) -> Iterator[tuple[VerifierSimulator, SoftManufacturer, Path]]:
    simulator = VerifierSimulator(attest_in_s=0.2)
    manufacturer = SoftManufacturer()
    (tmp_path / "ca.pem").write_bytes(simulator.authority.pem)
    (tmp_path / "log").write_bytes(b"firmware log")
    (tmp_path / "list").write_bytes(MEASURED)
    anchors = manufacturer.root_pem + simulator.authority.pem
    with (
        https_verifier(simulator, tmp_path, client_anchors=anchors) as url,
        SoftwareTpm(tmp_path / "tpm") as tpm,
    ):
        file = tmp_path / "agent.toml"
        file.write_text(
            f'[tpm]\ntcti = "{tpm.tcti}"\n'
            f'[verifier]\nurl = "{url}"\nca_file = "{tmp_path}/ca.pem"\n'
            f'[evidence]\nfirmware_log = "{tmp_path}/log"\nima_list = "{tmp_path}/list"\n'
            "interval_min_s = 0.1\n"
            f'[state]\ndirectory = "{tmp_path}/state"\n[log]\nformat = "json"\n'
        )
        yield simulator, manufacturer, file


def certify(manufacturer: SoftManufacturer, request: Path, folder: Path) -> None:
    content = parse(request.read_bytes()).content
    for role, public in (
        (KeyRole.IDEVID, content.idevid_public),
        (KeyRole.IAK, content.iak_public),
    ):
        key = parse_public(public).key
        der = manufacturer.issue(role, key, content.product_serial.decode())
        pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
        (folder / f"{role}.pem").write_bytes(pem)


@pytest.mark.tpm
@pytest.mark.system
def test_a_device_is_made_enrolled_attested_and_run_by_command(
    verifier: tuple[VerifierSimulator, SoftManufacturer, Path], tmp_path: Path
) -> None:
    simulator, manufacturer, file = verifier
    config = ("--config", str(file))
    request = tmp_path / "request"

    made = agent(*config, "factory", "status", "--json")
    assert (made.returncode, json.loads(made.stdout)["complete"]) == (1, False)
    done = agent(
        *config, "factory", "request", "--model", "M1", "--serial", "SN-7", "--output", str(request)
    )
    assert done.returncode == 0, done.stderr
    certify(manufacturer, request, tmp_path)
    done = agent(
        *config,
        *("factory", "install", "--json"),
        *("--idevid", str(tmp_path / "idevid.pem"), "--iak", str(tmp_path / "iak.pem")),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["complete"] is True

    done = agent(*config, "attest")
    assert done.returncode == 3
    assert done.stderr == (
        "device-agent: tpm-key-missing: this device holds no LDevID certificate; enrol it first\n"
    )
    done = agent(*config, "enrol")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("enrolled as dev-a")
    done = agent(*config, "attest")
    assert (done.returncode, done.stdout) == (0, "affirming: allowed\n")
    simulator.golden = {}
    done = agent(*config, "attest", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["reasons"] == ["reference-mismatch: PCR 7 differs"]
    simulator.golden = None
    done = agent(*config, "check", "--json")
    assert done.returncode == 0, done.stdout
    assert {check["grade"] for check in json.loads(done.stdout)} == {"ok"}
    (tmp_path / "list").write_bytes(BOOTED)
    done = agent(*config, "check", "--json")
    assert done.returncode == 0, done.stdout
    (told,) = [check for check in json.loads(done.stdout) if check["name"] == "ima list"]
    assert told["grade"] == "warn"
    assert told["reason"].startswith("1 entry; only boot_aggregate")
    done = agent(*config, "check")
    assert "warn  ima list" in done.stdout
    assert "-> boot with ima_policy=tcb" in done.stdout


def manufacture(manufacturer: SoftManufacturer, config: tuple[str, str], folder: Path) -> None:
    """Make the device's keys, and put the manufacturer's certificates beside them."""
    request = folder / "request"
    agent(*config, "factory", "request", "--model", "M", "--serial", "S", "--output", str(request))
    certify(manufacturer, request, folder)
    agent(
        *config,
        *("factory", "install"),
        *("--idevid", str(folder / "idevid.pem"), "--iak", str(folder / "iak.pem")),
    )


@pytest.mark.tpm
@pytest.mark.system
def test_a_key_is_exchanged_to_and_fro_by_command(
    verifier: tuple[VerifierSimulator, SoftManufacturer, Path], tmp_path: Path
) -> None:
    _, manufacturer, file = verifier
    config = ("--config", str(file))
    manufacture(manufacturer, config, tmp_path)
    done = agent(*config, "rotate")
    assert done.returncode == 3
    assert done.stderr.startswith("device-agent: tpm-key-missing: ")
    assert agent(*config, "enrol").returncode == 0

    done = agent(*config, "rotate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("exchanged the LDevID key of dev-a: slot ldevid -> ldevid-2\n")
    assert done.stdout.endswith("attested with it: affirming, allowed\nold key evicted\n")
    done = agent(*config, "rotate", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["previous_slot"], said["slot"], said["evicted"]) == ("ldevid-2", "ldevid", True)


@pytest.mark.tpm
@pytest.mark.system
def test_the_daemon_tells_systemd_survives_kill_9_and_ends_at_sigterm(
    verifier: tuple[VerifierSimulator, SoftManufacturer, Path], tmp_path: Path
) -> None:
    simulator, manufacturer, file = verifier
    config = ("--config", str(file))
    manufacture(manufacturer, config, tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        for round_number in range(2):
            before = simulator.calls.count("submit")
            daemon = subprocess.Popen(
                [sys.executable, "-m", "device_agent", *config, "run"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "NOTIFY_SOCKET": str(tmp_path / "notify"),
                    "WATCHDOG_USEC": "1000000",
                },
                stderr=subprocess.PIPE,
            )
            heard = {systemd.recv(4096)}
            while simulator.calls.count("submit") < before + 3:
                heard.add(systemd.recv(4096))
            assert {b"READY=1", b"WATCHDOG=1", b"STATUS=affirming, allowed"} <= heard
            daemon.send_signal(signal.SIGTERM if round_number else signal.SIGKILL)
            assert daemon.stderr is not None
            lines = [json.loads(line) for line in daemon.stderr.read().splitlines()]
            daemon.stderr.close()
            assert daemon.wait(10) == (0 if round_number else -signal.SIGKILL)
    assert simulator.calls.count("enrol") == 1
    assert lines[0]["event"] == "daemon_started"
    assert lines[-1]["event"] == "daemon_stopped"


@pytest.mark.system
def test_a_daemon_without_tpm_and_verifier_stays_up_and_backs_off(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(VerifierSimulator().authority.pem)
    file = tmp_path / "agent.toml"
    file.write_text(
        f'[tpm]\ntcti = "device:{tmp_path}/absent"\n[verifier]\nurl = "https://localhost:1"\n'
        f'ca_file = "{tmp_path}/ca.pem"\n[state]\ndirectory = "{tmp_path}/state"\n'
        '[retry]\nbase_s = 0.05\n[log]\nformat = "json"\n'
    )
    daemon = subprocess.Popen(
        [sys.executable, "-m", "device_agent", "--config", str(file), "run"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    assert daemon.stderr is not None
    faults = 0
    until = time.monotonic() + 20
    while faults < 3 and time.monotonic() < until:
        line = json.loads(daemon.stderr.readline())
        faults += line["event"] == "fault_occurred"
    daemon.terminate()
    daemon.stderr.read()
    daemon.stderr.close()

    assert faults == 3
    assert daemon.wait(10) == 0


def test_a_moment_is_shown_with_its_zone() -> None:
    from device_agent.status_command import _time  # noqa: PLC0415

    assert _time(AT + timedelta(seconds=1)) == "2026-03-01T12:00:01+00:00"
