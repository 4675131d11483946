"""What step 4 finds wrong with one PCR."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.algorithms import HashAlgorithm
from attestation.refusals import RefusalCode


@dataclass(frozen=True, slots=True, kw_only=True)
class PcrFault:
    """Something about one PCR that its logs do not explain.

    Attributes:
        code: Stable code.
        bank: The bank.
        pcr: The PCR.
        reason: What was seen and what to do.
        decides: Whether it contradicts the device, or is only to be reported.
    """

    code: RefusalCode
    bank: HashAlgorithm
    pcr: int
    reason: str
    decides: bool = True
