from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tests.simulators.boot import IPL, boot, event
from tests.simulators.firmware_log import header
from verifier.cli import offline

DATA = Path(__file__).parents[1] / "data"
RHEL = DATA / "google_go-eventlog/tpm/rhel8-uefi.bin"


def document(path: Path, capsys: pytest.CaptureFixture[str], **asked: object) -> dict[str, object]:
    assert offline.eventlog(path, as_json=True, **asked) == 0  # type: ignore[arg-type]
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_facts_stand_beside_the_contract_only_when_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = document(RHEL, capsys)
    asked = document(RHEL, capsys, facts=True)
    assert sorted(plain) == ["events", "findings", "format", "pcrs"]
    assert asked.pop("facts")
    assert asked == plain


def test_facts_have_their_proofs_and_their_bank(capsys: pytest.CaptureFixture[str]) -> None:
    told = document(RHEL, capsys, facts=True)["facts"]
    assert isinstance(told, dict)
    assert told["bank"] == "sha256"
    assert "no quote" in told["proven_by"]
    assert told["unsafe_pcrs"] == {}
    facts = told["facts"]
    assert facts["secure_boot"] == {"value": True, "proofs": [{"pcr": 7, "event": 3}]}
    assert len(facts["databases"]["dbx"]["value"]["hashes"]) == 183
    assert facts["images"][1]["value"]["kind"] == "application"
    assert told["events"][0] == {
        "event": 1,
        "pcr": 0,
        "type": "EV_S_CRTM_VERSION",
        "text": "GCE Virtual Firmware v1",
    }
    other = document(RHEL, capsys, facts=True, bank="sha384")["facts"]
    assert isinstance(other, dict)
    assert other["bank"] == "sha384"
    assert len(other["facts"]["images"][1]["value"]["digest"]) == 96


@pytest.mark.parametrize(("bank", "code"), [("sha512", "log-bank-missing"), ("md5", "unsupported")])
def test_bank_that_the_log_lacks_is_refused(
    bank: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert offline.eventlog(RHEL, as_json=True, facts=True, bank=bank) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert code in captured.err


def test_facts_are_shown_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert offline.eventlog(RHEL, as_json=False, facts=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Secure Boot         PCR 7 event 3    on" in lines
    assert any("CN=Microsoft Corporation UEFI CA 2011" in line for line in lines)
    assert any(line.startswith("quirk") for line in lines)


def test_pcr_that_is_not_separated_tells_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log"
    file.write_bytes(header() + boot() + event(7, 4, bytes(4)))
    told = document(file, capsys, facts=True)["facts"]
    assert isinstance(told, dict)
    assert list(told["unsafe_pcrs"]) == ["7"]
    assert told["facts"]["secure_boot"] is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_brackets_of_a_log_are_text_on_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "log"
    line = b"[ x = y ] [bold]z[/bold]"
    file.write_bytes(header() + boot(after=event(8, IPL, b"grub_cmd: " + line, line)))
    terminal = Terminal()
    with redirect_stdout(terminal):
        assert offline.eventlog(file, as_json=False, facts=True) == 0
    assert "[bold]z[/bold]" in terminal.getvalue()


def test_log_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log"
    line = b"\x1b[2Jset a=1 [bold]"
    file.write_bytes(header() + boot(after=event(8, IPL, b"grub_cmd: " + line, line)))
    assert offline.eventlog(file, as_json=False, facts=True) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[2Jset a=1 [bold]" in out
