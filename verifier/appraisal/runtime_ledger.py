"""What is remembered of the entries that are not simply known: how many, and the first few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attestation.logs.ima.aggregate import BOOT_AGGREGATE, AggregateVerdict, judge_aggregate
from attestation.logs.ima.framing import ImaEntry
from attestation.logs.ima.progress import RuntimeProgress
from attestation.logs.ima.template import ImaFile, path_of, read_template, show
from attestation.pcr import PcrBanks
from attestation.refusals import RefusalCode
from verifier.reference_values.runtime_policy import RuntimePolicy

AGGREGATE_NOT_QUOTED: Final = "boot-aggregate-not-quoted"
"""Count of boot_aggregates that need PCRs which the quote does not cover."""

MAX_SAMPLES: Final = 5
"""Entries of one code that are told in words; the rest is counted."""

MAX_SIGNATURES: Final = 20_000
"""Signatures verified for one evidence; files beyond are judged as if unsigned."""

_UNQUOTED: Final = "unquoted-pcr-"
_DIGEST_CHARS: Final = 12


class Ledger:
    """Judges entries and keeps count; the :class:`~attestation.logs.ima.follow.Judge`.

    Args:
        policy: What entries are held against; None to look at violations and boot_aggregate only.
        values: Proven PCR values, for boot_aggregate.
        before: What was found earlier in this boot.
    """

    __slots__ = ("_before", "_policy", "_values", "_waiting", "aggregates", "counts", "samples")

    def __init__(
        self, policy: RuntimePolicy | None, values: PcrBanks, before: RuntimeProgress | None
    ) -> None:
        self._policy = policy
        self._values = values
        self._before = before
        self.counts: dict[str, int] = {}
        self.samples: dict[str, tuple[str, ...]] = {}
        self.aggregates = 0
        self._waiting: list[tuple[int, ImaFile]] = []
        self.restart()

    def restart(self) -> None:
        """Go back to what was found earlier in this boot."""
        self._waiting.clear()
        self.counts = dict(self._before.counts) if self._before is not None else {}
        self.samples = dict(self._before.samples) if self._before is not None else {}
        self.aggregates = self._before.aggregates if self._before is not None else 0

    def begin(self, entry: ImaEntry) -> None:
        """Take the first entry of a boot's list, which must be its boot_aggregate.

        Raises:
            InputError: If its template data cannot be read.
        """
        if entry.is_violation:
            self._count(RefusalCode.IMA_BOOT_AGGREGATE_MISMATCH, "the list begins with a violation")
            return
        file = read_template(entry.template, entry.data, 0)
        if file.path == BOOT_AGGREGATE:
            self.aggregates += 1
            self._aggregate(0, file)
        else:
            self._count(
                RefusalCode.IMA_BOOT_AGGREGATE_MISMATCH,
                f"the list begins with {show(file.path)}, not with boot_aggregate",
            )

    def judge(self, number: int, entry: ImaEntry) -> None:
        """Take one entry that is not known at sight.

        Raises:
            InputError: If its template data cannot be read.
        """
        if entry.is_violation:
            path = path_of(entry.template, entry.data)
            self._count(RefusalCode.IMA_VIOLATION, f"entry {number}, by its own words {show(path)}")
            return
        file = read_template(entry.template, entry.data, number)
        if file.path != BOOT_AGGREGATE:
            self._waiting.append((number, file))
        elif not number:
            return  # of this one :meth:`begin` speaks
        elif self._aggregate(number, file) is AggregateVerdict.HOLDS:
            self.aggregates += 1
        else:
            self._waiting.append((number, file))  # any file may bear that name

    def settle(self, unquoted: Mapping[int, int]) -> None:
        """Hold what was told against the policy, now that the list is proven.

        Signatures are verified here and not before: their number is what a device really ran.

        Args:
            unquoted: How many entries extend a PCR that is not quoted, by PCR.
        """
        signatures = 0
        for number, file in self._waiting:
            signatures += bool(file.signature) + bool(file.modsig)
            fits = signatures <= MAX_SIGNATURES
            judged = file if fits else file._replace(signature=b"", modsig=b"")
            against = None if self._policy is None else self._policy.against(judged)
            if against is not None:
                why = f": {show(against.reason.encode())}" if against.reason else ""
                self._count(against.code, f"{describe(file)} at entry {number}{why}")
        self._waiting.clear()
        for pcr, number in unquoted.items():
            key = f"{_UNQUOTED}{pcr}"
            self.counts[key] = self.counts.get(key, 0) + number

    def _aggregate(self, number: int, file: ImaFile) -> AggregateVerdict:
        verdict = judge_aggregate(file, self._values)
        if verdict is AggregateVerdict.DIFFERS:
            self._count(
                RefusalCode.IMA_BOOT_AGGREGATE_MISMATCH,
                f"entry {number} says {_digest(file)}, the quoted PCRs give another value",
            )
        elif verdict is AggregateVerdict.NOT_QUOTED:
            self._count(
                AGGREGATE_NOT_QUOTED,
                f"entry {number} is over PCRs of the {show(file.algorithm.encode())} bank",
            )
        return verdict

    def _count(self, code: str, sample: str) -> None:
        key = str(code)
        self.counts[key] = self.counts.get(key, 0) + 1
        told = self.samples.get(key, ())
        if len(told) < MAX_SAMPLES:
            self.samples[key] = (*told, sample)


def unquoted_of(progress: RuntimeProgress) -> Mapping[int, int]:
    """Return how many entries of this boot extend a PCR that was not quoted, by PCR."""
    return {
        int(key.removeprefix(_UNQUOTED)): number
        for key, number in progress.counts.items()
        if key.startswith(_UNQUOTED)
    }


def describe(file: ImaFile) -> str:
    """Return a file's path and digest for people; hostile text is escaped and cut."""
    return f"{show(file.path)} ({_digest(file)})"


def told(code: str, counts: Mapping[str, int], samples: Mapping[str, tuple[str, ...]]) -> str:
    """Return the samples of one code as words, and how many more there are."""
    shown = samples.get(code, ())
    more = counts.get(code, 0) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def _digest(file: ImaFile) -> str:
    return f"{show(file.algorithm.encode())}:{file.value.hex()[:_DIGEST_CHARS]}…"
