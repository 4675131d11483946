"""Agent logs, parsed and replayed once for all devices that send the same one.

Devices of one kind measure the same files in the same order, so their logs are the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.errors import MalformedInput, ReplayMismatch
from attestation.logs.agent_files import AgentFiles
from attestation.logs.cel import RecordKind, decode_cel, replay_cel
from attestation.refusals import RefusalCode
from attestation.result import Finding
from verifier.appraisal.agent_rules import AgentRules
from verifier.appraisal.log_memory import LogMemory
from verifier.reference_values.aibom import AiBom

DEFAULT_ENTRIES: Final = 256
DEFAULT_BYTES: Final = 16 * 1024 * 1024
"""Logs in memory; what is kept of each takes about as much again."""


_MOST_JUDGED: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedAgentLog:
    """One agent log, replayed in every bank that it has; compared by identity.

    Attributes:
        pcr: The PCR that it speaks of.
        values: The PCR value that it leads to, by bank.
        wrong: Banks in which it contradicts itself, with the reason.
        files: What it says in the end.
        records: How many records it has.
        size: Bytes of the log.
        judged: What was found of it already, by AIBOM and rules.
    """

    pcr: int
    values: Mapping[HashAlgorithm, bytes]
    wrong: Mapping[HashAlgorithm, str]
    files: AgentFiles
    records: int
    size: int
    judged: dict[tuple[AiBom | None, AgentRules], tuple[Finding, ...]] = field(default_factory=dict)

    def findings(self, aibom: AiBom | None, rules: AgentRules, judge: Judge) -> tuple[Finding, ...]:
        """Return what ``judge`` finds, asked once for each AIBOM and rules."""
        key = (aibom, rules)
        found = self.judged.get(key)
        if found is None:
            found = judge(self, aibom, rules)
            if len(self.judged) >= _MOST_JUDGED:
                self.judged.clear()
            self.judged[key] = found
        return found


Judge = Callable[[JudgedAgentLog, "AiBom | None", AgentRules], tuple[Finding, ...]]
"""Compares one log with one AIBOM."""


def judge_agent_log(content: bytes) -> JudgedAgentLog:
    """Parse and replay one log.

    Raises:
        MalformedInput: ``agent-log-malformed``, also if it does not begin with an AIBOM.
        LimitExceeded: If it is larger than we take.
    """
    log = decode_cel(content)
    if log.records[0].measured.kind is not RecordKind.AIBOM:
        raise MalformedInput(
            RefusalCode.AGENT_LOG_MALFORMED,
            "the first record is not that of the AIBOM",
            structure="canonical event log",
        )
    values: dict[HashAlgorithm, bytes] = {}
    wrong: dict[HashAlgorithm, str] = {}
    for bank in HashAlgorithm:
        if bank in log.banks:
            try:
                values[bank] = replay_cel(log, bank)
            except ReplayMismatch as error:
                wrong[bank] = error.reason
    return JudgedAgentLog(
        pcr=log.pcr,
        values=values,
        wrong=wrong,
        files=AgentFiles.of(record.measured for record in log.records),
        records=len(log.records),
        size=len(content),
    )


class AgentLogCache(LogMemory[bytes, JudgedAgentLog]):
    """Remembers judged agent logs by their SHA-256 (:mod:`verifier.appraisal.log_memory`)."""

    __slots__ = ()

    def __init__(self, *, entries: int = DEFAULT_ENTRIES, size: int = DEFAULT_BYTES) -> None:
        super().__init__(entries=entries, size=size)

    def judged(self, content: bytes) -> JudgedAgentLog:
        """Return the judged log, from memory if it was seen.

        Raises:
            InputError: If the bytes are not an agent log we take.
        """
        digest = hashlib.sha256(content).digest()
        found = self.get(digest)
        if found is None:
            found = judge_agent_log(content)
            self.put(digest, found)
        return found
