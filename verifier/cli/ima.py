"""``verifier ima``, and IMA lists beside a firmware log in ``verifier quote``."""

from __future__ import annotations

from typing import TypedDict

from attestation.algorithms import HashAlgorithm
from attestation.logs.ima import ImaList, parse_ima_list, replay_ima
from attestation.logs.replay import ReplayedLog
from attestation.pcr import PcrBanks, PcrSelection, composite_digest
from attestation.tpm.attest import QuotedPcrs

_SHOWN_BANKS = (HashAlgorithm.SHA1, HashAlgorithm.SHA256)


class ImaDocument(TypedDict):
    """The document of ``verifier ima --json``."""

    entries: int
    violations: int
    pcrs: dict[str, dict[str, str]]
    findings: list[dict[str, str]]


def judge_ima(content: bytes) -> ImaDocument:
    """Parse and replay a list from zero.

    Returns:
        The document of ``verifier ima --json``: ``entries``, ``violations``, ``pcrs`` (the rule of
        kernels from 5.8 on) and ``findings``.

    Raises:
        InputError: If the list does not parse whole, or is empty.
    """
    measured = parse_ima_list(content)
    pcrs = replay_ima(measured, _SHOWN_BANKS, start={}, padded=False)
    old = replay_ima(measured, (HashAlgorithm.SHA256,), start={}, padded=True)
    findings = [
        {"reason": f"on a kernel before 5.8, PCR {pcr} (sha256) is {value.hex()}"}
        for pcr, value in old[HashAlgorithm.SHA256].items()
    ]
    if measured.violations:
        findings.append(
            {"reason": f"{measured.violations} files changed while they were measured (violations)"}
        )
    return {
        "entries": measured.count,
        "violations": measured.violations,
        "pcrs": {
            bank.label: {str(pcr): value.hex() for pcr, value in sorted(values.items())}
            for bank, values in pcrs.items()
        },
        "findings": findings,
    }


def with_ima(
    replayed: ReplayedLog | None,
    measured: ImaList,
    quote: QuotedPcrs,
    scheme: HashAlgorithm | None,
    stated: PcrBanks | None,
) -> ReplayedLog:
    """Return what firmware log and IMA list lead to together.

    Of the two rules for banks other than SHA-1 the one is taken that the quote (or the stated
    values, which the quote must prove all the same) agrees with; else the newer one.
    """
    newer = _joined(replayed, measured, padded=False)
    if _agrees(newer, measured, quote, scheme, stated):
        return newer
    older = _joined(replayed, measured, padded=True)
    return older if _agrees(older, measured, quote, scheme, stated) else newer


def _joined(replayed: ReplayedLog | None, measured: ImaList, *, padded: bool) -> ReplayedLog:
    before: PcrBanks = {} if replayed is None else replayed.pcrs
    banks = tuple(HashAlgorithm) if replayed is None else tuple(replayed.pcrs)
    after = replay_ima(measured, banks, start=before, padded=padded)
    pcrs = {bank: {**before.get(bank, {}), **after[bank]} for bank in banks}
    return ReplayedLog(
        pcrs=pcrs,
        covered={bank: frozenset(values) for bank, values in pcrs.items()},
        events=() if replayed is None else replayed.events,
    )


def _agrees(
    joined: ReplayedLog,
    measured: ImaList,
    quote: QuotedPcrs,
    scheme: HashAlgorithm | None,
    stated: PcrBanks | None,
) -> bool:
    if stated is not None:
        return all(
            joined.pcrs.get(bank, {}).get(pcr) == value
            for bank, values in stated.items()
            for pcr, value in values.items()
            if pcr in measured.pcrs
        )
    if scheme is None or any(
        bank not in joined.pcrs or pcr not in joined.pcrs[HashAlgorithm(bank)]
        for bank, pcrs in quote.selections
        for pcr in pcrs
    ):
        return False
    selections = [
        PcrSelection(bank=HashAlgorithm(bank), indices=pcrs) for bank, pcrs in quote.selections
    ]
    return composite_digest(scheme, selections, joined.pcrs) == quote.pcr_digest
