"""Replay: the PCR values that a firmware log leads to, and whether its words match its digests.

Replay proves nothing alone. It becomes proof when an authentic quote shows the same values: then
the digests in the log, in their order, are what was measured. Even then an event's *type* and
*content* are unproven, except where the content's hash is the digest
(:func:`check_event_contents`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from attestation.algorithms import HashAlgorithm
from attestation.errors import ReplayMismatch
from attestation.logs.contents import HASHERS, Hasher, how_measured
from attestation.logs.event_types import EventType, event_type_name
from attestation.logs.tcg import UnverifiedEvent, UnverifiedLog
from attestation.pcr import PcrBanks
from attestation.refusals import RefusalCode

_NO_ACTION: Final = int(EventType.NO_ACTION)
_ALL_ONES_PCRS: Final = frozenset(range(17, 23))
"""PCRs that TPM2_Startup sets to ones until a dynamic launch (PC Client TPM Profile, 4.6.2)."""


class MeasuredEvent(NamedTuple):
    """One event that extends a PCR (a named tuple for the same reason as UnverifiedEvent).

    Attributes:
        number: Position in the log.
        pcr: PCR index, 0..23.
        type: TCG_EVENTTYPE; a hint, never proven by a digest.
        digests: (TPM_ALG_ID, digest) in the order of the log's banks.
        event: The content as logged; proven only where :func:`check_event_contents` looks.
    """

    number: int
    pcr: int
    type: int
    digests: tuple[tuple[int, bytes], ...]
    event: bytes

    def digest(self, bank: HashAlgorithm) -> bytes | None:
        """Return the digest extended into ``bank``, None if the event did not extend that bank."""
        return _digest_in(self, bank)


_MEASURED: Final[Callable[[UnverifiedEvent], MeasuredEvent]] = partial(tuple.__new__, MeasuredEvent)
"""As ``MeasuredEvent._make``, for an event that has the right number of fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedLog:
    """What a log leads to.

    Attributes:
        pcrs: Values by bank and PCR, for covered PCRs only: where a log is silent it claims
            nothing, not even the start value.
        covered: For each replayed bank the PCRs that have at least one extending event, each of
            which carries that bank. A PCR with one event that lacks the bank is *not* covered.
        events: The extending events in order, whatever their bank.
        contents: By bank and event number what :func:`how_measured` says, once
            :func:`check_event_contents` has asked it: whoever comes later need not hash again.
    """

    pcrs: PcrBanks
    covered: Mapping[HashAlgorithm, frozenset[int]]
    events: tuple[MeasuredEvent, ...]
    contents: dict[HashAlgorithm, dict[int, str | None]] = field(
        default_factory=dict, compare=False, repr=False
    )


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
    extending = [event for event in log.events if event.type != _NO_ACTION]
    events = tuple(map(_MEASURED, extending))
    pcrs = {bank: _replay_bank(log, bank, events) for bank in wanted}
    return ReplayedLog(
        pcrs=pcrs,
        covered={bank: frozenset(values) for bank, values in pcrs.items()},
        events=events,
    )


def _replay_bank(
    log: UnverifiedLog, bank: HashAlgorithm, events: tuple[MeasuredEvent, ...]
) -> dict[int, bytes]:
    """Return the values of one bank's covered PCRs."""
    if bank not in log.banks:
        raise ReplayMismatch(
            RefusalCode.LOG_BANK_MISSING,
            f"the log has no {bank.label} bank; it has "
            + ", ".join(f"0x{alg_id:04x}" for alg_id in log.banks),
            structure="firmware log",
        )
    hasher = HASHERS[bank]
    position = log.banks.index(bank)
    count = len(log.banks)
    values: dict[int, bytes] = {}
    lacking: set[int] = set()
    for _, pcr, _, digests, _ in events:
        if len(digests) == count:
            digest: bytes | None = digests[position][1]
        else:
            digest = dict(digests).get(bank)
        if digest is None:
            lacking.add(pcr)
            continue
        before = values.get(pcr)
        if before is None:
            before = _start_value(pcr, bank.size, log.startup_locality)
        values[pcr] = hasher(before + digest).digest()
    for pcr in lacking:
        values.pop(pcr, None)
    return values


def _start_value(pcr: int, size: int, locality: int) -> bytes:
    if pcr in _ALL_ONES_PCRS:
        return b"\xff" * size
    if pcr == 0:
        return bytes(size - 1) + bytes((locality,))
    return bytes(size)


def _digest_in(event: UnverifiedEvent | MeasuredEvent, bank: HashAlgorithm) -> bytes | None:
    for alg_id, digest in event.digests:
        if alg_id == bank:
            return digest
    return None


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
    for event in log.events:
        if event.type not in DATA_HASH_TYPES:
            continue
        digest = _digest_in(event, bank)
        if digest is None:
            continue
        told[event.number] = how = how_measured(event.type, event.event, digest, hasher)
        if how is not None:
            continue
        found.append(
            Contradiction(
                number=event.number,
                pcr=event.pcr,
                type_name=event_type_name(event.type),
                reason=_explain(event.type, digest, hasher, bank),
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
