"""``verifier init``, ``verifier keys`` and ``verifier token``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from verifier.api.documents import moment
from verifier.cli import context, output
from verifier.cli.authority_log import current_entry, record
from verifier.cli.context import Json
from verifier.keys.ceremony import DEFAULT_NAME
from verifier.keys.register import register_path
from verifier.keys.ring import NONCE_KEY_BYTES, KeyRing, RingEntry
from verifier.keys.setup import AuthorityPlan, initialise
from verifier.services.tokens import Tokens
from verifier.sources import (
    SystemClock,
    SystemEntropy,
    key_lifetime,
    load_appraisal_policy,
)

# The wiring behind a command (store, HTTP, policy engine) is imported inside it: the other commands
# must not pay for it.
# ruff: noqa: PLC0415

keys = typer.Typer(no_args_is_help=True, help="Keys that sign results.")
token = typer.Typer(no_args_is_help=True, help="Bearer tokens of readers and operators.")


def init(
    *,
    hostname: Annotated[
        list[str] | None,
        typer.Option(
            help="Make a TLS certificate for this name or address (repeatable), also anew."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name in the certificates of our CAs.")] = DEFAULT_NAME,
    root_to: Annotated[
        Path | None,
        typer.Option(
            readable=False, help="Folder for the root CA, e.g. on a medium to carry away."
        ),
    ] = None,
    root_passphrase: Annotated[
        Path | None,
        typer.Option(readable=False, help="File with the root's passphrase; else a random one."),
    ] = None,
    without_authority: Annotated[
        bool,
        typer.Option(
            "--without-authority", help="Make no CA: the root is elsewhere (verifier ca request)."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make keys, certificate authorities and tables; what is there already stays."""
    from verifier.store.migrate import migrate

    settings = context.settings()
    directory, at = Path(settings.keys.directory), SystemClock().now()
    absent = register_path(directory) is None
    plan = AuthorityPlan(
        settings=settings.authority,
        environment=os.environ,
        name=name,
        root_to=root_to,
        root_passphrase=root_passphrase,
        without=without_authority,
    )
    made = initialise(
        directory, hostnames=tuple(hostname or ()), at=at, entropy=SystemEntropy(), plan=plan
    )
    state = migrate(settings.store.url)
    if absent and not without_authority:
        record(settings, "founded", current_entry(settings), at)
    if as_json:
        output.say_json({"keys": str(directory), "made": list(made), "tables": state.current})
        return
    for thing in made or ("nothing: all keys were there",):
        output.say(f"made {thing}")
    output.say(f"keys in {directory}; tables at {state.current}")


@keys.command("list")
def list_keys(*, as_json: Json = False) -> None:
    """List the keys that sign results."""
    _tell_keys(KeyRing(Path(context.settings().keys.directory)).entries, as_json=as_json)


@keys.command()
def rotate(*, as_json: Json = False) -> None:
    """Sign with the next key from now on; the running service follows by itself."""
    settings = context.settings()
    lifetime = key_lifetime(settings, load_appraisal_policy(settings))
    ring = KeyRing(Path(settings.keys.directory))
    entries = ring.rotate(SystemClock().now(), lifetime, SystemEntropy().take(NONCE_KEY_BYTES))
    _tell_keys(entries, as_json=as_json)


def _tell_keys(entries: tuple[RingEntry, ...], *, as_json: bool) -> None:
    rows = [(entry.kid, entry.state.value, moment(entry.since)) for entry in entries]
    if as_json:
        output.say_json([dict(zip(("kid", "state", "since"), row, strict=True)) for row in rows])
    else:
        output.say_table(("kid", "state", "since"), rows)


@token.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Whose token this is.")],
    *,
    role: Annotated[str, typer.Option(help="reader or operator")] = "reader",
    as_json: Json = False,
) -> None:
    """Make a token and print it once; only its digest is kept."""
    tokens = Tokens(context.store(context.settings()), SystemEntropy())
    secret = tokens.create(name, role, SystemClock().now())
    if as_json:
        output.say_json({"name": name, "role": role, "token": secret})
    else:
        print(secret)


@token.command("list")
def list_tokens(*, as_json: Json = False) -> None:
    """List tokens, without their secrets."""
    found = Tokens(context.store(context.settings()), SystemEntropy()).all()
    rows = [(one.name, one.role, moment(one.created_at)) for one in found]
    if as_json:
        output.say_json([dict(zip(("name", "role", "created"), row, strict=True)) for row in rows])
    else:
        output.say_table(("name", "role", "created"), rows)


@token.command("remove")
def remove_token(name: str, *, as_json: Json = False) -> None:
    """Remove a token; it is refused from now on."""
    Tokens(context.store(context.settings()), SystemEntropy()).remove(name)
    output.tell({"name": name, "removed": True}, f"removed {name}", as_json=as_json)
