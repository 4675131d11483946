"""Replay: the PCR values that a firmware log leads to, and whether its words match its digests.

Replay proves nothing alone. It becomes proof when an authentic quote shows the same values: then
the digests in the log, in their order, are what was measured. Even then an event's *type* and
*content* are unproven, except where the content's hash is the digest
(:func:`check_event_contents`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NewType, cast

from attestation.algorithms import HashAlgorithm
from attestation.errors import ReplayMismatch
from attestation.logs.contents import HASHERS, WHOLE, Hasher, how_measured_in_part
from attestation.logs.event_types import EventType, event_type_name
from attestation.logs.tcg import UnverifiedEvent, UnverifiedLog
from attestation.pcr import PCR_COUNT, PcrBanks
from attestation.refusals import RefusalCode

_NO_ACTION: Final = int(EventType.NO_ACTION)

Column = Sequence[bytes | None]
"""Digests of a log's extending events in one bank, None where an event does not carry it."""

_ALL_ONES_PCRS: Final = frozenset(range(17, 23))
"""PCRs that TPM2_Startup sets to ones until a dynamic launch (PC Client TPM Profile, 4.6.2)."""


MeasuredEvent = NewType("MeasuredEvent", UnverifiedEvent)
"""An event that extends a PCR, of a log that was replayed.

The same tuple, since a log is read within the time of a request; its type says what it has been
through. Its digests are what was measured once a quote shows the replayed value; its type is a hint
and its content is proven only where :func:`check_event_contents` looks.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedLog:
    """What a log leads to.

    Attributes:
        pcrs: Values by bank and PCR, for covered PCRs only: where a log is silent it claims
            nothing, not even the start value.
        covered: For each replayed bank the PCRs that have at least one extending event, each of
            which carries that bank. A PCR with one event that lacks the bank is *not* covered.
        events: The extending events in order, whatever their bank.
        contents: By bank and event number what ``contents.how_measured`` says, once
            :func:`check_event_contents` has asked it: whoever comes later need not hash again.
        columns: By replayed bank the events' digests in that bank, in their order; None where an
            event does not carry it. Filled by :meth:`column` for other banks.
    """

    pcrs: PcrBanks
    covered: Mapping[HashAlgorithm, frozenset[int]]
    events: tuple[MeasuredEvent, ...]
    contents: dict[HashAlgorithm, dict[int, str | None]] = field(
        default_factory=dict, compare=False, repr=False
    )
    columns: dict[HashAlgorithm, Column] = field(default_factory=dict, compare=False, repr=False)

    def column(self, bank: HashAlgorithm) -> Column:
        """Return the digest of each event in one bank, None where an event does not carry it."""
        found = self.columns.get(bank)
        if found is None:
            found = self.columns[bank] = [event.digest(bank) for event in self.events]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """An event whose content does not hash to its digest although its type says that it must.

    Attributes:
        number: Position of the event in the log.
        pcr: Its PCR.
        type_name: The standard's name of its type, e.g. ``EV_SEPARATOR``.
        reason: What was seen and what was wanted.
    """

    number: int
    pcr: int
    type_name: str
    reason: str


def replay(log: UnverifiedLog, banks: Iterable[HashAlgorithm] | None = None) -> ReplayedLog:
    """Compute the PCR values that the log leads to (TPM 2.0 Part 1, 17.2; PFP 10.4.5).

    PCRs start at zero, PCRs 17 to 22 at ones, PCR 0 with the startup locality in its last byte.
    EV_NO_ACTION events extend nothing.

    Args:
        log: A parsed log.
        banks: Banks to compute; None for every bank of the log that we can compute.

    Returns:
        Values and coverage of each bank, and the extending events.

    Raises:
        ReplayMismatch: ``log-bank-missing`` if a wanted bank is not in the log.
    """
    wanted = tuple(bank for bank in HashAlgorithm if bank in log.banks) if banks is None else banks
    events = cast(  # a call of the type for each of them would be felt
        "tuple[MeasuredEvent, ...]",
        tuple([event for event in log.events if event[2] != _NO_ACTION]),
    )
    columns: dict[HashAlgorithm, Column] = {}
    pcrs: dict[HashAlgorithm, dict[int, bytes]] = {}
    indices = [event[1] for event in events]
    for bank in wanted:
        if bank not in log.banks:
            raise ReplayMismatch(
                RefusalCode.LOG_BANK_MISSING,
                f"the log has no {bank.label} bank; it has "
                + ", ".join(f"0x{alg_id:04x}" for alg_id in log.banks),
                structure="firmware log",
            )
        columns[bank] = _column(events, log.banks, bank)
        pcrs[bank] = _replay_bank(indices, columns[bank], bank, log.startup_locality)
    return ReplayedLog(
        pcrs=pcrs,
        covered={bank: frozenset(values) for bank, values in pcrs.items()},
        events=events,
        columns=columns,
    )


def _column(
    events: tuple[MeasuredEvent, ...], banks: tuple[int, ...], bank: HashAlgorithm
) -> Column:
    """Return each event's digest in one bank of the log; nearly every event carries every bank."""
    place, count = banks.index(bank), len(banks)
    if count == 1:  # an event carries one bank at least
        return [digests[0][1] for _, _, _, digests, _ in events]
    return [
        digests[place][1] if len(digests) == count else dict(digests).get(bank)
        for _, _, _, digests, _ in events
    ]


