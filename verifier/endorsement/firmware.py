"""TPM firmware that published attacks break, as data, and the question whether one is meant.

The version is the one that the TPM runs *now*: ``firmwareVersion`` of a quote (TPM 2.0 Part 2,
10.12.8), which a TPM states in clear only under keys of the endorsement and platform hierarchies.
The version in an EK certificate is that of the day it was made and proves nothing about today.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from attestation.errors import UntrustedEndorsement
from attestation.refusals import RefusalCode

Version = tuple[int, ...]
"""Major, minor, and where the maker uses them, revision and build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareDenial:
    """A range of one maker's firmware versions that is refused.

    Attributes:
        manufacturer: TCG vendor id as text, e.g. ``IFX``.
        first: The lowest version refused.
        fixed: The lowest version above it that is not.
        advisory: CVE number.
        source: Who says so.
    """

    manufacturer: str
    first: Version
    fixed: Version
    advisory: str
    source: str


def _denials(
    manufacturer: str, advisory: str, source: str, *ranges: tuple[Version, Version]
) -> tuple[FirmwareDenial, ...]:
    return tuple(
        FirmwareDenial(
            manufacturer=manufacturer, first=first, fixed=fixed, advisory=advisory, source=source
        )
        for first, fixed in ranges
    )


KNOWN_DENIALS: Final = (
    *_denials(
        "IFX",
        "CVE-2017-15361",
        "Infineon, TPM firmware update (ROCA); Microsoft ADV170012",
        ((5, 0), (5, 62)),
        ((7, 0), (7, 62)),
    ),
    *_denials(
        "STM",
        "CVE-2019-16863",
        "STMicroelectronics, TPM firmware update, ECDSA signature generation (TPM-FAIL)",
        ((71, 0), (71, 16)),
        ((73, 0), (73, 20)),
        ((74, 0), (74, 20)),
    ),
    *_denials(
        "INTC",
        "CVE-2019-11090",
        "Intel, INTEL-SA-00241 (TPM-FAIL)",
        ((11, 8), (11, 8, 65)),
        ((11, 11), (11, 11, 65)),
        ((11, 22), (11, 22, 65)),
        ((12, 0), (12, 0, 35)),
        ((14, 0), (14, 0, 10)),
        ((3, 0), (3, 1, 65)),
        ((4, 0), (4, 0, 15)),
    ),
)
"""Ranges of TPM 2.0 firmware with a published break of keys that the TPM makes or uses.

ST's versions 73.8, 73.9, 74.8, 74.9 and 74.16 are inside its ranges. TPM 1.2 firmware is not
listed: no quote of it is read here. faulTPM (AMD fTPM, voltage glitching by whoever holds the
machine) has no fixed version and no range.
"""


def version_from_quote(firmware_version: int) -> Version:
    """Return the four 16-bit parts of ``firmwareVersion`` (TPMS_ATTEST, 64 bits)."""
    return tuple(firmware_version >> shift & 0xFFFF for shift in (48, 32, 16, 0))


def find_denial(
    manufacturer: str, version: Version, denials: Sequence[FirmwareDenial] = KNOWN_DENIALS
) -> FirmwareDenial | None:
    """Return the range that a version falls into, or None."""
    return next(
        (
            one
            for one in denials
            if one.manufacturer == manufacturer and one.first <= version < one.fixed
        ),
        None,
    )


def require_firmware(
    manufacturer: str, version: Version, denials: Sequence[FirmwareDenial] = KNOWN_DENIALS
) -> None:
    """Check that a TPM does not run firmware that a published attack breaks.

    Args:
        manufacturer: As :class:`attestation.ek.names.TpmMaker` says it.
        version: What it runs now, from :func:`version_from_quote`.
        denials: The ranges refused.

    Raises:
        UntrustedEndorsement: ``tpm-firmware-denied``.
    """
    denial = find_denial(manufacturer, version, denials)
    if denial is not None:
        raise UntrustedEndorsement(
            RefusalCode.TPM_FIRMWARE_DENIED,
            f"{manufacturer} firmware {dotted(version)} falls to {denial.advisory}; update it to "
            f"{dotted(denial.fixed)} or newer and make new keys",
            structure="TPM firmware",
        )


def dotted(version: Version) -> str:
    """Return a version for people: ``5.62``."""
    return ".".join(map(str, version))
