"""TPM firmware versions against the published advisories."""

from __future__ import annotations

import pytest

from attestation.errors import UntrustedEndorsement
from attestation.refusals import RefusalCode
from verifier.endorsement.firmware import (
    KNOWN_DENIALS,
    dotted,
    find_denial,
    require_firmware,
    version_from_quote,
)


@pytest.mark.parametrize(
    ("manufacturer", "version", "advisory"),
    [
        ("IFX", (5, 0), "CVE-2017-15361"),
        ("IFX", (5, 61, 9, 9), "CVE-2017-15361"),
        ("IFX", (7, 61), "CVE-2017-15361"),
        ("STM", (71, 12, 0, 0), "CVE-2019-16863"),
        ("STM", (73, 8), "CVE-2019-16863"),
        ("STM", (74, 16), "CVE-2019-16863"),
        ("INTC", (11, 8, 50, 3399), "CVE-2019-11090"),
        ("INTC", (12, 0, 0, 0), "CVE-2019-11090"),
    ],
)
def test_broken_firmware_is_denied(
    manufacturer: str, version: tuple[int, ...], advisory: str
) -> None:
    with pytest.raises(UntrustedEndorsement, match=advisory) as caught:
        require_firmware(manufacturer, version)

    assert caught.value.code is RefusalCode.TPM_FIRMWARE_DENIED


@pytest.mark.parametrize(
    ("manufacturer", "version"),
    [
        ("IFX", (5, 62, 0, 0)),
        ("IFX", (7, 62)),
        ("IFX", (7, 85, 17, 0)),
        ("IFX", (6, 1)),
        ("STM", (73, 20)),
        ("STM", (73, 64)),
        ("STM", (1, 258)),
        ("INTC", (11, 8, 65, 0)),
        ("INTC", (600, 7, 0, 0)),
        ("NTC", (5, 0)),
    ],
)
def test_other_firmware_is_not(manufacturer: str, version: tuple[int, ...]) -> None:
    require_firmware(manufacturer, version)


def test_version_of_a_quote_is_cut_into_its_parts() -> None:
    assert version_from_quote(0x0005_003E_0012_3400) == (5, 62, 0x12, 0x3400)
    assert dotted(version_from_quote(0x0007_0055_0000_0001)) == "7.85.0.1"


def test_operators_own_list_replaces_ours() -> None:
    assert find_denial("IFX", (5, 0), ()) is None


def test_ranges_are_not_empty_and_name_their_source() -> None:
    for one in KNOWN_DENIALS:
        assert one.first < one.fixed
        assert one.advisory.startswith("CVE-")
        assert one.source
