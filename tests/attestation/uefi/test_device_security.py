"""Events about devices' own firmware: read, described, and judged as code by their digest."""

from __future__ import annotations

import pytest

from attestation.boot.describe import describe_event
from attestation.boot.facts import ImageKind
from attestation.errors import InputError
from attestation.logs.event_types import EventType
from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from attestation.reader import pack
from attestation.uefi.device_security import parse_device_security
from tests.simulators.boot import CONFIG, boot, event, facts_of
from tests.simulators.firmware_log import SHA256, header
from tests.simulators.uefi import (
    DEVICE_CONTEXT,
    END,
    SPDM_BLOCK,
    device_security,
    file_path,
    variable,
)

FIRST = pack("<16sHHII", b"SPDM Device Sec", 1, 28, 2, 1) + SPDM_BLOCK + DEVICE_CONTEXT


def told(kind: EventType, content: bytes) -> str:
    """What is said of one event of a log, for people."""
    log = replay(parse_firmware_log(header() + event(2, int(kind), content)))
    return describe_event(log.events[-1])


def test_both_forms_are_read() -> None:
    assert parse_device_security(FIRST) == ("PCI device", "", b"", "measurement 3", b"fw 1.4")
    found = parse_device_security(device_security())
    assert (found.device, found.state, found.what) == (
        "PCI device",
        "authenticated",
        "measurement 3",
    )
    assert (found.path, found.value) == (file_path("a.rom"), b"fw 1.4")
    chain = parse_device_security(device_security(1, b"chain", state=4))
    assert (chain.what, chain.state, chain.value) == (
        "certificate chain in slot 5",
        "wrong signature",
        b"chain",
    )


@pytest.mark.parametrize(
    "whole", [FIRST, device_security(), device_security(1, b"")], ids=["one", "two", "chain"]
)
def test_every_cut_is_refused_or_reads_the_same(whole: bytes) -> None:
    needed = len(whole) - len(DEVICE_CONTEXT)
    for size in range(len(whole)):
        if size < needed:
            with pytest.raises(InputError):
                parse_device_security(whole[:size])
        else:
            assert parse_device_security(whole[:size]) == parse_device_security(whole)


@pytest.mark.parametrize(
    "content",
    [
        b"SPDM Device Sec3" + FIRST[16:],
        device_security(2),
        device_security(path=b"").replace(
            pack("<Q", 0) + pack("<H", 0x12), pack("<QH", 2**64 - 1, 0x12)
        ),
        FIRST[:28] + pack("<BBH", 1, 1, 0xFFFF),
    ],
)
def test_what_does_not_fit_is_refused(content: bytes) -> None:
    with pytest.raises(InputError):
        parse_device_security(content)


def test_every_type_of_the_standard_is_described() -> None:
    spdm = told(EventType.EFI_SPDM_FIRMWARE_BLOB, device_security())
    assert spdm == "PCI device a.rom, authenticated: measurement 3, fw 1.4"
    assert told(EventType.EFI_SPDM_FIRMWARE_CONFIG, FIRST) == ("PCI device: measurement 3, fw 1.4")
    assert told(EventType.EFI_SPDM_DEVICE_POLICY, variable("devdb", b"")) == "devdb: empty"
    assert "devdb" in told(EventType.EFI_SPDM_DEVICE_AUTHORITY, variable("devdb", bytes(20)))
    assert told(EventType.POST_CODE2, b"\4BIOS" + pack("<QQ", 16, 32)) == "BIOS: 0x10, 32 bytes"
    assert told(EventType.POST_CODE2, b"ACPI DATA") == "ACPI DATA"
    assert told(EventType.EFI_HCRTM_EVENT, b"HCRTM") == "HCRTM"
    for kind in EventType:
        if kind is not EventType.NO_ACTION:
            assert "not readable" in told(kind, b"\1") or told(kind, b"\1") == "01"


def test_devices_firmware_is_code_of_pcr_2_judged_by_its_digest() -> None:
    content = device_security(path=END)
    facts = facts_of(boot(before=event(2, EventType.EFI_SPDM_FIRMWARE_BLOB, content)))
    [driver] = [one.value for one in facts.images if one.value.kind is ImageKind.DRIVER]
    assert (driver.digest, driver.path) == (SHA256.digest(content), "PCI device measurement 3")
    assert facts.troubles == ()


def test_devices_policy_is_said_to_be_uninterpreted_and_hides_no_variable() -> None:
    policy = event(7, EventType.EFI_SPDM_DEVICE_POLICY, variable("devdb", b"x"))
    told_facts = facts_of(boot(keys=policy + event(7, CONFIG, variable("SecureBoot", b"\1"))))
    assert any("EV_EFI_SPDM_DEVICE_POLICY" in one for one in told_facts.not_covered)
    assert told_facts.troubles == ()
    lie = event(7, EventType.EFI_SPDM_DEVICE_POLICY, variable("devdb", b"x"), b"other")
    assert [one.code for one in facts_of(boot(keys=lie)).troubles] == ["event-undecodable"]
