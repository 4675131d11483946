"""``verifier owners``: whose signatures bind AI agents; and the owner's own signature."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from attestation.capabilities import beyond, canonical
from attestation.limits import MAX_OWNER_BINDING_CHARS, MAX_PEM_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.jwk import thumbprint
from attestation.wire.owner_binding import (
    OwnerBinding,
    OwnerPrivateKey,
    read_binding_request,
    require_owner_id,
    sign_binding,
)
from verifier.api.documents import moment
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.moments import parse_moment
from verifier.cli.reference_values import read_bounded, read_text
from verifier.errors import RequestRefused
from verifier.keys.files import write_public
from verifier.keys.secret_source import passphrase_file
from verifier.services.owners import Owners
from verifier.sources import SystemClock

owners = typer.Typer(no_args_is_help=True, help="In whose name AI agents may act.")

Name = Annotated[str, typer.Argument(help="The owner's id, as bindings name it.")]
Scope = Annotated[
    list[str] | None, typer.Option(help="Words, by commas; may be given several times.")
]


def _owners() -> Owners:
    return Owners(context.store(context.settings()))


@owners.command()
def add(
    name: Name,
    file: Annotated[Path, typer.Argument(readable=False, help="PEM file: the public key.")],
    *,
    scope: Scope = None,
    as_json: Json = False,
) -> None:
    """Take an owner's signatures from now on; one of the same name is replaced.

    With --scope the owner gives no agent more than that.
    """
    bound = _words(scope)
    owner = _owners().add(name, read_text(file), bound, SystemClock().now())
    output.tell(
        {"name": name, "key": thumbprint(owner.key), "scope": _listed(bound)},
        f"{name} may give agents: {_told(bound)}",
        as_json=as_json,
    )


@owners.command("list")
def list_owners(*, as_json: Json = False) -> None:
    """List the owners."""
    found = _owners().all()
    if as_json:
        output.say_json(
            [
                {
                    "name": document.name,
                    "since": moment(document.created_at),
                    "key": thumbprint(owner.key) if owner else None,
                    "scope": _listed(owner.scope) if owner else None,
                    "usable": owner is not None,
                }
                for document, owner in found
            ]
        )
        return
    rows = [
        (
            document.name,
            moment(document.created_at),
            thumbprint(owner.key) if owner else "unreadable: add it again",
            _told(owner.scope) if owner else "-",
        )
        for document, owner in found
    ]
    output.say_table(("name", "since", "key", "scope"), rows)


@owners.command()
def remove(name: Name, *, as_json: Json = False) -> None:
    """Take an owner's signatures no longer; certificates given before stay until they end."""
    _owners().remove(name)
    output.tell({"name": name, "removed": True}, f"removed {name}", as_json=as_json)


@owners.command()
def bind(
    request: Annotated[
        Path, typer.Argument(readable=False, help="Binding request of `device-agent agent add`.")
    ],
    *,
    key: Annotated[
        Path, typer.Option(readable=False, help="Your private key, PEM; only you may read it.")
    ],
    owner: Annotated[str, typer.Option(help="Your id, as the verifier knows you.")],
    expires: Annotated[str, typer.Option(help="When it ends: 30d, 12h, 2027-01-31.")],
    scope: Scope = None,
    passphrase: Annotated[
        Path | None,
        typer.Option(
            "--passphrase-file", readable=False, help="Passphrase of the key, if it has one."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(readable=False, help="File; REQUEST with .jws if not said.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign for an AI agent, on the owner's own machine: this key, in my name, with this scope.

    Without --scope it is what the request asks for. Needs neither configuration nor network.
    """
    asked = read_binding_request(read_bounded(request, MAX_OWNER_BINDING_CHARS))
    given = asked.scope if scope is None else canonical(_split(scope))
    ends = parse_moment(expires, SystemClock().now()).replace(microsecond=0)
    binding = OwnerBinding(
        thumbprint=asked.thumbprint,
        owner=require_owner_id(owner),
        scope=given,
        expires_at=ends,
        nonce=asked.nonce,
    )
    path = out or request.with_suffix(".jws")
    write_public(path, sign_binding(binding, _private_key(key, passphrase)).encode() + b"\n")
    lacking = beyond(asked.scope, given)
    words = (
        f"wrote {path}: {asked.holder} may act for {owner} with {' '.join(given) or 'no scope'} "
        f"until {moment(ends)}"
    )
    if lacking:
        words += f"; not with {' '.join(lacking)}, so it must ask for less"
    document = {
        "agent_id": asked.holder,
        "key": asked.thumbprint,
        "owner": owner,
        "scope": list(given),
        "not_given": list(lacking),
        "expires_at": moment(ends),
        "file": str(path),
    }
    output.tell(document, words, as_json=as_json)


def _private_key(path: Path, passphrase: Path | None) -> OwnerPrivateKey:
    """Read a private key from a file that nobody else may read.

    Raises:
        RequestRefused: ``ca-key-exposed``, ``key-malformed``, ``key-too-weak``.
    """
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116 - follows links, as reading does
    except OSError as error:
        raise RequestRefused(RefusalCode.REQUEST_INVALID, f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise RequestRefused(
            RefusalCode.CA_KEY_EXPOSED,
            f"{path} is open to others (mode {mode:04o}); run: chmod 600 {path}",
        )
    secret = passphrase_file(passphrase).read() if passphrase is not None else None
    try:
        key = load_pem_private_key(read_bounded(path, MAX_PEM_BYTES), password=secret)
    except (ValueError, TypeError) as error:
        raise RequestRefused(
            RefusalCode.KEY_MALFORMED,
            f"{path} is no private key in PEM, or its passphrase (--passphrase-file) is missing, "
            "wrong, or not needed",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise RequestRefused(
            RefusalCode.KEY_TOO_WEAK, f"{path}: an owner's key is P-256, P-384 or Ed25519"
        )
    return key


def _split(scope: list[str]) -> list[str]:
    return [word for text in scope for word in text.split(",") if word]


def _words(scope: list[str] | None) -> tuple[str, ...] | None:
    return None if scope is None else canonical(_split(scope))


def _listed(scope: tuple[str, ...] | None) -> list[str] | None:
    return None if scope is None else list(scope)


def _told(scope: tuple[str, ...] | None) -> str:
    return "whatever policies allow" if scope is None else " ".join(scope) or "nothing"
