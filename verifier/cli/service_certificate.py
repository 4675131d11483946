"""``verifier keys service``: certificates of the services beside the verifier."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.errors import SettingsInvalid
from verifier.keys.authority import SERVICE_CA, create_service_certificate, load_authority
from verifier.sources import SystemClock

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,51}[a-z0-9])?")
CLIENT_PREFIX = "service."
"""A client's CN begins so. No device id holds a dot: no device can bear a service's user name."""


def service(
    name: Annotated[
        str, typer.Argument(help="Name; a client's user name at the broker is service.NAME.")
    ],
    *,
    certificate: Annotated[
        Path, typer.Option(readable=False, help="Where the PEM certificate goes.")
    ],
    key: Annotated[Path, typer.Option(readable=False, help="Where the PEM key goes (0600).")],
    hostname: Annotated[
        list[str] | None,
        typer.Option(help="A server's name or address (repeatable); none makes a client's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Certify a broker, or a client such as a dashboard, by the service CA."""
    if not _NAME.fullmatch(name):
        raise SettingsInvalid(f"{name!r} is no service name: 1 to 53 of a-z, 0-9 and '-'")
    authority = load_authority(Path(context.settings().keys.directory), SERVICE_CA)
    for path in (certificate, key):
        if path.exists():
            raise SettingsInvalid(f"{path} is there already; move it away first")
    create_service_certificate(
        certificate_path=certificate,
        key_path=key,
        authority=authority,
        common_name=name if hostname else CLIENT_PREFIX + name,
        hostnames=tuple(hostname or ()),
        at=SystemClock().now(),
    )
    output.tell(
        {"name": name, "certificate": str(certificate), "key": str(key)},
        f"made {certificate} and {key} for {name}",
        as_json=as_json,
    )
