from __future__ import annotations

import pytest

from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from tests.simulators.boot import KEYS, boot, event, separator
from tests.simulators.firmware_log import SEPARATOR, SHA256, header
from verifier.appraisal.separators import separator_faults

ZEROS, ONES = bytes(4), b"\xff" * 4


def faults(events: bytes) -> dict[int, str]:
    return dict(separator_faults(replay(parse_firmware_log(header() + events)), SHA256))


def test_honest_boot_has_no_fault() -> None:
    assert faults(boot()) == {}


@pytest.mark.parametrize("pcr", range(8))
def test_missing_second_and_hidden_separators_are_faults(pcr: int) -> None:
    others = b"".join(separator(one) for one in range(8) if one != pcr)
    assert set(faults(others)) == {pcr}
    assert set(faults(others + separator(pcr) * 2)) == {pcr}
    hidden = event(pcr, 0xD, b"x", ZEROS)
    assert set(faults(others + separator(pcr) + hidden)) == {pcr}
    assert set(faults(others + event(pcr, SEPARATOR, ZEROS, b"x"))) == {pcr}


def test_secure_boot_is_separated_by_zeros_only() -> None:
    others = b"".join(separator(pcr, ONES) for pcr in range(7))
    assert faults(others + separator(7)) == {}
    assert "FFFFFFFF" in faults(others + separator(7, ONES))[7]


@pytest.mark.parametrize("kind", [7, 8])
def test_zeros_of_the_root_of_trust_are_taken_in_pcr_0_only(kind: int) -> None:
    assert faults(event(0, kind, b"S-CRTM", ZEROS) + boot()) == {}
    assert set(faults(event(7, kind, b"S-CRTM", ZEROS) + boot(keys=KEYS))) == {7}
