from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.errors import ReplayMismatch
from attestation.logs.replay import check_event_contents, replay
from attestation.logs.tcg import parse_firmware_log
from attestation.reader import pack
from attestation.refusals import RefusalCode
from tests.simulators.firmware_log import (
    NO_ACTION,
    SEPARATOR,
    SHA1,
    SHA256,
    agile_event,
    header,
    sha1_event,
    startup_locality,
)

DATA = Path(__file__).parents[2] / "data"
REFUSED = {  # see tests/data/README.md
    "tpm2-software_tpm2-tools/specid-vendordata.bin",
    "keylime_keylime/create-mb-policy/binary_bios_measurements-bogus",
}
LOGS = sorted(
    {
        str(path.relative_to(DATA))
        for folder in (
            "google_go-attestation",
            "google_go-eventlog",
            "google_go-tpm-tools",
            "immune-gmbh_guard-oss",
            "keylime_keylime/create-mb-policy",
            "keylime_rust-keylime",
            "puiterwijk_uefi-eventlog-rs",
            "tpm2-software_tpm2-tools",
        )
        for path in (DATA / folder).rglob("*")
        if path.name.endswith(("eventlog", "bootlog", ".bin")) or "bios_measurements" in path.name
        if path.suffix != ".json"
    }
    - REFUSED
)
KNOWN_DIFFERENCES = {
    # a manipulated boot: the log does not lead to the quoted PCR 0
    "immune-gmbh_guard-oss/bundle/failed-1/eventlog": {("sha256", 0)},
    # Windows measures into SHA-256 and caps SHA-1 after the firmware is done, unlogged
    "immune-gmbh_guard-oss/bundle/IMN-SUPERMICRO-no-epp/eventlog": {
        ("sha1", pcr) for pcr in range(8)
    },
}
VARIABLE_BOOT, ACTION, GPT, AUTHORITY = 0x80000002, 0x80000007, 0x80000006, 0x800000E0
DRIVER_CONFIG = 0x80000001


def named(file: str, suffix: str) -> dict[str, dict[str, str]] | None:
    path = DATA / (file + suffix)
    if not path.exists():
        return None
    document = json.loads(path.read_text())
    values: dict[str, dict[str, str]] = document.get("pcrs", document)
    return values


def test_every_log_of_the_data_is_among_the_tested() -> None:
    assert len(LOGS) == 39


@pytest.mark.parametrize("file", LOGS)
def test_real_log_leads_to_the_values_of_the_real_tpm(file: str) -> None:
    replayed = replay(parse_firmware_log((DATA / file).read_bytes()))
    expected = named(file, ".expected-pcrs.json")
    second_opinion = named(file, ".replay.json")
    assert expected is not None or second_opinion is not None
    if second_opinion is not None:
        assert second_opinion == {
            bank.label: {str(pcr): value.hex() for pcr, value in values.items()}
            for bank, values in replayed.pcrs.items()
            if values
        }
    if expected is not None:
        differing = {
            (bank.label, pcr)
            for bank, values in replayed.pcrs.items()
            for pcr, value in values.items()
            if expected.get(bank.label, {}).get(str(pcr), value.hex()) != value.hex()
        }
        assert differing == KNOWN_DIFFERENCES.get(file, set())


@pytest.mark.parametrize("file", LOGS)
def test_real_log_does_not_contradict_itself(file: str) -> None:
    log = parse_firmware_log((DATA / file).read_bytes())
    for bank in replay(log).pcrs:
        assert check_event_contents(log, bank) == ()


def test_replay_extends_in_order_from_zero() -> None:
    log = parse_firmware_log(header() + agile_event(4, 1, b"a") + agile_event(4, 1, b"b"))
    after_a = hashlib.sha256(bytes(32) + hashlib.sha256(b"a").digest()).digest()
    after_b = hashlib.sha256(after_a + hashlib.sha256(b"b").digest()).digest()
    assert replay(log).pcrs[SHA256] == {4: after_b}


def test_all_four_banks_are_replayed_each_with_its_hash() -> None:
    digests = {int(bank): bank.digest(b"x") for bank in HashAlgorithm}
    banks = [(int(bank), bank.size) for bank in HashAlgorithm]
    log = parse_firmware_log(header(banks) + agile_event(1, 1, b"x", digests))
    for bank in HashAlgorithm:
        wanted = bank.digest(bytes(bank.size) + bank.digest(b"x"))
        assert replay(log).pcrs[bank] == {1: wanted}


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_pcr_0_starts_with_the_startup_locality(locality: int) -> None:
    log = parse_firmware_log(header() + startup_locality(locality) + agile_event(0, 1, b"x"))
    start = bytes(31) + bytes((locality,))
    assert replay(log).pcrs[SHA256][0] == SHA256.digest(start + SHA256.digest(b"x"))


@pytest.mark.parametrize("pcr", [16, 17, 22, 23])
def test_dynamic_pcrs_start_at_ones(pcr: int) -> None:
    log = parse_firmware_log(header() + agile_event(pcr, 1, b"x"))
    start = b"\xff" * 32 if 17 <= pcr <= 22 else bytes(32)
    assert replay(log).pcrs[SHA256][pcr] == SHA256.digest(start + SHA256.digest(b"x"))


