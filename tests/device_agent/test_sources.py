from __future__ import annotations

import os
from pathlib import Path

import pytest

from attestation.refusals import RefusalCode
from device_agent.errors import SourceUnreadable
from device_agent.sources.firmware_log import FirmwareLogFile
from device_agent.sources.host import HostFacts


def test_a_firmware_log_is_read_whole(tmp_path: Path) -> None:
    content = os.urandom(700_000)
    (tmp_path / "log").write_bytes(content)

    assert FirmwareLogFile(tmp_path / "log").read() == content


def test_a_file_that_tells_no_size_is_read_to_its_end() -> None:
    content = FirmwareLogFile(Path("/proc/version")).read()

    assert content is not None
    assert content.startswith(b"Linux version")


def test_no_log_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    assert FirmwareLogFile(None).read() is None
    assert FirmwareLogFile(tmp_path / "absent").read() is None
    assert FirmwareLogFile(tmp_path / "empty").read() is None


def test_a_log_of_the_limit_is_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(bytes(1000))

    assert FirmwareLogFile(tmp_path / "log", limit_bytes=1000).read() == bytes(1000)
    with pytest.raises(SourceUnreadable) as caught:
        FirmwareLogFile(tmp_path / "log", limit_bytes=999).read()
    assert caught.value.code == RefusalCode.TOO_LARGE


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(SourceUnreadable, match="larger than"):
        FirmwareLogFile(Path("/dev/zero")).read()


def test_a_log_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="cannot be read: Is a directory") as caught:
        FirmwareLogFile(tmp_path).read()
    assert caught.value.code == RefusalCode.SOURCE_UNREADABLE


def test_the_machine_id_leaves_only_as_a_digest(tmp_path: Path) -> None:
    (tmp_path / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "boot_id").write_text("b-1\n")

    facts = HostFacts(
        agent_version="1.2",
        boot_id_file=tmp_path / "boot_id",
        machine_id_file=tmp_path / "machine-id",
    )

    claims = facts.read()
    assert claims["agent-version"] == "1.2"
    assert claims["boot-id"] == facts.boot_id == "b-1"
    assert len(bytes(claims["machine-id-digest"])) == 32  # type: ignore[arg-type]
    assert "0123456789abcdef" not in str(claims)


def test_facts_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    facts = HostFacts(
        agent_version="1", boot_id_file=tmp_path / "no", machine_id_file=tmp_path / "no"
    )

    assert "boot-id" not in facts.read()
    assert "machine-id-digest" not in facts.read()
    assert facts.read()["kernel-release"]
