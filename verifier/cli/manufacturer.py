"""``verifier manufacturer``: a manufacturer's CA, its line, and the record of what was made."""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.refusals import RefusalCode
from attestation.wire.manufacture_codec import encode_challenge
from verifier.api.documents import moment
from verifier.cli import output
from verifier.cli.context import Json
from verifier.cli.line_folder import MAX_REQUEST_BYTES, LineFolder, Standing
from verifier.cli.reference_values import read_bounded, read_text
from verifier.errors import RequestRefused
from verifier.issuance.line import LineRecord, MadeDevice
from verifier.issuance.manufacture import EkTerms, read_inventory
from verifier.issuance.profiles import Issuer
from verifier.keys.authority import create_authority, load_authority
from verifier.keys.files import check_directory, make_directory, write_public
from verifier.keys.journal import FileJournal
from verifier.services.manufacture import LineTerms, ManufacturingLine, read_record
from verifier.sources import SystemClock, SystemEntropy, load_vendor_roots

manufacturer = typer.Typer(
    no_args_is_help=True, help="A manufacturer's CA, its line, and the record of what was made."
)

MANUFACTURER_CA = "manufacturer-ca"
JOURNAL = "line-journal.jsonl"
MAX_ANSWER_BYTES = 64 * 1024
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_FORMULA = ("=", "+", "-", "@")
"""A cell that begins so is a formula to a spreadsheet."""


class EkChoice(StrEnum):
    """What a line asks of endorsement keys."""

    ACTIVATE = "activate"
    """A certificate, or a place on the list; and the TPM proves that it holds the new keys."""
    REQUIRE = "require"
    CHECK = "check"
    """A certificate that is there is judged; a TPM without one is taken."""
    IGNORE = "ignore"


Directory = Annotated[
    Path, typer.Option("--directory", readable=False, help="Where the CA's key is.")
]
Inventory = Annotated[
    Path | None, typer.Option(readable=False, help="Serials this line may make, one a line.")
]
Ek = Annotated[EkChoice, typer.Option(help="What to ask of the TPM's endorsement key.")]
EkRoots = Annotated[
    Path | None,
    typer.Option(readable=False, help="Folder of TPM makers' roots beside the packaged ones."),
]
EkAllowList = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        help="SHA-256 of the endorsement keys of TPMs without certificate, one a line.",
    ),
]
RequestFile = Annotated[
    Path, typer.Argument(readable=False, help="TCG-CSR-IDEVID of `device-agent factory`.")
]


@manufacturer.command("init")
def init_manufacturer(
    *,
    directory: Directory,
    name: Annotated[str, typer.Option(help="The manufacturer's name.")] = "Example Devices",
    as_json: Json = False,
) -> None:
    """Make a manufacturer's CA and its journal, if there is none yet."""
    make_directory(directory)
    path = directory / f"{MANUFACTURER_CA}.cert.pem"
    if not path.exists():
        create_authority(directory, MANUFACTURER_CA, f"{name} Root", SystemClock().now())
    check_directory(directory)
    FileJournal(directory / JOURNAL).close()
    output.tell(
        {"certificate": str(path), "journal": str(directory / JOURNAL)},
        f"{path} is the root for trust.manufacturer_roots",
        as_json=as_json,
    )


@manufacturer.command()
def challenge(
    request: RequestFile,
    *,
    directory: Directory,
    out: Annotated[
        Path | None, typer.Option(readable=False, help="File; REQUEST with .challenge if not said.")
    ] = None,
    inventory: Inventory = None,
    ek: Ek = EkChoice.ACTIVATE,
    ek_roots: EkRoots = None,
    ek_allow_list: EkAllowList = None,
    as_json: Json = False,
) -> None:
    """Wrap a secret that only the TPM of the request's endorsement key gives back."""
    terms = _terms(inventory, ek, ek_roots, ek_allow_list)
    with _line(directory, terms) as line:
        made = line.challenge(read_bounded(request, MAX_REQUEST_BYTES))
    path = request.with_suffix(".challenge") if out is None else out
    write_public(path, encode_challenge(made))
    output.tell(
        {"serial": made.serial, "challenge": str(path)},
        f"wrote {path}; on {made.serial}: device-agent factory answer --challenge FILE "
        "--output FILE",
        as_json=as_json,
    )


