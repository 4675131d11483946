"""``verifier ca``: the credential authority's keys; docs/certificate-authority.md tells how."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from attestation.refusals import RefusalCode
from verifier.api.documents import moment
from verifier.cli import context, output
from verifier.cli.authority_log import described, record, require_log
from verifier.cli.ca_certificates import count_running, publish_list, revoke_all
from verifier.cli.context import Json
from verifier.cli.reference_values import read_bounded
from verifier.errors import Conflict, RequestRefused
from verifier.keys.authority_status import AuthorityStatus, authority_status
from verifier.keys.ca_keys import CaKeys
from verifier.keys.ceremony import Ceremony
from verifier.keys.files import write_public
from verifier.keys.offline_root import open_root
from verifier.keys.register import RegisterEntry, certified_key_id, load_register
from verifier.keys.secret_source import passphrase_file
from verifier.keys.setup import AuthorityPlan, found_authority
from verifier.settings import Settings
from verifier.sources import SystemClock, SystemEntropy, load_certificate_profiles

MAX_CERTIFICATE_BYTES: Final = 16_384
MAX_LIST_BYTES: Final = 1024 * 1024

ca = typer.Typer(
    no_args_is_help=True, help="Keys and certificates of the CAs that certify devices and agents."
)

RootFolder = Annotated[
    Path, typer.Option("--root", readable=False, help="The root's folder (verifier ca root).")
]
RootPassphrase = Annotated[
    Path | None,
    typer.Option(readable=False, help="File with the root's passphrase, if not in its folder."),
]
CaId = Annotated[str, typer.Argument(help="The CA's id (verifier ca status).")]
Name = Annotated[str | None, typer.Option(help="Name in the certificates; as before if not said.")]
KeyLabel = Annotated[
    str, typer.Option(help="Label of a key that is in the token already; else one is made.")
]
CertificateFile = Annotated[Path, typer.Argument(readable=False, help="A certificate, PEM.")]


@ca.command("status")
def status(*, as_json: Json = False) -> None:
    """Show every CA, until when it lasts, and what to do. Exit code 1 if none can issue."""
    settings = context.settings()
    profiles = load_certificate_profiles(settings)
    found = authority_status(settings, os.environ, SystemClock().now(), profiles)
    if as_json:
        output.say_json(
            {
                "authorities": [
                    {**asdict(one), "not_after": moment(one.not_after) if one.not_after else None}
                    for one in found.authorities
                ],
                "findings": [asdict(one) for one in found.findings],
            }
        )
    else:
        _show(found)
    raise typer.Exit(int(any(one.failed for one in found.findings)))


@ca.command("init")
def init(
    *,
    root_to: Annotated[
        Path | None, typer.Option(readable=False, help="Folder for the new root.")
    ] = None,
    root_passphrase: RootPassphrase = None,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Make a new root and an issuing CA below it; what issued until now is retired."""
    settings = context.settings()
    require_log(settings)
    directory, at = Path(settings.keys.directory), SystemClock().now()
    plan = AuthorityPlan(
        settings=settings.authority,
        environment=os.environ,
        name=name or _ceremony(settings)[0].name(),
        root_to=root_to,
        root_passphrase=root_passphrase,
    )
    made = found_authority(directory, plan, at=at, entropy=SystemEntropy())
    record(settings, "founded", {"made": list(made)}, at)
    if as_json:
        output.say_json({"made": list(made)})
    for thing in () if as_json else made:
        output.say(f"made {thing}")


@ca.command("rotate")
def rotate(
    *,
    root: RootFolder,
    root_passphrase: RootPassphrase = None,
    name: Name = None,
    key_label: KeyLabel = "",
    as_json: Json = False,
) -> None:
    """Make a new issuing CA with the root at hand; the running service follows by itself."""
    settings = context.settings()
    require_log(settings)
    ceremony, keys = _ceremony(settings)
    at = SystemClock().now()
    try:
        opened = open_root(root, root_passphrase)
        entry = ceremony.rotate(opened, name or ceremony.name(), at, key_label)
    finally:
        keys.close()
    _done(settings, "rotated", entry, f"{entry.id} issues from now on", as_json=as_json)


@ca.command("request")
def request(
    out: Annotated[Path, typer.Argument(readable=False, help="Where the request goes, PEM.")],
    *,
    name: Name = None,
    key_label: KeyLabel = "",
    as_json: Json = False,
) -> None:
    """Make the key of the next issuing CA and a request for the root, which is elsewhere."""
    settings = context.settings()
    require_log(settings)
    ceremony, keys = _ceremony(settings)
    try:
        made = ceremony.request(name or ceremony.name(), SystemClock().now(), key_label)
    finally:
        keys.close()
    write_public(out, made.request.public_bytes(serialization.Encoding.PEM))
    text = f"wrote {out}; where the root is: verifier ca sign {out} --root FOLDER --out FILE"
    _done(settings, "requested", made.entry, text, as_json=as_json)


@ca.command("import")
def import_certificate(certificate: CertificateFile, *, as_json: Json = False) -> None:
    """Take the certificate that the root signed: its CA issues from now on."""
    settings = context.settings()
    require_log(settings)
    ceremony, keys = _ceremony(settings)
    try:
        entry = ceremony.accept(read_certificate(certificate), SystemClock().now())
    finally:
        keys.close()
    _done(settings, "imported", entry, f"{entry.id} issues from now on", as_json=as_json)


