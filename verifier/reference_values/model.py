"""Reference sets and the library that matches quoted PCRs against them.

A PCR value is known only together with the others of *one* set: firmware of one machine beside the
boot loader of another is no known machine. The library is compiled for that question: for every
(bank, PCR, value) a bit mask of the sets that hold it, so that matching is one AND per PCR,
however many sets there are.
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
class ReferenceSet:
    """What one known-good configuration measures.

    Attributes:
        name: For people and results, e.g. ``edge-box-2026-03``.
        version: Counts up with every change.
        created: When it was learnt or written (aware).
        pcrs: Accepted values by bank and PCR; more than one where boots may differ.
        events: (PCR, digest) of every event seen in those PCRs.
        description: One sentence for people.

    Raises:
        MalformedInput: If the set is empty, or a PCR index or digest size is impossible.
    """

    name: str
    version: int
    created: datetime
    pcrs: Mapping[HashAlgorithm, Mapping[int, frozenset[bytes]]]
    events: frozenset[tuple[int, bytes]] = frozenset()
    description: str = ""

    def __post_init__(self) -> None:
        if not self.name or not any(self.pcrs.values()):
            raise _malformed(f"reference set {self.name!r} is empty: it would match nothing")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PcrMatch:
    """How quoted PCRs stand against a library.

    Attributes:
        matched: The set that knows every value; None if none does.
        nearest: The set that knows most of them; None if no set speaks of these PCRs.
        unknown: PCRs whose value ``nearest`` does not have.
        unlisted: PCRs that ``nearest`` says nothing about.
    """

    matched: ReferenceSet | None
    nearest: ReferenceSet | None
    unknown: tuple[PcrKey, ...] = ()
    unlisted: tuple[PcrKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLibrary:
    """The reference sets that may apply to a device.

    Attributes:
        sets: The sets; may be empty (then nothing is known, and the policy says what that is
            worth). The first one wins a tie.
        runtime: Runtime policies by name.
        aiboms: AIBOMs by SHA-256 of the document.

    Raises:
        MalformedInput: If two sets bear one id.
        LimitExceeded: If there are more than ``MAX_SETS``.
    """

    sets: tuple[ReferenceSet, ...] = ()
    runtime: Mapping[str, RuntimePolicy] = field(default_factory=dict)
    aiboms: Mapping[bytes, AiBom] = field(default_factory=dict)
    masks: Mapping[tuple[HashAlgorithm, int, bytes], int] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if len(self.sets) > MAX_SETS:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"{len(self.sets)} reference sets, at most {MAX_SETS} are taken",
                structure="ReferenceLibrary",
            )
        if len({one.id for one in self.sets}) != len(self.sets):
            raise _malformed("two reference sets bear the same name and version")
        masks: dict[tuple[HashAlgorithm, int, bytes], int] = {}
        for number, one in enumerate(self.sets):
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
        candidates = (1 << len(self.sets)) - 1
        for key in asked:
            candidates &= masks.get(key, 0)
            if not candidates:
                return self._nearest(asked)
        if not asked:
            return PcrMatch(matched=None, nearest=None)
        found = self.sets[(candidates & -candidates).bit_length() - 1]
        return PcrMatch(matched=found, nearest=found)

    def _nearest(self, asked: tuple[tuple[HashAlgorithm, int, bytes], ...]) -> PcrMatch:
        if not self.sets:
            return PcrMatch(matched=None, nearest=None)
        scores = [0] * len(self.sets)
        for key in asked:
            mask = self.masks.get(key, 0)
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
            matched=None, nearest=nearest, unknown=tuple(unknown), unlisted=tuple(unlisted)
        )


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.VALUE_OUT_OF_RANGE, reason, structure="ReferenceSet")
