"""``verifier certificates list``, ``show`` and ``revoke``."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Final

import typer
from cryptography import x509

from attestation.identity import DeviceId, device_id
from attestation.refusals import RefusalCode
from verifier.api.documents import moment
from verifier.cli import context, output
from verifier.cli.audit import audit
from verifier.cli.context import Json
from verifier.errors import RequestRefused
from verifier.issuance.reasons import Reason, parse_reason, reason_word
from verifier.issuance.revocation_policy import UNKNOWN_EVENT, Action, Event
from verifier.ports import Store
from verifier.ports.credentials import CredentialKind, StoredCertificate
from verifier.services.revocation import Outcome, Revocation
from verifier.sources import SystemClock, revocation_policy_named

certificates = typer.Typer(
    no_args_is_help=True, help="Certificates that this verifier issued, and their revocation."
)
certificates.command("audit")(audit)

SOON: Final = 1 / 3
"""A certificate that is not replaced in the last third of its life will be missed soon."""

PAGE: Final = 1000
"""How many are read at once."""

Name = Annotated[
    str,
    typer.Argument(help="Serial number, SHA-256, device, device/agent, or SPIFFE id."),
]
REVOKED, ALARMED = 0, 1


@certificates.command("list")
def list_certificates(
    device: Annotated[str, typer.Argument(help="Only of this device and its agents.")] = "",
    *,
    after: Annotated[int, typer.Option(min=0, help="From the first above this number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 1000,
    revoked: Annotated[
        bool | None, typer.Option("--revoked/--in-force", help="Only these.")
    ] = None,
    ends_within: Annotated[
        int | None,
        typer.Option(min=0, help="Only those in force, not replaced, that end in so many days."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List certificates in order of issuance."""
    at = SystemClock().now()
    chosen = device_id(device) if device else None
    store = context.store(context.settings())
    wanted = (
        one
        for one in _from(store, chosen, after)
        if _wanted(one, at, revoked=revoked, ends_within=ends_within)
    )
    found = list(islice(wanted, limit))
    if as_json:
        output.say_json([document(one, at) for one in found])
        return
    rows = [
        (
            one.number,
            f"{one.certificate.serial:x}",
            one.certificate.holder or one.certificate.device,
            state(one, at),
            moment(one.certificate.not_after),
            f"{reason_word(one.revoked_code)}" if one.revoked_at else "",
        )
        for one in found
    ]
    output.say_table(("number", "serial", "holder", "state", "ends", "reason"), rows)


def _from(store: Store, device: DeviceId | None, after: int) -> Iterator[StoredCertificate]:
    """Go through certificates page by page: those that are asked for may be the newest."""
    while page := store.certificates(device=device, after=after, limit=PAGE):
        yield from page
        after = page[-1].number


def _wanted(
    one: StoredCertificate, at: datetime, *, revoked: bool | None, ends_within: int | None
) -> bool:
    if revoked is not None and (one.revoked_at is not None) is not revoked:
        return False
    if ends_within is None:
        return True
    in_force = one.revoked_at is None and one.ends_at is None and one.certificate.not_after > at
    return in_force and one.certificate.not_after <= at + timedelta(days=ends_within)


@certificates.command()
def show(
    name: Name,
    *,
    pem: Annotated[bool, typer.Option("--pem", help="Print the certificates as PEM.")] = False,
    as_json: Json = False,
) -> None:
    """Show a certificate, or all of a holder, newest last."""
    at = SystemClock().now()
    found = _revocation().find(name)
    if pem:
        for one in found:
            print(ssl.DER_cert_to_PEM_cert(one.certificate.der), end="")
        return
    if as_json:
        output.say_json([document(one, at) for one in found])
        return
    for position, one in enumerate(found):
        if position:
            output.say("")
        for key, value in document(one, at).items():
            if value not in ("", None):
                output.say(f"{key}: {value}")


