from __future__ import annotations

import re
from functools import cache

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.boot.derive import derive_boot_facts
from attestation.boot.describe import describe_event
from attestation.boot.facts import BootFacts, ImageKind, Proof
from attestation.logs.event_types import EventType
from attestation.logs.replay import DATA_HASH_TYPES, ReplayedLog, check_event_contents, replay
from attestation.logs.tcg import parse_firmware_log
from tests.attestation.boot.expected_facts import EXPECTED
from tests.attestation.logs.test_replay import DATA, LOGS

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
MICROSOFT_UEFI_CA = "48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507"
SP800 = "google_go-tpm-tools/eventlogwithsp800155.bin"
SECURE_BOOT_VM = "keylime_keylime/create-mb-policy/binary_bios_measurements-secureboot"
H12SSL = "immune-gmbh_guard-oss/bundle/h12ssl/eventlog"
GDC = "google_go-tpm-tools/gdc-host.bin"


@cache
def replayed(file: str) -> ReplayedLog:
    return replay(parse_firmware_log((DATA / file).read_bytes()))


@cache
def facts_of(file: str, bank: HashAlgorithm | None = None) -> BootFacts:
    log = replayed(file)
    if bank is None:
        bank = SHA256 if SHA256 in log.covered else SHA1
    return derive_boot_facts(log, bank, log.covered[bank])


def test_every_log_is_expected() -> None:
    assert sorted(EXPECTED) == LOGS


@pytest.mark.parametrize("file", LOGS)
def test_log_tells_what_it_told_before(file: str) -> None:
    facts = facts_of(file)
    entries = " ".join(
        f"{name}={len(one.value.certificates)}c{len(one.value.hashes)}h"
        for name, one in facts.databases.items()
    )
    assert EXPECTED[file] == (
        None if facts.secure_boot is None else facts.secure_boot.value,
        entries,
        facts.exit_boot_services is not None and facts.exit_boot_services.value,
        len(facts.authorities),
        len(facts.images),
        len(facts.boot_entries),
        len(facts.command_lines),
        len(facts.loader_commands),
        len(facts.loader_files),
        facts.quirks,
    )


@pytest.mark.parametrize("file", LOGS)
def test_log_tells_the_same_once_its_contents_were_checked(file: str) -> None:
    log = replay(parse_firmware_log((DATA / file).read_bytes()))
    for bank in log.covered:
        check_event_contents(log, bank)
        kinds = {event.type for event in log.events if event.digest(bank) is not None}
        assert bool(log.contents[bank]) == bool(kinds & DATA_HASH_TYPES)
        assert derive_boot_facts(log, bank, log.covered[bank]) == facts_of(file, bank)


@pytest.mark.parametrize("file", LOGS)
def test_only_the_one_log_with_a_makers_own_event_type_has_a_trouble(file: str) -> None:
    found = [(trouble.code, trouble.proof) for trouble in facts_of(file).troubles]
    if file == "keylime_rust-keylime/uefi_log.bin":
        assert found == [("event-type-unknown", Proof(2, 42))]
    else:
        assert found == []


@pytest.mark.parametrize("file", LOGS)
def test_every_bank_tells_the_same_boot(file: str) -> None:
    one = facts_of(file)
    for bank in replayed(file).covered:
        if replayed(file).covered[bank] != one.covered:
            continue
        other = facts_of(file, bank)
        assert other.secure_boot == one.secure_boot
        assert other.databases == one.databases
        assert other.authorities == one.authorities
        assert other.boot_entries == one.boot_entries
        assert other.command_lines == one.command_lines
        assert other.exit_boot_services == one.exit_boot_services
        assert other.troubles == one.troubles
        assert len(other.images) == len(one.images)


@pytest.mark.parametrize("file", LOGS)
def test_every_fact_is_proven_by_an_event_of_a_covered_pcr(file: str) -> None:
    facts = facts_of(file)
    events = {event.number: event for event in replayed(file).events}
    singles = (
        facts.secure_boot,
        facts.boot_order,
        facts.firmware_version,
        facts.exit_boot_services,
        facts.dma_protection_disabled,
    )
    proofs = [proof for fact in singles if fact is not None for proof in fact.proofs]
    for group in (
        facts.databases.values(),
        facts.modes.values(),
        facts.authorities,
        facts.images,
        facts.boot_entries,
        facts.partition_tables,
        facts.command_lines,
        facts.loader_commands,
        facts.loader_files,
        facts.firmware_actions,
    ):
        for fact in group:
            assert fact.proofs
            proofs += fact.proofs
    for proof in proofs:
        assert proof.pcr in facts.covered
        assert events[proof.event].pcr == proof.pcr


@pytest.mark.parametrize("file", LOGS)
def test_every_event_has_a_description_of_one_line(file: str) -> None:
    for event in replayed(file).events:
        text = describe_event(event)
        assert "\n" not in text
        if event.type != EventType.EFI_BOOT_SERVICES_APPLICATION:  # shim logs zeros for some
            assert "not readable" not in text


