"""Firmware logs, parsed and replayed once for all devices that send the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from attestation.algorithms import HashAlgorithm
from attestation.boot.derive import derive_boot_facts
from attestation.boot.facts import BootFacts
from attestation.errors import ReplayMismatch
from attestation.logs.replay import Contradiction, ReplayedLog, check_event_contents, replay
from attestation.logs.tcg import parse_firmware_log
from attestation.pcr import PcrBanks
from attestation.result import Finding, Step, TrustVector
from verifier.appraisal.boot_rules import BootRules, judge_boot
from verifier.appraisal.log_memory import LogMemory
from verifier.appraisal.separators import separator_faults

DEFAULT_ENTRIES: Final = 256
DEFAULT_BYTES: Final = 32 * 1024 * 1024
"""Logs in memory; their parsed events take about three times that."""

_MOST_FACTS: Final = 16
_MOST_JUDGEMENTS: Final = 64
_MOST_BOOTS: Final = 8


class JudgementKey(NamedTuple):
    """What a judgement follows from, but for the log it is kept with and the values sent.

    Attributes:
        policy: The policy's stamp.
        reference: The library's stamp.
        scheme: The hash that the pcrDigest was made with.
        selections: As quoted.
        pcr_digest: As quoted.
    """

    policy: object
    reference: object
    scheme: HashAlgorithm
    selections: tuple[tuple[int, tuple[int, ...]], ...]
    pcr_digest: bytes


class Judgement(NamedTuple):
    """Steps 4 to 7 as they went.

    Attributes:
        sent: A copy of the PCR values that were sent.
        steps: The record of these steps.
        findings: What steps 4 to 6 found.
        vector: What it came to, together with a recognised identity.
        reference_set: Id of the set that matched, if one did.
        boot: What the log proved about the boot.
    """

    sent: PcrBanks
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    vector: TrustVector
    reference_set: str | None
    boot: BootFacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedLog:
    """A log, replayed, with whatever it says against itself.

    Attributes:
        replayed: The PCR values it leads to.
        contradictions: Events whose content is not what was measured, by bank.
        separators: For each bank and PCR 0 to 7 what is wrong with its separators, if anything.
        missing_banks: Banks that were asked for and are not in the log, with the reason.
        size: Bytes of the log.
        facts: Boot facts already derived, by bank and proven PCRs.
        boots: Boot facts already judged, with the rules and what was found.
        judgements: Judgements already made (:mod:`verifier.appraisal.judgement`).
    """

    replayed: ReplayedLog
    contradictions: Mapping[HashAlgorithm, tuple[Contradiction, ...]]
    separators: Mapping[HashAlgorithm, Mapping[int, str]]
    missing_banks: Mapping[HashAlgorithm, ReplayMismatch]
    size: int
    facts: dict[tuple[HashAlgorithm, frozenset[int]], BootFacts] = field(default_factory=dict)
    boots: list[tuple[BootFacts, BootRules, tuple[Finding, ...]]] = field(default_factory=list)
    judgements: dict[JudgementKey, Judgement] = field(default_factory=dict)

    def boot_facts(self, bank: HashAlgorithm, proven: frozenset[int]) -> BootFacts:
        """Return what the log proves about the boot, derived once for each set of proven PCRs."""
        key = (bank, proven)
        found = self.facts.get(key)
        if found is None:
            found = derive_boot_facts(self.replayed, bank, proven)
            if len(self.facts) >= _MOST_FACTS:
                self.facts.clear()
            self.facts[key] = found
        return found

    def boot_findings(self, facts: BootFacts, rules: BootRules) -> tuple[Finding, ...]:
        """Return what a policy's ``[boot]`` finds of facts of this log, judged once for each."""
        for known, by, findings in self.boots:
            if known is facts and by is rules:
                return findings
        found = judge_boot(facts, rules)
        self.boots.append((facts, rules, found))
        if len(self.boots) > _MOST_BOOTS:
            del self.boots[0]
        return found

    def keep(self, key: JudgementKey, judgement: Judgement) -> None:
        """Remember one judgement."""
        if len(self.judgements) >= _MOST_JUDGEMENTS:
            self.judgements.clear()
        self.judgements[key] = judgement


def judge_log(content: bytes, banks: tuple[HashAlgorithm, ...]) -> JudgedLog:
    """Parse and replay one log.

    Args:
        content: The log's bytes.
        banks: The banks that the policy asks for.

    Raises:
        InputError: If the bytes are not a firmware log we take.
    """
    log = parse_firmware_log(content)
    present = tuple(bank for bank in banks if bank in log.banks)
    missing: dict[HashAlgorithm, ReplayMismatch] = {}
    for bank in banks:
        if bank not in present:
            try:
                replay(log, (bank,))
            except ReplayMismatch as error:
                missing[bank] = error
    replayed = replay(log, present)
    return JudgedLog(
        replayed=replayed,
        contradictions={bank: check_event_contents(replayed, bank) for bank in present},
        separators={bank: separator_faults(replayed, bank) for bank in present},
        missing_banks=missing,
        size=len(content),
    )


CacheKey = tuple[bytes, tuple[HashAlgorithm, ...]]
"""SHA-256 of the log and the banks replayed."""


class ReplayCache(LogMemory[CacheKey, JudgedLog]):
    """Remembers judged logs by digest and banks (:mod:`verifier.appraisal.log_memory`)."""

    __slots__ = ()

    def __init__(self, *, entries: int = DEFAULT_ENTRIES, size: int = DEFAULT_BYTES) -> None:
        super().__init__(entries=entries, size=size)
