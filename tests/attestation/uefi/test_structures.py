from __future__ import annotations

import pytest

from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.limits import MAX_SIPA_DEPTH, MAX_TAGGED_EVENTS
from attestation.reader import pack
from attestation.refusals import RefusalCode
from attestation.uefi.firmware import (
    parse_firmware_blob,
    parse_handoff_tables,
    parse_image_load,
)
from attestation.uefi.guid import guid, guid_text
from attestation.uefi.load_option import parse_load_option
from attestation.uefi.loaders import LineKind, measured_name, parse_loader_line
from attestation.uefi.partition_table import parse_partition_table
from attestation.uefi.subject import subject_of
from attestation.uefi.tagged import (
    LINUX_INITRD,
    SIPA_CONTAINER,
    parse_tagged_events,
    walk_tagged_events,
)
from attestation.uefi.text import any_text, shown, utf8_text, utf16_text
from tests.simulators.uefi import (
    END,
    OWNER,
    file_path,
    image_load,
    load_option,
    partition_table,
    tagged,
)

DISK = guid("b774dd3a-e91f-4c01-afee-1957a0ac8325")


def test_load_option_has_description_path_and_data() -> None:
    found = parse_load_option(load_option("Linux", file_path("a"), b"opt", active=False))
    assert found == (False, "Linux", file_path("a"), b"opt")


def test_description_may_hold_letters_whose_bytes_look_like_an_end() -> None:
    assert parse_load_option(load_option("\u0100\u0061", END)).description == "\u0100\u0061"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        pack("<IH", 1, 0),
        pack("<IH", 1, 0) + b"a\0b",
        load_option("x", END)[:-1],
        pack("<IH", 1, 0xFFFF) + bytes(4),
        pack("<IH", 1, 0) + b"\x00\xd8\0\0",
    ],
)
def test_load_option_that_does_not_fit_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedInput):
        parse_load_option(data)


def test_partition_table_has_disk_and_partitions() -> None:
    found = parse_partition_table(partition_table(DISK, "EFI", "root"))
    assert found.disk == "b774dd3a-e91f-4c01-afee-1957a0ac8325"
    assert [(one.name, one.unique, one.first) for one in found.partitions] == [
        ("EFI", guid_text(OWNER), 34),
        ("root", guid_text(OWNER), 34),
    ]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"EFI PART", RefusalCode.TRUNCATED),
        (b"X" + partition_table(DISK)[1:], RefusalCode.VALUE_OUT_OF_RANGE),
        (partition_table(DISK, "a") + b"x", RefusalCode.TRAILING_BYTES),
        (partition_table(DISK, "a")[:-1], RefusalCode.TRUNCATED),
        (partition_table(DISK)[:-8] + pack("<Q", 2**63), RefusalCode.TOO_MANY),
        (
            partition_table(DISK)[:84] + pack("<I", 1) + partition_table(DISK)[88:],
            RefusalCode.VALUE_OUT_OF_RANGE,
        ),
    ],
)
def test_partition_table_that_does_not_fit_is_refused(content: bytes, code: RefusalCode) -> None:
    with pytest.raises(InputError) as caught:
        parse_partition_table(content)
    assert caught.value.code is code


def test_image_load_has_a_path_and_at_most_the_allowed_surplus() -> None:
    assert parse_image_load(image_load(END)) == (0x1000, 0x2000, 0, END)
    assert parse_image_load(image_load(END, b"12345678"), surplus=8).path == END
    with pytest.raises(MalformedInput):
        parse_image_load(image_load(END, b"1"))
    with pytest.raises(MalformedInput):
        parse_image_load(pack("<QQQQ", 0, 0, 0, 2**64 - 1))


def test_firmware_blobs_with_and_without_a_name() -> None:
    assert parse_firmware_blob(pack("<QQ", 1, 2)) == ("", 1, 2)
    named = b"\4PEI\0" + pack("<QQ", 1, 2)
    assert parse_firmware_blob(named, named=True) == ("PEI", 1, 2)
    for content in (b"", pack("<QQ", 1, 2) + b"x"):
        with pytest.raises(MalformedInput):
            parse_firmware_blob(content)
    with pytest.raises(MalformedInput):
        parse_firmware_blob(b"\1\xff" + pack("<QQ", 1, 2), named=True)


