from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.swtpm import SoftwareTpm
from tests.simulators.firmware_log import SEPARATOR, SHA1, SHA256, agile_event, header
from verifier.cli import offline
from verifier.cli.offline import judge_eventlog

EVENTS = [(pcr, SEPARATOR, bytes(4)) for pcr in range(8)] + [(4, 0x80000007, b"Calling EFI")]
NONCE = "00112233445566778899aabbccddeeff"


def tpm2(tpm: SoftwareTpm, folder: Path, command: str) -> None:
    subprocess.run(
        [*f"tpm2_{command}".split(), "-T", tpm.tcti], cwd=folder, check=True, capture_output=True
    )


@pytest.fixture
def quoted(tmp_path: Path) -> dict[str, Path]:
    """A TPM into which EVENTS were measured, and what tpm2-tools makes of it."""
    if shutil.which("tpm2_quote") is None or shutil.which("swtpm") is None:
        pytest.fail("swtpm or tpm2-tools is not installed; run make setup")
    with SoftwareTpm(tmp_path / "state") as tpm:
        for pcr, _, content in EVENTS:
            tpm.extend(pcr, {SHA1: SHA1.digest(content), SHA256: SHA256.digest(content)})
        tpm2(tpm, tmp_path, "createek -c ek.ctx -G ecc -u ek.pub")
        tpm2(tpm, tmp_path, "flushcontext -t")
        tpm2(
            tpm,
            tmp_path,
            "createak -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.tpm2b -f tss -n ak.name",
        )
        tpm2(tpm, tmp_path, "flushcontext -t")
        tpm2(tpm, tmp_path, "readpublic -c ak.ctx -o ak.pem -f pem")
        tpm2(tpm, tmp_path, "flushcontext -t")
        tpm2(
            tpm,
            tmp_path,
            f"quote -c ak.ctx -l sha256:0,1,4,7+sha1:0,4 -q {NONCE} -g sha256 -m quote -s sig",
        )
    log = header() + b"".join(agile_event(*event) for event in EVENTS)
    (tmp_path / "log").write_bytes(log)
    (tmp_path / "pcrs.json").write_text(json.dumps(judge_eventlog(log)["pcrs"]))
    return {
        "attest": tmp_path / "quote",
        "sig": tmp_path / "sig",
        "ak": tmp_path / "ak.tpm2b",
        "eventlog": tmp_path / "log",
    }


@pytest.mark.tpm
def test_fresh_quote_of_tpm2_tools_is_consistent_and_any_change_refused(
    quoted: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(**given: Any) -> tuple[int, Any]:
        code = offline.quote(**{"pcrs": None, "nonce": NONCE, **quoted, **given}, as_json=True)
        return code, json.loads(capsys.readouterr().out)

    code, document = run()
    assert code == 0
    assert document == {
        "signature": "verified",
        "pcr_selection": {"sha256": [0, 1, 4, 7], "sha1": [0, 4]},
        "pcr_digest": "matches",
        "replay": [
            {"bank": bank, "pcr": pcr, "verdict": "matches"}
            for bank, pcrs in (("sha256", (0, 1, 4, 7)), ("sha1", (0, 4)))
            for pcr in pcrs
        ],
        "status": "consistent",
        "reason": "consistent",
    }
    tpmt = tmp_path / "ak.tpmt"
    tpmt.write_bytes(quoted["ak"].read_bytes()[2:])
    for ak in (tpmt, tmp_path / "ak.pem"):
        assert run(ak=ak, pcrs=tmp_path / "pcrs.json")[0] == 0
    assert run(ak=tmp_path / "ek.pub")[0] == 1
    assert run(nonce=NONCE[:-1] + "0")[0] == 1

    swapped = [EVENTS[0], *EVENTS[1:4], EVENTS[8], *EVENTS[4:8]]
    (tmp_path / "log").write_bytes(header() + b"".join(agile_event(*event) for event in swapped))
    code, document = run()
    assert code == 1
    assert document["pcr_digest"] == "differs"
    assert {item["verdict"] for item in document["replay"]} == {"differs"}
    code, document = run(pcrs=tmp_path / "pcrs.json")
    assert code == 1
    assert document["pcr_digest"] == "matches"
    assert [
        (item["bank"], item["pcr"]) for item in document["replay"] if item["verdict"] == "differs"
    ] == [("sha256", 4), ("sha1", 4)]
