"""``verifier compare``: what changed from one evidence to another, in words.

Both are evidence messages, or firmware logs as the kernel shows them. Of an evidence the PCR values
are held against its quote; whose quote it is, is not asked: judge each with ``verifier appraise``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attestation.algorithms import HashAlgorithm, hash_by_id
from attestation.errors import AttestationError, InputError, ReplayMismatch
from attestation.evidence import Evidence
from attestation.limits import MAX_EVIDENCE_BYTES
from attestation.logs.replay import ReplayedLog, replay
from attestation.logs.tcg import parse_firmware_log
from attestation.pcr import PcrBanks, PcrSelection, composite_digest
from attestation.refusals import RefusalCode
from attestation.tpm.attest import parse_attest
from attestation.wire.evidence_codec import decode_evidence
from verifier.appraisal.difference import Difference, Snapshot, differences, snapshot
from verifier.appraisal.measured_state import attach_log
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.reference_values import read_bounded
from verifier.errors import NotFound, RequestRefused
from verifier.services.devices import Devices

_SAME, _CHANGED = 0, 1
_NOT_QUOTED = "as its own log replays; no quote proves it"


def command(
    before: Annotated[Path, typer.Argument(readable=False, help="Evidence (CMW) or firmware log.")],
    after: Annotated[Path | None, typer.Argument(readable=False, help="The later one.")] = None,
    *,
    device: Annotated[str, typer.Option(help="Instead of AFTER: this device's last.")] = "",
    as_json: Json = False,
) -> None:
    """Say what changed from one evidence to another. Exit code 0 nothing, 1 something."""
    if (after is None) is not bool(device):
        raise RequestRefused(RefusalCode.REQUEST_INVALID, "give AFTER or --device ID, one of them")
    old, old_note = _take(read_bounded(before, MAX_EVIDENCE_BYTES), str(before))
    new, new_note = (
        _take(read_bounded(after, MAX_EVIDENCE_BYTES), str(after))
        if after is not None
        else _take(_last(device), f"device {device}")
    )
    bank = _common_bank(old, new)
    found = differences(old[bank], new[bank])
    notes = {"before": old_note, "after": new_note}
    if as_json:
        output.say_json(_document(bank, found, notes))
    else:
        for side, note in notes.items():
            if note:
                output.say(f"{side}: {note}")
        for one in found:
            output.say(one.sentence)
        if not found:
            output.say(f"every {bank.label} PCR that both tell is the same")
    raise typer.Exit(_CHANGED if found else _SAME)


def _document(
    bank: HashAlgorithm, found: tuple[Difference, ...], notes: dict[str, str]
) -> dict[str, object]:
    return {
        "bank": bank.label,
        "notes": notes,
        "differences": [
            {
                "pcr": one.pcr,
                "kind": one.kind,
                "explained": one.explained,
                "words": one.words,
                "sentence": one.sentence,
            }
            for one in found
        ],
    }


def _last(device: str) -> bytes:
    store = context.store(context.settings())
    record, _ = Devices(store).show(device)
    kept = store.last_evidence(record.device)
    if kept is None:
        raise NotFound(RefusalCode.RESULT_ABSENT, f"device {device} has sent no evidence yet")
    return kept


def _take(content: bytes, origin: str) -> tuple[dict[HashAlgorithm, Snapshot], str]:
    """Read an evidence or a log; return one snapshot for each bank, and what to know of it."""
    try:
        log = replay(parse_firmware_log(content))
    except (InputError, ReplayMismatch) as no_log:
        try:
            return _of_evidence(decode_evidence(content))
        except AttestationError as error:
            as_log = f"{origin}: as a firmware log: {no_log.reason}; as evidence"
            raise error.told_of(as_log) from error
    return {bank: snapshot(bank, values, log) for bank, values in log.pcrs.items()}, _NOT_QUOTED


def _of_evidence(message: Evidence) -> tuple[dict[HashAlgorithm, Snapshot], str]:
    log = message.firmware_log
    if log is not None and log.content is None:
        kept = context.store(context.settings()).firmware_log(log.digest)
        message = attach_log(message, kept) if kept is not None else message
        log = message.firmware_log
    content = log.content if log is not None else None
    replayed = replay(parse_firmware_log(content)) if content is not None else None
    values = _quoted_values(message, replayed)
    return (
        {bank: snapshot(bank, held, replayed) for bank, held in values.items()},
        "" if replayed is not None else "its firmware log is not at hand; changes stay unexplained",
    )


def _quoted_values(message: Evidence, replayed: ReplayedLog | None) -> PcrBanks:
    """Return the PCR values that the evidence's own quote confirms.

    Raises:
        ReplayMismatch: ``pcr-digest-mismatch`` if it does not confirm them.
    """
    attest = parse_attest(message.quote.attest)
    chosen: dict[HashAlgorithm, dict[int, bytes]] = {}
    selections = []
    for bank_id, indices in attest.quote.selections if attest.quote is not None else ():
        bank = hash_by_id(bank_id)
        sent = message.pcr_values.get(bank, {})
        told = replayed.pcrs.get(bank, {}) if replayed is not None else {}
        chosen[bank] = {
            index: sent.get(index, told.get(index, bytes(bank.size))) for index in indices
        }
        selections.append(PcrSelection(bank=bank, indices=indices))
    digest = attest.quote.pcr_digest if attest.quote is not None else b""
    if not any(composite_digest(scheme, selections, chosen) == digest for scheme in HashAlgorithm):
        raise ReplayMismatch(
            RefusalCode.PCR_DIGEST_MISMATCH,
            "the PCR values of this evidence are not the ones that it quotes",
            structure="TPMS_QUOTE_INFO",
        )
    return chosen


def _common_bank(
    old: dict[HashAlgorithm, Snapshot], new: dict[HashAlgorithm, Snapshot]
) -> HashAlgorithm:
    """Return the strongest bank that both tell, SHA-256 first."""
    for bank in (
        HashAlgorithm.SHA256,
        HashAlgorithm.SHA384,
        HashAlgorithm.SHA512,
        HashAlgorithm.SHA1,
    ):
        if bank in old and bank in new:
            return bank
    raise RequestRefused(RefusalCode.REQUEST_INVALID, "the two have no PCR bank in common")
