"""Quotes, certifications and PCR values of a real (software) TPM, judged by the vocabulary."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.pcr import composite_digest, extend, parse_selection
from attestation.tpm.attest import parse_attest
from attestation.tpm.public import parse_public, require_attestation_key, require_device_key
from attestation.tpm.signature import verify_attest
from attestation.tpm.templates import KeyTemplate
from deploy.demo.swtpm import SoftwareTpm
from device_agent.errors import TpmBusy, TpmRefused
from device_agent.ports import LDEVID_SLOTS, KeyRole
from device_agent.tpm.adapter import EsapiTpm
from device_agent.tpm.layout import TpmLayout
from tests.simulators.tpm_line import TpmLine

pytestmark = pytest.mark.tpm

SHA256 = HashAlgorithm.SHA256
PCR_READ = 0x17E
SELECTIONS = parse_selection("sha256:0,1,2,3,4,5,6,7,8,9,11,14+sha1:0,4")
QUALIFYING = hashlib.sha256(b"qualifying").digest()


def test_a_quote_verifies_and_covers_the_values_that_were_read(
    tpm: EsapiTpm, swtpm: SoftwareTpm
) -> None:
    swtpm.extend(4, {SHA256: bytes(32)})
    swtpm.extend(14, {SHA256: bytes(range(32))})
    banks = tpm.read_pcrs(SELECTIONS)
    quote = tpm.quote(SELECTIONS, QUALIFYING)
    iak = parse_public(tpm.public_area(KeyRole.IAK))
    scheme = verify_attest(iak, quote.attest, quote.signature)
    attest = parse_attest(quote.attest)
    assert attest.quote is not None
    assert attest.extra == QUALIFYING
    assert attest.quote.selections == tuple((s.bank, s.indices) for s in SELECTIONS)
    assert attest.quote.pcr_digest == composite_digest(scheme, SELECTIONS, banks)
    assert banks[SHA256][4] == extend(SHA256, bytes(32), bytes(32))
    assert len(banks[SHA256]) == 12  # more than TPM2_PCR_Read answers at once
    assert banks[HashAlgorithm.SHA1].keys() == {0, 4}


def test_the_iak_shows_its_counters_in_clear(tpm: EsapiTpm, swtpm: SoftwareTpm) -> None:
    first = parse_attest(tpm.quote(SELECTIONS, QUALIFYING).attest)
    swtpm.power_cycle()
    second = parse_attest(tpm.quote(SELECTIONS, QUALIFYING).attest)
    assert second.clock.reset_count == first.clock.reset_count + 1
    assert first.firmware_version == tpm.status().firmware_version


def test_the_keys_are_what_their_templates_promise(tpm: EsapiTpm) -> None:
    tpm.create_ldevid()
    require_attestation_key(parse_public(tpm.public_area(KeyRole.IAK)))
    require_device_key(parse_public(tpm.public_area(KeyRole.IDEVID)))
    require_device_key(parse_public(tpm.public_area(KeyRole.LDEVID)))


@pytest.mark.parametrize("subject", list(KeyRole))
def test_a_certification_by_the_iak_names_the_key(tpm: EsapiTpm, subject: KeyRole) -> None:
    for slot in LDEVID_SLOTS:
        tpm.create_ldevid(slot)
    quote = tpm.certify(subject, QUALIFYING)
    verify_attest(parse_public(tpm.public_area(KeyRole.IAK)), quote.attest, quote.signature)
    attest = parse_attest(quote.attest)
    assert attest.certified is not None
    assert attest.certified.name == parse_public(tpm.public_area(subject)).name
    assert attest.extra == QUALIFYING


def test_p384_keys_quote_and_certify_too(swtpm: SoftwareTpm) -> None:
    tpm = EsapiTpm(swtpm.tcti, layout=TpmLayout(template=KeyTemplate.P_384))
    tpm.create_identity_keys()
    iak = parse_public(tpm.public_area(KeyRole.IAK))
    for quote in (tpm.quote(SELECTIONS, QUALIFYING), tpm.certify(KeyRole.IDEVID, QUALIFYING)):
        assert verify_attest(iak, quote.attest, quote.signature) is HashAlgorithm.SHA384
    assert tpm.sign_digest(KeyRole.IDEVID, bytes(48))
    with pytest.raises(TpmRefused, match="sha384 digest only"):
        tpm.sign_digest(KeyRole.IDEVID, bytes(32))
    tpm.close()


def test_pcr_values_come_from_one_moment_while_pcrs_move(tpm: EsapiTpm, swtpm: SoftwareTpm) -> None:
    selections = parse_selection("sha256:0,1,2,3,4,5,6,7,8,9,14")
    with TpmLine(swtpm) as line:
        behind_the_line = EsapiTpm(line.tcti)

        def extend_between_the_first_two_reads(code: int) -> None:
            if code == PCR_READ and line.commands.count(PCR_READ) == 2:
                for pcr in (0, 14):
                    swtpm.extend(pcr, {SHA256: bytes(32)})

        line.interrupt = extend_between_the_first_two_reads
        values = behind_the_line.read_pcrs(selections)[SHA256]
        behind_the_line.close()
    moved = extend(SHA256, bytes(32), bytes(32))
    assert (values[0], values[14]) == (moved, moved)
    assert line.commands.count(PCR_READ) == 4


def test_pcrs_that_never_rest_are_reported_as_busy(tpm: EsapiTpm, swtpm: SoftwareTpm) -> None:
    with TpmLine(swtpm) as line:
        behind_the_line = EsapiTpm(line.tcti)

        def extend_before_each_read(code: int) -> None:
            if code == PCR_READ:
                swtpm.extend(14, {SHA256: bytes(32)})

        line.interrupt = extend_before_each_read
        with pytest.raises(TpmBusy, match="extended during each of"):
            behind_the_line.read_pcrs(parse_selection("sha256:0,1,2,3,4,5,6,7,8,9"))
        behind_the_line.close()


def test_a_bank_that_is_not_allocated_is_refused_by_name(endorsed_swtpm: SoftwareTpm) -> None:
    tpm = EsapiTpm(endorsed_swtpm.tcti)
    assert tpm.status().banks == ("sha1", "sha256")
    with pytest.raises(TpmRefused, match="no sha384 bank with PCR 3"):
        tpm.read_pcrs(parse_selection("sha256:0+sha384:3"))
    tpm.close()


def test_qualifying_data_longer_than_a_digest_is_refused(tpm: EsapiTpm) -> None:
    with pytest.raises(ValueError, match="33 bytes"):
        tpm.quote(SELECTIONS, bytes(33))
    with pytest.raises(ValueError, match="33 bytes"):
        tpm.certify(KeyRole.IDEVID, bytes(33))


def test_threads_share_one_adapter(tpm: EsapiTpm) -> None:
    tpm.create_ldevid()
    iak = parse_public(tpm.public_area(KeyRole.IAK))

    def work(number: int) -> bytes:
        qualifying = hashlib.sha256(bytes([number])).digest()
        quote = tpm.quote(SELECTIONS, qualifying)
        verify_attest(iak, quote.attest, quote.signature)
        tpm.sign_digest(KeyRole.LDEVID, qualifying)
        tpm.certify(KeyRole.IDEVID, qualifying)
        assert parse_attest(quote.attest).extra == qualifying
        return qualifying

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(work, range(60)))) == 60
