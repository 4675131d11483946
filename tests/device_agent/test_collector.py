from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.evidence import ClaimValue, ImaPart, Quote, qualifying_data
from attestation.pcr import PcrBanks, PcrSelection, composite_digest
from attestation.tpm.attest import parse_attest
from attestation.tpm.public import parse_public
from attestation.tpm.signature import verify_attest
from attestation.wire.evidence_codec import decode_evidence
from device_agent.collector import MOST_TRIES, Sources, collect
from device_agent.errors import TpmRefused
from device_agent.ports import KeyRole
from tests.simulators.soft_device import Lies, SoftManufacturer, SoftTpm

NONCE = b"\x07" * 56
SELECTIONS = (PcrSelection(bank=HashAlgorithm.SHA256, indices=(0, 7, 23)),)


class Log:
    def __init__(self, content: bytes | None = b"log") -> None:
        self.content = content

    def read(self) -> bytes | None:
        return self.content


class Host:
    def read(self) -> Mapping[str, ClaimValue]:
        return {"kernel-release": "6.1"}


class MovingTpm(SoftTpm):
    """Something extends PCR 23 right after each of the first reads."""

    moves = 0

    def read_pcrs(self, selections: Sequence[PcrSelection]) -> PcrBanks:
        values = super().read_pcrs(selections)
        if self.moves:
            self.moves -= 1
            self.extend(HashAlgorithm.SHA256, 23, b"\x01" * 32)
        return values


@pytest.fixture(scope="module")
def manufacturer() -> SoftManufacturer:
    return SoftManufacturer()


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "rsa2048-ssa"])
def test_evidence_holds_together_for_every_kind_of_key(
    manufacturer: SoftManufacturer, kind: str
) -> None:
    tpm = SoftTpm(manufacturer, kind=kind)
    tpm.extend(HashAlgorithm.SHA256, 7, b"\x05" * 32)
    sources = Sources(tpm=tpm, firmware_log=Log(), host=Host())

    evidence = decode_evidence(collect(sources, nonce=NONCE, selections=SELECTIONS, whole_log=True))

    public = parse_public(tpm.public_area(KeyRole.IAK))
    scheme = verify_attest(public, evidence.quote.attest, evidence.quote.signature)
    said = parse_attest(evidence.quote.attest)
    assert said.extra == qualifying_data(NONCE, evidence.part_digests)
    assert said.quote is not None
    assert said.quote.pcr_digest == composite_digest(scheme, SELECTIONS, evidence.pcr_values)
    assert evidence.firmware_log is not None
    assert evidence.firmware_log.content == b"log"
    assert evidence.claims == {"kernel-release": "6.1"}


def test_a_known_log_travels_as_its_digest(manufacturer: SoftManufacturer) -> None:
    sources = Sources(tpm=SoftTpm(manufacturer), firmware_log=Log(), host=Host())

    evidence = decode_evidence(
        collect(sources, nonce=NONCE, selections=SELECTIONS, whole_log=False)
    )

    assert evidence.firmware_log is not None
    assert evidence.firmware_log.content is None


def test_a_device_without_log_sends_none(manufacturer: SoftManufacturer) -> None:
    sources = Sources(tpm=SoftTpm(manufacturer), firmware_log=Log(None), host=Host())

    evidence = decode_evidence(collect(sources, nonce=NONCE, selections=SELECTIONS, whole_log=True))

    assert evidence.firmware_log is None


def test_pcrs_that_move_between_read_and_quote_are_read_again(
    manufacturer: SoftManufacturer,
) -> None:
    tpm = MovingTpm(manufacturer)
    tpm.moves = MOST_TRIES - 1
    sources = Sources(tpm=tpm, firmware_log=Log(), host=Host())

    evidence = decode_evidence(collect(sources, nonce=NONCE, selections=SELECTIONS, whole_log=True))

    said = parse_attest(evidence.quote.attest).quote
    assert said is not None
    assert said.pcr_digest == composite_digest(
        HashAlgorithm.SHA256, SELECTIONS, evidence.pcr_values
    )


def test_pcrs_that_never_hold_still_are_given_up(manufacturer: SoftManufacturer) -> None:
    tpm = MovingTpm(manufacturer)
    tpm.moves = MOST_TRIES
    sources = Sources(tpm=tpm, firmware_log=Log(), host=Host())

    with pytest.raises(TpmRefused, match="changed during each of 5 quotes"):
        collect(sources, nonce=NONCE, selections=SELECTIONS, whole_log=True)


def test_a_tpm_that_answers_nonsense_is_refused(manufacturer: SoftManufacturer) -> None:
    tpm = SoftTpm(manufacturer)
    tpm.lies = Lies(magic=0x12345678)
    sources = Sources(tpm=tpm, firmware_log=Log(), host=Host())

    with pytest.raises(TpmRefused, match="cannot be read"):
        collect(sources, nonce=NONCE, selections=SELECTIONS, whole_log=True)