def _replay_bank(
    indices: list[int], column: Column, bank: HashAlgorithm, locality: int
) -> dict[int, bytes]:
    """Return the values of one bank's covered PCRs."""
    hasher = HASHERS[bank]
    values = list(_start_values(bank.size, locality))
    lacking: set[int] = set()
    for pcr, digest in zip(indices, column, strict=True):
        if digest is None:
            lacking.add(pcr)
        else:
            values[pcr] = hasher(values[pcr] + digest).digest()
    return {pcr: values[pcr] for pcr in dict.fromkeys(indices) if pcr not in lacking}


@lru_cache(maxsize=64)
def _start_values(size: int, locality: int) -> tuple[bytes, ...]:
    """Return what the PCRs of a bank hold before anything is measured."""
    ones, zeros = b"\xff" * size, bytes(size)
    first = bytes(size - 1) + bytes((locality,))
    return (first, *(ones if pcr in _ALL_ONES_PCRS else zeros for pcr in range(1, PCR_COUNT)))


# --- content against digest ----------------------------------------------------------------

_ERROR_SEPARATOR: Final = b"\x01\x00\x00\x00"

DATA_HASH_TYPES: Final = frozenset(
    int(kind)
    for kind in (
        EventType.SEPARATOR,
        EventType.EFI_ACTION,
        EventType.EFI_VARIABLE_DRIVER_CONFIG,
        EventType.EFI_VARIABLE_BOOT,
        EventType.EFI_VARIABLE_AUTHORITY,
        EventType.EFI_GPT_EVENT,
    )
)
"""Types whose content must be what was measured.

Which types are checked was measured over the 39 logs of ``tests/data`` that parse (digests
that are the hash of the content / all digests of that type, over all banks):

==============================  =========  ==================================================
type                            holds      checked
==============================  =========  ==================================================
EV_SEPARATOR                    520 / 520  yes; the digest of an error separator is named
EV_EFI_ACTION                   151 / 151  yes
EV_EFI_VARIABLE_DRIVER_CONFIG   371 / 371  yes
EV_EFI_GPT_EVENT                 64 / 64   yes
EV_EFI_VARIABLE_AUTHORITY        92 / 102  yes; the other 10 are old shim's, which logs the
                                           variable "Shim" with 6 bytes too many and hashes
                                           all but the last: taken for that variable only
                                           (quirk ``shim-surplus-bytes``)
EV_EFI_VARIABLE_BOOT            105 / 438  yes; the other 333 hash the variable's data alone
                                           (firmware before PFP 1.05): either is taken
                                           (quirk ``boot-variable-data-only``)
EV_S_CRTM_VERSION                66 / 67   no: one bare-metal host (gdc-host) hashes more
                                           than it logs
EV_EVENT_TAG                     31 / 37   no: systemd hashes what it loaded
EV_NONHOST_INFO                  34 / 41   no: IntelCSxEEvent01 is a container
EV_COMPACT_HASH                   8 / 11   no: Dell hashes its configuration
EV_PLATFORM_CONFIG_FLAGS          2 / 34   no: "ACPI DATA" and the like
EV_IPL                            2 / 2667 no: GRUB hashes what follows its prefix, or a file
EV_POST_CODE, EV_S_CRTM_CONTENTS, EV_EFI_*_APPLICATION, EV_EFI_*_DRIVER,
EV_EFI_PLATFORM_FIRMWARE_BLOB, EV_EFI_HANDOFF_TABLES: digests of code or tables elsewhere
==============================  =========  ==================================================

EV_ACTION, EV_EFI_VARIABLE_BOOT2, EV_EFI_GPT_EVENT2, SPDM: in none of them, not checked.
"""


def check_event_contents(
    log: UnverifiedLog | ReplayedLog, bank: HashAlgorithm
) -> tuple[Contradiction, ...]:
    """Hold the content of each data-hash event against its digest in ``bank`` (PFP 10.4).

    Which types are checked, and why: :data:`DATA_HASH_TYPES`.

    Args:
        log: A parsed or replayed log.
        bank: The bank to look at; events that do not carry it are passed over (the replay does
            not cover their PCR).

    Returns:
        Every contradiction, in log order; empty for an honest log.
    """
    hasher = HASHERS[bank]
    found = []
    told: dict[int, str | None] = {}
    column = (
        log.column(bank)
        if isinstance(log, ReplayedLog)
        else [event.digest(bank) for event in log.events]
    )
    for (number, pcr, kind, _, content), digest in zip(log.events, column, strict=True):
        if kind not in DATA_HASH_TYPES or digest is None:
            continue
        if hasher(content).digest() == digest:  # as nearly all
            told[number] = WHOLE
            continue
        told[number] = how = how_measured_in_part(kind, content, digest, hasher)
        if how is None:
            found.append(
                Contradiction(
                    number=number,
                    pcr=pcr,
                    type_name=event_type_name(kind),
                    reason=_explain(kind, digest, hasher, bank),
                )
            )
    if isinstance(log, ReplayedLog):
        log.contents[bank] = told
    return tuple(found)


def _explain(kind: int, digest: bytes, hasher: Hasher, bank: HashAlgorithm) -> str:
    """Say why an event whose content is not what was measured is wrong."""
    if kind == EventType.SEPARATOR and hasher(_ERROR_SEPARATOR).digest() == digest:
        return (
            "the firmware separated this PCR with an error (the digest is that of 00000001), "
            "wanted a separator whose content is what was measured"
        )
    return f"the {bank.label} digest is not that of the content, which this type requires"