@certificates.command()
def revoke(
    name: Name,
    *,
    reason: Annotated[
        str, typer.Option(help=f"In place of the policy's: {', '.join(x.word for x in Reason)}.")
    ] = "",
    event: Annotated[
        str, typer.Option(help="The event of the revocation policy that this is.")
    ] = Event.CERTIFICATE.value,
    why: Annotated[str, typer.Option(help="For people; told to whoever asks.")] = "by the operator",
    every: Annotated[
        bool, typer.Option("--all", help="All of a holder's that are in force, if several are.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Revoke a certificate; its holder may enrol again. Exit code 1 if the policy only alarms.

    One that is revoked already can be revoked anew as keyCompromise, and for nothing less.
    """
    chosen = parse_reason(reason) if reason else None
    at = SystemClock().now()
    revocation = _revocation()
    meant = revocation.revocable(event, revocation.find(name), chosen)
    if len(meant) > 1 and not every:
        in_force = "in force" if meant[0].revoked_at is None else "that were revoked for less"
        raise RequestRefused(
            RefusalCode.REQUEST_INVALID,
            f"{name} holds {len(meant)} certificates {in_force}; name one by its serial number, "
            "or add --all",
        )
    outcomes = [revocation.certificate(event, one, at, why=why, reason=chosen) for one in meant]
    raise typer.Exit(tell_outcome(name, outcomes, as_json=as_json))


def tell_outcome(name: str, outcomes: list[Outcome], *, as_json: bool) -> int:
    """Print what became of an event; returns the exit code."""
    count = sum(one.revoked for one in outcomes)
    silent = next((one for one in outcomes if one.event == UNKNOWN_EVENT), None)
    if silent is not None:
        text = f"{name}: the revocation policy has no such event; an alarm was raised"
    elif count:
        text = f"{name}: {count} certificate{'s' if count != 1 else ''} revoked"
    elif any(one.action is Action.ALARM for one in outcomes):
        text = f"{name}: the revocation policy only raises an alarm"
    else:
        text = f"{name}: nothing was in force to be revoked"
    output.tell(
        {
            "name": name,
            "revoked": count,
            "event": outcomes[0].event if outcomes else "",
            "action": outcomes[0].action.value if outcomes else Action.NOTHING.value,
        },
        text,
        as_json=as_json,
    )
    return ALARMED if silent is not None else REVOKED


def _revocation() -> Revocation:
    settings = context.settings()
    policy = revocation_policy_named(settings.policy.revocation, "policy.revocation ")
    return Revocation(context.store(settings), policy)


def state(one: StoredCertificate, at: datetime) -> str:
    """Return how a certificate stands: revoked, ended, ending (its last third) or in force."""
    kept = one.certificate
    if one.revoked_at is not None:
        return "revoked"
    if at >= kept.not_after:
        return "ended"
    if kept.not_after - at <= (kept.not_after - kept.not_before) * SOON:
        return "ending"
    return "superseded" if one.ends_at is not None else "in force"


def document(one: StoredCertificate, at: datetime) -> dict[str, object]:
    """Return a certificate as the command tells it."""
    kept = one.certificate
    return {
        "number": one.number,
        "serial": f"{kept.serial:x}",
        "sha256": kept.sha256.hex(),
        "kind": kept.kind.value,
        "device_id": kept.device,
        "agent": kept.agent if kept.kind is CredentialKind.AGENT else "",
        "holder": kept.holder,
        "profile": kept.profile,
        "issuer_sha256": kept.issuer_sha256.hex(),
        "subject": _subject(kept.der),
        "state": state(one, at),
        "not_before": moment(kept.not_before),
        "not_after": moment(kept.not_after),
        "ends_at": moment(one.ends_at) if one.ends_at else None,
        "revoked_at": moment(one.revoked_at) if one.revoked_at else None,
        "reason": reason_word(one.revoked_code) if one.revoked_at else None,
        "why": one.revoked_reason,
    }


def _subject(der: bytes) -> str:
    try:
        return x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except ValueError:
        return ""
