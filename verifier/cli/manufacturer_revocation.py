"""``verifier manufacturer revoke`` and ``crl``: what a line made is taken back, and listed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.refusals import RefusalCode
from verifier.api.documents import moment
from verifier.cli import output
from verifier.cli.context import Json
from verifier.cli.manufacturer import JOURNAL, MANUFACTURER_CA, Directory
from verifier.errors import RequestRefused
from verifier.issuance.profiles import Issuer
from verifier.issuance.reasons import WORDS, parse_reason
from verifier.keys.authority import load_authority
from verifier.keys.files import check_directory, write_public
from verifier.keys.journal import FileJournal
from verifier.services.line_revocation import LineRevocation
from verifier.sources import SystemClock

_CERTIFICATE: Final = re.compile(r"[0-9a-fA-F]{1,40}")
"""A serial number has at most 20 octets (RFC 5280, 4.1.2.2)."""
_MAX_DAYS: Final = 3650


def revoke(
    serial: Annotated[str, typer.Argument(help="The device's serial, as in the manifest.")],
    *,
    directory: Directory,
    reason: Annotated[str, typer.Option(help=f"One of {', '.join(WORDS)}.")],
    certificate: Annotated[
        str,
        typer.Option(metavar="HEX", help="Only the certificate with this serial number."),
    ] = "",
    replaced: Annotated[
        bool, typer.Option("--replaced", help="Only certificates that others replaced.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Revoke the certificates of a device: all that were made for its serial, if not said."""
    why = parse_reason(reason)
    if certificate and not _CERTIFICATE.fullmatch(certificate):
        raise RequestRefused(
            RefusalCode.REQUEST_INVALID, "--certificate wants a serial number of 1 to 40 hex digits"
        )
    number = int(certificate, 16) if certificate else None
    with _revocation(directory) as line:
        done = line.revoke(serial, why, certificate=number, replaced=replaced)
        rows = [
            {
                "certificate_serial": f"{one:x}",
                "reason": line.record.revoked[one].reason.word,
                "revoked_at": moment(line.record.revoked[one].at),
                "before": one in done.before,
            }
            for one in (*done.certificates, *done.before)
        ]
    text = "\n".join(
        f"{'revoked before' if row['before'] else 'revoked'} {serial}: "
        f"{row['certificate_serial']}, {row['reason']}, {row['revoked_at']}"
        for row in rows
    )
    output.tell(
        {"serial": serial, "certificates": rows},
        f"{text}\nverifiers learn it from a new list: verifier manufacturer crl --out FILE",
        as_json=as_json,
    )


def crl(
    *,
    directory: Directory,
    out: Annotated[
        Path, typer.Option(readable=False, help="File: PEM if its name ends with .pem, else DER.")
    ],
    days: Annotated[
        int, typer.Option(min=1, max=_MAX_DAYS, help="Days until the next list is due.")
    ] = 30,
    as_json: Json = False,
) -> None:
    """Sign the list of all revoked certificates, for verifiers' trust.manufacturer_crls."""
    with _revocation(directory) as line:
        made = line.sign_list(timedelta(days=days))
    content = made.der
    if out.suffix == ".pem":
        content = x509.load_der_x509_crl(content).public_bytes(Encoding.PEM)
    write_public(out, content)
    output.tell(
        {
            "list": str(out),
            "number": made.number,
            "revoked": made.revoked,
            "next_update": moment(made.until),
        },
        f"wrote {out}: list {made.number}, {made.revoked} revoked, the next one is due "
        f"{moment(made.until)}",
        as_json=as_json,
    )


@contextmanager
def _revocation(directory: Path) -> Iterator[LineRevocation]:
    check_directory(directory)
    authority = load_authority(directory, MANUFACTURER_CA)
    with FileJournal(directory / JOURNAL) as journal:
        yield LineRevocation(
            issuer=Issuer(certificate=authority.certificate, key=authority.key),
            journal=journal,
            clock=SystemClock(),
        )
