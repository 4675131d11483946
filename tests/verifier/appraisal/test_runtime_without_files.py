"""Lists that measure no file: the kernel runs IMA, and no IMA policy told it what to measure."""

from __future__ import annotations

from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from tests.verifier.appraisal.test_runtime import Running, codes, of


def without_files(ima: str = "") -> Running:
    """A machine whose list is boot_aggregate alone."""
    court = Running(ima=ima)
    court.tpm.load_pcrs({bank: {10: bytes(bank.size)} for bank in court.kernel.banks})
    court.kernel.pieces.clear()
    court.kernel.begin("sha256")
    return court


def test_list_that_measures_no_file_says_nothing_of_what_runs() -> None:
    required, reported, strict = (
        without_files(ima).look() for ima in ("", 'list = "reported"', "unknown = 96")
    )

    assert of(required, RefusalCode.IMA_LIST_MISSING).value == 33
    assert required.status is TrustTier.WARNING
    assert "measures no file" in required.reasons[0]
    assert of(reported, RefusalCode.IMA_LIST_MISSING).value == 0
    assert of(strict, RefusalCode.IMA_LIST_MISSING).value == 96
    for result in (required, reported, strict):
        assert "runtime-clean" not in {one.code for one in result.findings}


def test_kexec_adds_no_file_and_a_later_file_mends_the_list() -> None:
    court = without_files()
    first = court.look()
    court.kernel.begin("sha256")
    kexec = court.look()
    nothing_new = court.look()
    court.kernel.measure(b"/usr/bin/env", b"env")
    mended = court.look()

    for result in (first, kexec, nothing_new):
        assert codes(result) == {RefusalCode.IMA_LIST_MISSING}
    assert "runtime-clean" in {one.code for one in mended.findings}
