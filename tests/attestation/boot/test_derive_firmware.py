from __future__ import annotations

import pytest

from attestation.boot.facts import BootFacts
from attestation.uefi.guid import guid
from attestation.uefi.tagged import LINUX_INITRD
from tests.simulators.boot import (
    ACTION,
    APPLICATION,
    CONFIG,
    GPT,
    IPL,
    KEYS,
    TAG,
    VARIABLE_BOOT,
    VERSION,
    application,
    boot,
    event,
    facts_of,
    separator,
)
from tests.simulators.firmware_log import SHA256
from tests.simulators.uefi import (
    file_path,
    image_load,
    load_option,
    partition_table,
    tagged,
    variable,
)

UNDECODABLE, UNKNOWN = "event-undecodable", "event-type-unknown"
DISK = guid("b774dd3a-e91f-4c01-afee-1957a0ac8325")


def troubles(facts: BootFacts) -> list[tuple[str, int]]:
    return [(trouble.code, trouble.proof.pcr) for trouble in facts.troubles]


# --- N4: boot applications -----------------------------------------------------------------


def test_without_the_end_of_boot_services_no_application_is_told() -> None:
    facts = facts_of(boot(left=False))
    assert facts.images == ()
    assert facts.exit_boot_services is None
    assert facts.quirks == ("exit-boot-services-missing",)
    assert any(sentence.startswith("boot applications") for sentence in facts.not_covered)


def test_end_of_boot_services_must_be_proven_and_in_pcr_5() -> None:
    left = b"Exit Boot Services Returned with Success"
    for end in (event(5, ACTION, left, b"other"), event(4, ACTION, left)):
        assert facts_of(boot(after=end, left=False)).images == ()


def test_application_after_the_end_of_boot_services_is_a_trouble_and_no_fact() -> None:
    facts = facts_of(boot() + application("good", b"good code"))
    assert [fact.value.digest for fact in facts.images] == [SHA256.digest(b"code")]
    assert troubles(facts) == [(UNDECODABLE, 4)]


def test_application_before_a_boot_option_is_told_as_the_firmwares() -> None:
    facts = facts_of(boot(before=application("agent", b"agent")))
    assert [fact.value.before_separator for fact in facts.images] == [True, False]
    assert facts.quirks == ("application-before-boot-option",)


def test_failure_to_leave_boot_services_is_told_until_success() -> None:
    failure = event(5, ACTION, b"Exit Boot Services Returned with Failure")
    failed = facts_of(boot(after=failure, left=False))
    assert failed.exit_boot_services is not None
    assert failed.exit_boot_services.value is False
    assert failed.images == ()
    done = facts_of(boot(after=failure))
    assert done.exit_boot_services is not None
    assert done.exit_boot_services.value is True


def test_digest_of_an_application_is_told_whatever_its_path_says() -> None:
    lie = event(4, APPLICATION, image_load(file_path("good.efi")), b"evil")
    facts = facts_of(boot(after=lie))
    assert facts.images[-1].value.digest == SHA256.digest(b"evil")


def test_dma_protection_and_other_actions_of_the_firmware() -> None:
    keys = KEYS + event(7, ACTION, b"DMA Protection Disabled") + event(7, ACTION, b"Other thing")
    facts = facts_of(boot(keys=keys))
    assert facts.dma_protection_disabled is not None
    assert facts.dma_protection_disabled.value is True
    assert [fact.value for fact in facts.firmware_actions[:2]] == [
        "DMA Protection Disabled",
        "Other thing",
    ]
    assert facts.quirks == ("action-not-standard",)
    elsewhere = facts_of(boot(after=event(5, ACTION, b"DMA Protection Disabled")))
    assert elsewhere.dma_protection_disabled is None


# --- separators ----------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"\1\0\0\0", b"\0\0\0\0\0", b"WBCL", b""])
def test_separator_of_other_content_is_a_trouble(content: bytes) -> None:
    assert (UNDECODABLE, 7) in troubles(facts_of(boot(after=separator(7, content))))


