"""What a device may try so that the verifier overlooks what its kernel measured."""

from __future__ import annotations

import hashlib
import struct

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.errors import InputError
from attestation.logs.ima.framing import walk
from attestation.refusals import RefusalCode as Code
from attestation.result import TrustTier
from tests.simulators.soft_ima import entry, field, ng, tagged
from tests.verifier.appraisal.courtroom import assert_refused, firmware_log
from tests.verifier.appraisal.test_runtime import (
    APPRAISAL,
    SELECTION,
    Running,
    codes,
    digest,
    of,
)
from verifier.appraisal.policy import load_policy

SHA256 = HashAlgorithm.SHA256
BANKS = (HashAlgorithm.SHA1, SHA256, HashAlgorithm.SHA384)
"""The banks of the log that the courtroom's machine boots with."""


def firmware_event(kind: int, pcr: int, measured: bytes) -> bytes:
    """Return a crypto-agile event that claims to have extended the hash of ``measured``."""
    digests = b"".join(struct.pack("<H", bank) + bank.digest(measured) for bank in BANKS)
    return struct.pack("<III", pcr, kind, len(BANKS)) + digests + struct.pack("<I", 1) + b"x"


@pytest.mark.parametrize("kind", [0x05, 0x06, 0x0C, 0x0D])
def test_entries_hidden_as_firmware_events_are_missed(kind: int) -> None:
    """Root extends PCR 10 with a second, clean beginning and calls the first one firmware."""
    court = Running()
    court.kernel.measure(b"/opt/evil", b"evil")
    court.look()
    entries = [one.data for one in walk(court.kernel.list())]
    clean = [entries[0], ng(b"/usr/bin/env", b"env")]
    for data in clean:
        for bank in court.kernel.banks:
            court.tpm.extend(bank, 10, bank.digest(data))
    court.log = firmware_log() + b"".join(firmware_event(kind, 10, data) for data in entries)

    result = court.look(b"".join(entry(data) for data in clean), offset=0)

    assert Code.IMA_REPLAY_MISMATCH in codes(result)
    assert result.status is TrustTier.CONTRAINDICATED
    assert result.progress is None


@pytest.mark.parametrize("surplus", [0, 1, 2, 3])
def test_entry_that_ends_within_its_name_is_malformed(surplus: int) -> None:
    court = Running(f"digests = '''\n{digest(b'lib2')}\n'''")
    court.kernel.measure_data(field(tagged(b"lib2")) + bytes(surplus))

    with pytest.raises(InputError):
        court.look()


def test_unproven_entries_explain_no_pcr_of_the_firmware() -> None:
    court = Running()

    with pytest.raises(InputError, match="firmware's or the boot loader's"):
        court.look(court.kernel.list() + entry(ng(b"/x", b"x"), pcr=4))


def test_unproven_entries_explain_no_other_pcr() -> None:
    court = Running()

    result = court.look(court.kernel.list() + entry(ng(b"/x", b"x"), pcr=11))

    assert result.progress is not None
    assert all(set(held) == {10} for held in result.progress.pcrs.values())


def test_entries_of_a_pcr_that_is_not_quoted_are_remembered_for_this_boot() -> None:
    court = Running()
    court.kernel.measure(b"/usr/bin/env", b"env", pcr=12)
    court.kernel.measure(b"/usr/bin/sh", b"sh")
    first = court.look()
    second = court.look()

    assert Code.PCR_NOT_COVERED in codes(first)
    assert Code.PCR_NOT_COVERED in codes(second)
    assert second.status is first.status is TrustTier.WARNING


def test_denied_file_does_not_hide_under_the_name_boot_aggregate() -> None:
    denied = f"denied = '''\n{digest(b'evil')}  evil\n'''"
    court = Running(denied, ima='boot_aggregate = "reported"')
    court.kernel.measure(b"boot_aggregate", b"evil")

    result = court.look()

    assert Code.IMA_FILE_DENIED in codes(result)
    assert result.status is TrustTier.CONTRAINDICATED


def test_digest_of_the_forged_events_is_that_of_the_entries() -> None:
    """The forgery above is a good one: the log alone replays."""
    data = ng(b"/usr/bin/env", b"env")

    assert hashlib.sha256(data).digest() in firmware_event(0x0D, 10, data)


# --- PCRs that IMA rules name with pcr= ----------------------------------------------------------
def split(ima: str = "", *, more: str = "") -> Running:
    """A device whose IMA policy sends some entries to PCR 11, which is judged by its log alone."""
    text = APPRAISAL.replace("9, 11, 14]", "9, 14]").replace("[10]", f"[10, 11]{more}")
    court = Running()
    court.policy = load_policy(text.format(ima=ima, selection=SELECTION), "test")
    court.runtime()
    return court


def told_as_firmware(court: Running, pcr: int) -> bytes:
    """Return the list without the entries of one PCR, which the firmware log tells instead."""
    entries = list(walk(court.kernel.list()))
    forged = b"".join(firmware_event(0x0D, pcr, one.data) for one in entries if one.pcr == pcr)
    court.log = firmware_log() + forged
    return b"".join(
        piece for one, piece in zip(entries, court.kernel.pieces, strict=True) if one.pcr != pcr
    )


