"""``verifier ek``: judge an endorsement key's certificate, with no service, store or network."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from attestation.ek.certificate import MakerCertificate, parse_maker_certificate
from attestation.ek.forms import read_certificate, split_chain, split_pem
from attestation.ek.roca import has_roca_fingerprint
from attestation.errors import AttestationError, VerificationError
from attestation.limits import MAX_CERTIFICATE_BYTES, MAX_CHAIN_LENGTH
from attestation.refusals import RefusalCode
from verifier.api.documents import moment
from verifier.cli import output
from verifier.cli.context import Json
from verifier.cli.failures import failure
from verifier.cli.reference_values import read_bounded
from verifier.endorsement.ek import EkEndorsement, EkRules, judge_ek
from verifier.endorsement.vendor_roots import VendorRoots
from verifier.errors import RequestRefused
from verifier.sources import SystemClock, load_vendor_roots

MAX_FILE_BYTES = 4 * MAX_CERTIFICATE_BYTES
"""A certificate as PEM, or all of an NV index."""


class Reason(TypedDict):
    """Why a key is refused, or what to know about it."""

    code: str
    reason: str


class EkDocument(TypedDict):
    """The document of ``verifier ek --json``; digests in hexadecimal."""

    sha256: str
    subject: str
    issuer: str
    serial: str
    not_before: str
    not_after: str
    manufacturer: str
    model: str
    version: str
    specification: str
    key: str
    roca: bool
    quirks: list[str]
    verdict: str
    path: list[str]
    findings: list[Reason]
    refusal: Reason | None


def command(
    file: Annotated[
        Path,
        typer.Argument(readable=False, help="EK certificate: DER, PEM, or an NV index's bytes."),
    ],
    *,
    roots: Annotated[
        Path | None,
        typer.Option(readable=False, help="Folder of further roots and intermediates, PEM or DER."),
    ] = None,
    only: Annotated[
        bool, typer.Option("--only", help="Believe --roots alone, not the packaged makers.")
    ] = False,
    chain: Annotated[
        Path | None,
        typer.Option(
            readable=False, help="Intermediates that came with it: PEM, or NV chain bytes."
        ),
    ] = None,
    nv: Annotated[
        bool, typer.Option("--nv", help="FILE is a whole NV index: padding may follow.")
    ] = False,
    at: Annotated[str, typer.Option(help="Judge as of this moment, ISO 8601; now.")] = "",
    accept_expired: Annotated[
        bool, typer.Option("--accept-expired", help="Take a certificate that is past its end.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge an EK certificate: chain, maker, key. Exit code 0 believed, 1 refused, 2 malformed."""
    believed = load_vendor_roots(roots, only=only)
    when = _moment(at)
    certificate = read_certificate(read_bounded(file, MAX_FILE_BYTES), from_nv=nv)
    document, refusal = judge_file(
        certificate,
        _presented(chain),
        believed,
        when,
        rules=EkRules(accept_expired=accept_expired),
    )
    if as_json:
        output.say_json(document)
    else:
        _print(document)
    if refusal is not None:
        raise typer.Exit(failure(refusal))
    raise typer.Exit(0)


def judge_file(
    certificate: MakerCertificate,
    presented: tuple[MakerCertificate, ...],
    roots: VendorRoots,
    at: datetime,
    *,
    rules: EkRules,
) -> tuple[EkDocument, AttestationError | None]:
    """Judge and describe one certificate.

    Returns:
        The document of ``verifier ek --json``, and why the key is refused, if it is.
    """
    endorsement: EkEndorsement | None = None
    refusal: VerificationError | None = None
    try:
        endorsement = judge_ek(certificate, presented, roots, at, rules=rules)
    except VerificationError as error:
        refusal = error
    maker, specification = certificate.maker, certificate.specification
    modulus = certificate.public_key.modulus
    document: EkDocument = {
        "sha256": certificate.sha256.hex(),
        "subject": certificate.subject.text,
        "issuer": certificate.issuer.text,
        "serial": f"{certificate.serial:x}",
        "not_before": moment(certificate.not_before),
        "not_after": moment(certificate.not_after),
        "manufacturer": maker.manufacturer if maker else "",
        "model": maker.model if maker else "",
        "version": maker.version if maker else "",
        "specification": (
            f"{specification.family} level {specification.level} rev {specification.revision}"
            if specification
            else ""
        ),
        "key": certificate.public_key.label,
        "roca": modulus is not None and has_roca_fingerprint(modulus),
        "quirks": sorted(certificate.quirks),
        "verdict": "refused" if refusal else "believed",
        "path": [one.display_name for one in endorsement.path] if endorsement else [],
        "findings": [
            {"code": str(finding.code), "reason": finding.reason}
            for finding in (endorsement.findings if endorsement else ())
        ],
        "refusal": {"code": str(refusal.code), "reason": refusal.reason} if refusal else None,
    }
    return document, refusal


def _presented(chain: Path | None) -> tuple[MakerCertificate, ...]:
    if chain is None:
        return ()
    content = read_bounded(chain, 2 * MAX_CHAIN_LENGTH * MAX_CERTIFICATE_BYTES)
    ders = split_pem(content) if b"-----BEGIN" in content else split_chain(content)
    return tuple(parse_maker_certificate(der) for der in ders[: MAX_CHAIN_LENGTH + 1])


def _moment(text: str) -> datetime:
    if not text:
        return SystemClock().now()
    try:
        given = datetime.fromisoformat(text)
    except ValueError as error:
        raise RequestRefused(
            RefusalCode.REQUEST_INVALID, "--at wants a moment like 2026-05-01T12:00:00Z"
        ) from error
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def _print(document: EkDocument) -> None:
    rows = (
        ("TPM", f"{document['manufacturer']} {document['model']} {document['version']}".strip()),
        ("library", document["specification"]),
        ("key", document["key"] + (", ROCA fingerprint" if document["roca"] else "")),
        ("subject", document["subject"]),
        ("issuer", document["issuer"]),
        ("serial", document["serial"]),
        ("valid", f"{document['not_before']} to {document['not_after']}"),
        ("sha256", document["sha256"]),
        ("quirks", ", ".join(document["quirks"])),
    )
    for name, value in rows:
        if value:
            output.say(f"{name}: {value}")
    for step in document["path"][1:]:
        output.say(f"path: {step}")
    for finding in document["findings"]:
        output.say(f"finding: {finding['code']}: {finding['reason']}")
    output.say(f"verdict: {document['verdict']}")
