from __future__ import annotations

import json
from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError
from attestation.logs.ima import parse_ima_list, replay_ima
from attestation.pcr import parse_selection
from device_agent.ports import KeyRole
from tests.simulators.soft_device import SoftTpm
from verifier.cli import offline

H12SSL = Path(__file__).parents[1] / "data" / "immune-gmbh_guard-oss" / "bundle" / "h12ssl"
LOG, IMA = H12SSL / "eventlog", H12SSL / "binary_runtime_measurements"


def machine() -> SoftTpm:
    """A TPM that holds what the real machine's TPM held."""
    stated = json.loads((H12SSL / "eventlog.expected-pcrs.json").read_text())
    tpm = SoftTpm()
    (selection,) = parse_selection("sha256:0,1,2,3,4,5,6,7,8,9,10")
    values = {index: bytes.fromhex(stated["sha256"][str(index)]) for index in selection.indices}
    tpm.load_pcrs({selection.bank: values})
    return tpm


def judge(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ima: Path | None,
    tpm: SoftTpm | None = None,
) -> tuple[int, dict[str, object]]:
    code = quoted(tmp_path, ima, tpm)
    return code, json.loads(capsys.readouterr().out)


def quoted(tmp_path: Path, ima: Path | None, tpm: SoftTpm | None = None) -> int:
    tpm = tpm or machine()
    made = tpm.quote(parse_selection("sha256:0,1,2,3,4,5,6,7,8,9,10"), b"asked")
    for name, content in (
        ("attest", made.attest),
        ("sig", made.signature),
        ("ak", tpm.public_area(KeyRole.IAK)),
    ):
        (tmp_path / name).write_bytes(content)
    return offline.quote(
        attest=tmp_path / "attest",
        sig=tmp_path / "sig",
        ak=tmp_path / "ak",
        pcrs=None,
        eventlog=LOG,
        ima=ima,
        nonce=b"asked".hex(),
        as_json=True,
    )


def test_firmware_log_and_ima_list_together_explain_a_real_machines_quote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = judge(tmp_path, capsys, IMA)

    assert (code, document["pcr_digest"], document["status"]) == (0, "matches", "consistent")
    assert {"bank": "sha256", "pcr": 10, "verdict": "matches"} in document["replay"]


def test_quote_of_a_kernel_before_5_8_is_explained_by_its_own_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tpm = machine()
    bank = HashAlgorithm.SHA256
    old = replay_ima(parse_ima_list(IMA.read_bytes()), (bank,), start={}, padded=True)
    tpm.load_pcrs({bank: {10: old[bank][10]}})

    code, document = judge(tmp_path, capsys, IMA, tpm)

    assert (code, document["pcr_digest"]) == (0, "matches")


def test_quote_over_pcr_10_is_unknown_without_the_ima_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, document = judge(tmp_path, capsys, None)

    assert document["pcr_digest"] == "unknown"
    assert {"bank": "sha256", "pcr": 10, "verdict": "not_covered"} in document["replay"]


def test_quote_with_an_empty_ima_list_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "list"
    empty.touch()

    assert quoted(tmp_path, empty) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert "ima-list-missing" in said.err


def test_ima_list_with_its_last_entry_cut_off_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ran last is hidden: the list is whole, but does not lead to the quoted PCR 10."""
    content = IMA.read_bytes()
    last = content.rindex((10).to_bytes(4, "little"))
    while not _parses(content[:last]):
        last = content.rindex((10).to_bytes(4, "little"), 0, last)
    shorter = tmp_path / "shorter"
    shorter.write_bytes(content[:last])

    code, document = judge(tmp_path, capsys, shorter)

    assert (code, document["pcr_digest"], document["status"]) == (1, "differs", "refused")


def _parses(content: bytes) -> bool:
    try:
        return bool(offline.judge_ima(content))
    except AttestationError:
        return False


def test_ima_command_says_entries_violations_and_pcrs(capsys: pytest.CaptureFixture[str]) -> None:
    stated = json.loads((H12SSL / "eventlog.expected-pcrs.json").read_text())

    assert offline.ima(IMA, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)

    assert (document["entries"], document["violations"]) == (5071, 9)
    assert document["pcrs"] == {bank: {"10": stated[bank]["10"]} for bank in ("sha1", "sha256")}


def test_malformed_ima_list_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "list"
    path.write_bytes(IMA.read_bytes()[:-1])

    assert offline.ima(path, as_json=True) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
