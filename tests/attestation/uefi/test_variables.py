from __future__ import annotations

import pytest

from attestation.errors import InputError, MalformedInput
from attestation.reader import pack
from attestation.refusals import RefusalCode
from attestation.uefi.guid import GLOBAL_VARIABLE, SHIM_LOCK, guid, guid_text
from attestation.uefi.variables import (
    boot_number,
    parse_boot_order,
    parse_variable,
    switch_value,
)
from tests.simulators.uefi import variable


def test_variable_has_vendor_name_and_data() -> None:
    found = parse_variable(variable("SecureBoot", b"\1"))
    assert found == (GLOBAL_VARIABLE, "SecureBoot", b"\1", 0)


def test_guid_text_is_the_registry_form() -> None:
    assert guid_text(guid("8be4df61-93ca-11d2-aa0d-00e098032b8c")) == (
        "8be4df61-93ca-11d2-aa0d-00e098032b8c"
    )
    assert GLOBAL_VARIABLE.hex() == "61dfe48bca93d211aa0d00e098032b8c"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", RefusalCode.TRUNCATED),
        (variable("db", b"x")[:-1], RefusalCode.TRUNCATED),
        (variable("db", b"x") + b"y", RefusalCode.TRAILING_BYTES),
        (pack("<16sQQ", GLOBAL_VARIABLE, 2**64 - 1, 0), RefusalCode.TRUNCATED),
        (pack("<16sQQ", GLOBAL_VARIABLE, 2**62, 2**63), RefusalCode.TRUNCATED),
        (pack("<16sQQ", GLOBAL_VARIABLE, 0, 2**40), RefusalCode.TRUNCATED),
        (pack("<16sQQ", GLOBAL_VARIABLE, 0, 0), RefusalCode.VALUE_OUT_OF_RANGE),
        (pack("<16sQQ", GLOBAL_VARIABLE, 1, 0) + b"\x00\xd8", RefusalCode.VALUE_OUT_OF_RANGE),
        (variable("Secure\nBoot", b"\1"), RefusalCode.VALUE_OUT_OF_RANGE),
        (variable("SecureBoot\0", b"\1"), RefusalCode.VALUE_OUT_OF_RANGE),
    ],
)
def test_variable_whose_lengths_or_name_are_wrong_is_refused(
    content: bytes, code: RefusalCode
) -> None:
    with pytest.raises(InputError) as caught:
        parse_variable(content)
    assert caught.value.code is code


def test_surplus_is_taken_only_up_to_what_the_caller_allows() -> None:
    content = variable("Shim", b"x", SHIM_LOCK)
    assert parse_variable(content + bytes(6), surplus=6).surplus == 6
    with pytest.raises(MalformedInput):
        parse_variable(content + bytes(7), surplus=6)


@pytest.mark.parametrize(("data", "value"), [(b"", None), (b"\0", False), (b"\1", True)])
def test_switch_is_one_byte_or_absent(data: bytes, value: bool | None) -> None:  # noqa: FBT001
    assert switch_value(parse_variable(variable("SecureBoot", data))) is value


@pytest.mark.parametrize("data", [b"\2", b"\xff", b"\1\0", b"\0\0"])
def test_switch_of_another_value_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedInput) as caught:
        switch_value(parse_variable(variable("SecureBoot", data)))
    assert caught.value.code is RefusalCode.VALUE_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("name", "number"),
    [("Boot0001", 1), ("Boot00fF", 255), ("BootOrder", None), ("Boot00_1", None), ("Boot1", None)],
)
def test_boot_number_is_four_hexadecimal_digits(name: str, number: int | None) -> None:
    assert boot_number(parse_variable(variable(name, b""))) == number


def test_boot_number_of_another_vendor_is_none() -> None:
    assert boot_number(parse_variable(variable("Boot0001", b"", SHIM_LOCK))) is None


def test_boot_order_is_numbers_in_order() -> None:
    assert parse_boot_order(b"\3\0\0\0\x1b\0") == (3, 0, 27)
    assert parse_boot_order(b"") == ()
    with pytest.raises(MalformedInput):
        parse_boot_order(b"\3\0\0")
