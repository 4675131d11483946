"""``verifier reference-values signer``: whose CoRIMs and RIMs are believed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifier.api.documents import moment
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.reference_values import read_text
from verifier.ports import DocumentKind
from verifier.services.corim_import import CorimImport
from verifier.services.reference_documents import ReferenceDocuments
from verifier.services.reference_values import ReferenceValues
from verifier.sources import SystemClock, load_appraisal_policy

signer = typer.Typer(
    no_args_is_help=True, help="Whose signed CoRIMs and PC Client RIMs are believed."
)

Name = Annotated[str, typer.Argument(help="Name of the signer, for people.")]


def _documents() -> ReferenceDocuments:
    return ReferenceDocuments(context.store(context.settings()))


@signer.command()
def add(
    name: Name,
    file: Annotated[
        Path, typer.Argument(readable=False, help="PEM file: a public key or a certificate.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Trust a signer; one of the same name is replaced."""
    settings = context.settings()
    store = context.store(settings)
    service = CorimImport(store, ReferenceValues(store, load_appraisal_policy(settings)))
    service.trust(name, read_text(file), SystemClock().now())
    output.tell(
        {"name": name, "trusted": True},
        f"CoRIMs and RIMs signed by {name} are believed from now on",
        as_json=as_json,
    )


@signer.command("list")
def list_signers(*, as_json: Json = False) -> None:
    """List the signers."""
    found = _documents().list(DocumentKind.CORIM_SIGNER)
    if as_json:
        output.say_json([{"name": one.name, "since": moment(one.created_at)} for one in found])
        return
    output.say_table(("name", "since"), [(one.name, moment(one.created_at)) for one in found])


@signer.command()
def remove(name: Name, *, as_json: Json = False) -> None:
    """Trust a signer no longer; sets that it signed stay until they are removed."""
    _documents().remove(DocumentKind.CORIM_SIGNER, name)
    output.tell({"name": name, "removed": True}, f"removed {name}", as_json=as_json)
