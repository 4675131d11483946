"""Learn a reference set from a device that is known to be good.

What is learnt are proven values: PCRs of a quote that passed appraisal, and the events of a log
that replays to them. Learning from a device that was already tampered with teaches the tampering;
so a person names the device, and the written file is meant to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attestation.algorithms import HashAlgorithm
from attestation.errors import MalformedInput
from attestation.logs.replay import ReplayedLog
from attestation.pcr import PcrBanks, PcrSelection
from attestation.refusals import RefusalCode
from verifier.reference_values.model import ReferenceSet


def learn(
    name: str,
    log: ReplayedLog | None,
    pcr_values: PcrBanks,
    selections: Sequence[PcrSelection],
    at: datetime,
    *,
    version: int = 1,
    description: str = "",
) -> ReferenceSet:
    """Make a reference set from one known-good device.

    Args:
        name: The set's name.
        log: Its replayed firmware log, if it has one.
        pcr_values: Its PCR values, as a quote proved them.
        selections: Which PCRs to learn: the policy's selection.
        at: Now (aware).
        version: The set's version.
        description: One sentence for people.

    Raises:
        MalformedInput: If a selected PCR has no value, or nothing is selected.
    """
    learnt: dict[HashAlgorithm, dict[int, frozenset[bytes]]] = {}
    selected: set[int] = set()
    for selection in selections:
        values = pcr_values.get(selection.bank, {})
        absent = [index for index in selection.indices if index not in values]
        if absent:
            raise MalformedInput(
                RefusalCode.EVIDENCE_PART_MISSING,
                f"PCR {absent[0]} ({selection.bank.label}) has no value to learn from",
                structure="ReferenceSet",
            )
        learnt[selection.bank] = {index: frozenset((values[index],)) for index in selection.indices}
        selected.update(selection.indices)
    return ReferenceSet(
        name=name,
        version=version,
        created=at,
        pcrs=learnt,
        events=frozenset(_event_digests(log, selected, frozenset(learnt))) if log else frozenset(),
        description=description,
    )


def _event_digests(
    log: ReplayedLog, selected: set[int], banks: frozenset[int]
) -> set[tuple[int, bytes]]:
    return {
        (event.pcr, digest)
        for event in log.events
        if event.pcr in selected
        for bank, digest in event.digests
        if bank in banks
    }
