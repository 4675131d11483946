from __future__ import annotations

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.logs.banks import BankDisagreement, bank_disagreements
from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from tests.attestation.logs.test_replay import DATA, LOGS
from tests.simulators.boot import ACTION, CALLING, CONFIG, boot
from tests.simulators.firmware_log import SEPARATOR, SHA1, SHA256, agile_event, header
from tests.simulators.uefi import variable

FRAGMENTS = {  # one event that carries some of the announced banks only
    "tpm2-software_tpm2-tools/event-uefiaction.bin",
    "tpm2-software_tpm2-tools/event-uefivar.bin",
}


def found(events: bytes) -> list[tuple[int, bool, str]]:
    log = replay(parse_firmware_log(header() + events))
    disagreements = bank_disagreements(log, (SHA256, SHA1))
    assert all((one.bank, one.other) == (SHA256, SHA1) for one in disagreements)
    return [(one.pcr, one.event is None, one.reason) for one in disagreements]


@pytest.mark.parametrize("file", LOGS)
def test_banks_of_real_logs_agree(file: str) -> None:
    log = replay(parse_firmware_log((DATA / file).read_bytes()))
    assert bool(bank_disagreements(log, tuple(log.covered))) is (file in FRAGMENTS)


def test_honest_boot_and_one_bank_have_nothing_to_disagree_about() -> None:
    assert found(boot()) == []
    log = replay(parse_firmware_log(header() + agile_event(7, CONFIG, b"x", {11: b"x" * 32})))
    assert bank_disagreements(log, (SHA256,)) == ()
    assert bank_disagreements(log, (SHA256, HashAlgorithm.SHA384)) == ()


def test_event_of_one_bank_disagrees_and_uncovers_its_pcr() -> None:
    lone = agile_event(4, ACTION, CALLING, {11: SHA256.digest(CALLING)})
    assert found(boot(after=lone)) == [
        (4, False, "EV_EFI_ACTION is measured into the sha256 bank only"),
        (4, True, "the log covers PCR 4 in the sha256 bank only"),
    ]


def test_event_of_one_bank_above_the_firmwares_pcrs_is_windows() -> None:
    assert found(boot(after=agile_event(11, 0xC, b"x", {11: b"x" * 32}))) == []


def test_separator_in_one_bank_only_disagrees() -> None:
    digests = {4: SHA1.digest(b"other"), 11: SHA256.digest(bytes(4))}
    [one, *_] = found(boot(after=agile_event(3, SEPARATOR, bytes(4), digests)))
    assert one == (3, False, "EV_SEPARATOR is a separator in the sha256 bank only")


def test_content_that_was_measured_in_one_bank_only_disagrees() -> None:
    content = variable("SecureBoot", b"\1")
    digests = {4: SHA1.digest(variable("SecureBoot", b"\0")), 11: SHA256.digest(content)}
    [(pcr, whole, reason)] = found(agile_event(7, CONFIG, content, digests) + boot(keys=b""))
    assert (pcr, whole) == (7, False)
    assert "one of the banks only" in reason


def test_event_that_carries_neither_bank_disagrees() -> None:
    banks = ((4, 20), (11, 32), (12, 48))
    lone = agile_event(1, CONFIG, b"x", {12: bytes(48)})
    log = replay(parse_firmware_log(header(banks) + lone))
    [one] = bank_disagreements(log, (SHA256, SHA1))
    assert isinstance(one, BankDisagreement)
    assert one.reason.startswith("EV_EFI_VARIABLE_DRIVER_CONFIG carries neither")


def test_four_banks_are_each_compared_with_the_first() -> None:
    banks = [(int(bank), bank.size) for bank in HashAlgorithm]
    digests = {int(bank): bank.digest(b"x") for bank in HashAlgorithm}
    honest = agile_event(1, 1, b"x", digests)
    log = replay(parse_firmware_log(header(banks) + honest))
    assert bank_disagreements(log, tuple(HashAlgorithm)) == ()
    odd = agile_event(1, ACTION, b"x", digests | {int(HashAlgorithm.SHA512): bytes(64)})
    log = replay(parse_firmware_log(header(banks) + odd))
    [one] = bank_disagreements(log, tuple(HashAlgorithm))
    assert one.other is HashAlgorithm.SHA512
