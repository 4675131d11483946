"""UEFI_VARIABLE_DATA, with what its readers make of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from attestation.errors import AttestationError
from attestation.uefi.signatures import parse_admission, parse_signature_lists
from attestation.uefi.variables import (
    boot_number,
    parse_boot_order,
    parse_variable,
    switch_value,
)


def run(data: bytes) -> None:
    """Read hostile bytes."""
    variable = parse_variable(data, surplus=6)
    boot_number(variable)
    readers: tuple[Callable[[], object], ...] = (
        lambda: parse_admission(variable.vendor, variable.data),
        lambda: parse_boot_order(variable.data),
        lambda: parse_signature_lists(variable.data),
        lambda: switch_value(variable),
    )
    for read in readers:
        with contextlib.suppress(AttestationError):
            read()