def test_windows_separates_its_own_pcrs_in_its_own_way() -> None:
    assert facts_of(boot(after=separator(12, b"WBCL"))).troubles == ()
    assert facts_of(boot(after=separator(9, b"WBCL"))).troubles != ()


# --- firmware version, boot options, partition tables --------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("V1.2\0".encode("utf-16-le"), "V1.2"),
        (b"N32ET68W\0", "N32ET68W"),
        (DISK, "b774dd3a-e91f-4c01-afee-1957a0ac8325"),
        (b"\xff\xfe\xfd", "fffefd"),
    ],
)
def test_firmware_version_is_text_or_shown(content: bytes, text: str) -> None:
    version = facts_of(boot(before=event(0, VERSION, content))).firmware_version
    assert version is not None
    assert version.value == text


def test_firmware_version_that_was_not_measured_is_not_told() -> None:
    facts = facts_of(boot(before=event(0, VERSION, b"V9\0", b"V1\0")))
    assert facts.firmware_version is None
    assert facts.quirks == ("crtm-version-not-its-digest",)
    assert any("version" in sentence for sentence in facts.not_covered)


def test_boot_options_are_told_with_either_way_of_measuring() -> None:
    order = variable("BootOrder", b"\1\0\2\0")
    one = variable("Boot0001", load_option("Linux", file_path("a.efi")))
    whole = event(1, VARIABLE_BOOT, order) + event(1, VARIABLE_BOOT, one)
    facts = facts_of(boot(before=whole))
    assert facts.boot_order is not None
    assert facts.boot_order.value == (1, 2)
    [entry] = [fact.value for fact in facts.boot_entries]
    assert (entry.number, entry.description, entry.path) == (1, "Linux", "a.efi")
    assert facts.quirks == ()
    data_only = facts_of(boot(before=event(1, VARIABLE_BOOT, order, b"\1\0\2\0")))
    assert data_only.boot_order is not None
    assert data_only.quirks == ("boot-variable-data-only",)


def test_boot_option_that_was_not_measured_or_changes_is_a_trouble() -> None:
    order = variable("BootOrder", b"\1\0")
    other = variable("BootOrder", b"\2\0")
    lie = facts_of(boot(before=event(1, VARIABLE_BOOT, order, other)))
    assert (lie.boot_order, troubles(lie)) == (None, [(UNDECODABLE, 1)])
    both = event(1, VARIABLE_BOOT, order) + event(1, VARIABLE_BOOT, other)
    twice = facts_of(boot(before=both))
    assert twice.boot_order is not None
    assert (twice.boot_order.value, troubles(twice)) == ((1,), [(UNDECODABLE, 1)])


@pytest.mark.parametrize("data", [variable("BootOrder", b"\1"), variable("Boot0001", b"x"), b"x"])
def test_boot_option_that_cannot_be_read_is_a_trouble(data: bytes) -> None:
    facts = facts_of(boot(before=event(1, VARIABLE_BOOT, data)))
    assert troubles(facts) == [(UNDECODABLE, 1)]


def test_partition_table_is_told_by_its_disk() -> None:
    facts = facts_of(boot(before=event(5, GPT, partition_table(DISK, "root"))))
    assert [fact.value for fact in facts.partition_tables] == [
        "b774dd3a-e91f-4c01-afee-1957a0ac8325"
    ]
    assert troubles(facts_of(boot(before=event(5, GPT, b"EFI PART")))) == [(UNDECODABLE, 5)]


# --- boot loaders --------------------------------------------------------------------------


