"""``verifier eventlog`` and ``verifier quote``: judge files, with no service, store or clock.

Thin doors over pure judgement (:func:`judge_eventlog`,
:func:`verifier.cli.quote_verdict.judge_quote`): read the files, print, answer with an exit code:
0 parsed whole or consistent, 1 refused, 2 malformed, with one line on stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, NotRequired, TypedDict, TypeVar

from rich.text import Text

from attestation.algorithms import HashAlgorithm, hash_by_label
from attestation.boot.facts import BootFacts
from attestation.errors import InputError, LimitExceeded
from attestation.limits import MAX_FIRMWARE_LOG_BYTES, MAX_IMA_LIST_BYTES
from attestation.logs.replay import ReplayedLog, check_event_contents, replay
from attestation.logs.tcg import UnverifiedLog, parse_firmware_log
from attestation.refusals import RefusalCode
from verifier.cli import output
from verifier.cli.boot_facts import FactsDocument, fact_rows, log_facts, remark_rows
from verifier.cli.ima import ImaDocument, judge_ima
from verifier.cli.quote_verdict import QuoteFiles, QuoteVerdict, judge_quote

_CONSISTENT: Final = 0
_REFUSED: Final = 1
_MALFORMED: Final = 2

_MAX_SMALL_FILE_BYTES: Final = 64 * 1024
"""Quote, signature, key and PCR values: the largest, four banks of 24 values, is 10 kB of JSON."""


Document = TypeVar("Document")


class Finding(TypedDict):
    """Something in a log that a person should look at; a place is named where there is one."""

    reason: str
    code: NotRequired[str]
    event: NotRequired[int]
    type: NotRequired[str]
    bank: NotRequired[str]
    pcr: NotRequired[int]


class EventLogDocument(TypedDict):
    """The document of ``verifier eventlog --json``; PCR values by bank and index, hexadecimal."""

    format: str
    events: int
    pcrs: dict[str, dict[str, str]]
    findings: list[Finding]
    facts: NotRequired[FactsDocument]


class _WantedFacts(NamedTuple):
    """That facts are asked for, and of which bank (None: the best of the log)."""

    bank: HashAlgorithm | None


def judge_eventlog(
    content: bytes, wanted: _WantedFacts | None = None, shown: list[BootFacts] | None = None
) -> EventLogDocument:
    """Parse and replay a firmware log.

    Args:
        content: The bytes of the log.
        wanted: Facts to tell too; None for none.
        shown: Where the facts are put besides, as values.

    Returns:
        The document of ``verifier eventlog --json``: ``format``, ``events``, ``pcrs`` (bank, PCR,
        hexadecimal value of every covered PCR) and ``findings``.

    Raises:
        InputError: If the log does not parse whole, or lacks the bank of the wanted facts.
    """
    log = parse_firmware_log(content)
    replayed = replay(log)
    document: EventLogDocument = {
        "format": "crypto-agile" if log.crypto_agile else "sha1",
        "events": len(log.events),
        "pcrs": {
            bank.label: {str(pcr): values[pcr].hex() for pcr in sorted(values)}
            for bank, values in replayed.pcrs.items()
            if values
        },
        "findings": _log_findings(log, replayed),
    }
    if wanted is not None:
        facts, document["facts"] = log_facts(replayed, wanted.bank)
        if shown is not None:
            shown.append(facts)
    return document


def _log_findings(log: UnverifiedLog, replayed: ReplayedLog) -> list[Finding]:
    """Return what a person should look at; none of it keeps the log from being parsed."""
    findings: list[Finding] = [{"reason": finding} for finding in log.findings]
    for bank, covered in replayed.covered.items():
        findings.extend(
            {
                "code": str(RefusalCode.LOG_EVENT_CONTRADICTS),
                "bank": bank.label,
                "pcr": contradiction.pcr,
                "event": contradiction.number,
                "type": contradiction.type_name,
                "reason": contradiction.reason,
            }
            for contradiction in check_event_contents(log, bank)
        )
        extended = {event.pcr for event in replayed.events}
        findings.extend(
            {
                "code": str(RefusalCode.PCR_NOT_COVERED),
                "bank": bank.label,
                "pcr": pcr,
                "reason": f"an event of PCR {pcr} has no {bank.label} digest: the log does not "
                "tell this PCR's value in this bank",
            }
            for pcr in sorted(extended - covered)
        )
    return findings


def eventlog(path: Path, *, as_json: bool, facts: bool = False, bank: str | None = None) -> int:
    """Parse and replay a firmware log and print what it leads to (``verifier eventlog``).

    Args:
        path: The log, e.g. ``/sys/kernel/security/tpm0/binary_bios_measurements``.
        as_json: Print the JSON document instead of tables.
        facts: Also tell what the boot was, each fact with the events that prove it.
        bank: The bank that facts are read from, ``sha256``; None for the best of the log.

    Returns:
        0 if the log parses whole, else 2 with one line on stderr.
    """
    shown: list[BootFacts] = []

    def judge(content: bytes) -> EventLogDocument:
        algorithm = None if bank is None else hash_by_label(bank)
        return judge_eventlog(content, _WantedFacts(algorithm) if facts else None, shown)

    def show(document: EventLogDocument) -> None:
        _print_eventlog(document)
        for one in shown:
            _print_table(("fact", "proven by", "value"), list(fact_rows(one)))
            if remarks := list(remark_rows(one)):
                _print_table(("remark", "what"), remarks)

    return _judge_log(
        "eventlog",
        path,
        limit=MAX_FIRMWARE_LOG_BYTES,
        judge=judge,
        show=_print_json if as_json else show,
    )


def ima(path: Path, *, as_json: bool) -> int:
    """Parse and replay an IMA list and print what it leads to (``verifier ima``).

    Args:
        path: The list, e.g. ``/sys/kernel/security/ima/ascii_runtime_measurements``.
        as_json: Print the JSON document instead of lines.

    Returns:
        0 if the list parses whole, else 2 with one line on stderr.
    """
    return _judge_log(
        "ima",
        path,
        limit=MAX_IMA_LIST_BYTES,
        judge=judge_ima,
        show=_print_json if as_json else _print_ima,
    )


def _judge_log(
    command: str,
    path: Path,
    *,
    limit: int,
    judge: Callable[[bytes], Document],
    show: Callable[[Document], None],
) -> int:
    """Read, judge and show one log; 0, or 2 with one line on stderr."""
    try:
        document = judge(_read(path, limit))
    except (InputError, OSError) as error:
        return _malformed(command, error)
    show(document)
    return _CONSISTENT


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2))


def _print_ima(document: ImaDocument) -> None:
    print(f"entries: {document['entries']}\nviolations: {document['violations']}")
    for bank, values in document["pcrs"].items():
        for pcr, value in values.items():
            print(f"{bank}\t{pcr}\t{value}")
    for finding in document["findings"]:
        print(f"finding: {finding['reason']}")


def quote(
    *,
    attest: Path,
    sig: Path,
    ak: Path,
    pcrs: Path | None,
    eventlog: Path | None,
    ima: Path | None = None,
    nonce: str | None,
    as_json: bool,
) -> int:
    """Judge a bare quote as tpm2-tools writes it and print the verdict (``verifier quote``).

    Args:
        attest: TPMS_ATTEST (``tpm2_quote -m``).
        sig: TPMT_SIGNATURE (``tpm2_quote -s``).
        ak: The attestation key: PEM, TPM2B_PUBLIC or TPMT_PUBLIC.
        pcrs: PCR values as JSON ``{"sha256": {"0": "hex"}}``.
        eventlog: A firmware log.
        ima: An IMA measurement list, ascii or binary.
        nonce: The qualifying data that was asked for, hexadecimal.
        as_json: Print the JSON document instead of tables.

    Returns:
        0 consistent, 1 refused, 2 malformed with one line on stderr.
    """
    try:
        verdict = judge_quote(
            QuoteFiles(
                attest=_read(attest, _MAX_SMALL_FILE_BYTES),
                signature=_read(sig, _MAX_SMALL_FILE_BYTES),
                ak=_read(ak, _MAX_SMALL_FILE_BYTES),
                pcrs=None if pcrs is None else _read(pcrs, _MAX_SMALL_FILE_BYTES),
                eventlog=None if eventlog is None else _read(eventlog, MAX_FIRMWARE_LOG_BYTES),
                ima=None if ima is None else _read(ima, MAX_IMA_LIST_BYTES),
                nonce=nonce,
            )
        )
    except (InputError, OSError) as error:
        return _malformed("quote", error)
    if as_json:
        _print_json(verdict.document())
    else:
        _print_quote(verdict)
    return _REFUSED if verdict.refusals else _CONSISTENT


def _read(path: Path, limit: int) -> bytes:
    """Read a file whole, if it is not larger than ``limit`` bytes."""
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE, f"{path} has more than {limit} bytes, which is the most accepted"
        )
    return content


def _malformed(command: str, error: InputError | OSError) -> int:
    """Say on stderr, in one line, which file or structure is at fault."""
    if isinstance(error, OSError):
        text = f"{error.filename}: cannot be read: {error.strerror}"
    else:
        text = error.describe()
    print(f"verifier {command}: {' '.join(text.split())}", file=sys.stderr)
    return _MALFORMED


# --- for people ----------------------------------------------------------------------------


def _print_eventlog(document: EventLogDocument) -> None:
    print(f"{document['format']} log, {document['events']} events")
    _print_table(
        ("bank", "pcr", "value"),
        [
            (bank, pcr, value)
            for bank, values in document["pcrs"].items()
            for pcr, value in values.items()
        ],
    )
    for finding in document["findings"]:
        place = ", ".join(
            f"{name} {finding[name]}" for name in ("event", "bank", "pcr") if name in finding
        )
        print(f"finding: {place + ': ' if place else ''}{finding['reason']}")


def _print_quote(verdict: QuoteVerdict) -> None:
    document = verdict.document()
    selection = "+".join(
        f"{bank}:{','.join(str(pcr) for pcr in pcrs)}"
        for bank, pcrs in verdict.pcr_selection.items()
    )
    _print_table(
        ("what", "verdict"),
        [
            ("signature", verdict.signature),
            ("PCR selection", selection or "none"),
            ("PCR digest", verdict.pcr_digest),
            ("status", str(document["status"])),
        ],
    )
    if verdict.replay:
        _print_table(
            ("bank", "pcr", "replay"),
            [(bank, str(pcr), word) for bank, pcr, word in verdict.replay],
        )
    print(document["reason"])


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: framed on a terminal, plain aligned columns for pipes and files."""
    if sys.stdout.isatty():
        # Never markup: a log may hold brackets.
        output.draw_table(heads, [[Text(cell) for cell in row] for row in rows])
        return
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