@manufacturer.command()
def issue(
    request: RequestFile,
    *,
    directory: Directory,
    out: Annotated[Path, typer.Option(readable=False, help="Folder for idevid.pem and iak.pem.")],
    answer: Annotated[
        Path | None, typer.Option(readable=False, help="The device's answer to its challenge.")
    ] = None,
    replace: Annotated[
        str,
        typer.Option(
            metavar="REASON", help="Make certificates although this serial or key has some."
        ),
    ] = "",
    inventory: Inventory = None,
    ek: Ek = EkChoice.CHECK,
    ek_roots: EkRoots = None,
    ek_allow_list: EkAllowList = None,
    as_json: Json = False,
) -> None:
    """Judge a manufacture request and sign the IDevID and IAK certificates, once."""
    terms = _terms(inventory, ek, ek_roots, ek_allow_list)
    given = None if answer is None else read_bounded(answer, MAX_ANSWER_BYTES)
    with _line(directory, terms) as line:
        outcome = line.issue(
            read_bounded(request, MAX_REQUEST_BYTES), answer=given, replace=replace.strip()
        )
    made = outcome.made
    out.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, der in (("idevid", made.idevid), ("iak", made.iak)):
        paths[name] = str(out / f"{name}.pem")
        write_public(out / f"{name}.pem", pem(der))
    replaced = [one.number for one in outcome.replaced]
    word = "issued before, handed out again:" if outcome.again else "issued"
    text = f"{word} {made.serial}: {', '.join(paths.values())}"
    if replaced:
        text += "".join(
            f"\nREPLACED entry {one.number}: {one.serial} of {one.at:%Y-%m-%d}; its certificates "
            "remain valid until they are revoked: verifier manufacturer revoke "
            f"{shlex.quote(one.serial)} --replaced --reason superseded --directory "
            f"{shlex.quote(str(directory))}"
            for one in outcome.replaced
        )
    document = {"serial": made.serial, "model": made.model, **paths, "number": made.number}
    document |= {"again": outcome.again, "resident": made.resident, "replaced": replaced}
    output.tell(document, text, as_json=as_json)


@manufacturer.command("line")
def process_line(
    folder: Annotated[
        Path, typer.Argument(readable=False, help="Requests: *.csr; answers go beside them.")
    ],
    *,
    directory: Directory,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until interrupted, as files come.")
    ] = False,
    inventory: Inventory = None,
    ek: Ek = EkChoice.ACTIVATE,
    ek_roots: EkRoots = None,
    ek_allow_list: EkAllowList = None,
    as_json: Json = False,
) -> None:
    """Take each request of a folder as far as it goes; run it again at any time.

    Exit code 1 if a request was refused.
    """
    terms = _terms(inventory, ek, ek_roots, ek_allow_list)
    if not folder.is_dir():
        raise RequestRefused(RefusalCode.REQUEST_INVALID, f"{folder} is no folder")
    requests = LineFolder(folder)
    rows: list[Standing] = []
    try:
        for _ in requests.changes(forever=watch):
            with _line(directory, terms) as line:
                rows = requests.process(line)
            if watch:
                for row in requests.news(rows):
                    output.say(f"{row.name}\t{row.state}\t{row.reason}")
    except KeyboardInterrupt:
        pass
    _tell_line(rows, as_json=as_json)
    if any(row.state == "refused" for row in rows):
        raise typer.Exit(1)


