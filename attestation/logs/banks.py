"""Whether several banks of one log tell the same boot.

Firmware measures every event into every bank that is switched on. A bank that it leaves alone is
open to whoever writes it later (CVE-2021-42299, "TPM Carte Blanche"): the log then has events for
one bank only, or events that mean different things in two banks. Two banks in one quote are
compared over the firmware's PCRs, 0 to 7; Windows measures into one bank only above them (quirk
``event-lacks-bank``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.logs.contents import HASHERS, how_measured
from attestation.logs.event_types import event_type_name
from attestation.logs.replay import DATA_HASH_TYPES, MeasuredEvent, ReplayedLog

FIRMWARE_PCRS: Final = range(8)
_SEPARATORS: Final = {
    bank: frozenset((bank.digest(b"\0\0\0\0"), bank.digest(b"\xff\xff\xff\xff")))
    for bank in HashAlgorithm
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BankDisagreement:
    """One place where two banks tell two boots.

    Attributes:
        pcr: The PCR.
        event: Position of the event in the log; None where a whole PCR is meant.
        bank: The bank that tells something.
        other: The bank that does not, or tells something else.
        reason: What was seen.
    """

    pcr: int
    event: int | None
    bank: HashAlgorithm
    other: HashAlgorithm
    reason: str


def bank_disagreements(
    log: ReplayedLog, banks: Sequence[HashAlgorithm]
) -> tuple[BankDisagreement, ...]:
    """Compare banks over PCR 0 to 7.

    The first bank is compared with each other one: an event must carry both or neither, be a
    separator in both or neither, and (where its type says that its content is measured) tell the
    same content in both; and both must cover the same PCRs.

    Args:
        log: A replayed log.
        banks: The banks that one quote holds, the one that facts are derived from first; those
            that were not replayed are passed over (``log-bank-missing`` says so elsewhere).

    Returns:
        Every disagreement, bank by bank in log order; empty for one bank and for an honest log.
    """
    replayed = [bank for bank in banks if bank in log.covered]
    return tuple(found for other in replayed[1:] for found in _compare(log, replayed[0], other))


def _compare(
    log: ReplayedLog, bank: HashAlgorithm, other: HashAlgorithm
) -> Iterator[BankDisagreement]:
    for event in log.events:
        if event.pcr in FIRMWARE_PCRS:
            reason = _difference(event, bank, other)
            if reason:
                yield BankDisagreement(
                    pcr=event.pcr, event=event.number, bank=bank, other=other, reason=reason
                )
    covered = log.covered[bank].symmetric_difference(log.covered[other])
    for pcr in sorted(covered.intersection(FIRMWARE_PCRS)):
        here = bank if pcr in log.covered[bank] else other
        yield BankDisagreement(
            pcr=pcr,
            event=None,
            bank=bank,
            other=other,
            reason=f"the log covers PCR {pcr} in the {here.label} bank only",
        )


def _difference(event: MeasuredEvent, bank: HashAlgorithm, other: HashAlgorithm) -> str | None:
    name = event_type_name(event.type)
    here, there = event.digest(bank), event.digest(other)
    if here is None or there is None:
        if here is there:
            return f"{name} carries neither {bank.label} nor {other.label}"
        present = other if here is None else bank
        return f"{name} is measured into the {present.label} bank only"
    if (here in _SEPARATORS[bank]) != (there in _SEPARATORS[other]):
        present = bank if here in _SEPARATORS[bank] else other
        return f"{name} is a separator in the {present.label} bank only"
    if event.type in DATA_HASH_TYPES and how_measured(
        event.type, event.event, here, HASHERS[bank]
    ) != how_measured(event.type, event.event, there, HASHERS[other]):
        return f"the content of this {name} is what was measured in one of the banks only"
    return None
