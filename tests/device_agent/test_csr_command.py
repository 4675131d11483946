"""``device-agent csr`` where it cannot do what is asked; nothing here reaches a TPM."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from device_agent.cli import main
from tests.simulators.authority import Authority

USAGE, TPM = 2, 3


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_bytes(Authority().pem)
    path = tmp_path / "a.toml"
    path.write_text(
        f"""
[tpm]
tcti = "swtpm:host=127.0.0.1,port=1"
[verifier]
url = "https://localhost:1"
ca_file = "{tmp_path}/ca.pem"
[state]
directory = "{tmp_path}/state"
"""
    )
    return path


def told(config: Path, capsys: pytest.CaptureFixture[str], *options: str | Path) -> tuple[int, str]:
    code = main(["--config", str(config), "csr", *map(str, options)])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"junk", "no nonce of EST"),
        (b"{}", "no nonce of EST"),
        (b'{"nonce": "AAAA"}', "no nonce of EST"),
        (b'{"nonce": "' + b"A" * 70_000 + b'"}', "is empty, or larger than"),
        (b" \n", "is empty, or larger than"),
    ],
)
def test_what_is_no_nonce_is_not_answered(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    (tmp_path / "nonce").write_bytes(content)

    code, said = told(config, capsys, "--evidence", tmp_path / "nonce")

    assert code == USAGE
    assert said.startswith("device-agent: settings-invalid: ")
    assert words in said
    assert "AAAA" not in said


def test_nonce_may_come_by_standard_input(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"junk")))

    assert "is no nonce of EST" in told(config, capsys, "--evidence", "-")[1]


def test_file_that_is_not_there_is_told(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--evidence", "--renew"):
        code, said = told(config, capsys, option, tmp_path / "absent")

        assert (code, "absent cannot be read: No such file" in said) == (USAGE, True)


def test_device_that_holds_no_certificate_has_none_to_renew(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = told(config, capsys, "--renew")

    assert code == TPM
    assert "holds no LDevID certificate; enrol it first" in said
