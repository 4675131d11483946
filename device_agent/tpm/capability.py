"""What the TPM says about itself; no authorisation is ever needed for it."""

from __future__ import annotations

from typing import Final

from tpm2_pytss.constants import TPM2_CAP

from attestation.algorithms import HashAlgorithm
from device_agent.ports import TpmStatus
from device_agent.tpm.connection import OpenTpm

_PT_MANUFACTURER: Final = 0x105
_PT_FIRMWARE_1: Final = 0x10B
_PT_FIRMWARE_2: Final = 0x10C
_PT_PERMANENT: Final = 0x200
_PERMANENT_IN_LOCKOUT: Final = 1 << 9
_PT_LOCKOUT_COUNTER: Final = 0x20E
_PT_MAX_AUTH_FAIL: Final = 0x20F


def read_status(tpm: OpenTpm) -> TpmStatus:
    """Read TPM2_PT_FIXED and TPM2_PT_VAR (TPM 2.0 Part 2, 6.13) and the allocated PCR banks."""
    fixed = tpm.properties(_PT_MANUFACTURER, 8)
    variable = tpm.properties(_PT_PERMANENT, 16)
    letters = fixed.get(_PT_MANUFACTURER, 0).to_bytes(4, "big")
    return TpmStatus(
        manufacturer=letters.decode("ascii", errors="replace").rstrip("\0 "),
        firmware_version=fixed.get(_PT_FIRMWARE_1, 0) << 32 | fixed.get(_PT_FIRMWARE_2, 0),
        in_lockout=bool(variable.get(_PT_PERMANENT, 0) & _PERMANENT_IN_LOCKOUT),
        lockout_counter=variable.get(_PT_LOCKOUT_COUNTER, 0),
        max_auth_fail=variable.get(_PT_MAX_AUTH_FAIL, 0),
        banks=_allocated_banks(tpm),
    )


def _allocated_banks(tpm: OpenTpm) -> tuple[str, ...]:
    _, capability = tpm.esapi.get_capability(TPM2_CAP.PCRS, 0, 1)
    # ``capability`` owns the memory of what hangs below it: it must outlive the loop.
    known = {int(algorithm): algorithm.label for algorithm in HashAlgorithm}
    return tuple(
        known.get(int(bank.hash), f"0x{int(bank.hash):04x}")
        for bank in capability.data.assignedPCR
        if any(bytes(bank.pcrSelect))
    )