def test_grub_lines_are_told_where_their_text_was_measured() -> None:
    lines = (
        event(8, IPL, b"grub_cmd: set a=1\0", b"set a=1")
        + event(8, IPL, b"grub_cmd set b=2\0", b"set b=2\0")
        + event(8, IPL, b"kernel_cmdline: /vmlinuz ro\0", b"/vmlinuz ro")
    )
    facts = facts_of(boot(after=lines))
    assert [fact.value for fact in facts.loader_commands] == ["set a=1", "set b=2"]
    assert [fact.value for fact in facts.command_lines] == ["/vmlinuz ro"]
    assert facts.troubles == ()


@pytest.mark.parametrize(
    ("content", "measured"),
    [
        (b"kernel_cmdline: /vmlinuz ro\0", b"/vmlinuz rw"),
        (b"grub_cmd: set a\0", b"kernel"),
        ("quiet\0".encode("utf-16-le"), b"other"),
        (b"just a note\0", b"/vmlinuz rw init=/bin/sh"),
        (b"", b"hidden"),
    ],
)
@pytest.mark.parametrize("pcr", [8, 12])
def test_line_that_was_not_measured_is_a_trouble_and_no_fact(
    pcr: int, content: bytes, measured: bytes
) -> None:
    facts = facts_of(boot(after=event(pcr, IPL, content, measured)))
    assert facts.command_lines == ()
    assert facts.loader_commands == ()
    assert troubles(facts) == [(UNDECODABLE, pcr)]


@pytest.mark.parametrize("kind", [0xC, 1, APPLICATION, CONFIG])
@pytest.mark.parametrize("pcr", [8, 12])
def test_no_command_line_hides_under_another_type(pcr: int, kind: int) -> None:
    assert troubles(facts_of(boot(after=event(pcr, kind, b"x", b"cmdline")))) == [(UNKNOWN, pcr)]


def test_command_line_hides_in_no_tagged_event() -> None:
    for content in (tagged(LINUX_INITRD, b"Linux initrd\0"), tagged(1, b"x"), b"short"):
        facts = facts_of(boot(after=event(12, TAG, content, b"cmdline")))
        assert troubles(facts) == [(UNDECODABLE, 12)]
    plain = facts_of(boot(after=event(12, TAG, tagged(1, b"x"))))
    assert plain.troubles == ()
    named = facts_of(boot(after=event(12, TAG, tagged(LINUX_INITRD, b"x"))))
    assert troubles(named) == [(UNDECODABLE, 12)]


def test_systemd_lines_of_either_age() -> None:
    text = "root=/dev/vda ro\0".encode("utf-16-le")
    new = facts_of(boot(after=event(12, IPL, text)))
    assert [fact.value for fact in new.command_lines] == ["root=/dev/vda ro"]
    old = facts_of(boot(after=event(8, IPL, text[:-1], text)))
    assert [fact.value for fact in old.command_lines] == ["root=/dev/vda ro"]
    assert old.quirks == ("systemd-boot-one-byte-short",)


def test_files_are_told_by_digest_with_their_name_as_a_hint() -> None:
    files = (
        event(9, IPL, b"/boot/vmlinuz\0", b"kernel")
        + event(9, TAG, tagged(LINUX_INITRD, b"Linux initrd\0"), b"initrd")
        + event(14, IPL, b"MokList\0", b"mok")
        + event(11, IPL, ".linux\0".encode("utf-16-le"), b".linux\0")
        + event(11, IPL, ".linux\0".encode("utf-16-le"), b"section")
    )
    facts = facts_of(boot(after=files))
    assert [(fact.value.name, fact.value.digest) for fact in facts.loader_files] == [
        ("/boot/vmlinuz", SHA256.digest(b"kernel")),
        ("Linux initrd", SHA256.digest(b"initrd")),
        ("MokList", SHA256.digest(b"mok")),
        (".linux", SHA256.digest(b"section")),
    ]
    assert facts.troubles == ()


def test_tagged_event_that_cannot_be_read_is_a_trouble() -> None:
    assert troubles(facts_of(boot(after=event(13, TAG, b"short")))) == [(UNDECODABLE, 13)]