def test_no_action_events_extend_nothing() -> None:
    replayed = replay(parse_firmware_log(header() + agile_event(5, NO_ACTION, b"x")))
    assert replayed.pcrs == {SHA1: {}, SHA256: {}}
    assert replayed.covered[SHA256] == frozenset()
    assert replayed.events == ()


def test_extend_relabelled_as_no_action_changes_the_replay() -> None:
    event = agile_event(5, 1, b"x")
    honest = replay(parse_firmware_log(header() + event + event))
    relabelled = agile_event(5, NO_ACTION, b"x")
    assert replay(parse_firmware_log(header() + event + relabelled)).pcrs != honest.pcrs


def test_pcr_with_an_event_that_lacks_a_bank_is_not_covered_in_that_bank() -> None:
    both = agile_event(11, 1, b"x")
    one = agile_event(11, 1, b"x", {11: SHA256.digest(b"x")})
    replayed = replay(parse_firmware_log(header() + both + one + agile_event(4, 1, b"y")))
    assert replayed.covered[SHA1] == {4}
    assert set(replayed.pcrs[SHA1]) == {4}
    assert replayed.covered[SHA256] == {4, 11}


def test_events_carry_the_digest_of_each_bank() -> None:
    one = agile_event(11, 1, b"x", {11: SHA256.digest(b"x")})
    event = replay(parse_firmware_log(header() + one)).events[0]
    assert event.digest(SHA256) == SHA256.digest(b"x")
    assert event.digest(SHA1) is None


def test_only_the_wanted_banks_are_replayed() -> None:
    log = parse_firmware_log(header() + agile_event(4, 1, b"x"))
    assert set(replay(log, [SHA256]).pcrs) == {SHA256}


def test_bank_that_the_log_lacks_is_refused() -> None:
    log = parse_firmware_log(sha1_event(4, 1, b"x"))
    with pytest.raises(ReplayMismatch) as caught:
        replay(log, [SHA256])
    assert caught.value.code is RefusalCode.LOG_BANK_MISSING


def variable(name: str, content: bytes, guid: bytes = bytes(16)) -> bytes:
    return pack("<16sQQ", guid, len(name), len(content)) + name.encode("utf-16-le") + content


def contradictions(kind: int, content: bytes, measured: bytes) -> list[str]:
    digests = {4: SHA1.digest(measured), 11: SHA256.digest(measured)}
    log = parse_firmware_log(header() + agile_event(7, kind, content, digests))
    found = check_event_contents(log, SHA256)
    assert found == check_event_contents(replay(log), SHA256)
    assert all((item.number, item.pcr) == (1, 7) for item in found)
    return [f"{item.type_name}: {item.reason}" for item in found]


@pytest.mark.parametrize("kind", [SEPARATOR, ACTION, GPT, AUTHORITY, VARIABLE_BOOT, DRIVER_CONFIG])
def test_content_that_was_not_measured_is_a_contradiction(kind: int) -> None:
    good = variable("SecureBoot", b"\x00")
    assert contradictions(kind, good, good) == []
    assert len(contradictions(kind, variable("SecureBoot", b"\x01"), good)) == 1


def test_digest_of_code_is_not_held_against_its_description() -> None:
    assert contradictions(0x80000003, b"a device path", b"a program") == []


def test_boot_variable_may_be_measured_without_its_name() -> None:
    assert contradictions(VARIABLE_BOOT, variable("Boot0000", b"path"), b"path") == []
    assert len(contradictions(DRIVER_CONFIG, variable("SecureBoot", b"\1"), b"\1")) == 1


def test_boot_variable_with_lengths_that_do_not_fit_is_a_contradiction() -> None:
    content = pack("<16sQQ", bytes(16), 2**63, 4) + b"path"
    assert len(contradictions(VARIABLE_BOOT, content, b"path")) == 1
    assert len(contradictions(VARIABLE_BOOT, b"short", b"path")) == 1


SHIM_LOCK = bytes.fromhex("50ab5d6046e00043abb63dd810dd8b23")


def test_surplus_of_old_shim_is_taken_for_that_variable_only() -> None:
    logged = variable("Shim", b"cert", SHIM_LOCK) + b"surplu"
    assert contradictions(AUTHORITY, logged, logged[:-1]) == []
    assert len(contradictions(AUTHORITY, logged, b"another certificate")) == 1
    other = variable("Shin", b"cert", SHIM_LOCK) + b"surplu"
    assert len(contradictions(AUTHORITY, other, other[:-1])) == 1
    foreign = variable("Shim", b"cert") + b"surplu"
    assert len(contradictions(AUTHORITY, foreign, foreign[:-1])) == 1
    longer = variable("Shim", b"cert", SHIM_LOCK) + b"surplus"
    assert len(contradictions(AUTHORITY, longer, longer[:-1])) == 1


def test_separator_that_announces_an_error_is_named() -> None:
    assert "with an error" in contradictions(SEPARATOR, bytes(4), b"\1\0\0\0")[0]
