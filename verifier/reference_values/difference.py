"""What differs between two reference sets, in words: for the person who reviews the newer one."""

from __future__ import annotations

from collections.abc import Iterable

from attestation.algorithms import HashAlgorithm, short_digest
from verifier.reference_values.model import ReferenceSet


def differences(older: ReferenceSet | None, newer: ReferenceSet) -> tuple[str, ...]:
    """Say what the newer set has that the older one lacks, and the other way round.

    Args:
        older: The set that is known; None if there is none, then everything is new.
        newer: The set in question.

    Returns:
        Lines for people by PCR: one for its values, then one for each event that came or went.
        Empty if both accept the same.
    """
    lines: list[str] = []
    for index in sorted(_indices(older) | _indices(newer)):
        told = [
            line
            for bank in sorted({*newer.pcrs, *(older.pcrs if older else ())})
            if (line := _values(older, newer, bank, index))
        ]
        came = _events(newer, index) - _events(older, index)
        went = _events(older, index) - _events(newer, index)
        told += [f"  + {_named(newer, event)}" for event in _ordered(newer, came)]
        told += [f"  - {_named(older, event)}" for event in _ordered(older, went)]
        if told and told[0].startswith("  "):
            told.insert(0, f"PCR {index}: the values are the same, the events differ")
        lines += told
    return tuple(lines)


def _values(
    older: ReferenceSet | None, newer: ReferenceSet, bank: HashAlgorithm, index: int
) -> str:
    before = older.pcrs.get(bank, {}).get(index, frozenset()) if older else frozenset()
    after = newer.pcrs.get(bank, {}).get(index, frozenset())
    if before == after:
        return ""
    where = f"PCR {index} ({bank.label})"
    if not before:
        return f"{where}: new, accepts {_shown(after)}"
    if not after:
        return f"{where}: no longer listed, accepted {_shown(before)}"
    return f"{where}: accepts {_shown(after)}, before {_shown(before)}"


def _shown(values: Iterable[bytes]) -> str:
    return " or ".join(short_digest(value) for value in sorted(values))


def _indices(chosen: ReferenceSet | None) -> set[int]:
    if chosen is None:
        return set()
    return {index for values in chosen.pcrs.values() for index in values} | {
        index for index, _ in chosen.events
    }


def _events(chosen: ReferenceSet | None, index: int) -> set[tuple[int, bytes]]:
    return {event for event in chosen.events if event[0] == index} if chosen else set()


def _ordered(
    chosen: ReferenceSet | None, events: Iterable[tuple[int, bytes]]
) -> list[tuple[int, bytes]]:
    return sorted(events, key=lambda event: (_named(chosen, event), event))


def _named(chosen: ReferenceSet | None, event: tuple[int, bytes]) -> str:
    label = chosen.labels.get(event, "event") if chosen is not None else "event"
    return f"{label} ({short_digest(event[1])})"