def test_secure_boot_vm_of_red_hat() -> None:
    facts = facts_of(SECURE_BOOT_VM)
    assert [
        (one.value.variable, one.value.digest.hex()[:8], one.value.subject.split(",")[0])
        for one in facts.authorities
    ] == [
        ("db", MICROSOFT_UEFI_CA[:8], "CN=Microsoft Corporation UEFI CA 2011"),
        ("SbatLevel", "5acc0985", ""),
        ("vendor_db", "40175d4c", "emailAddress=secalert@redhat.com"),
    ]
    assert facts.firmware_version is not None
    assert facts.firmware_version.value == "edk2-20240524-7.el9"
    [line] = facts.command_lines
    assert line.proofs == (Proof(8, 94),)
    assert line.value.startswith(
        "(hd0,gpt2)/vmlinuz-5.14.0-503.11.1.el9_5.x86_64 root=/dev/mapper/rhel_rhel--9-root ro "
    )
    assert facts.boot_order is not None
    assert facts.boot_order.value == (1, 2, 0)
    assert MICROSOFT_UEFI_CA in {key.hex() for key in facts.databases["db"].value.certificates}


def test_confidential_gke_node() -> None:
    facts = facts_of(SP800)
    assert {one.value.subject.split(",")[0] for one in facts.authorities} == {
        "CN=UEFI DB Key v20250203",
        "",
    }
    assert [one.value.kind for one in facts.images] == [
        ImageKind.FIRMWARE,
        ImageKind.APPLICATION,
        ImageKind.APPLICATION,
        ImageKind.APPLICATION,
    ][: len(facts.images)]
    assert len(facts.databases["dbx"].value.certificates) == 4


def test_bare_metal_host_with_option_roms_and_a_makers_agent() -> None:
    facts = facts_of(GDC)
    assert facts.dma_protection_disabled is not None
    assert {name: mode.value for name, mode in facts.modes.items()} == {
        "DeployedMode": True,
        "AuditMode": False,
    }
    applications = [one.value for one in facts.images if one.value.kind is ImageKind.APPLICATION]
    assert [(one.path, one.before_separator) for one in applications] == [
        ("\\efi\\Dell\\System_Services\\System_Services.efi", True),
        ("\\EFI\\ubuntu\\shimx64.efi", False),
        ("\\EFI\\ubuntu\\grubx64.efi", False),
    ]
    assert len([one for one in facts.images if one.value.kind is ImageKind.DRIVER]) == 35
    assert [one.value.name for one in facts.loader_files][-2:] == [
        "LOADED_IMAGE::LoadOptions",
        "Linux initrd",
    ]


def test_supermicro_under_ubuntu_tells_no_boot_application_for_want_of_its_end() -> None:
    facts = facts_of(H12SSL)
    assert facts.exit_boot_services is None
    assert not [one for one in facts.images if one.value.kind is ImageKind.APPLICATION]
    assert set(facts.databases) == {"PK", "KEK", "db", "dbx", "dbt"}
    [line] = [one.value for one in facts.command_lines]
    assert line.startswith("/boot/vmlinuz-5.15.0-56-generic root=UUID=12f8b4bd-")
    assert line.endswith("ima_hash=sha256") or "ima_appraise=off" in line


# --- against the output of another reader ----------------------------------------------------

OTHER_READER = (
    "event-sd-boot-fedora37.bin",
    "event-moklisttrusted.bin",
    "event-uefi-sha1-log.bin",
    "event-arch-linux.bin",
)


def lines_of(file: str, key: str) -> list[str]:
    text = (DATA / "tpm2-software_tpm2-tools" / (file + ".yaml")).read_text()
    return re.findall(rf"^ +{key}: ['\"]?(.*?)['\"]?$", text, re.MULTILINE)


@pytest.mark.parametrize("file", OTHER_READER)
def test_boot_entries_agree_with_tpm2_eventlog(file: str) -> None:
    facts = facts_of(f"tpm2-software_tpm2-tools/{file}")
    names = [fact.value.description for fact in facts.boot_entries]
    assert names == lines_of(file, "Description")


@pytest.mark.parametrize("file", [one for one in OTHER_READER if "sha1" not in one])
def test_database_owners_agree_with_tpm2_eventlog(file: str) -> None:
    facts = facts_of(f"tpm2-software_tpm2-tools/{file}")
    text = (DATA / "tpm2-software_tpm2-tools" / (file + ".yaml")).read_text()
    for name, database in facts.databases.items():
        part = re.search(rf"UnicodeName: {name}\n.*?(?=\n- EventNum|\Z)", text, re.DOTALL)
        assert part is not None
        assert part.group().count("SignatureOwner:") == database.value.entries


def test_grub_lines_agree_with_tpm2_eventlog() -> None:
    file = "event-moklisttrusted.bin"
    facts = facts_of(f"tpm2-software_tpm2-tools/{file}")
    theirs = [
        text.removesuffix("\\0").removeprefix("grub_cmd: ")
        for text in lines_of(file, "String")
        if text.startswith("grub_cmd: ")
    ]
    ours = [fact.value for fact in facts.loader_commands]
    assert [line for line in ours if line.isprintable() and '"' not in line][:30] == theirs[:30]
