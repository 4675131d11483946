"""TPM2_PCR_Extend over a line that fails: never twice, and repeated only where it was not done."""

from __future__ import annotations

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.pcr import extend, parse_selection
from deploy.demo.swtpm import SoftwareTpm
from device_agent.errors import TpmUnavailable
from device_agent.tpm.adapter import EsapiTpm
from tests.simulators.tpm_line import TpmLine

pytestmark = pytest.mark.tpm

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
PCR_EXTEND = 0x182
NV_RATE = 0x920  # libtss2 repeats RETRY, YIELDED and TESTING by itself
DIGESTS = {SHA1: b"1" * 20, SHA256: b"2" * 32}
BOTH = parse_selection("sha1:13+sha256:13")


def test_every_bank_is_extended_by_one_command(swtpm: SoftwareTpm) -> None:
    with TpmLine(swtpm) as line:
        tpm = EsapiTpm(line.tcti)
        tpm.extend_pcr(13, DIGESTS)
        values = tpm.read_pcrs(BOTH)
        tpm.close()

    assert line.commands.count(PCR_EXTEND) == 1
    assert {bank: values[bank][13] for bank in DIGESTS} == {
        bank: extend(bank, bytes(bank.size), digest) for bank, digest in DIGESTS.items()
    }


def test_extend_is_not_repeated_when_the_line_falls_after_it(swtpm: SoftwareTpm) -> None:
    with TpmLine(swtpm) as line:
        tpm = EsapiTpm(line.tcti)
        tpm.status()

        def extend_and_fall(code: int) -> int | None:
            if code == PCR_EXTEND and line.commands.count(PCR_EXTEND) == 1:
                swtpm.extend(13, DIGESTS)
                raise ConnectionResetError
            return None

        line.interrupt = extend_and_fall
        with pytest.raises(TpmUnavailable):
            tpm.extend_pcr(13, DIGESTS)
        value = tpm.read_pcrs(BOTH)[SHA256][13]
        tpm.close()

    assert value == extend(SHA256, bytes(32), DIGESTS[SHA256])


def test_extend_is_repeated_when_the_tpm_asks_for_it(swtpm: SoftwareTpm) -> None:
    with TpmLine(swtpm) as line:
        line.interrupt = lambda code: (
            NV_RATE if code == PCR_EXTEND and line.commands.count(PCR_EXTEND) == 1 else None
        )
        tpm = EsapiTpm(line.tcti)
        tpm.extend_pcr(13, DIGESTS)
        value = tpm.read_pcrs(BOTH)[SHA256][13]
        tpm.close()

    assert line.commands.count(PCR_EXTEND) == 2
    assert value == extend(SHA256, bytes(32), DIGESTS[SHA256])
