"""``verifier aibom``: which AI agents are known, and which providers may vouch for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from attestation.limits import MAX_AIBOM_BYTES, MAX_ENDORSEMENT_BYTES
from attestation.logs.cel import shown_path
from attestation.refusals import RefusalCode
from attestation.wire.cyclonedx import read_aibom
from verifier.api.documents import moment
from verifier.cli import context, output
from verifier.cli.aibom_files import check_folder, require_schema
from verifier.cli.context import Json
from verifier.cli.reference_values import read_bounded, read_text
from verifier.errors import RequestRefused
from verifier.ports import DocumentKind
from verifier.reference_values.aibom import AiBom, load_aibom, pack_aibom
from verifier.reference_values.provider import read_provider
from verifier.services.reference_documents import ReferenceDocuments
from verifier.sources import SystemClock

aibom = typer.Typer(no_args_is_help=True, help="Which AI agents are known, and who vouches.")

Name = Annotated[str, typer.Argument(help="Name and version of the agent, as 'list' shows it.")]
File = Annotated[Path, typer.Argument(readable=False, help="AIBOM: CycloneDX 1.6 or 1.7, JSON.")]
Provider = Annotated[str, typer.Argument(help="Name of the provider, for people and policies.")]

_NEVER_HOLDS: Final = (
    RefusalCode.PROVIDER_ENDORSEMENT_MALFORMED,
    RefusalCode.PROVIDER_SIGNATURE_INVALID,
    RefusalCode.PROVIDER_SUBJECT_MISMATCH,
)
"""What no later trust can mend, so that it is refused at once."""


def _documents() -> ReferenceDocuments:
    return ReferenceDocuments(context.store(context.settings()))


def _providers(documents: ReferenceDocuments) -> Mapping[str, str]:
    return {one.name: one.document for one in documents.list(DocumentKind.PROVIDER)}


@aibom.command()
def add(
    file: File,
    *,
    endorsement: Annotated[
        Path | None,
        typer.Option(readable=False, help="The provider's endorsement: DSSE envelope, JSON."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Load an AIBOM; one of the same name and version is replaced."""
    content = read_bounded(file, MAX_AIBOM_BYTES)
    require_schema(content)
    envelope = None
    if endorsement is not None:
        envelope = read_bounded(endorsement, MAX_ENDORSEMENT_BYTES).decode("utf-8", "replace")
    document = pack_aibom(content.decode(), envelope)
    documents = _documents()
    bom = load_aibom(document, str(file), _providers(documents))
    held = bom.endorsement
    if endorsement is not None and held.code in _NEVER_HOLDS:
        raise RequestRefused(held.code, f"{endorsement}: {held.reason}")
    documents.put(DocumentKind.AIBOM, bom.name, document, SystemClock().now())
    if as_json:
        output.say_json(_document(bom))
        return
    output.say(f"added {bom.name}: {len(bom.files)} files, {len(bom.components)} components")
    if bom.missing:
        output.say(f"warning: it says nothing of {', '.join(part.value for part in bom.missing)}")
    output.say(_endorsed(bom))


@aibom.command("list")
def list_aiboms(*, as_json: Json = False) -> None:
    """List the AIBOMs."""
    documents = _documents()
    providers = _providers(documents)
    found = [
        (one, load_aibom(one.document, one.name, providers))
        for one in documents.list(DocumentKind.AIBOM)
    ]
    if as_json:
        output.say_json([_document(bom) for _, bom in found])
        return
    rows = [
        (bom.name, len(bom.files), bom.sha256.hex()[:16], moment(one.created_at), _state(bom))
        for one, bom in found
    ]
    output.say_table(("agent", "files", "sha256", "since", "endorsement"), rows)


@aibom.command()
def show(name: Name, *, as_json: Json = False) -> None:
    """Show one AIBOM: its files, what it lacks, and who endorses it."""
    documents = _documents()
    stored = documents.get(DocumentKind.AIBOM, name)
    bom = load_aibom(stored.document, name, _providers(documents))
    if as_json:
        output.say_json(_document(bom))
        return
    output.say(f"{bom.name}, SHA-256 {bom.sha256.hex()}")
    output.say(_endorsed(bom))
    if bom.missing:
        output.say(f"warning: it says nothing of {', '.join(part.value for part in bom.missing)}")
    rows = [
        (shown_path(path), "program" if one.program else "data", shown_path(one.component))
        for path, one in sorted(bom.files.items())
    ]
    output.say_table(("file", "kind", "component"), rows)


