"""Boot facts of one log, for a screen and as JSON (``verifier eventlog --facts``).

No quote is at hand here: the facts are what the log *would* prove to a quote that shows its
values. PCRs that contradict themselves, or are not separated, are left out, as in an appraisal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Final, NamedTuple, TypedDict, TypeVar, cast

from attestation.algorithms import HashAlgorithm
from attestation.boot.derive import derive_boot_facts
from attestation.boot.describe import describe_event
from attestation.boot.facts import (
    Authority,
    BootEntry,
    BootFacts,
    Fact,
    Image,
    MeasuredFile,
    Proof,
    SignatureDatabase,
    Trouble,
)
from attestation.errors import Unsupported
from attestation.logs.event_types import event_type_name
from attestation.logs.replay import ReplayedLog, check_event_contents
from attestation.refusals import RefusalCode
from verifier.appraisal.separators import separator_faults

_PREFERRED: Final = (
    HashAlgorithm.SHA256,
    HashAlgorithm.SHA384,
    HashAlgorithm.SHA512,
    HashAlgorithm.SHA1,
)
_DIGEST_SHOWN: Final = 16

_TOLD: Final[Mapping[type, tuple[str, ...]]] = {
    **{one: tuple(field.name for field in fields(one)) for one in (SignatureDatabase, Trouble)},
    **{one: one._fields for one in (Authority, MeasuredFile)},
    Image: ("kind", "digest", "path", "before_separator"),
    BootEntry: ("number", "description", "path"),
    BootFacts: tuple(
        "loader_commands" if field.name == "loader_lines" else field.name
        for field in fields(BootFacts)
    ),
}
"""What is told of each kind of value, in this order: what it holds, or says when it is asked."""

_ASKED_FOR: Final = {"certificates": "subjects"}
"""What is told under another name than it has: certificates by their subjects."""

T = TypeVar("T")


class EventLine(TypedDict):
    """One extending event as it describes itself, which proves nothing."""

    event: int
    pcr: int
    type: str
    text: str


class FactsDocument(TypedDict):
    """Facts as JSON: each ``{"value", "proofs": [{"pcr", "event"}]}``; bytes in hexadecimal."""

    bank: str
    proven_by: str
    unsafe_pcrs: dict[str, str]
    facts: dict[str, object]
    events: list[EventLine]


class FactRow(NamedTuple):
    """One line of the table: which fact, the events that prove it, its value."""

    fact: str
    proofs: str
    value: str


def log_facts(log: ReplayedLog, bank: HashAlgorithm | None) -> tuple[BootFacts, FactsDocument]:
    """Derive facts from a log alone.

    Args:
        log: A replayed log.
        bank: The bank to read; None for the best one that the log covers.

    Returns:
        The facts, and the same as a JSON document.

    Raises:
        Unsupported: ``log-bank-missing`` if the log has no such bank.
    """
    if bank is None:
        bank = next((one for one in _PREFERRED if log.covered.get(one)), _PREFERRED[0])
    elif bank not in log.covered:
        raise Unsupported(
            RefusalCode.LOG_BANK_MISSING,
            f"the log has no {bank.label} bank; it has "
            + ", ".join(sorted(one.label for one in log.covered)),
            structure="firmware log",
        )
    covered = log.covered.get(bank, frozenset())
    unsafe = {pcr: why for pcr, why in separator_faults(log, bank).items() if pcr in covered}
    for contradiction in check_event_contents(log, bank):
        unsafe[contradiction.pcr] = f"event {contradiction.number}: {contradiction.reason}"
    facts = derive_boot_facts(log, bank, covered - unsafe.keys())
    return facts, {
        "bank": bank.label,
        "proven_by": "the log's own replay; no quote was given",
        "unsafe_pcrs": {str(pcr): unsafe[pcr] for pcr in sorted(unsafe)},
        "facts": facts_object(facts),
        "events": [
            {
                "event": event.number,
                "pcr": event.pcr,
                "type": event_type_name(event.type),
                "text": describe_event(event),
            }
            for event in log.events
        ],
    }


def facts_object(facts: BootFacts) -> dict[str, object]:
    """Return facts as the JSON object that ``FactsDocument`` holds under ``facts``."""
    return cast("dict[str, object]", _plain(facts))


def _plain(value: object) -> object:
    """Return a fact, or a part of one, as what JSON can say."""
    found: object = value if isinstance(value, bool | int | None) else str(value)
    if isinstance(value, Proof):
        found = {"pcr": value.pcr, "event": value.event}
    elif isinstance(value, Fact):
        found = {"value": _plain(value.value), "proofs": _plain(value.proofs)}
    elif isinstance(value, bytes):
        found = value.hex()
    elif isinstance(value, Mapping):
        found = {str(_plain(key)): _plain(item) for key, item in value.items()}
    elif isinstance(value, frozenset):
        found = [_plain(item) for item in sorted(value)]
    elif type(value) in _TOLD:
        found = {
            name: _plain(getattr(value, _ASKED_FOR.get(name, name))) for name in _TOLD[type(value)]
        }
    elif isinstance(value, tuple):
        found = [_plain(item) for item in value]
    return found


def fact_rows(facts: BootFacts) -> Iterator[FactRow]:
    """Yield the facts for a screen, the most telling first; no control character survives."""
    for row in (*_secure_boot_rows(facts), *_firmware_rows(facts), *_loader_rows(facts)):
        yield FactRow(row.fact, row.proofs, _visible(row.value))


def _secure_boot_rows(facts: BootFacts) -> Iterator[FactRow]:
    yield _row("Secure Boot", facts.secure_boot, _on_off)
    for name, database in facts.databases.items():
        yield _row(name, database, _database)
        for digest, subject in database.value.subjects.items():
            yield FactRow(f"{name} certificate", _proofs(database), f"{_short(digest)} {subject}")
    for name, mode in facts.modes.items():
        yield _row(name, mode, _on_off)
    for authority in facts.authorities:
        yield _row("authority", authority, _authority)


def _firmware_rows(facts: BootFacts) -> Iterator[FactRow]:
    yield _row("firmware version", facts.firmware_version, str)
    for image in facts.images:
        yield _row(str(image.value.kind), image, _image)
    yield _row("boot order", facts.boot_order, lambda order: " ".join(f"{n:04X}" for n in order))
    for entry in facts.boot_entries:
        text = f"{entry.value.description} {entry.value.path}"
        yield FactRow(f"Boot{entry.value.number:04X}", _proofs(entry), text)
    for disk in facts.partition_tables:
        yield _row("partition table", disk, str)
    for action in facts.firmware_actions:
        yield _row("firmware action", action, str)
    yield _row("boot services left", facts.exit_boot_services, lambda left: "yes" if left else "no")


def _loader_rows(facts: BootFacts) -> Iterator[FactRow]:
    for line in facts.command_lines:
        yield _row("command line", line, str)
    for command in facts.loader_commands:
        yield _row("loader command", command, str)
    for file in facts.loader_files:
        yield _row("loader file", file, lambda one: f"{_short(one.digest)} {one.name}")


def remark_rows(facts: BootFacts) -> Iterator[tuple[str, str]]:
    """Yield what limits the facts: quirks met, troubles, and what is not covered."""
    for quirk in facts.quirks:
        yield "quirk", quirk
    for trouble in facts.troubles:
        place = f"PCR {trouble.proof.pcr} event {trouble.proof.event}"
        yield trouble.code, _visible(f"{place}: {trouble.reason}")
    for sentence in facts.not_covered:
        yield "not covered", sentence


def _row(name: str, fact: Fact[T] | None, show: Callable[[T], str]) -> FactRow:
    if fact is None:
        return FactRow(name, "", "not told")
    return FactRow(name, _proofs(fact), show(fact.value))


def _proofs(fact: Fact[T]) -> str:
    return ", ".join(f"PCR {proof.pcr} event {proof.event}" for proof in fact.proofs)


def _on_off(value: bool) -> str:  # noqa: FBT001 - the fact itself
    return "on" if value else "off"


def _database(database: SignatureDatabase) -> str:
    others = f", {database.others} others" if database.others else ""
    return f"{len(database.certificates)} certificates, {len(database.hashes)} hashes{others}"


def _authority(one: Authority) -> str:
    place = " (before the separator)" if one.before_separator else ""
    return f"{one.variable} {_short(one.digest)} {one.subject}{place}".rstrip()


def _image(image: Image) -> str:
    place = "" if not image.before_separator else " (by the firmware)"
    return f"{_short(image.digest)} {image.path}{place}"


def _short(digest: bytes) -> str:
    return digest.hex()[:_DIGEST_SHOWN]


def _visible(text: str) -> str:
    """Return text of a log without control characters, which could steer a terminal."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
