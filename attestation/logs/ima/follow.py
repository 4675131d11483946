"""One pass over an IMA list, held against quoted PCR values.

**Which hashes prove an entry.** The kernel extends, into each bank, that bank's hash of the
template data, and ones for a violation. So :func:`follow` computes what is extended from the
template data alone, and never from the template-hash column: if the chain ends at the quoted value,
every entry's data is what the kernel measured, in that order. Hashing the data in the quoted bank
*is* the template check. All that is read of the column is whether it is zero, that is, whether the
entry says that it is a violation; a wrong answer breaks the chain as a wrong byte of data does. An
edited column that is otherwise non-zero says nothing, so it need not be checked; nothing else may
read it. With kernels before 5.8 (``padded``) banks other than SHA-1 got the SHA-1 hash of the
data, so that is computed, and the proof rests on SHA-1 for those.

**Violations** extend ones whatever their data is: their number is proven, the paths they name
are not.

**The list may run ahead** of the quote: it is followed until every quoted PCR that it extends holds
the quoted value, and no further. What comes after is not proven, and is judged next time.

One entry costs two hashes, and nothing is made for one that is known. In the SHA-256 bank a known
one costs a single hash: its template data *is* the known one, byte for byte, whose hash was
computed when the policy was compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from attestation.algorithms import HashAlgorithm
from attestation.errors import MalformedInput
from attestation.limits import MAX_IMA_ENTRIES
from attestation.logs.ima.framing import (
    HASH_SIZES,
    ImaEntry,
    check_size,
    hash_size,
    read_entry,
    too_many,
    walk,
)
from attestation.logs.ima.measured import CONSTRUCTORS, extended
from attestation.logs.ima.template import NG, SIG, STRUCTURE, sized
from attestation.pcr import PcrBanks
from attestation.reader import LE_U32, Reader, Struct
from attestation.refusals import RefusalCode

_NG_NAME: Final = sized(NG)
_HEADS: Final = {size: Struct(f"<I{size}s{len(_NG_NAME)}sI") for size in HASH_SIZES}
_NOTHING: Final[frozenset[bytes]] = frozenset()
_FIRST_PCR: Final = 10
_SHA256_FIELD: Final = 4 + len(b"sha256:\0") + 32


class Judge(Protocol):
    """Is told of every entry that is not known at sight.

    A list that extends several PCRs is read twice; what was told before :meth:`restart` is void.
    """

    def restart(self) -> None:
        """Forget everything that was told."""

    def judge(self, number: int, entry: ImaEntry) -> None:
        """Take one entry; ``number`` counts from the list's first.

        Raises:
            InputError: If its template data cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Known:
    """Entries that need no look, as the bytes that the kernel hashes.

    Attributes:
        entries: Template data of ``ima-ng`` (a digest with its path), each with its own SHA-256:
            :func:`hashed_entries`.
        digests: d-ng fields with their length: a digest under any path.
        width: Bytes of the fields in ``digests`` that are looked for; others go to the judge.
    """

    entries: Mapping[bytes, bytes] = field(default_factory=dict)
    digests: AbstractSet[bytes] = _NOTHING
    width: int = _SHA256_FIELD