IMA_SELECTIONS = (PcrSelection(bank=HashAlgorithm.SHA256, indices=(0, 7, 10, 13)),)


class Chronicle:
    """A TPM, an agent log and an IMA list that say in which order they were asked."""

    def __init__(self, tpm: SoftTpm) -> None:
        self.tpm = tpm
        self.told: list[str] = []
        self.measures_after_read = 0
        chronicle = self

        class Told(SoftTpm):
            def read_pcrs(self, selections: Sequence[PcrSelection]) -> PcrBanks:
                chronicle.told.append("pcrs")
                values = tpm.read_pcrs(selections)
                if chronicle.measures_after_read:
                    chronicle.measures_after_read -= 1
                    tpm.extend(HashAlgorithm.SHA256, 10, b"\x01" * 32)
                return values

            def quote(self, selections: Sequence[PcrSelection], qualifying: bytes) -> Quote:
                chronicle.told.append("quote")
                return tpm.quote(selections, qualifying)

        self.sources = Sources(
            tpm=Told(SoftManufacturer()),
            firmware_log=Log(),
            host=Host(),
            ima_list=self,
            agent_log=AgentMeasurements(self),
        )

    def read_from(self, entry: int) -> ImaPart:
        self.told.append(f"list from {entry}")
        return ImaPart(offset=entry, content=b"entries")


class AgentMeasurements:
    """Extends PCR 13 when it is read, as the real one does."""

    pcr = 13

    def __init__(self, chronicle: Chronicle) -> None:
        self._chronicle = chronicle

    def read(self) -> bytes:
        self._chronicle.told.append("agent")
        self._chronicle.tpm.extend(HashAlgorithm.SHA256, 13, b"\x02" * 32)
        return b"agent log"


def test_agent_is_measured_before_the_pcrs_are_read_and_the_list_after(
    manufacturer: SoftManufacturer,
) -> None:
    chronicle = Chronicle(SoftTpm(manufacturer))

    evidence = decode_evidence(
        collect(
            chronicle.sources,
            nonce=NONCE,
            selections=IMA_SELECTIONS,
            whole_log=True,
            ima_from=5,
        )
    )

    assert chronicle.told == ["agent", "pcrs", "list from 5", "quote"]
    assert evidence.ima_list == ImaPart(offset=5, content=b"entries")
    assert evidence.agent_log == b"agent log"
    said = parse_attest(evidence.quote.attest)
    assert said.extra == qualifying_data(NONCE, evidence.part_digests)


def test_list_is_read_again_with_the_pcrs_when_a_measurement_arrives(
    manufacturer: SoftManufacturer,
) -> None:
    chronicle = Chronicle(SoftTpm(manufacturer))
    chronicle.measures_after_read = 2

    collect(chronicle.sources, nonce=NONCE, selections=IMA_SELECTIONS, whole_log=True)

    assert chronicle.told == ["agent", *["pcrs", "list from 0", "quote"] * 3]


def test_verifier_that_does_not_ask_for_the_kernels_pcr_is_spared_the_list(
    manufacturer: SoftManufacturer,
) -> None:
    chronicle = Chronicle(SoftTpm(manufacturer))

    evidence = decode_evidence(
        collect(chronicle.sources, nonce=NONCE, selections=SELECTIONS, whole_log=True)
    )

    assert evidence.ima_list is None
    assert chronicle.told == ["pcrs", "quote"]


@pytest.mark.parametrize(
    ("asked", "told", "sent"),
    [
        ((0, 10), ["pcrs", "list from 0", "quote"], (True, False)),
        ((0, 13), ["agent", "pcrs", "quote"], (False, True)),
        ((0, 11, 12, 14), ["pcrs", "quote"], (False, False)),
    ],
)
def test_verifier_that_does_not_ask_for_the_pcr_of_a_log_is_spared_that_log(
    manufacturer: SoftManufacturer, asked: tuple[int, ...], told: list[str], sent: tuple[bool, bool]
) -> None:
    """It could prove nothing of it; and what cannot be proven is not worth a measurement."""
    chronicle = Chronicle(SoftTpm(manufacturer))
    selections = (PcrSelection(bank=HashAlgorithm.SHA256, indices=asked),)

    evidence = decode_evidence(
        collect(chronicle.sources, nonce=NONCE, selections=selections, whole_log=True)
    )

    assert chronicle.told == told
    assert (evidence.ima_list is not None, evidence.agent_log is not None) == sent


def test_log_is_sent_if_any_bank_is_asked_for_its_pcr(manufacturer: SoftManufacturer) -> None:
    chronicle = Chronicle(SoftTpm(manufacturer))
    selections = (
        PcrSelection(bank=HashAlgorithm.SHA256, indices=(0,)),
        PcrSelection(bank=HashAlgorithm.SHA1, indices=(10, 13)),
    )

    evidence = decode_evidence(
        collect(chronicle.sources, nonce=NONCE, selections=selections, whole_log=True)
    )

    assert evidence.agent_log == b"agent log"
    assert evidence.ima_list is not None
