"""What changed from one boot to another, in words: PCR by PCR, told from replayed events only.

A log's words count only where the log replays to the PCR's value, before and after. A PCR that
changed and that no log explains is said to be just that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from attestation.algorithms import HashAlgorithm
from attestation.boot.derive import derive_boot_facts
from attestation.boot.facts import BootFacts, Proof
from attestation.logs.event_types import event_type_name
from attestation.logs.replay import MeasuredEvent, ReplayedLog
from verifier.appraisal.fact_changes import FactChange, fact_changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One boot: PCR values, and what the log tells of those that it replays to.

    Attributes:
        bank: The bank.
        values: PCR values; who proves them is the caller's business.
        explained: PCRs whose log replays to their value.
        events: The events of those PCRs, in order.
        facts: What those events say.
    """

    bank: HashAlgorithm
    values: Mapping[int, bytes]
    explained: frozenset[int]
    events: tuple[MeasuredEvent, ...]
    facts: BootFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One change of one PCR.

    Attributes:
        pcr: The PCR.
        kind: Which fact changed (``dbx``, ``command_line`` …), ``events`` for events that are no
            fact, ``order``, ``selection`` for a PCR that only one side tells, ``unexplained``.
        words: What changed, for people; follows "because" if ``explained``.
        explained: Whether replayed events on both sides tell of it.
    """

    pcr: int
    kind: str
    words: str
    explained: bool = True

    @property
    def sentence(self) -> str:
        """The difference as a sentence: ``PCR 7 changed because dbx grew by 3 entries``."""
        joint = " changed because " if self.explained else " "
        return f"PCR {self.pcr}{joint}{self.words}"


def snapshot(bank: HashAlgorithm, values: Mapping[int, bytes], log: ReplayedLog | None) -> Snapshot:
    """Take one boot.

    Args:
        bank: The bank to look at.
        values: Its PCR values.
        log: The firmware log, replayed in that bank; None if there is none.
    """
    replayed = log.pcrs.get(bank, {}) if log is not None else {}
    explained = frozenset(pcr for pcr, value in values.items() if replayed.get(pcr) == value)
    if log is None:
        return Snapshot(bank=bank, values=values, explained=explained, events=(), facts=BootFacts())
    return Snapshot(
        bank=bank,
        values=values,
        explained=explained,
        events=tuple(event for event in log.events if event.pcr in explained),
        facts=derive_boot_facts(log, bank, explained),
    )


def differences(before: Snapshot, after: Snapshot) -> tuple[Difference, ...]:
    """Say what changed.

    Args:
        before: The earlier boot.
        after: The later one, of the same bank.

    Returns:
        Every change by PCR; empty if every PCR that both tell has the same value.
    """
    changes = tuple(fact_changes(before.facts, after.facts))
    found: list[Difference] = []
    for pcr in sorted(before.values.keys() | after.values.keys()):
        found += _of_pcr(pcr, before, after, changes)
    return tuple(found)


def _of_pcr(
    pcr: int, before: Snapshot, after: Snapshot, changes: Sequence[FactChange]
) -> Iterator[Difference]:
    old, new = before.values.get(pcr), after.values.get(pcr)
    if old == new:
        return
    if old is None or new is None:
        side = "before" if new is None else "after"
        words = f"is told only by the evidence {side} the change"
        yield Difference(pcr=pcr, kind="selection", words=words, explained=False)
        return
    silent = [
        word for word, one in (("before", before), ("after", after)) if pcr not in one.explained
    ]
    if silent:
        words = f"changed, and no log explains its value {' and '.join(silent)}"
        yield Difference(pcr=pcr, kind="unexplained", words=words, explained=False)
        return
    yield from _explained(pcr, before, after, changes)


def _explained(
    pcr: int, before: Snapshot, after: Snapshot, changes: Sequence[FactChange]
) -> Iterator[Difference]:
    mine = [change for change in changes if _pcr_of(change) == pcr]
    for change in mine:
        yield Difference(pcr=pcr, kind=change.kind, words=change.words)
    told_before = {proof.event for change in mine for proof in change.before}
    told_after = {proof.event for change in mine for proof in change.after}
    old = [event for event in before.events if event.pcr == pcr]
    new = [event for event in after.events if event.pcr == pcr]
    gone = [one for one in _beyond(old, new, before.bank) if one.number not in told_before]
    come = [one for one in _beyond(new, old, before.bank) if one.number not in told_after]
    if gone or come:
        yield Difference(pcr=pcr, kind="events", words=_event_words(gone, come))
    elif not mine:
        yield Difference(pcr=pcr, kind="order", words=_order_words(old, new, before.bank))


def _pcr_of(change: FactChange) -> int | None:
    proofs: tuple[Proof, ...] = change.after or change.before
    return proofs[0].pcr if proofs else None


def _beyond(
    some: Sequence[MeasuredEvent], others: Sequence[MeasuredEvent], bank: HashAlgorithm
) -> list[MeasuredEvent]:
    """Return the events of one list whose digests the other has not, or not as often."""
    left = Counter(event.digest(bank) for event in others)
    found = []
    for event in some:
        if left[event.digest(bank)]:
            left[event.digest(bank)] -= 1
        else:
            found.append(event)
    return found


def _event_words(gone: Sequence[MeasuredEvent], come: Sequence[MeasuredEvent]) -> str:
    parts = [
        f"{len(events)} {'event' if len(events) == 1 else 'events'} {word} "
        f"(first: event {events[0].number}, {event_type_name(events[0].type)})"
        for word, events in (("went", gone), ("came", come))
        if events
    ]
    return " and ".join(parts)


def _order_words(
    old: Sequence[MeasuredEvent], new: Sequence[MeasuredEvent], bank: HashAlgorithm
) -> str:
    if [one.digest(bank) for one in old] == [one.digest(bank) for one in new]:
        return "the TPM was started at another locality"
    return "the same events came in another order"
