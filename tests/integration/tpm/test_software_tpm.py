"""The software TPM that every other TPM test stands on."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.reader import pack
from deploy.demo.swtpm import SoftwareTpm, SoftwareTpmError

pytestmark = pytest.mark.tpm

SHA256 = HashAlgorithm.SHA256


def _read_pcr(tpm: SoftwareTpm, pcr: int) -> bytes:
    selection = pack(">IHB", 1, SHA256, 3) + (1 << pcr).to_bytes(3, "little")
    answer = tpm.command(0x8001, 0x17E, selection)
    return answer[-32:]


def _counts(tpm: SoftwareTpm) -> tuple[int, int]:
    answer = tpm.command(0x8001, 0x181, b"")  # TPM2_ReadClock: time, clock, reset, restart, safe
    return int.from_bytes(answer[16:20], "big"), int.from_bytes(answer[20:24], "big")


def test_a_power_cycle_resets_the_pcrs_and_counts_a_reset(swtpm: SoftwareTpm) -> None:
    digest = hashlib.sha256(b"event").digest()
    resets, _ = _counts(swtpm)
    swtpm.extend(4, {SHA256: digest})
    assert _read_pcr(swtpm, 4) == hashlib.sha256(bytes(32) + digest).digest()
    swtpm.power_cycle()
    assert _read_pcr(swtpm, 4) == bytes(32)
    assert _counts(swtpm) == (resets + 1, 0)
    swtpm.power_cycle(orderly=False)
    assert _counts(swtpm) == (resets + 2, 0)


def test_a_suspend_keeps_the_pcrs_and_counts_a_restart(swtpm: SoftwareTpm) -> None:
    swtpm.extend(4, {SHA256: bytes(32)})
    before = _read_pcr(swtpm, 4)
    resets, _ = _counts(swtpm)
    swtpm.suspend_and_resume()
    assert _read_pcr(swtpm, 4) == before
    assert _counts(swtpm) == (resets, 1)


def test_a_restart_keeps_the_tcti_and_a_stopped_tpm_answers_nobody(swtpm: SoftwareTpm) -> None:
    tcti = swtpm.tcti
    swtpm.kill()
    with pytest.raises(SoftwareTpmError, match="no swtpm"):
        _counts(swtpm)
    swtpm.start()
    assert swtpm.tcti == tcti
    assert _counts(swtpm)[0] > 0


def test_nothing_is_left_after_close() -> None:
    with SoftwareTpm() as tpm:
        pid = tpm.pid
        assert pid is not None
        state = tpm.state
    assert not state.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_given_state_stays_and_many_start_at_once(tmp_path: Path) -> None:
    def life(number: int) -> int:
        with SoftwareTpm(tmp_path / str(number)) as tpm:
            assert _counts(tpm)[1] == 0
            return tpm.port

    with ThreadPoolExecutor(6) as pool:
        ports = list(pool.map(life, range(12)))
    assert 2321 not in ports
    assert (tmp_path / "0" / "tpm2-00.permall").exists()


def test_an_endorsed_tpm_holds_ek_certificates_in_nv(endorsed_swtpm: SoftwareTpm) -> None:
    # TPM2_GetCapability(TPM_CAP_HANDLES, NV): moreData, capability, count, handles
    answer = endorsed_swtpm.command(0x8001, 0x17A, pack(">III", 1, 0x01000000, 16))
    count = int.from_bytes(answer[5:9], "big")
    handles = {int.from_bytes(answer[9 + 4 * k : 13 + 4 * k], "big") for k in range(count)}
    assert {0x01C00002, 0x01C00016} <= handles
