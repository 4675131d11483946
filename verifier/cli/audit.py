"""``verifier certificates audit``: the issuance log held against itself and against the store."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

import typer

from attestation.refusals import RefusalCode
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.errors import RequestRefused
from verifier.issuance.log import ISSUED, REVOKED, Chain, ChainBroken
from verifier.ports.credentials import LogEntry, StoredCertificate

if TYPE_CHECKING:
    from verifier.ports.credentials import CredentialReader

SOUND, UNSOUND = 0, 1
_PAGE: Final = 1000
_MOST_TOLD: Final = 50
_HEX_DIGITS: Final = 64

Pinned = Annotated[
    str,
    typer.Option("--from", help="An earlier head, NUMBER:DIGEST: the log must lead through it."),
]


@dataclass(slots=True, kw_only=True)
class Audit:
    """What an audit has found so far.

    Attributes:
        chain: How far the chain holds.
        issued: Certificates that the log tells of.
        revoked: Revocations that the log tells of.
        faults: What is wrong, one sentence each.
    """

    chain: Chain = field(default_factory=Chain)
    issued: int = 0
    revoked: int = 0
    faults: list[str] = field(default_factory=list)


def audit(*, pinned: Pinned = "", as_json: Json = False) -> None:
    """Hold the issuance log against itself and every certificate. Exit code 0 sound, 1 not."""
    expected = _pin(pinned)
    found = run_audit(context.store(context.settings()), expected, tell=_progress(as_json=as_json))
    head = found.chain.head.hex()
    if as_json:
        output.say_json(
            {
                "sound": not found.faults,
                "entries": found.chain.number,
                "head": f"{found.chain.number}:{head}",
                "issued": found.issued,
                "revoked": found.revoked,
                "faults": found.faults,
            }
        )
    else:
        for fault in found.faults[:_MOST_TOLD]:
            output.say(f"fault: {fault}")
        if len(found.faults) > _MOST_TOLD:
            output.say(f"fault: and {len(found.faults) - _MOST_TOLD} more")
        output.say(
            f"{found.chain.number} entries, {found.issued} certificates, {found.revoked} "
            f"revocations: {'NOT sound' if found.faults else 'sound'}"
        )
        output.say(f"head {found.chain.number}:{head}")
    raise typer.Exit(UNSOUND if found.faults else SOUND)


def run_audit(
    store: CredentialReader, pinned: tuple[int, str] | None, *, tell: Iterator[None]
) -> Audit:
    """Go through the log once, page by page, with the certificates beside it.

    Args:
        store: Whose log.
        pinned: Number and digest (hexadecimal) of an entry that must be in it.
        tell: Advanced once for each page.
    """
    found = Audit()
    certificates = _certificates(store)
    waiting = next(certificates, None)
    while entries := store.log_entries(after=found.chain.number, limit=_PAGE):
        try:
            for entry in entries:
                found.chain.follow([_link(entry)])
                if pinned is not None and entry.number == pinned[0]:
                    _hold_pin(found, entry, pinned[1])
                if entry.kind == ISSUED:
                    found.issued += 1
                    waiting = _hold(found, entry, waiting, certificates)
                elif entry.kind == REVOKED:
                    found.revoked += 1
        except ChainBroken as broken:
            found.faults.append(str(broken))
            return found
        next(tell, None)
    if pinned is not None and found.chain.number < pinned[0]:
        found.faults.append(f"entry {pinned[0]}: it was there once and is gone")
    while waiting is not None:
        found.faults.append(f"certificate {_name(waiting)}: the log does not tell of it")
        waiting = next(certificates, None)
    _hold_revocations(found, store)
    return found


def _hold(
    found: Audit,
    entry: LogEntry,
    waiting: StoredCertificate | None,
    certificates: Iterator[StoredCertificate],
) -> StoredCertificate | None:
    """Hold an entry against the certificate of its number; return the next certificate."""
    while waiting is not None and waiting.number < entry.number:
        found.faults.append(f"certificate {_name(waiting)}: entry {waiting.number} is not its own")
        waiting = next(certificates, None)
    if waiting is None or waiting.number != entry.number:
        found.faults.append(f"entry {entry.number}: its certificate is not in the store")
        return waiting
    told, kept = json.loads(entry.entry), waiting.certificate
    for name, value in (
        ("certificate", kept.sha256.hex()),
        ("serial", f"{kept.serial:x}"),
        ("holder", kept.holder),
        ("key", kept.spki_sha256.hex()),
    ):
        if told.get(name) != value:
            found.faults.append(f"entry {entry.number}: its {name} is not that in the store")
    return next(certificates, None)


def _hold_revocations(found: Audit, store: CredentialReader) -> None:
    """Every certificate that the store calls revoked must be so in the log, and the reverse."""
    logged: dict[str, int] = {}
    after = 0
    while entries := store.log_entries(after=after, limit=_PAGE):
        told = (json.loads(entry.entry) for entry in entries if entry.kind == REVOKED)
        logged.update((one["certificate"], one["code"]) for one in told)
        after = entries[-1].number
    for one in _certificates(store):
        name, revoked = one.certificate.sha256.hex(), one.revoked_at is not None
        if revoked and name not in logged:
            found.faults.append(f"certificate {_name(one)}: revoked, and no entry tells of it")
        elif not revoked and name in logged:
            found.faults.append(
                f"certificate {_name(one)}: an entry revokes it, the store does not"
            )
        elif revoked and logged[name] != one.revoked_code:
            found.faults.append(
                f"certificate {_name(one)}: the log tells another reason than the store"
            )


def _certificates(store: CredentialReader) -> Iterator[StoredCertificate]:
    after = 0
    while page := store.certificates(after=after, limit=_PAGE):
        yield from page
        after = page[-1].number


def _link(entry: LogEntry) -> tuple[int, int, str, str, bytes, bytes]:
    at_us = round(entry.at.timestamp() * 1_000_000)
    return entry.number, at_us, entry.kind, entry.entry, entry.previous, entry.sha256


def _hold_pin(found: Audit, entry: LogEntry, digest: str) -> None:
    if entry.sha256.hex() != digest:
        found.faults.append(
            f"entry {entry.number}: it is not the one that was noted; the log was rewritten"
        )


def _name(one: StoredCertificate) -> str:
    return f"{one.certificate.serial:x} of {one.certificate.holder or one.certificate.device}"


def _pin(text: str) -> tuple[int, str] | None:
    if not text:
        return None
    number, _, digest = text.partition(":")
    if not number.isdecimal() or len(digest) != _HEX_DIGITS:
        raise RequestRefused(
            RefusalCode.REQUEST_INVALID, "--from is NUMBER:DIGEST as an audit prints its head"
        )
    return int(number), digest.lower()


def _progress(*, as_json: bool) -> Iterator[None]:
    """Say on a terminal how many pages were read."""
    told = sys.stderr.isatty() and not as_json
    pages = 0
    while True:
        yield
        pages += 1
        if told:
            print(f"\r{pages * _PAGE} entries", end="", file=sys.stderr, flush=True)
