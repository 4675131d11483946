"""The ``verifier`` command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from attestation.errors import AttestationError
from verifier.cli import (
    agents,
    aibom,
    alarms,
    ca,
    ca_backup,
    ca_root,
    certificates,
    check,
    compare,
    corim_signers,
    devices,
    dry_run,
    ek,
    enrolment_policy,
    explain,
    keys,
    manufacturer,
    manufacturer_revocation,
    offline,
    owners,
    policy,
    query,
    revocation_policy,
    serve,
)
from verifier.cli.context import ConfigChoice, Json
from verifier.cli.failures import OUTPUT_FAULTS, failure, output_lost
from verifier.cli.reference_values import reference_values
from verifier.cli.runtime_policy import runtime_policy
from verifier.cli.service_certificate import service
from verifier.errors import ServiceError
from verifier.sources import version

app = typer.Typer(
    name="verifier",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Judges TPM evidence, signs results, decides, and tells whoever must know.",
)
app.add_typer(devices.devices, name="devices")
app.add_typer(ca.ca, name="ca")
ca.ca.command("root")(ca_root.make)
ca.ca.command("sign")(ca_root.sign)
ca.ca.command("revoke")(ca_root.revoke)
ca.ca.command("backup")(ca_backup.backup)
ca.ca.command("restore")(ca_backup.restore)
app.add_typer(agents.agents, name="agents")
app.add_typer(owners.owners, name="owners")
app.add_typer(aibom.aibom, name="aibom")
app.add_typer(policy.policy, name="policy")
app.add_typer(enrolment_policy.enrolment_policy, name="enrolment-policy")
app.add_typer(reference_values, name="reference-values")
app.add_typer(runtime_policy, name="runtime-policy")
reference_values.add_typer(corim_signers.signer, name="signer")
reference_values.command("dry-run")(dry_run.reference_values_dry_run)
policy.policy.command("dry-run")(dry_run.policy_dry_run)
runtime_policy.command("dry-run")(dry_run.runtime_policy_dry_run)
keys.keys.command("service")(service)
app.add_typer(keys.token, name="token")
app.add_typer(keys.keys, name="keys")
app.add_typer(manufacturer.manufacturer, name="manufacturer")
manufacturer.manufacturer.command("revoke")(manufacturer_revocation.revoke)
manufacturer.manufacturer.command("crl")(manufacturer_revocation.crl)
app.command("init")(keys.init)
app.command("serve")(serve.serve)
app.command("results")(devices.results)
app.command("revoke")(devices.revoke)
app.add_typer(certificates.certificates, name="certificates")
app.add_typer(alarms.alarms, name="alarms")
app.add_typer(revocation_policy.revocation_policy, name="revocation-policy")
app.command("check")(check.command)
app.command("appraise")(explain.command)
app.command("compare")(compare.command)
app.command("query")(query.command)
app.command("ek")(ek.command)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer's callback
    if asked:
        print(version())
        raise typer.Exit


@app.callback()
def root(
    *,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", readable=False, help="TOML file.", envvar="VERIFIER_CONFIG"),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Judges TPM evidence, signs results, decides, and tells whoever must know."""
    ConfigChoice.path = config


@app.command("eventlog")
def eventlog(
    file: Annotated[Path, typer.Argument(readable=False, help="A firmware event log.")],
    *,
    facts: Annotated[bool, typer.Option("--facts", help="Also tell what the boot was.")] = False,
    bank: Annotated[str | None, typer.Option(help="Bank of the facts: sha256, sha1 …")] = None,
    as_json: Json = False,
) -> None:
    """Parse and replay a firmware event log. Exit code 0 parsed, 2 malformed."""
    raise typer.Exit(offline.eventlog(file, as_json=as_json, facts=facts, bank=bank))


@app.command("ima")
def ima(
    file: Annotated[Path, typer.Argument(readable=False, help="An IMA list, ascii or binary.")],
    *,
    as_json: Json = False,
) -> None:
    """Parse and replay an IMA measurement list. Exit code 0 parsed, 2 malformed."""
    raise typer.Exit(offline.ima(file, as_json=as_json))


@app.command("quote")
def quote(
    *,
    attest: Annotated[Path, typer.Option(readable=False, help="TPMS_ATTEST (tpm2_quote -m).")],
    sig: Annotated[Path, typer.Option(readable=False, help="TPMT_SIGNATURE (tpm2_quote -s).")],
    ak: Annotated[
        Path,
        typer.Option(readable=False, help="Attestation key: PEM, TPM2B_PUBLIC or TPMT_PUBLIC."),
    ],
    pcrs: Annotated[Path | None, typer.Option(readable=False, help="PCR values, JSON.")] = None,
    eventlog: Annotated[
        Path | None, typer.Option(readable=False, help="Firmware event log.")
    ] = None,
    ima: Annotated[
        Path | None, typer.Option(readable=False, help="IMA list, ascii or binary.")
    ] = None,
    nonce: Annotated[str | None, typer.Option(help="Qualifying data, hexadecimal.")] = None,
    as_json: Json = False,
) -> None:
    """Judge a bare quote of tpm2-tools. Exit code 0 consistent, 1 refused, 2 malformed."""
    raise typer.Exit(
        offline.quote(
            attest=attest,
            sig=sig,
            ak=ak,
            pcrs=pcrs,
            eventlog=eventlog,
            ima=ima,
            nonce=nonce,
            as_json=as_json,
        )
    )


def main() -> None:
    """Run one command; errors of ours become one line and an exit code."""
    try:
        _run()
    except BrokenPipeError:
        # The reader of our output went away; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in OUTPUT_FAULTS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(output_lost(error))


def _run() -> None:
    """Run one command and write out all that it printed, while a fault can still be told."""
    if sys.stdout is None:  # closed by the shell
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the whole run
    try:
        app()
    except (AttestationError, ServiceError) as error:
        sys.exit(failure(error))
    finally:
        sys.stdout.flush()