def test_entries_of_a_declared_pcr_are_proven_and_judged() -> None:
    court = split("other_pcrs = [11]")
    court.kernel.measure(b"/usr/bin/env", b"env", pcr=11)
    clean = court.look()
    court.kernel.measure(b"/opt/evil", b"evil", pcr=11)

    dirty = court.look()

    assert clean.status is TrustTier.AFFIRMING, clean.reasons
    assert codes(dirty) == {Code.IMA_FILE_UNKNOWN}
    assert dirty.progress is not None
    assert set(dirty.progress.pcrs[SHA256]) == {10, 11}


def test_declared_pcr_that_no_entry_extends_holds_zeros() -> None:
    court = split("other_pcrs = [11]")

    assert court.look().status is TrustTier.AFFIRMING


def test_entries_of_a_declared_pcr_told_as_firmware_events_are_missed() -> None:
    court = split("other_pcrs = [11]")
    court.kernel.measure(b"/opt/evil", b"evil", pcr=11)

    result = court.look(told_as_firmware(court, 11))

    assert_refused(result, Code.IMA_REPLAY_MISMATCH, step=4)
    assert of(result, Code.IMA_REPLAY_MISMATCH).pcr == 11
    assert "its entries are missing" in of(result, Code.IMA_REPLAY_MISMATCH).reason
    assert result.progress is None


def test_later_entries_of_a_declared_pcr_told_as_firmware_events_are_missed() -> None:
    court = split("other_pcrs = [11]")
    court.kernel.measure(b"/usr/bin/env", b"env", pcr=11)
    assert court.look().progress is not None
    court.kernel.measure(b"/opt/evil", b"evil", pcr=11)
    told_as_firmware(court, 11)

    result = court.look(b"", offset=5)

    assert_refused(result, Code.IMA_REPLAY_MISMATCH, step=4)
    assert of(result, Code.IMA_REPLAY_MISMATCH).pcr == 11


def test_entries_of_an_undeclared_pcr_that_its_log_alone_judges_are_no_proof() -> None:
    """The attack would succeed here; so the honest device already shows that the policy is open."""
    court = split()
    court.kernel.measure(b"/usr/bin/env", b"env", pcr=11)

    first, second = court.look(), court.look()

    for result in (first, second):
        assert codes(result) == {Code.PCR_NOT_COVERED}
        found = of(result, Code.PCR_NOT_COVERED)
        assert (found.rule, found.value) == ("ima.other_pcrs", 33)
        assert "extend PCR 11" in found.reason
        assert result.status is TrustTier.WARNING


def test_list_kept_back_is_not_told_as_firmware_events_either() -> None:
    court = split('list = "reported"', more="\ncoverage = 'reported'")
    court.kernel.measure(b"/opt/evil", b"evil")
    told_as_firmware(court, 10)

    result = court.judge()

    assert of(result, Code.IMA_LIST_MISSING).value == 0
    covered = [one for one in result.findings if one.code == Code.PCR_NOT_COVERED]
    assert 10 in {one.pcr for one in covered}
    assert "its IMA list was not sent" in next(one for one in covered if one.pcr == 10).reason


def test_list_that_is_missing_contradicts_where_the_pcr_must_be_explained() -> None:
    court = split('list = "reported"')
    told_as_firmware(court, 10)

    result = court.judge()

    assert_refused(result, Code.PCR_NOT_COVERED, step=4)
    assert 10 in {one.pcr for one in result.findings if one.code == Code.PCR_NOT_COVERED}


def test_list_that_is_not_proven_speaks_for_no_other_pcr_of_the_kernel() -> None:
    court = split("other_pcrs = [11]")
    court.kernel.measure(b"/opt/evil", b"evil", pcr=11)
    told_as_firmware(court, 11)

    result = court.look(b"".join(court.kernel.pieces[:2]), offset=0)

    assert_refused(result, Code.IMA_REPLAY_MISMATCH, step=4)
    assert {one.pcr for one in result.findings if one.value == 96} == {10, 11}
    assert not [one for one in result.findings if one.code == "log-matched"]
    assert "not proven" in of(result, Code.PCR_NOT_COVERED).reason


@pytest.mark.parametrize(
    ("before", "after"),
    [(SELECTION.replace("11,", ""), SELECTION), (SELECTION, f"{SELECTION}+sha1:11")],
)
def test_policy_that_quotes_more_of_the_lists_pcrs_asks_for_the_whole_list(
    before: str, after: str
) -> None:
    """What was proven earlier does not hold their values; an honest device is not accused."""
    court = Running()
    asks = APPRAISAL.replace("11, 14]", "14]")
    of_both = asks.replace("[10]", "[10, 11]")
    text = of_both if "11" in before else asks
    court.policy = load_policy(text.format(ima="", selection=before), "test")
    court.kernel.measure(b"/usr/bin/env", b"env", pcr=11)
    court.kernel.measure(b"/usr/bin/sh", b"sh")
    assert court.look().progress is not None
    court.policy = load_policy(of_both.format(ima="other_pcrs = [11]", selection=after), "test")

    with pytest.raises(InputError) as refused:
        court.look()

    assert refused.value.code is Code.IMA_OFFSET_UNKNOWN
    assert "runtime-clean" in {one.code for one in court.look(offset=0).findings}
