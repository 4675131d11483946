"""What changed from one boot's facts to another's, each change in words and with its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, NamedTuple, TypeVar

from attestation.algorithms import short_digest
from attestation.boot.facts import BootFacts, Fact, Proof, SignatureDatabase
from verifier.appraisal.boot_words import (
    authority_words,
    entry_words,
    image_words,
    on_off,
    order_words,
    plain,
    yes_no,
)

T = TypeVar("T")

_SHOWN: Final = 3
"""Of a list of changes so many are named; the rest is counted."""


class FactChange(NamedTuple):
    """One change.

    Attributes:
        kind: Which fact, e.g. ``dbx``, ``command_line``.
        words: What changed, to follow "because".
        before: The events that prove the fact before.
        after: The events that prove it after.
    """

    kind: str
    words: str
    before: tuple[Proof, ...]
    after: tuple[Proof, ...]


def fact_changes(before: BootFacts, after: BootFacts) -> Iterator[FactChange]:
    """Yield every change from one boot to the other, in the order of a boot."""
    yield from _value(
        "firmware_version", "the firmware version", before.firmware_version, after.firmware_version
    )
    yield from _switch(before.secure_boot, after.secure_boot)
    for mode in sorted(before.modes.keys() | after.modes.keys()):
        yield from _value(mode, mode, before.modes.get(mode), after.modes.get(mode), on_off)
    for name in sorted(before.databases.keys() | after.databases.keys()):
        yield from _database(name, before.databases.get(name), after.databases.get(name))
    yield from _value(
        "dma_protection_disabled",
        "the firmware's word that DMA protection is off",
        before.dma_protection_disabled,
        after.dma_protection_disabled,
        yes_no,
    )
    yield from _value(
        "boot_order", "the boot order", before.boot_order, after.boot_order, order_words
    )
    yield from _lists(before, after)
    yield from _command_lines(before.command_lines, after.command_lines)
    yield from _value(
        "exit_boot_services",
        "whether the boot loader left the firmware",
        before.exit_boot_services,
        after.exit_boot_services,
        yes_no,
    )


def _lists(before: BootFacts, after: BootFacts) -> Iterator[FactChange]:
    yield from _named(
        "boot_entry",
        "boot entry",
        before.boot_entries,
        after.boot_entries,
        lambda one: f"{one.number:04X}",
        entry_words,
    )
    yield from _several(
        "authority",
        "the authority",
        before.authorities,
        after.authorities,
        lambda one: (one.variable, one.digest),
        authority_words,
    )
    yield from _several(
        "image",
        "the image",
        before.images,
        after.images,
        lambda one: (one.kind, one.digest),
        image_words,
    )
    yield from _several(
        "partition_table",
        "the partition table of disk",
        before.partition_tables,
        after.partition_tables,
        lambda one: one,
        str,
    )
    yield from _together(
        "loader_command",
        "the boot loader's commands",
        before.loader_commands,
        after.loader_commands,
    )
    yield from _named(
        "loader_file",
        "file",
        before.loader_files,
        after.loader_files,
        lambda one: one.name,
        lambda one: short_digest(one.digest),
    )


def _switch(before: Fact[bool] | None, after: Fact[bool] | None) -> Iterator[FactChange]:
    if before is not None and after is not None and before.value is not after.value:
        words = f"Secure Boot was switched {on_off(after.value)}"
        yield FactChange("secure_boot", words, before.proofs, after.proofs)
    else:
        yield from _value("secure_boot", "Secure Boot", before, after, on_off)


def _value(
    kind: str,
    name: str,
    before: Fact[T] | None,
    after: Fact[T] | None,
    words: Callable[[T], str] = str,
) -> Iterator[FactChange]:
    if before is None and after is None:
        return
    old = plain(words(before.value)) if before is not None else None
    new = plain(words(after.value)) if after is not None else None
    if old == new:
        return
    if old is None:
        said = f"{name} is measured now ({new})"
    elif new is None:
        said = f"{name} is not measured any more (it was {old})"
    else:
        said = f"{name} changed from {old} to {new}"
    yield FactChange(kind, said, before.proofs if before else (), after.proofs if after else ())


def _database(
    name: str, before: Fact[SignatureDatabase] | None, after: Fact[SignatureDatabase] | None
) -> Iterator[FactChange]:
    if before is None or after is None:
        yield from _value(name, name, before, after, lambda held: f"{held.entries} entries")
        return
    old, new = before.value, after.value
    if old.digest == new.digest:
        return
    grown = new.entries - old.entries
    if grown:
        said = [f"{name} {'grew' if grown > 0 else 'shrank'} by {_count(abs(grown), 'entr')}"]
    else:
        said = [f"{name} has other entries ({new.entries} as before)"]
    said += _sides(
        [
            f"certificate {subject}"
            for one, subject in new.subjects.items()
            if one not in old.certificates
        ],
        [
            f"certificate {subject}"
            for one, subject in old.subjects.items()
            if one not in new.certificates
        ],
    )
    gone = len(old.hashes - new.hashes)
    if gone and new.hashes - old.hashes:
        said.append(f"{_count(gone, 'hash')} of before are not in it")
    yield FactChange(name, plain("; ".join(said)), before.proofs, after.proofs)


def _count(number: int, stem: str) -> str:
    """Return ``1 entry``, ``3 entries``, ``2 hashes``."""
    one, many = {"entr": ("entry", "entries"), "hash": ("hash", "hashes")}[stem]
    return f"{number} {one if number == 1 else many}"


def _sides(added: Sequence[str], removed: Sequence[str]) -> list[str]:
    """Return ``added …`` and ``removed …``, each with its first few."""
    said = []
    for word, found in (("added", added), ("removed", removed)):
        if found:
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            said.append(f"{word} {', '.join(found[:_SHOWN])}{more}")
    return said


def _several(
    kind: str,
    name: str,
    before: Sequence[Fact[Any]],
    after: Sequence[Fact[Any]],
    key: Callable[[Any], Hashable],
    words: Callable[[Any], str],
) -> Iterator[FactChange]:
    """Yield what is in one list and not in the other, however often.

    What is gone from a PCR was replaced by what came into that PCR, one by one.
    """
    gone = _by_pcr(_beyond(before, after, key))
    come = _by_pcr(_beyond(after, before, key))
    pairs = (
        pair
        for pcr in sorted(gone.keys() | come.keys())
        for pair in zip_longest(gone.get(pcr, ()), come.get(pcr, ()))
    )
    for old, new in pairs:
        if old is not None and new is not None:
            said = f"{name} {words(old.value)} was replaced by {words(new.value)}"
        elif new is not None:
            said = f"{name} {words(new.value)} was added"
        elif old is not None:
            said = f"{name} {words(old.value)} is gone"
        else:
            continue
        yield FactChange(kind, plain(said), old.proofs if old else (), new.proofs if new else ())


def _by_pcr(facts: Iterable[Fact[T]]) -> dict[int, list[Fact[T]]]:
    found: dict[int, list[Fact[T]]] = {}
    for fact in facts:
        found.setdefault(fact.proofs[0].pcr, []).append(fact)
    return found


def _together(
    kind: str, name: str, before: Sequence[Fact[str]], after: Sequence[Fact[str]]
) -> Iterator[FactChange]:
    """Yield the changes of a long list as one, naming the first few."""
    gone, come = _beyond(before, after, str), _beyond(after, before, str)
    said = _sides([repr(one.value) for one in come], [repr(one.value) for one in gone])
    if said:
        yield FactChange(
            kind,
            plain(f"{name}: {'; '.join(said)}"),
            tuple(proof for fact in gone for proof in fact.proofs),
            tuple(proof for fact in come for proof in fact.proofs),
        )


def _beyond(
    some: Sequence[Fact[Any]], others: Sequence[Fact[Any]], key: Callable[[Any], Hashable]
) -> list[Fact[Any]]:
    """Return those facts of one list that the other has not, or not as often."""
    left = Counter(key(fact.value) for fact in others)
    found = []
    for fact in some:
        if left[key(fact.value)]:
            left[key(fact.value)] -= 1
        else:
            found.append(fact)
    return found


def _named(
    kind: str,
    name: str,
    before: Sequence[Fact[Any]],
    after: Sequence[Fact[Any]],
    key: Callable[[Any], str],
    words: Callable[[Any], str],
) -> Iterator[FactChange]:
    """Yield changes of things that have a name of their own."""
    old: Mapping[str, Fact[Any]] = {key(fact.value): fact for fact in before}
    new: Mapping[str, Fact[Any]] = {key(fact.value): fact for fact in after}
    for one in (*old, *(name for name in new if name not in old)):
        was, now = old.get(one), new.get(one)
        if was is not None and now is not None and words(was.value) == words(now.value):
            continue
        if was is None and now is not None:
            said = f"{name} {one} was added ({words(now.value)})"
        elif now is None and was is not None:
            said = f"{name} {one} is gone"
        elif was is not None and now is not None:
            said = f"{name} {one} was replaced ({words(now.value)}, before {words(was.value)})"
        else:
            continue
        yield FactChange(kind, plain(said), was.proofs if was else (), now.proofs if now else ())


def _command_lines(before: Sequence[Fact[str]], after: Sequence[Fact[str]]) -> Iterator[FactChange]:
    gone, come = _beyond(before, after, str), _beyond(after, before, str)
    if len(gone) != 1 or len(come) != 1:
        yield from _several("command_line", "the kernel command line", before, after, str, repr)
        return
    old, new = gone[0].value.split(), come[0].value.split()
    added = list((Counter(new) - Counter(old)).elements())
    removed = list((Counter(old) - Counter(new)).elements())
    said = _sides([repr(one) for one in added], [repr(one) for one in removed])
    words = "; ".join(said) or "the same words in another order"
    yield FactChange(
        "command_line",
        plain(f"the kernel command line: {words}"),
        gone[0].proofs,
        come[0].proofs,
    )
