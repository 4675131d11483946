"""The judgement of ``verifier quote``: bytes in, verdict out; reads no file, clock or store."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from attestation.algorithms import HashAlgorithm
from attestation.errors import Unsupported, VerificationError
from attestation.logs.ima import parse_ima_list
from attestation.logs.replay import ReplayedLog, check_event_contents, replay
from attestation.logs.tcg import UnverifiedLog, parse_firmware_log
from attestation.pcr import PcrBanks, PcrSelection, composite_digest
from attestation.reader import Reader
from attestation.tpm.attest import Attest, QuotedPcrs, parse_attest
from attestation.tpm.public import TpmPublic, require_attestation_key
from attestation.tpm.signature import parse_signature, verify_attest
from verifier.cli.ima import with_ima
from verifier.cli.quote_inputs import load_ak, parse_nonce, parse_pcr_values

_COMPUTED: Final = frozenset(int(bank) for bank in HashAlgorithm)
_SHOWN: Final = 8
"""PCRs named in one reason; the rest are counted."""

DigestVerdict = Literal["matches", "differs", "unknown"]
ReplayVerdict = Literal["matches", "differs", "not_covered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteFiles:
    """The contents of what ``verifier quote`` is given.

    Attributes:
        attest: TPMS_ATTEST, as ``tpm2_quote -m`` writes it.
        signature: TPMT_SIGNATURE, as ``tpm2_quote -s`` writes it.
        ak: The attestation key: PEM, TPM2B_PUBLIC or TPMT_PUBLIC.
        pcrs: JSON ``{"sha256": {"0": "hex"}}``, if given.
        eventlog: A firmware log, if given.
        ima: An IMA measurement list, if given.
        nonce: The qualifying data asked for, hexadecimal, if given.
    """

    attest: bytes
    signature: bytes
    ak: bytes
    pcrs: bytes | None = None
    eventlog: bytes | None = None
    ima: bytes | None = None
    nonce: str | None = None


@dataclass(slots=True, kw_only=True)
class _Findings:
    """What was found while judging: refusals decide, remarks only tell."""

    refusals: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteVerdict:
    """The judgement over one quote.

    Attributes:
        signature: Whether the signature verifies with a key that may attest.
        pcr_selection: PCR indices by bank label, in the order quoted.
        pcr_digest: The quoted digest against the given or the replayed values.
        replay: (bank label, PCR, verdict) for each quoted PCR when a log was given.
        refusals: Why it is refused; empty when consistent.
        remarks: What was not judged.
    """

    signature: Literal["verified", "refused"]
    pcr_selection: Mapping[str, tuple[int, ...]]
    pcr_digest: DigestVerdict
    replay: tuple[tuple[str, int, ReplayVerdict], ...]
    refusals: tuple[str, ...]
    remarks: tuple[str, ...]

    def document(self) -> dict[str, object]:
        """Return the document of ``verifier quote --json``."""
        return {
            "signature": self.signature,
            "pcr_selection": {bank: list(pcrs) for bank, pcrs in self.pcr_selection.items()},
            "pcr_digest": self.pcr_digest,
            "replay": [
                {"bank": bank, "pcr": pcr, "verdict": verdict} for bank, pcr, verdict in self.replay
            ],
            "status": "refused" if self.refusals else "consistent",
            "reason": "; ".join(
                self.refusals + self.remarks if self.refusals else ("consistent", *self.remarks)
            ),
        }


def judge_quote(files: QuoteFiles) -> QuoteVerdict:
    """Judge a bare quote: its signature, its PCR digest, and the log that should lead to it.

    It judges the quote and the logs, not the machine. Nothing is believed that the quote does not
    prove: PCR values count only when they hash to the quoted digest.

    Args:
        files: The contents of the files.

    Returns:
        The verdict; refused if the signature or its key is not acceptable, the nonce or the PCR
        digest differs, a replayed PCR differs, or the log contradicts itself.

    Raises:
        InputError: If a file is not what it should be (exit code 2).
    """
    found = _Findings()
    nonce = None if files.nonce is None else parse_nonce(files.nonce)
    stated = None if files.pcrs is None else parse_pcr_values(files.pcrs)
    log = None if files.eventlog is None else parse_firmware_log(files.eventlog)
    measured = None if files.ima is None else parse_ima_list(files.ima)
    attest = _read_quote(files.attest, found)
    verified, scheme = _judge_signature(files, found)
    if attest is None or attest.quote is None:
        return _verdict(found, verified=verified)
    _judge_nonce(attest, nonce, found)
    selections = attest.quote.selections
    replayed = None if log is None else replay(log)
    if measured is not None:
        replayed = with_ima(replayed, measured, attest.quote, scheme, stated)
    digest, proven = _judge_digest(attest.quote, scheme, stated, replayed, found)
    if replayed is None:
        verdicts: list[tuple[str, int, ReplayVerdict]] = []
        found.remarks.append("no event log was given, so no replay was judged")
    else:
        whole_log_differs = digest == "differs" and stated is None
        verdicts = _judge_replay(selections, replayed, proven, differs=whole_log_differs)
        _tell_replay(verdicts, found, digest=digest)
        if log is not None:
            _judge_contents(log, selections, found)
    return _verdict(
        found,
        verified=verified,
        selection={_bank_label(alg_id): pcrs for alg_id, pcrs in selections},
        digest=digest,
        verdicts=verdicts,
    )


def _verdict(
    found: _Findings,
    *,
    verified: bool,
    selection: Mapping[str, tuple[int, ...]] | None = None,
    digest: DigestVerdict = "unknown",
    verdicts: Sequence[tuple[str, int, ReplayVerdict]] = (),
) -> QuoteVerdict:
    return QuoteVerdict(
        signature="verified" if verified else "refused",
        pcr_selection=selection or {},
        pcr_digest=digest,
        replay=tuple(verdicts),
        refusals=tuple(found.refusals),
        remarks=tuple(found.remarks),
    )


def _read_quote(raw: bytes, found: _Findings) -> Attest | None:
    """Return the attestation, None with a refusal if it is whole but not a TPM's quote."""
    try:
        attest = parse_attest(raw)
    except VerificationError as error:
        found.refusals.append(error.reason)
        return None
    if attest.quote is None:
        found.refusals.append("the attestation certifies a key, wanted a quote of PCRs")
    elif not any(pcrs for _, pcrs in attest.quote.selections):
        found.refusals.append("the quote covers no PCR: it proves nothing about the boot")
    return attest