def hashed_entries(entries: Iterable[bytes]) -> Mapping[bytes, bytes]:
    """Return template data with its SHA-256, for :class:`Known`."""
    hasher = CONSTRUCTORS[HashAlgorithm.SHA256]
    return {data: hasher(data).digest() for data in entries}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a boot's list a piece of it begins, and what it must lead to.

    Attributes:
        entries: How many entries are proven before it.
        start: Values of PCRs after those entries; a PCR that is absent holds zeros.
        quoted: The quoted values.
        padded: Whether banks other than SHA-1 got the padded SHA-1 hash.
    """

    entries: int
    start: PcrBanks
    quoted: PcrBanks
    padded: bool

    def before(self, bank: HashAlgorithm, pcr: int) -> bytes:
        """Return what a PCR held before the piece."""
        return self.start.get(bank, {}).get(pcr) or bytes(bank.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """How far a list could be followed.

    Attributes:
        matched: Whether the quoted values were reached.
        entries: How many entries of the piece lead there; all, if they do not.
        pcrs: Values after those entries, for the quoted PCRs that the list extends.
        tail: Entries after them.
        unquoted: How many of ``entries`` extend a PCR that is not quoted, by PCR: not proven.
    """

    matched: bool
    entries: int
    pcrs: PcrBanks
    tail: int = 0
    unquoted: Mapping[int, int] = field(default_factory=dict)


class _Run(NamedTuple):
    """The end of a loop: the value reached, entries read, where the next begins."""

    value: bytes
    entries: int
    offset: int
    matched: bool


def follow(content: bytes, place: Place, main: int, known: Known, judge: Judge) -> Followed:
    """Follow a piece of a binary list to the quoted PCR values.

    Args:
        content: The entries.
        place: Where they begin and what they must lead to.
        main: The PCR that lists extend unless told otherwise; must be quoted in a bank.
        known: Entries that need no look.
        judge: Is told of every other entry, in order; what it was told counts only if the result
            is ``matched``.

    Returns:
        How far the list could be followed.

    Raises:
        InputError: If an entry cannot be read, or there are too many.
    """
    check_size(content)
    judge.restart()
    banks = [bank for bank, values in place.quoted.items() if main in values]
    run = _follow_one(content, place, banks[0], main, known, judge) if len(banks) == 1 else None
    if run is not None:
        tail = tuple(entry.pcr for entry in walk(content, run.offset, place.entries + run.entries))
        if all(pcr == main for pcr in tail):
            return Followed(
                matched=run.matched,
                entries=run.entries,
                pcrs={banks[0]: {main: run.value}},
                tail=len(tail),
            )
    judge.restart()
    return _follow_many(content, place, main, known, judge)


def _follow_one(
    content: bytes, place: Place, bank: HashAlgorithm, main: int, known: Known, judge: Judge
) -> _Run | None:
    """Follow one PCR of one bank; None as soon as an entry extends another PCR."""
    old = place.padded and bank is not HashAlgorithm.SHA1
    outer = CONSTRUCTORS[bank]
    inner = CONSTRUCTORS[HashAlgorithm.SHA1] if old else outer
    padding = bytes(bank.size - 20) if old else b""
    size = hash_size(content)
    unpack, head_size = _HEADS[size].unpack_from, _HEADS[size].size
    zeros, ones, ng_name = bytes(size), b"\xff" * bank.size, _NG_NAME
    entries, digests, width = known.entries, known.digests, known.width
    recall = entries.get if bank is HashAlgorithm.SHA256 and not old else _forget
    tell, length_at = judge.judge, LE_U32.unpack_from
    value, target = place.before(bank, main), place.quoted[bank][main]
    number, offset, end = place.entries, 0, len(content)
    last = end - head_size
    while value != target and offset <= last:
        pcr, digest, name, count = unpack(content, offset)
        if pcr != main:
            return None
        if name == ng_name:
            begin = offset + head_size
            offset = begin + count
            data = content[begin:offset]
            if digest == zeros:
                hashed = ones
                tell(number, ImaEntry(pcr, digest, NG, data))
            elif (recalled := recall(data)) is not None:
                hashed = recalled
            else:
                hashed = inner(data).digest()
                if padding:
                    hashed += padding
                if not (entries and data in entries) and not (
                    digests
                    and len(data) >= width + 4
                    and data[:width] in digests
                    and length_at(data, width)[0] == len(data) - width - 4
                    and data.find(b"\0", width + 4) == len(data) - 1
                ):
                    tell(number, ImaEntry(pcr, digest, NG, data))
        else:
            entry, offset = read_entry(content, offset, size, number)
            hashed = ones if entry.is_violation else inner(entry.data).digest() + padding
            if entry.is_violation or not _is_known(entry, known):
                tell(number, entry)
        value = outer(value + hashed).digest()
        number += 1
    _check_end(content, offset, number, cut=value != target)
    return _Run(value, number - place.entries, offset, value == target)


def _forget(_: bytes) -> bytes | None:
    """Recall nothing: the hashes kept are not of this bank."""
    return None


def _check_end(content: bytes, offset: int, number: int, *, cut: bool) -> None:
    """Refuse a list whose last entry announces more than there is, or with too many entries."""
    if offset > len(content) or (cut and offset < len(content)):
        reader = Reader(content, STRUCTURE)
        reader.offset = min(offset, len(content))
        reader.take(1 + reader.remaining, f"entry {number - (offset > len(content))}")
    if number > MAX_IMA_ENTRIES:
        raise too_many()


def _follow_many(content: bytes, place: Place, main: int, known: Known, judge: Judge) -> Followed:
    """Follow every quoted PCR that the list extends, in every bank that has it."""
    touched = {entry.pcr for entry in walk(content, number=place.entries)} | {main}
    if min(touched) < _FIRST_PCR:
        raise MalformedInput(
            RefusalCode.LOG_MALFORMED,
            f"an entry extends PCR {min(touched)}, which is the firmware's or the boot loader's; "
            f"IMA extends PCR {_FIRST_PCR} or above",
            structure=STRUCTURE,
        )
    values: dict[HashAlgorithm, dict[int, bytes]] = {
        bank: {pcr: place.before(bank, pcr) for pcr in quoted if pcr in touched}
        for bank, quoted in place.quoted.items()
    }
    banks = {pcr: [bank for bank in values if pcr in values[bank]] for pcr in touched}
    proven: set[int] = {main}
    wrong = {pcr for pcr in touched if not _reached(values, place.quoted, banks[pcr], pcr)}
    unquoted: dict[int, int] = {}
    entries = 0
    walked = walk(content, number=place.entries)
    for entry in _while(wrong, walked):
        pcr, violation = entry.pcr, entry.is_violation
        if violation or not _is_known(entry, known):
            judge.judge(place.entries + entries, entry)
        entries += 1
        proven.add(pcr)
        if not banks[pcr]:
            unquoted[pcr] = unquoted.get(pcr, 0) + 1
            continue
        for bank in banks[pcr]:
            ones = b"\xff" * bank.size
            hashed = ones if violation else extended(bank, entry.data, padded=place.padded)
            values[bank][pcr] = CONSTRUCTORS[bank](values[bank][pcr] + hashed).digest()
        if _reached(values, place.quoted, banks[pcr], pcr):
            wrong.discard(pcr)
        else:
            wrong.add(pcr)
    return Followed(
        matched=not wrong,
        entries=entries,
        pcrs={
            bank: {pcr: held[pcr] for pcr in held if pcr in proven} for bank, held in values.items()
        },
        tail=sum(1 for _ in walked),
        unquoted=unquoted,
    )


def _while(wrong: AbstractSet[int], walked: Iterator[ImaEntry]) -> Iterator[ImaEntry]:
    """Yield entries as long as a PCR is not where it was quoted."""
    while wrong:
        entry = next(walked, None)
        if entry is None:
            return
        yield entry


def _reached(values: PcrBanks, quoted: PcrBanks, banks: list[HashAlgorithm], pcr: int) -> bool:
    return all(values[bank][pcr] == quoted[bank][pcr] for bank in banks)


def _is_known(entry: ImaEntry, known: Known) -> bool:
    """Whether digest and path are known; in ``ima-sig`` they stand before the signature."""
    data = entry.data
    if entry.template == NG:
        return data in known.entries
    if entry.template != SIG or len(data) < 2 * LE_U32.size:
        return False
    second = LE_U32.size + int(LE_U32.unpack_from(data, 0)[0])
    if second + LE_U32.size > len(data):
        return False
    third = second + LE_U32.size + int(LE_U32.unpack_from(data, second)[0])
    fits = third + LE_U32.size <= len(data)
    return (
        fits
        and data[:third] in known.entries
        and third + LE_U32.size + LE_U32.unpack_from(data, third)[0] == len(data)
    )