@ca.command("trust")
def trust(certificate: CertificateFile, *, as_json: Json = False) -> None:
    """Add a root of ours: the first, or the next one, in overlap with the old."""
    settings = context.settings()
    require_log(settings)
    ceremony, at = _ceremony(settings)[0], SystemClock().now()
    root = read_certificate(certificate)
    new = ceremony.trust(root, at)
    told = {"root": certified_key_id(root), "subject": root.subject.rfc4514_string()}
    if new:
        record(settings, "trusted", told, at)
    text = f"{told['subject']} is a root of ours" + ("" if new else " already")
    output.tell({**told, "new": new}, text, as_json=as_json)


@ca.command("distrust")
def distrust(
    wanted: CaId,
    *,
    reason: Annotated[str, typer.Option(help="Why, for the log.")],
    as_json: Json = False,
) -> None:
    """After a compromise: believe nothing that a CA signed, and revoke all of it."""
    settings = context.settings()
    require_log(settings)
    ceremony, at = _ceremony(settings)[0], SystemClock().now()
    entry = ceremony.distrust(wanted, at)
    record(settings, "distrusted", {**described(entry), "reason": reason}, at)
    revoked = revoke_all(settings, entry, reason, at)
    output.tell(
        {**described(entry), "revoked": revoked},
        f"{entry.id} is distrusted, {revoked} certificates are revoked; have the root revoke it "
        "too (docs/certificate-authority.md), and make a new one: verifier ca rotate",
        as_json=as_json,
    )


@ca.command("publish")
def publish(
    file: Annotated[Path, typer.Argument(readable=False, help="Of: verifier ca revoke, PEM.")],
    *,
    as_json: Json = False,
) -> None:
    """Take the root's newest revocation list into the store."""
    settings, at = context.settings(), SystemClock().now()
    try:
        found = x509.load_pem_x509_crl(read_bounded(file, MAX_LIST_BYTES))
    except ValueError as error:
        raise RequestRefused(
            RefusalCode.CERTIFICATE_MALFORMED, f"{file} is not a PEM revocation list"
        ) from error
    root, number = publish_list(settings, found, at)
    told = {"root": certified_key_id(root), "number": number, "revoked": len(found)}
    record(settings, "published", told, at)
    output.tell(told, f"list {number} of {told['root']} is in the store", as_json=as_json)


@ca.command("remove")
def remove(wanted: CaId, *, as_json: Json = False) -> None:
    """Destroy the key of a CA whose last certificate has ended, and forget it."""
    settings = context.settings()
    require_log(settings)
    ceremony, keys = _ceremony(settings)
    entry = load_register(Path(settings.keys.directory)).entry(wanted)
    if running := count_running(settings, entry, SystemClock().now()):
        raise Conflict(
            RefusalCode.CA_IN_USE,
            f"{running} certificates of {wanted} still run: its revocation list is still needed",
        )
    try:
        entry = ceremony.remove(wanted)
    finally:
        keys.close()
    _done(settings, "removed", entry, f"removed {entry.id} and its key", as_json=as_json)


@ca.command("encrypt")
def encrypt(
    *,
    old_passphrase: Annotated[
        Path | None,
        typer.Option(readable=False, help="File with the passphrase of before, if there was one."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put every key file under the passphrase that [authority] names."""
    settings = context.settings()
    require_log(settings)
    old = passphrase_file(old_passphrase).read() if old_passphrase else None
    done = _ceremony(settings)[0].encrypt(old)
    record(settings, "encrypted", {"cas": list(done)}, SystemClock().now())
    text = f"{len(done)} key files are under the passphrase: {', '.join(done)}"
    output.tell({"encrypted": list(done)}, text, as_json=as_json)


def _ceremony(settings: Settings) -> tuple[Ceremony, CaKeys]:
    directory = Path(settings.keys.directory)
    keys = CaKeys(directory, settings.authority, os.environ)
    return Ceremony(directory, settings.authority, keys, SystemEntropy()), keys


def _done(settings: Settings, act: str, entry: RegisterEntry, text: str, *, as_json: bool) -> None:
    told = described(entry)
    record(settings, act, told, SystemClock().now())
    output.tell(told, text, as_json=as_json)


def read_certificate(path: Path) -> x509.Certificate:
    """Read a PEM certificate.

    Raises:
        RequestRefused: ``certificate-malformed`` if it is none.
    """
    try:
        return x509.load_pem_x509_certificate(read_bounded(path, MAX_CERTIFICATE_BYTES))
    except ValueError as error:
        raise RequestRefused(
            RefusalCode.CERTIFICATE_MALFORMED, f"{path} is not a PEM certificate"
        ) from error


def _show(found: AuthorityStatus) -> None:
    output.say_table(
        ("id", "state", "subject", "key", "algorithm", "ends", "days left"),
        [
            (
                one.id,
                one.state,
                one.subject,
                f"{one.backend} {one.key}".strip(),
                one.algorithm,
                moment(one.not_after) if one.not_after else "",
                "" if one.days_left is None else one.days_left,
            )
            for one in found.authorities
        ],
    )
    for finding in found.findings:
        kind = "failed" if finding.failed else "warning"
        print(f"{kind}: {finding.code}: {finding.reason}; {finding.mend}", file=sys.stderr)
