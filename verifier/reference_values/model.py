"""Reference sets and the library that matches quoted PCRs against them.

A PCR value is known only together with the others of *one* set: firmware of one machine beside the
boot loader of another is no known machine. The library is compiled for that question: for every
(bank, PCR, value) a bit mask of the sets that hold it, so that matching is one AND per PCR,
however many sets there are.

Sets have a time: from when, until when, and, once a newer version is there, how long the older one
is still accepted. A library is compiled for one moment; sets that are not in force at it match
nothing, but are named when they would have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.errors import LimitExceeded, MalformedInput
from attestation.pcr import PCR_COUNT
from attestation.refusals import RefusalCode
from verifier.reference_values.aibom import AiBom
from verifier.reference_values.runtime_policy import RuntimePolicy

MAX_SETS: Final = 4096
"""Reference sets in one library; above that, split by device class."""

PcrKey = tuple[HashAlgorithm, int]
"""One PCR of one bank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestTag:
    """The tag of a maker's CoRIM or RIM that a set was made of.

    Attributes:
        signer: Whose signature it bore, by the name under which they are trusted; empty if nobody
            signed it.
        tag: The tag's id: a CoMID's, or a SWID tag's.
        version: Its tag version.
    """

    signer: str
    tag: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSet:
    """What one known-good configuration measures.

    Attributes:
        name: For people and results, e.g. ``edge-box-2026-03``.
        version: Counts up with every change.
        created: When it was learnt or written (aware).
        pcrs: Accepted values by bank and PCR; more than one where boots may differ.
        events: (PCR, digest) of every event seen in those PCRs.
        description: One sentence for people.
        valid_from: Matches nothing before (aware); None for no such limit.
        valid_until: Matches nothing from then on (aware); None for no such limit.
        accepted_until: Set on an older version: until when it is accepted beside the newer one.
        reviewed_by: Who looked at the set last; empty if nobody did.
        reviewed_at: When (aware).
        to_review: PCRs whose values were learnt and that nobody has looked at yet.
        labels: What the events are, for people: by (PCR, digest), one line each. Compared with
            nothing.
        manifest: The tag of the CoRIM or RIM that it was made of; None if it came otherwise.

    Raises:
        MalformedInput: If the set is empty, a PCR index or digest size is impossible, or it ends
            before it begins.
    """

    name: str
    version: int
    created: datetime
    pcrs: Mapping[HashAlgorithm, Mapping[int, frozenset[bytes]]]
    events: frozenset[tuple[int, bytes]] = frozenset()
    description: str = ""
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    accepted_until: datetime | None = None
    reviewed_by: str = ""
    reviewed_at: datetime | None = None
    to_review: frozenset[int] = frozenset()
    labels: Mapping[tuple[int, bytes], str] = field(default_factory=dict)
    manifest: ManifestTag | None = None

    def __post_init__(self) -> None:
        if not self.name or not any(self.pcrs.values()):
            raise _malformed(f"reference set {self.name!r} is empty: it would match nothing")
        begin, end = self.valid_from, self.valid_until
        if begin is not None and end is not None and begin >= end:
            raise _malformed(f"reference set {self.name!r} ends before it begins")
        for bank, values in self.pcrs.items():
            for index, accepted in values.items():
                if not 0 <= index < PCR_COUNT:
                    raise _malformed(f"PCR {index} does not exist, wanted 0 to {PCR_COUNT - 1}")
                if not accepted or any(len(value) != bank.size for value in accepted):
                    raise _malformed(
                        f"PCR {index} needs {bank.label} values of {bank.size} bytes each"
                    )

    @property
    def id(self) -> str:
        """Name and version: ``edge-box/2``."""
        return f"{self.name}/{self.version}"

    @property
    def reviewed(self) -> bool:
        """Whether no PCR of it waits for somebody to look at what was learnt."""
        return not self.to_review

    @property
    def ends(self) -> datetime | None:
        """From when on it matches nothing; None if it has no end."""
        ends = [end for end in (self.valid_until, self.accepted_until) if end is not None]
        return min(ends, default=None)

    def in_force(self, at: datetime) -> bool:
        """Whether it may match at a moment (aware); its ends are no longer part of it."""
        begun = self.valid_from is None or self.valid_from <= at
        return begun and (self.ends is None or at < self.ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class PcrMatch:
    """How quoted PCRs stand against a library.

    Attributes:
        matched: The set that knows every value; None if none does.
        nearest: The set that knows most of them; None if no set speaks of these PCRs.
        unknown: PCRs whose value ``nearest`` does not have.
        unlisted: PCRs that ``nearest`` says nothing about.
        resting: A set that is not in force and knows every value; None if there is none, or
            if another one matched.
    """

    matched: ReferenceSet | None
    nearest: ReferenceSet | None
    unknown: tuple[PcrKey, ...] = ()
    unlisted: tuple[PcrKey, ...] = ()
    resting: ReferenceSet | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLibrary:
    """The reference sets that may apply to a device.

    Attributes:
        sets: The sets; may be empty (then nothing is known, and the policy says what that is
            worth). The first one wins a tie. All of them are in force.
        resting: Sets that are not in force at the moment the library is for; they match nothing.
        runtime: Runtime policies by name.
        aiboms: AIBOMs by SHA-256 of the document.
        stamp: Tells this value from every other, also from an equal one: what is remembered of it
            is kept by its stamp, which keeps nothing else in memory.

    Raises:
        MalformedInput: If two sets bear one id.
        LimitExceeded: If there are more than ``MAX_SETS``.
    """

    sets: tuple[ReferenceSet, ...] = ()
    resting: tuple[ReferenceSet, ...] = ()
    runtime: Mapping[str, RuntimePolicy] = field(default_factory=dict)
    aiboms: Mapping[bytes, AiBom] = field(default_factory=dict)
    masks: Mapping[tuple[HashAlgorithm, int, bytes], int] = field(
        init=False, repr=False, compare=False
    )
    stamp: object = field(init=False, repr=False, compare=False, default_factory=object)

    def __post_init__(self) -> None:
        everyone = self.sets + self.resting
        if len(everyone) > MAX_SETS:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"{len(everyone)} reference sets, at most {MAX_SETS} are taken",
                structure="ReferenceLibrary",
            )
        if len({one.id for one in everyone}) != len(everyone):
            raise _malformed("two reference sets bear the same name and version")
        masks: dict[tuple[HashAlgorithm, int, bytes], int] = {}
        for number, one in enumerate(everyone):
            for bank, values in one.pcrs.items():
                for index, accepted in values.items():
                    for value in accepted:
                        key = (bank, index, value)
                        masks[key] = masks.get(key, 0) | 1 << number
        object.__setattr__(self, "masks", masks)

    def match(self, values: Iterable[tuple[HashAlgorithm, int, bytes]]) -> PcrMatch:
        """Hold quoted PCR values against every set at once.

        Args:
            values: (bank, PCR, value), each proven by the quote.

        Returns:
            The set that knows them all, or the one that comes nearest and where it differs.
        """
        masks = self.masks
        asked = tuple(values)
        if not asked:
            return PcrMatch(matched=None, nearest=None)
        in_force = (1 << len(self.sets)) - 1
        candidates = (1 << len(self.sets) + len(self.resting)) - 1
        for key in asked:
            candidates &= masks.get(key, 0)
            if not candidates:
                return self._nearest(asked, None)
        found = _lowest(candidates & in_force)
        if found is None:
            resting = _lowest(candidates >> len(self.sets))
            return self._nearest(asked, None if resting is None else self.resting[resting])
        return PcrMatch(matched=self.sets[found], nearest=self.sets[found])

    def _nearest(
        self, asked: tuple[tuple[HashAlgorithm, int, bytes], ...], resting: ReferenceSet | None
    ) -> PcrMatch:
        if not self.sets:
            return PcrMatch(matched=None, nearest=None, resting=resting)
        in_force = (1 << len(self.sets)) - 1
        scores = [0] * len(self.sets)
        for key in asked:
            mask = self.masks.get(key, 0) & in_force
            while mask:
                lowest = mask & -mask
                scores[lowest.bit_length() - 1] += 1
                mask ^= lowest
        nearest = self.sets[scores.index(max(scores))]
        unknown, unlisted = [], []
        for bank, index, value in asked:
            accepted = nearest.pcrs.get(bank, {}).get(index)
            if accepted is None:
                unlisted.append((bank, index))
            elif value not in accepted:
                unknown.append((bank, index))
        return PcrMatch(
            matched=None,
            nearest=nearest,
            unknown=tuple(unknown),
            unlisted=tuple(unlisted),
            resting=resting,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedLibrary:
    """A library and the span of time that it is right for.

    Attributes:
        library: The library.
        since: The last moment before which another one was right; None if there is none.
        until: The first moment from which on another one is right; None if there is none.
    """

    library: ReferenceLibrary
    since: datetime | None = None
    until: datetime | None = None

    def holds(self, at: datetime) -> bool:
        """Whether the library is right for a moment (aware)."""
        begun = self.since is None or self.since <= at
        return begun and (self.until is None or at < self.until)


def library_at(
    at: datetime,
    sets: Iterable[ReferenceSet],
    runtime: Mapping[str, RuntimePolicy],
    aiboms: Mapping[bytes, AiBom],
) -> DatedLibrary:
    """Compile a library for a moment.

    Args:
        at: The moment (aware).
        sets: All sets, in force or not.
        runtime: Runtime policies by name.
        aiboms: AIBOMs by SHA-256 of the document.

    Raises:
        MalformedInput: If two sets bear one id.
        LimitExceeded: If there are more than ``MAX_SETS``.
    """
    known = tuple(sets)
    edges = {edge for one in known for edge in (one.valid_from, one.ends) if edge is not None}
    return DatedLibrary(
        library=ReferenceLibrary(
            sets=tuple(one for one in known if one.in_force(at)),
            resting=tuple(one for one in known if not one.in_force(at)),
            runtime=runtime,
            aiboms=aiboms,
        ),
        since=max((edge for edge in edges if edge <= at), default=None),
        until=min((edge for edge in edges if edge > at), default=None),
    )


def _lowest(mask: int) -> int | None:
    """Return the number of the lowest bit that is set."""
    return (mask & -mask).bit_length() - 1 if mask else None


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.VALUE_OUT_OF_RANGE, reason, structure="ReferenceSet")
