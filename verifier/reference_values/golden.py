"""Learn a reference set from a device that is known to be good.

What is learnt are proven values: PCRs of a quote that passed appraisal, and the events of a log
that replays to them. Learning from a device that was already tampered with teaches the tampering;
so a person names the device, and the written file is meant to be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.errors import MalformedInput
from attestation.logs.event_types import event_type_name
from attestation.logs.replay import MeasuredEvent, ReplayedLog
from attestation.pcr import PcrBanks, PcrSelection
from attestation.refusals import RefusalCode
from verifier.reference_values.model import ReferenceSet

MAX_WORDS_BYTES: Final = 120
"""Event contents up to this size are shown where they are text; real texts have 10 to 90 bytes."""


def learn(
    name: str,
    log: ReplayedLog | None,
    pcr_values: PcrBanks,
    selections: Sequence[PcrSelection],
    at: datetime,
    *,
    version: int = 1,
    description: str = "",
    older: ReferenceSet | None = None,
) -> ReferenceSet:
    """Make a reference set from one known-good device.

    What was learnt is marked for review, PCR by PCR; a PCR that holds what an earlier version
    of the set was already reviewed with needs none.

    Args:
        name: The set's name.
        log: Its replayed firmware log, if it has one.
        pcr_values: Its PCR values, as a quote proved them.
        selections: Which PCRs to learn: the policy's selection.
        at: Now (aware).
        version: The set's version.
        description: One sentence for people.
        older: The set's earlier version, if there is one.

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
    labels = _labelled_events(log, selected, frozenset(learnt)) if log else {}
    return ReferenceSet(
        name=name,
        version=version,
        created=at,
        pcrs=learnt,
        events=frozenset(labels),
        description=description,
        to_review=frozenset(
            index for index in selected if older is None or not _as_reviewed(learnt, older, index)
        ),
        labels=labels,
    )


def _as_reviewed(
    learnt: Mapping[HashAlgorithm, Mapping[int, frozenset[bytes]]], older: ReferenceSet, index: int
) -> bool:
    """Whether a PCR holds only what the earlier version says and somebody has looked at."""
    return index not in older.to_review and all(
        values[index] <= older.pcrs.get(bank, {}).get(index, frozenset())
        for bank, values in learnt.items()
        if index in values
    )


def _labelled_events(
    log: ReplayedLog, selected: set[int], banks: frozenset[int]
) -> dict[tuple[int, bytes], str]:
    return {
        (event.pcr, digest): event_label(event)
        for event in log.events
        if event.pcr in selected
        for bank, digest in event.digests
        if bank in banks
    }


def event_label(event: MeasuredEvent) -> str:
    """Return one line for people: the event's type and, where it is text, its content.

    Both are the log's words, not proven by the event's digest.
    """
    name = event_type_name(event.type)
    words = _words(event.event)
    return f"{name} {words}" if words else name


def _words(content: bytes) -> str:
    """Return short printable content as text (ASCII or UTF-16), else nothing."""
    if not 0 < len(content) <= MAX_WORDS_BYTES:
        return ""
    wide = len(content) % 2 == 0 and not any(content[1::2])
    text = content.decode("utf-16-le" if wide else "ascii", errors="replace").rstrip("\0")
    return text if text.isascii() and text.isprintable() else ""
