from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.limits import MAX_FIRMWARE_LOG_BYTES, MAX_FIRMWARE_LOG_EVENTS
from attestation.logs.event_types import EventType, event_type_name
from attestation.logs.tcg import parse_firmware_log
from attestation.reader import pack
from attestation.refusals import RefusalCode
from tests.simulators.firmware_log import (
    NO_ACTION,
    SEPARATOR,
    agile_event,
    header,
    sha1_event,
    spec_id,
    startup_locality,
)

DATA = Path(__file__).parents[2] / "data"
SEPARATED = agile_event(0, SEPARATOR, bytes(4))


def refusal(content: bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_firmware_log(content)
    return caught.value


def test_crypto_agile_log_names_its_banks_and_events() -> None:
    log = parse_firmware_log(header() + SEPARATED)
    assert log.crypto_agile
    assert log.banks == (4, 11)
    assert [(event.number, event.pcr, event.type) for event in log.events] == [(0, 0, 3), (1, 0, 4)]
    assert log.events[1].event == bytes(4)
    assert [alg_id for alg_id, _ in log.events[1].digests] == [4, 11]


def test_log_without_a_specification_id_is_a_sha1_log() -> None:
    log = parse_firmware_log(sha1_event(7, SEPARATOR, bytes(4)) * 2)
    assert not log.crypto_agile
    assert log.banks == (4,)
    assert [event.pcr for event in log.events] == [7, 7]


def test_digests_in_another_order_are_put_in_the_order_of_the_banks() -> None:
    swapped = agile_event(0, SEPARATOR, b"x", {11: b"b" * 32, 4: b"a" * 20})
    log = parse_firmware_log(header() + swapped)
    assert log.events[1].digests == ((4, b"a" * 20), (11, b"b" * 32))


def test_event_of_one_bank_only_is_taken_as_windows_writes_it() -> None:
    log = parse_firmware_log(header() + agile_event(11, 6, b"x", {11: b"b" * 32}))
    assert log.events[1].digests == ((11, b"b" * 32),)


def test_bank_of_an_algorithm_we_do_not_compute_is_told() -> None:
    log = parse_firmware_log(header(((11, 32), (0x12, 32))))
    assert log.banks == (0x0B, 0x12)
    assert any("0x0012" in finding for finding in log.findings)


def test_vendor_information_after_the_banks_is_passed_over() -> None:
    content = spec_id()[:-1] + b"\x03abc"
    assert parse_firmware_log(sha1_event(0, NO_ACTION, content)).banks == (4, 11)


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_startup_locality_is_read(locality: int) -> None:
    log = parse_firmware_log(header() + startup_locality(locality) + SEPARATED)
    assert log.startup_locality == locality


BAD_LOGS = {
    "empty": (b"", RefusalCode.LOG_MALFORMED, "event 0: the log is empty"),
    "text": (b"this is no log, but it is long enough for one", RefusalCode.LOG_MALFORMED, "PCR"),
    "short header": (header() + SEPARATED[:11], RefusalCode.TRUNCATED, "event 1: event header"),
    "short digest": (header() + SEPARATED[:40], RefusalCode.TRUNCATED, "event 1: digest"),
    "short content": (header() + SEPARATED[:-1], RefusalCode.TRUNCATED, "event 1: event content"),
    "3-GB event": (
        header() + agile_event(0, SEPARATOR, b"", size=3_000_000_000),
        RefusalCode.TRUNCATED,
        "event 1: event content needs 3000000000 bytes, 0 remain",
    ),
    "3-GB SHA-1 event": (
        pack("<II20sI", 0, SEPARATOR, bytes(20), 3_000_000_000),
        RefusalCode.TRUNCATED,
        "event 0: event content needs 3000000000 bytes",
    ),
    "digest count FFFFFFFF": (
        header() + agile_event(0, SEPARATOR, b"", count=0xFFFFFFFF),
        RefusalCode.LOG_MALFORMED,
        "event 1: it has 4294967295 digests",
    ),
    "no digest": (
        header() + pack("<IIII", 0, SEPARATOR, 0, 0),
        RefusalCode.LOG_MALFORMED,
        "event 1: it has 0 digests",
    ),
    "algorithm twice": (
        header() + pack("<IIIH20sH20sI", 0, 4, 2, 4, bytes(20), 4, bytes(20), 0) + bytes(12),
        RefusalCode.LOG_MALFORMED,
        "0x0004 appears twice",
    ),
    "algorithm of no bank": (
        header() + agile_event(0, SEPARATOR, b"", {4: bytes(20), 12: bytes(48)}),
        RefusalCode.LOG_MALFORMED,
        "0x000c appears without being a bank",
    ),
    "PCR 24": (
        header() + agile_event(24, SEPARATOR, b""),
        RefusalCode.LOG_MALFORMED,
        "event 1: PCR 24 does not exist",
    ),
    "PCR 32 in a SHA-1 log": (
        sha1_event(32, SEPARATOR, b""),
        RefusalCode.LOG_MALFORMED,
        "event 0: PCR 32 does not exist",
    ),
    "no PCR, but extends": (
        header() + agile_event(0xFFFFFFFF, SEPARATOR, b""),
        RefusalCode.LOG_MALFORMED,
        "PCR 4294967295",
    ),
    "PCR 24, extends nothing": (
        header() + agile_event(24, NO_ACTION, b""),
        RefusalCode.LOG_MALFORMED,
        "PCR 24",
    ),
    "zeros after the end": (
        header() + SEPARATED + bytes(64),
        RefusalCode.LOG_MALFORMED,
        "event 2: it has 0 digests",
    ),
    "one byte after the end": (header() + SEPARATED + b"\0", RefusalCode.TRUNCATED, "event 2"),
    "no bank": (
        sha1_event(0, NO_ACTION, spec_id(())),
        RefusalCode.LOG_MALFORMED,
        "event 0: no bank",
    ),
    "bank count FFFFFFFF": (
        sha1_event(0, NO_ACTION, spec_id(count=0xFFFFFFFF)),
        RefusalCode.TOO_MANY,
        "event 0: 4294967295 banks",
    ),
    "bank count above the banks": (
        sha1_event(0, NO_ACTION, spec_id(count=3)),
        RefusalCode.TRUNCATED,
        "event 0: algorithm and digest size",
    ),
    "bank twice": (header(((4, 20), (4, 20))), RefusalCode.LOG_MALFORMED, "0x0004 is named twice"),
    "digest size of another bank": (header(((11, 20),)), RefusalCode.LOG_MALFORMED, "20 bytes"),
    "digest size 0": (header(((0x99, 0),)), RefusalCode.LOG_MALFORMED, "0 bytes"),
    "digest size 65535": (header(((0x99, 65535),)), RefusalCode.LOG_MALFORMED, "65535 bytes"),
    "bytes after vendor information": (
        sha1_event(0, NO_ACTION, spec_id() + b"x"),
        RefusalCode.TRAILING_BYTES,
        "event 0",
    ),
    "locality 1": (header() + startup_locality(1), RefusalCode.LOG_MALFORMED, "is 1, wanted"),
    "locality twice": (
        header() + startup_locality(3) * 2,
        RefusalCode.LOG_MALFORMED,
        "event 2: StartupLocality may be stated once",
    ),
    "locality late": (
        header() + SEPARATED + startup_locality(3),
        RefusalCode.LOG_MALFORMED,
        "event 2: StartupLocality may be stated once, before PCR 0 is extended; it comes later",
    ),
    "locality of PCR 1": (
        header() + startup_locality(3, pcr=1),
        RefusalCode.LOG_MALFORMED,
        "PCR 1",
    ),
    "locality without a value": (
        header() + agile_event(0, NO_ACTION, b"StartupLocality\0"),
        RefusalCode.LOG_MALFORMED,
        "16 bytes",
    ),
}


@pytest.mark.parametrize("case", BAD_LOGS)
def test_bad_log_is_refused_with_event_and_place(case: str) -> None:
    content, code, words = BAD_LOGS[case]
    error = refusal(content)
    assert error.code is code
    assert words in error.reason
    assert error.reason.startswith("event ")
    assert error.offset is not None


def test_locality_may_come_after_another_pcr_was_extended() -> None:
    log = parse_firmware_log(
        header() + agile_event(7, SEPARATOR, bytes(4)) + startup_locality(3) + SEPARATED
    )
    assert log.startup_locality == 3


def test_no_action_event_of_no_pcr_is_taken() -> None:
    log = parse_firmware_log(header() + agile_event(0xFFFFFFFF, NO_ACTION, b"x"))
    assert log.events[1].pcr == 0xFFFFFFFF


def test_log_above_the_size_limit_is_refused_unread() -> None:
    error = refusal(bytes(MAX_FIRMWARE_LOG_BYTES + 1))
    assert isinstance(error, LimitExceeded)
    assert error.code is RefusalCode.TOO_LARGE


def test_log_with_too_many_events_is_refused() -> None:
    one = sha1_event(0, SEPARATOR, b"")
    assert len(parse_firmware_log(one * MAX_FIRMWARE_LOG_EVENTS).events) == MAX_FIRMWARE_LOG_EVENTS
    for beyond in (one, b"x"):  # what stands behind the last event is not read
        error = refusal(one * MAX_FIRMWARE_LOG_EVENTS + beyond)
        assert isinstance(error, LimitExceeded)
        assert error.code is RefusalCode.TOO_MANY


@pytest.mark.parametrize("case", ["3-GB event", "digest count FFFFFFFF", "bank count FFFFFFFF"])
def test_announced_size_allocates_nothing(case: str) -> None:
    content = BAD_LOGS[case][0]
    tracemalloc.start()
    refusal(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("file", "code"),
    [
        # announces 4 bytes of vendor information that lie outside the event
        ("tpm2-software_tpm2-tools/specid-vendordata.bin", RefusalCode.TRUNCATED),
        # text
        (
            "keylime_keylime/create-mb-policy/binary_bios_measurements-bogus",
            RefusalCode.LOG_MALFORMED,
        ),
    ],
)
def test_known_bad_file_is_refused_for_its_reason(file: str, code: RefusalCode) -> None:
    error = refusal((DATA / file).read_bytes())
    assert isinstance(error, MalformedInput)
    assert error.code is code
    assert error.reason.startswith("event 0:")


def test_event_type_names_are_the_standards_or_the_number() -> None:
    assert event_type_name(EventType.SEPARATOR) == "EV_SEPARATOR"
    assert event_type_name(0x800000E0) == "EV_EFI_VARIABLE_AUTHORITY"
    assert event_type_name(0x8401) == "0x00008401"
