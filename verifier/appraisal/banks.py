"""Step 4 over several banks: all banks of one quote must tell of the same boot.

Firmware that leaves a bank open lets anyone extend it with a boot that never was (CVE-2021-42299,
"TPM Carte Blanche"). When a quote covers several banks, that shows: a PCR that is untouched in one
bank and not in another, or whose events carry one bank's digest and not the other's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.pcr import PcrBanks, PcrSelection
from attestation.refusals import RefusalCode
from verifier.appraisal.faults import PcrFault
from verifier.appraisal.replay_cache import JudgedLog
from verifier.reference_values.model import PcrKey

_BOOT: Final = range(16)
"""PCRs that start at zero and are never reset."""


def bank_faults(
    selections: Sequence[PcrSelection],
    values: PcrBanks,
    judged: JudgedLog | None,
    explained: frozenset[PcrKey],
) -> Iterator[PcrFault]:
    """Yield where two selected banks tell two boots; nothing if only one is selected.

    Args:
        selections: What the quote covers.
        values: The proven values.
        judged: The firmware log, if one was sent.
        explained: PCRs that another log leads to; they are held against that log alone.
    """
    for one, other in pairwise(selections):
        for index in sorted(set(one.indices) & set(other.indices) & set(_BOOT)):
            if (one.bank, index) in explained or (other.bank, index) in explained:
                continue
            found = _disagreement(one.bank, other.bank, index, values, judged)
            if found is not None:
                yield found


def _disagreement(
    one: HashAlgorithm,
    other: HashAlgorithm,
    index: int,
    values: PcrBanks,
    judged: JudgedLog | None,
) -> PcrFault | None:
    untouched = {bank: not any(values[bank][index]) for bank in (one, other)}
    if untouched[one] is not untouched[other]:
        empty, used = (one, other) if untouched[one] else (other, one)
        return _fault(
            empty,
            index,
            f"still holds its start value, but something was measured into {used.label}",
        )
    covered = judged.replayed.covered if judged is not None else {}
    if one not in covered or other not in covered:
        return None
    told = {bank: index in covered[bank] for bank in (one, other)}
    if told[one] is told[other]:
        return None
    silent, used = (other, one) if told[one] else (one, other)
    return _fault(silent, index, f"the log's events lack its digests, but carry {used.label}'s")


def _fault(bank: HashAlgorithm, index: int, what: str) -> PcrFault:
    return PcrFault(
        code=RefusalCode.PCR_BANKS_DISAGREE,
        bank=bank,
        pcr=index,
        reason=f"PCR {index} ({bank.label}): {what}. One bank is left open or the log was edited; "
        "update the firmware, and close banks that are not used",
    )
