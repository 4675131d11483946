from __future__ import annotations

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.errors import InputError
from attestation.logs.quirks import QUIRKS, QuirkName
from attestation.logs.replay import check_event_contents, replay
from attestation.logs.tcg import parse_firmware_log
from tests.attestation.boot.test_real_logs import facts_of
from tests.attestation.logs.test_replay import DATA, named
from verifier.appraisal.separators import separator_faults

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
OUTSIDE_FACTS = {
    QuirkName.CRTM_LIKE_SEPARATOR,
    QuirkName.NO_ACTION_WITHOUT_PCR,
    QuirkName.EVENT_LACKS_BANK,
    QuirkName.WINDOWS_CAPS_BANK,
    QuirkName.VENDOR_EVENT_TYPE,
    QuirkName.VENDOR_INFO_OUTSIDE,
}


def content(name: QuirkName) -> bytes:
    return (DATA / QUIRKS[name].sample).read_bytes()


def test_every_quirk_is_explained() -> None:
    assert set(QUIRKS) == set(QuirkName)
    for name, quirk in QUIRKS.items():
        assert quirk.name is name
        assert all((quirk.what, quirk.why, quirk.source))
        assert (DATA / quirk.sample).is_file()


@pytest.mark.parametrize("name", sorted(set(QuirkName) - OUTSIDE_FACTS))
def test_sample_of_a_quirk_shows_it(name: QuirkName) -> None:
    assert name in facts_of(QUIRKS[name].sample).quirks


def test_four_zero_bytes_of_the_root_of_trust_are_no_second_separator() -> None:
    log = replay(parse_firmware_log(content(QuirkName.CRTM_LIKE_SEPARATOR)))
    zeros = SHA256.digest(bytes(4))
    alike = [event for event in log.events if event.pcr == 0 and event.digest(SHA256) == zeros]
    assert [event.type for event in alike] == [7, 4]
    assert separator_faults(log, SHA256) == {}


def test_event_of_no_pcr_is_taken_where_it_extends_nothing() -> None:
    log = parse_firmware_log(content(QuirkName.NO_ACTION_WITHOUT_PCR))
    assert [event.type for event in log.events if event.pcr == 0xFFFFFFFF] == [3]


def test_windows_events_of_one_bank_leave_their_pcrs_uncovered_in_the_other() -> None:
    covered = replay(parse_firmware_log(content(QuirkName.EVENT_LACKS_BANK))).covered
    assert covered[SHA256] - covered[SHA1] == {11, 12, 13, 14}


def test_capped_bank_does_not_lead_to_the_quoted_values() -> None:
    sample = QUIRKS[QuirkName.WINDOWS_CAPS_BANK].sample
    pcrs = replay(parse_firmware_log((DATA / sample).read_bytes())).pcrs
    expected = named(sample, ".expected-pcrs.json")
    assert expected is not None
    for pcr in range(8):
        assert expected["sha1"][str(pcr)] != pcrs[SHA1][pcr].hex()
        assert expected["sha1"][str(pcr)] == SHA1.digest(pcrs[SHA1][pcr] + bytes(20)).hex()
        assert expected["sha256"][str(pcr)] == pcrs[SHA256][pcr].hex()


def test_event_type_of_a_maker_is_a_trouble() -> None:
    facts = facts_of(QUIRKS[QuirkName.VENDOR_EVENT_TYPE].sample)
    assert [trouble.code for trouble in facts.troubles] == ["event-type-unknown"]


def test_vendor_information_outside_of_its_event_is_refused() -> None:
    with pytest.raises(InputError):
        parse_firmware_log(content(QuirkName.VENDOR_INFO_OUTSIDE))


def test_tolerated_contents_are_no_contradictions() -> None:
    for name in (QuirkName.SHIM_SURPLUS, QuirkName.BOOT_VARIABLE_DATA_ONLY):
        log = parse_firmware_log(content(name))
        assert check_event_contents(log, SHA256) == ()


def test_documentation_names_every_quirk_as_the_table_does() -> None:
    text = (DATA.parents[1] / "docs/boot-facts.md").read_text()
    for quirk in QUIRKS.values():
        verdict = "tolerated" if quirk.tolerated else "refused or withheld"
        assert (
            f"| `{quirk.name}` | {verdict} | {quirk.what} | {quirk.why} | {quirk.source} |" in text
        )