def test_handoff_tables_with_and_without_a_name() -> None:
    content = pack("<Q", 1) + DISK + pack("<Q", 7)
    assert parse_handoff_tables(content).tables == ((guid_text(DISK), 7),)
    assert parse_handoff_tables(b"\4ACPI" + content, named=True).name == "ACPI"
    with pytest.raises(LimitExceeded):
        parse_handoff_tables(pack("<Q", 2**64 - 1))
    with pytest.raises(MalformedInput):
        parse_handoff_tables(content + b"x")


def nested(depth: int) -> bytes:
    content = tagged(0x00020007, b"x")
    for _ in range(depth):
        content = tagged(SIPA_CONTAINER | 1, content)
    return content


def test_containers_are_opened_up_to_the_cap() -> None:
    rows = walk_tagged_events(nested(MAX_SIPA_DEPTH))
    assert [row.depth for row in rows] == list(range(MAX_SIPA_DEPTH + 1))
    with pytest.raises(LimitExceeded):
        walk_tagged_events(nested(MAX_SIPA_DEPTH + 1))
    with pytest.raises(LimitExceeded):
        walk_tagged_events(nested(20_000))


def test_row_of_tagged_events_is_read_without_opening_containers() -> None:
    content = tagged(LINUX_INITRD, b"a") + nested(3)
    assert [row.depth for row in parse_tagged_events(content)] == [0, 0]
    assert parse_tagged_events(b"") == ()


@pytest.mark.parametrize("content", [b"x", pack("<II", 1, 0xFFFFFFFF), tagged(1, b"x") + b"y"])
def test_tagged_event_whose_size_does_not_fit_is_refused(content: bytes) -> None:
    for read in (parse_tagged_events, walk_tagged_events):
        with pytest.raises(MalformedInput):
            read(content)


def test_too_many_tagged_events_are_refused() -> None:
    with pytest.raises(LimitExceeded):
        parse_tagged_events(tagged(1, b"") * (MAX_TAGGED_EVENTS + 1))


@pytest.mark.parametrize(
    ("content", "kind", "text", "measured"),
    [
        (b"grub_cmd: set a=1\0", LineKind.COMMAND, "set a=1", b"set a=1"),
        (b"kernel_cmdline: /k ro\0", LineKind.COMMAND_LINE, "/k ro", b"/k ro"),
        (b"module_cmdline: m\0", LineKind.COMMAND, "m", b"m"),
        (b"grub_cmd set a\0", LineKind.COMMAND, "set a", b"set a"),
        (b"grub_kernel_cmdline /k\0", LineKind.COMMAND_LINE, "/k", b"/k"),
        (b"r\0o\0\0\0", LineKind.COMMAND_LINE, "ro", b"r\0o\0\0\0"),
        (b"r\0o\0\0", LineKind.COMMAND_LINE, "ro", b"r\0o\0\0\0"),
    ],
)
def test_loader_line_says_what_must_have_been_hashed(
    content: bytes, kind: LineKind, text: str, measured: bytes
) -> None:
    line = parse_loader_line(content)
    assert line is not None
    assert (line.kind, line.text, line.measured) == (kind, text, measured)
    assert line.one_byte_short is (content == b"r\0o\0\0")


@pytest.mark.parametrize("content", [b"", b"\0", b"x", b"MokList\0", b"\xff\xff\xff", b"ab\0"])
def test_other_text_is_no_loader_line(content: bytes) -> None:
    assert parse_loader_line(content) is None


def test_measured_name_is_text_of_either_width() -> None:
    assert measured_name(b"MokList\0") == "MokList"
    assert measured_name(".linux\0".encode("utf-16-le")) == ".linux"
    assert measured_name(b"\xff\xfe") == "fffe"


def test_texts() -> None:
    assert utf16_text(b"a\0b\0\0\0") == "ab"
    assert utf16_text(b"a\0\0\0b\0") is None
    assert utf16_text(b"a") is None
    assert utf8_text(b"a\x1b") is None
    assert any_text(b"\xff") is None
    assert shown(b"IntelCSxEEvent01\0\xff") == "IntelCSxEEvent01 …"
    assert shown(b"\xff" * 40) == "ff" * 32 + "…"


@pytest.mark.parametrize(
    "der",
    [b"", b"0", b"0\0", b"0\x80", b"0\x84\xff\xff\xff\xff", b"\x30\x82\xff\xff", bytes(20_000)],
)
def test_subject_of_no_certificate_is_none(der: bytes) -> None:
    assert subject_of(der) is None