def _judge_signature(files: QuoteFiles, found: _Findings) -> tuple[bool, HashAlgorithm | None]:
    """Return whether the signature is acceptable, and the hash it names, also where that is SHA-1.

    The hash is only for telling whether the PCR digest fits (Part 3, 18.4): that needs no belief.
    """
    reader = Reader(files.signature, "TPMT_SIGNATURE")
    reader.u16("sigAlg")
    hash_id = reader.u16("hash")
    scheme = HashAlgorithm(hash_id) if hash_id in _COMPUTED else None
    try:
        parse_signature(files.signature)
        key = load_ak(files.ak)
        if isinstance(key, TpmPublic):
            require_attestation_key(key)
        else:
            found.remarks.append(
                "the AK came as PEM, which cannot show that it is a restricted TPM key"
            )
        verify_attest(key, files.attest, files.signature)
    except (VerificationError, Unsupported) as error:
        found.refusals.append(error.reason)
        return False, scheme
    return True, scheme


def _judge_nonce(attest: Attest, nonce: bytes | None, found: _Findings) -> None:
    if nonce is None:
        found.remarks.append("no nonce was given, so freshness was not judged")
    elif not hmac.compare_digest(nonce, attest.extra):
        found.refusals.append("the quote answers another nonce than the one given")