@manufacturer.command()
def manifest(
    *,
    directory: Directory,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Say what was made, what was replaced and why."""
    check_directory(directory)
    with FileJournal(directory / JOURNAL) as journal:
        record = read_record(journal)
        head = journal.head
    rows = [_manifest_row(one, record) for one in record.made.values()]
    if as_json:
        output.say_json({"head": head.hex(), "devices": rows})
    elif as_csv:
        print(_as_csv(rows), end="")
    else:
        columns = (
            *("number", "made_at", "serial", "device", "model", "resident"),
            *("replaced_by", "revoked"),
        )
        output.say_table(columns, [[row[name] for name in columns] for row in rows])


def pem(der: bytes) -> bytes:
    """Return a certificate as PEM."""
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


@contextmanager
def _line(directory: Path, terms: LineTerms) -> Iterator[ManufacturingLine]:
    check_directory(directory)
    authority = load_authority(directory, MANUFACTURER_CA)
    with FileJournal(directory / JOURNAL) as journal:
        yield ManufacturingLine(
            issuer=Issuer(certificate=authority.certificate, key=authority.key),
            journal=journal,
            terms=terms,
            clock=SystemClock(),
            entropy=SystemEntropy(),
        )


def _terms(
    inventory: Path | None, ek: EkChoice, ek_roots: Path | None, ek_allow_list: Path | None
) -> LineTerms:
    activation = ek is EkChoice.ACTIVATE
    if ek_allow_list is not None and not activation:
        raise RequestRefused(
            RefusalCode.REQUEST_INVALID,
            "--ek-allow-list wants --ek activate: without it any device may name a listed key",
        )
    keys = None
    if ek is not EkChoice.IGNORE:
        keys = EkTerms(
            roots=load_vendor_roots(ek_roots),
            required=activation or ek is EkChoice.REQUIRE,
            allowed=frozenset() if ek_allow_list is None else _digests(ek_allow_list),
        )
    return LineTerms(
        inventory=None if inventory is None else read_inventory(read_text(inventory)),
        ek=keys,
        activation=activation,
    )


def _digests(path: Path) -> frozenset[bytes]:
    found = set()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        word = line.partition("#")[0].strip()
        if word and not _DIGEST.fullmatch(word):
            raise RequestRefused(
                RefusalCode.REQUEST_INVALID, f"{path}, line {number}: wanted a SHA-256, 64 hex"
            )
        if word:
            found.add(bytes.fromhex(word))
    return frozenset(found)


def _tell_line(rows: list[Standing], *, as_json: bool) -> None:
    if as_json:
        output.say_json([row.document() for row in rows])
        return
    output.say_table(
        ("request", "serial", "state", "reason"),
        [(row.name, row.serial, row.state, row.reason) for row in rows],
    )


def _manifest_row(made: MadeDevice, record: LineRecord) -> dict[str, object]:
    replaced_by = record.replaced_by(made.number)
    row: dict[str, object] = {
        "number": made.number,
        "made_at": moment(made.at),
        "serial": made.serial,
        "device": made.device,
        "model": made.model,
    }
    for role, der in (("idevid", made.idevid), ("iak", made.iak)):
        certificate = x509.load_der_x509_certificate(der)
        row[f"{role}_certificate_serial"] = f"{certificate.serial_number:x}"
        row[f"{role}_certificate_sha256"] = _sha256(certificate)
    row |= {
        "idevid_key_sha256": made.idevid_key.hex(),
        "iak_key_sha256": made.iak_key.hex(),
        "ek_key_sha256": made.ek_sha256.hex(),
        "ek_certificate_sha256": made.ek_certificate_sha256.hex(),
        "request_sha256": made.request_sha256.hex(),
        "resident": "yes" if made.resident else "no",
        "replaces": " ".join(str(number) for number in made.replaces),
        "reason": made.reason,
        "replaced_by": "" if replaced_by is None else replaced_by,
        "revoked": _revoked(made, record),
    }
    return row


def _revoked(made: MadeDevice, record: LineRecord) -> str:
    """Say which certificates are revoked, why and since when; empty if none is."""
    told = []
    for role, one in zip(("idevid", "iak"), made.certificates, strict=True):
        back = record.revoked.get(one.serial_number)
        if back is not None:
            told.append(f"{role} {back.reason.word} {moment(back.at)}")
    return "; ".join(told)


def _sha256(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _as_csv(rows: list[dict[str, object]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
