"""``verifier ca root``, ``ca sign``, ``ca revoke``: done where the root is, without settings."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from attestation.refusals import RefusalCode
from verifier.cli import output
from verifier.cli.ca import (
    MAX_CERTIFICATE_BYTES,
    RootFolder,
    RootPassphrase,
    read_certificate,
)
from verifier.cli.context import Json
from verifier.cli.reference_values import read_bounded
from verifier.errors import RequestRefused
from verifier.issuance.hierarchy import ISSUING_LIFETIME, issuing_certificate
from verifier.issuance.profiles import SERIAL_ENTROPY_BYTES, certificate_serial
from verifier.keys.ceremony import DEFAULT_NAME
from verifier.keys.files import write_public
from verifier.keys.offline_root import ROOT_CERTIFICATE, make_root, open_root, revoke_issuing
from verifier.keys.register import pem
from verifier.sources import SystemClock, SystemEntropy


def make(
    folder: Annotated[Path, typer.Argument(readable=False, help="Folder of the new root.")],
    *,
    name: Annotated[str, typer.Option(help="Name in the certificate.")] = DEFAULT_NAME,
    passphrase: Annotated[
        Path | None,
        typer.Option(readable=False, help="File with a passphrase; else a random one is made."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a root CA on a machine that is, and stays, without a network."""
    root = make_root(folder, name, passphrase, at=SystemClock().now(), entropy=SystemEntropy())
    subject = root.certificate.subject.rfc4514_string()
    output.tell(
        {"subject": subject, "certificate": str(folder / ROOT_CERTIFICATE)},
        f"made {subject}; on the verifier: verifier ca trust {ROOT_CERTIFICATE}",
        as_json=as_json,
    )


def revoke(
    certificate: Annotated[
        Path | None,
        typer.Argument(
            readable=False,
            help="The issuing CA's certificate, PEM; without one the list is only signed anew.",
        ),
    ] = None,
    *,
    root: RootFolder,
    out: Annotated[Path, typer.Option(readable=False, help="Where the list goes, PEM.")],
    days: Annotated[int, typer.Option(min=1, max=3653, help="Days that the list holds.")] = 365,
    root_passphrase: RootPassphrase = None,
    as_json: Json = False,
) -> None:
    """Have the root sign its revocation list, and revoke an issuing CA whose key was stolen."""
    at = SystemClock().now()
    made = revoke_issuing(
        root,
        open_root(root, root_passphrase),
        None if certificate is None else read_certificate(certificate),
        at=at,
        until=at + timedelta(days=days),
    )
    write_public(out, made.public_bytes(serialization.Encoding.PEM))
    output.tell(
        {"list": str(out), "revoked": len(made)},
        f"wrote {out}, {len(made)} revoked; on the verifier: verifier ca publish {out.name}, and "
        "give it to relying parties",
        as_json=as_json,
    )


def sign(
    request: Annotated[Path, typer.Argument(readable=False, help="Of: verifier ca request.")],
    *,
    root: RootFolder,
    out: Annotated[Path, typer.Option(readable=False, help="Where the certificate goes, PEM.")],
    days: Annotated[
        int, typer.Option(min=1, max=7305, help="Days that it lasts.")
    ] = ISSUING_LIFETIME.days,
    root_passphrase: RootPassphrase = None,
    as_json: Json = False,
) -> None:
    """Sign the request of an issuing CA with the root."""
    try:
        parsed = x509.load_pem_x509_csr(read_bounded(request, MAX_CERTIFICATE_BYTES))
    except ValueError as error:
        raise RequestRefused(
            RefusalCode.CSR_MALFORMED, f"{request} is not a PEM certificate request"
        ) from error
    certificate = issuing_certificate(
        parsed,
        open_root(root, root_passphrase),
        serial=certificate_serial(SystemEntropy().take(SERIAL_ENTROPY_BYTES)),
        at=SystemClock().now(),
        lifetime=timedelta(days=days),
    )
    write_public(out, pem(certificate))
    output.tell(
        {"certificate": str(out), "subject": certificate.subject.rfc4514_string()},
        f"wrote {out}; on the verifier: verifier ca import {out.name}",
        as_json=as_json,
    )