def _judge_digest(
    quote: QuotedPcrs,
    scheme: HashAlgorithm | None,
    stated: PcrBanks | None,
    replayed: ReplayedLog | None,
    found: _Findings,
) -> tuple[DigestVerdict, PcrBanks | None]:
    """Hold the quoted digest against the given values, or else the replayed ones.

    Returns:
        The verdict, and the values that the digest proves, if any.
    """
    values = stated if stated is not None else replayed.pcrs if replayed is not None else None
    origin = "given PCR values" if stated is not None else "values that the log leads to"
    if values is None or scheme is None:
        found.remarks.append(
            "the PCR digest is unknown: "
            + (
                "no PCR values were given"
                if scheme
                else "the signature names no hash that we compute"
            )
        )
        return "unknown", None
    missing = [
        f"{_bank_label(alg_id)}:{pcr}"
        for alg_id, pcrs in quote.selections
        for pcr in pcrs
        if alg_id not in values or pcr not in values[HashAlgorithm(alg_id)]
    ]
    if missing:
        found.remarks.append(
            f"the PCR digest is unknown: the {origin} lack {_shorten(missing)} of the selection"
        )
        return "unknown", None
    selections = [
        PcrSelection(bank=HashAlgorithm(alg_id), indices=pcrs)
        for alg_id, pcrs in quote.selections
        if pcrs
    ]
    if composite_digest(scheme, selections, values) == quote.pcr_digest:
        return "matches", values
    found.refusals.append(f"the {origin} do not hash to the quoted PCR digest")
    return "differs", None


def _judge_replay(
    selections: Sequence[tuple[int, tuple[int, ...]]],
    replayed: ReplayedLog,
    proven: PcrBanks | None,
    *,
    differs: bool,
) -> list[tuple[str, int, ReplayVerdict]]:
    """Hold the replay of each quoted PCR against the value that the quote proves.

    Args:
        selections: What was quoted.
        replayed: What the log leads to.
        proven: Values that hash to the quoted digest, None if there are none.
        differs: Whether the log covers the whole selection and fails the digest as a whole; one
            cannot tell which PCR is wrong, so every one of them is said to differ.
    """
    verdicts: list[tuple[str, int, ReplayVerdict]] = []
    for alg_id, pcrs in selections:
        values = replayed.pcrs.get(HashAlgorithm(alg_id), {}) if alg_id in _COMPUTED else {}
        for pcr in pcrs:
            verdict: ReplayVerdict = "not_covered"
            if pcr in values and proven is not None:
                same = proven[HashAlgorithm(alg_id)][pcr] == values[pcr]
                verdict = "matches" if same else "differs"
            elif pcr in values and differs:
                verdict = "differs"
            verdicts.append((_bank_label(alg_id), pcr, verdict))
    return verdicts


def _tell_replay(
    verdicts: Sequence[tuple[str, int, ReplayVerdict]], found: _Findings, *, digest: DigestVerdict
) -> None:
    differing = [f"{bank}:{pcr}" for bank, pcr, verdict in verdicts if verdict == "differs"]
    uncovered = [f"{bank}:{pcr}" for bank, pcr, verdict in verdicts if verdict == "not_covered"]
    if differing:
        found.refusals.append(f"the log does not lead to the quoted {_shorten(differing)}")
    if digest != "matches":
        if uncovered:
            found.remarks.append("no PCR value is proven, so the replay could not be held to any")
    elif uncovered:
        found.remarks.append(f"the log does not cover {_shorten(uncovered)}")


def _judge_contents(
    log: UnverifiedLog, selections: Sequence[tuple[int, tuple[int, ...]]], found: _Findings
) -> None:
    """Refuse a log whose words are not what was measured, in the quoted banks and PCRs."""
    for alg_id, pcrs in selections:
        if alg_id not in _COMPUTED:
            continue
        for contradiction in check_event_contents(log, HashAlgorithm(alg_id)):
            if contradiction.pcr in pcrs:
                found.refusals.append(
                    f"event {contradiction.number} of the log ({contradiction.type_name}, PCR "
                    f"{contradiction.pcr}): {contradiction.reason}"
                )


def _shorten(places: Sequence[str]) -> str:
    shown = ", ".join(places[:_SHOWN])
    return shown if len(places) <= _SHOWN else f"{shown} and {len(places) - _SHOWN} more"


def _bank_label(alg_id: int) -> str:
    return HashAlgorithm(alg_id).label if alg_id in _COMPUTED else f"0x{alg_id:04x}"
