"""``verifier manufacturer``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from attestation.tpm import csr_idevid
from verifier.cli import output
from verifier.cli.context import Json
from verifier.cli.reference_values import read_bounded, read_text
from verifier.issuance.manufacture import EkTerms, issue_identity, judge_manufacture
from verifier.issuance.profiles import SERIAL_ENTROPY_BYTES, Issuer, certificate_serial
from verifier.keys.authority import create_authority, load_authority
from verifier.keys.files import check_directory, make_directory, write_public
from verifier.sources import SystemClock, SystemEntropy, load_vendor_roots

manufacturer = typer.Typer(
    no_args_is_help=True, help="A manufacturer's CA in a box, for pilot lines and tests."
)

MANUFACTURER_CA = "manufacturer-ca"
MAX_REQUEST_BYTES = 256 * 1024


class EkChoice(StrEnum):
    """What a line asks of EK certificates in manufacture requests."""

    REQUIRE = "require"
    CHECK = "check"
    """One that is there is judged; a TPM without one is taken."""
    IGNORE = "ignore"


Directory = Annotated[
    Path, typer.Option("--directory", readable=False, help="Where the CA's key is.")
]


@manufacturer.command("init")
def init_manufacturer(
    *,
    directory: Directory,
    name: Annotated[str, typer.Option(help="The manufacturer's name.")] = "Example Devices",
    as_json: Json = False,
) -> None:
    """Make a manufacturer's CA, if there is none yet."""
    make_directory(directory)
    path = directory / f"{MANUFACTURER_CA}.cert.pem"
    if not path.exists():
        create_authority(directory, MANUFACTURER_CA, f"{name} Root", SystemClock().now())
    check_directory(directory)
    output.tell(
        {"certificate": str(path)},
        f"{path} is the root for trust.manufacturer_roots",
        as_json=as_json,
    )


@manufacturer.command()
def issue(
    request: Annotated[
        Path, typer.Argument(readable=False, help="TCG-CSR-IDEVID of `device-agent factory`.")
    ],
    *,
    directory: Directory,
    out: Annotated[Path, typer.Option(readable=False, help="Folder for idevid.pem and iak.pem.")],
    inventory: Annotated[
        Path | None, typer.Option(readable=False, help="Serials this line may make, one a line.")
    ] = None,
    ek: Annotated[
        EkChoice, typer.Option(help="What to ask of the EK certificate in the request.")
    ] = EkChoice.CHECK,
    ek_roots: Annotated[
        Path | None,
        typer.Option(readable=False, help="Folder of TPM makers' roots beside the packaged ones."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge a manufacture request and sign the IDevID and IAK certificates."""
    check_directory(directory)
    authority = load_authority(directory, MANUFACTURER_CA)
    terms = None
    if ek is not EkChoice.IGNORE:
        terms = EkTerms(roots=load_vendor_roots(ek_roots), required=ek is EkChoice.REQUIRE)
    accepted = judge_manufacture(
        csr_idevid.parse(read_bounded(request, MAX_REQUEST_BYTES)),
        inventory=None if inventory is None else set(read_text(inventory).splitlines()),
        ek=terms,
        at=SystemClock().now(),
    )
    entropy = SystemEntropy()
    serials = (
        certificate_serial(entropy.take(SERIAL_ENTROPY_BYTES)),
        certificate_serial(entropy.take(SERIAL_ENTROPY_BYTES)),
    )
    made = issue_identity(
        accepted,
        Issuer(certificate=authority.certificate, key=authority.key),
        serials=serials,
        at=SystemClock().now(),
    )
    out.mkdir(parents=True, exist_ok=True)
    paths = _write_certificates(out, {"idevid": made.idevid, "iak": made.iak})
    output.tell(
        {"serial": accepted.hardware_serial, "model": accepted.model, **paths},
        f"issued {accepted.hardware_serial}: {', '.join(paths.values())}",
        as_json=as_json,
    )


def _write_certificates(out: Path, chosen: dict[str, x509.Certificate]) -> dict[str, str]:
    paths = {}
    for name, certificate in chosen.items():
        path = out / f"{name}.pem"
        write_public(path, certificate.public_bytes(serialization.Encoding.PEM))
        paths[name] = str(path)
    return paths