@aibom.command()
def remove(name: Name, *, as_json: Json = False) -> None:
    """Remove an AIBOM; devices that measure it are refused from then on."""
    _documents().remove(DocumentKind.AIBOM, name)
    output.tell({"name": name, "removed": True}, f"removed {name}", as_json=as_json)


@aibom.command()
def trust(
    name: Provider,
    keyfile: Annotated[
        Path, typer.Argument(readable=False, help="PEM file: a public key or a certificate.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Trust a provider to endorse AIBOMs; one of the same name is replaced."""
    pem = read_text(keyfile)
    provider = read_provider(name, pem)
    _documents().put(DocumentKind.PROVIDER, name, pem, SystemClock().now())
    said = {"name": name, "key_sha256": provider.key_sha256}
    output.tell(said, f"trusted {name}: key {provider.key_sha256}", as_json=as_json)


@aibom.command()
def distrust(name: Provider, *, as_json: Json = False) -> None:
    """Trust a provider no longer; what only it endorsed is no longer endorsed."""
    _documents().remove(DocumentKind.PROVIDER, name)
    output.tell({"name": name, "removed": True}, f"removed {name}", as_json=as_json)


@aibom.command()
def providers(*, as_json: Json = False) -> None:
    """List the trusted providers."""
    found = [
        (read_provider(one.name, one.document), one)
        for one in _documents().list(DocumentKind.PROVIDER)
    ]
    if as_json:
        output.say_json(
            [{"name": provider.name, "key_sha256": provider.key_sha256} for provider, _ in found]
        )
        return
    rows = [
        (provider.name, provider.key_sha256[:16], moment(one.created_at)) for provider, one in found
    ]
    output.say_table(("provider", "key", "since"), rows)


@aibom.command()
def check(
    file: File,
    *,
    root: Annotated[Path, typer.Option(readable=False, help="The agent's folder.")],
    as_json: Json = False,
) -> None:
    """Hold an AIBOM against schema and folder. Exit code 0 the same, 1 not, 2 malformed."""
    content = read_bounded(file, MAX_AIBOM_BYTES)
    require_schema(content)
    listing = read_aibom(content)
    found = check_folder(listing, root)
    named = {"changed": found.changed, "missing": found.missing, "unlisted": found.unlisted}
    if as_json:
        output.say_json(
            {
                "name": listing.name,
                "sha256": listing.sha256.hex(),
                "files": found.files,
                "missing_parts": [part.value for part in listing.missing],
                **{word: [shown_path(path) for path in paths] for word, paths in named.items()},
            }
        )
    else:
        for word, paths in named.items():
            for path in paths:
                output.say(f"{word:<9} {shown_path(path)}")
        said = "differs" if found.differs else "ok"
        output.say(f"{listing.name}: {found.files} files in {root}: {said}")
        if listing.missing:
            parts = ", ".join(part.value for part in listing.missing)
            output.say(f"warning: it says nothing of {parts}")
    raise typer.Exit(int(found.differs))


def _state(bom: AiBom) -> str:
    held = bom.endorsement.refusal(SystemClock().now(), ())
    return "ok" if held is None else held[0].value


def _endorsed(bom: AiBom) -> str:
    held = bom.endorsement.refusal(SystemClock().now(), ())
    if held is not None:
        return f"not endorsed: {held[0].value}: {held[1]}"
    return f"endorsed by {', '.join(one.name for one in bom.endorsement.signers)}"


def _document(bom: AiBom) -> dict[str, object]:
    return {
        "name": bom.name,
        "sha256": bom.sha256.hex(),
        "files": {
            shown_path(path): sorted(digest.hex() for digest in one.digests)
            for path, one in sorted(bom.files.items())
        },
        "components": len(bom.components),
        "missing_parts": [part.value for part in bom.missing],
        "endorsement": {
            "state": _state(bom),
            "reason": bom.endorsement.reason,
            "signers": [one.name for one in bom.endorsement.signers],
        },
    }
