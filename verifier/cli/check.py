"""``verifier check``: a doctor. Every prerequisite with a verdict, a reason and a mend."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import typer
from cryptography import x509

from attestation.errors import AttestationError
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.enrolment_policy import resting_on
from verifier.errors import ServiceError
from verifier.keys.files import check_directory, read_file
from verifier.keys.ring import KeyRing
from verifier.services.reference_values import ReferenceShelf
from verifier.settings import Settings
from verifier.sources import (
    SystemClock,
    load_anchors,
    load_appraisal_policy,
    load_certificate_profiles,
    load_enrolment_rules,
    load_result_keys,
)

# The wiring behind a command (store, HTTP, policy engine) is imported inside it: the other commands
# must not pay for it.
# ruff: noqa: PLC0415

OK, WARNING, FAILED = "ok", "warning", "failed"
SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One prerequisite.

    Attributes:
        name: What was looked at.
        verdict: ``ok``, ``warning`` or ``failed``.
        reason: What was seen.
        mend: What to do; empty when ok.
    """

    name: str
    verdict: str
    reason: str
    mend: str = ""


Look = Callable[[Settings], Verdict]


def command(*, as_json: Json = False) -> None:
    """Look at every prerequisite; exit 0 if nothing failed, 1 if something did."""
    settings = context.settings()
    verdicts = [_looked(name, look, settings) for name, look in _LOOKS]
    if as_json:
        output.say_json([asdict(verdict) for verdict in verdicts])
    else:
        output.say_table(
            ("check", "verdict", "reason", "mend"),
            [(one.name, one.verdict, one.reason, one.mend) for one in verdicts],
        )
    raise typer.Exit(int(any(one.verdict == FAILED for one in verdicts)))


def _looked(name: str, look: Look, settings: Settings) -> Verdict:
    try:
        return look(settings)
    except (ServiceError, AttestationError) as error:
        return Verdict(name=name, verdict=FAILED, reason=error.reason, mend=_MENDS[name])


def _store(settings: Settings) -> Verdict:
    from verifier.store.migrate import schema_state

    state = schema_state(settings.store.url)
    if not state.up_to_date:
        found = state.current or "absent"
        return Verdict(
            name="store", verdict=FAILED, reason=f"tables are {found}", mend=_MENDS["store"]
        )
    return Verdict(name="store", verdict=OK, reason=f"tables at {state.current}")


def _keys(settings: Settings) -> Verdict:
    directory = Path(settings.keys.directory)
    check_directory(directory)
    ring = KeyRing(directory)
    return Verdict(name="keys", verdict=OK, reason=f"{len(ring.entries)} result keys")


def _authority(settings: Settings) -> Verdict:
    from verifier.keys.authority_status import authority_status

    profiles = load_certificate_profiles(settings)
    found = authority_status(settings, os.environ, SystemClock().now(), profiles)
    if found.findings:
        return Verdict(
            name="authority",
            verdict=FAILED if found.findings[0].failed else WARNING,
            reason="; ".join(f"{one.code}: {one.reason}" for one in found.findings),
            mend=found.findings[0].mend,
        )
    issuing = next(one for one in found.authorities if one.state == "current")
    return Verdict(
        name="authority", verdict=OK, reason=f"{issuing.subject}, {issuing.days_left} days left"
    )


def _tls(settings: Settings) -> Verdict:
    from verifier.api.client_certificate import tls_context

    directory = Path(settings.keys.directory)
    path = Path(settings.server.tls_certificate or directory / "tls.cert.pem")
    key = Path(settings.server.tls_key or directory / "tls.key.pem")
    tls_context(path, key, read_file(path).decode("ascii", "replace"))
    ends = x509.load_pem_x509_certificate(read_file(path)).not_valid_after_utc
    if ends < SystemClock().now():
        return Verdict(name="tls", verdict=FAILED, reason=f"ended {ends}", mend=_MENDS["tls"])
    if ends < SystemClock().now() + SOON:
        return Verdict(name="tls", verdict=WARNING, reason=f"ends {ends}", mend=_MENDS["tls"])
    return Verdict(name="tls", verdict=OK, reason=f"{path} until {ends}")


def _roots(settings: Settings) -> Verdict:
    anchors = load_anchors(settings)
    seen = f"{len(anchors.certificates)} trust anchors, {len(anchors.revocations)} revocation lists"
    now = SystemClock().now()
    stale = [one.issuer for one in anchors.revocations if one.is_stale(now)]
    if stale:
        return Verdict(
            name="roots",
            verdict=WARNING,
            reason=f"{seen}; a newer list is due of {', '.join(stale)}",
            mend="fetch the maker's newer list, put it into [trust] manufacturer_crls, restart",
        )
    return Verdict(name="roots", verdict=OK, reason=seen)


def _result_keys(settings: Settings) -> Verdict:
    files, keys = settings.trust.result_keys, load_result_keys(settings)
    seen = f"{len(keys)} keys of other verifiers in {len(files)} files"
    return Verdict(
        name="result keys", verdict=OK, reason=seen if files else "only our own results count"
    )


def _appraisal(settings: Settings) -> Verdict:
    policy = load_appraisal_policy(settings)
    return Verdict(
        name="appraisal policy", verdict=OK, reason=f"{policy.id}: {policy.selection_text}"
    )


def _enrolment(settings: Settings) -> Verdict:
    rules = load_enrolment_rules(settings)
    load_anchors(settings, rules)
    rests = "".join(f"; {name}: {value}" for name, value in resting_on(rules).items())
    return Verdict(
        name="enrolment policy",
        verdict=OK,
        reason=f"{rules.policy.id}: {len(rules.policy.devices)} classes of devices{rests}",
    )


def _decision(settings: Settings) -> Verdict:
    from verifier.main import load_engine

    load_engine(settings)
    return Verdict(
        name="decision policy", verdict=OK, reason=settings.policy.rego or "the packaged one"
    )


def _references(settings: Settings) -> Verdict:
    from verifier.store.migrate import schema_state
    from verifier.store.sql_store import open_store

    if not schema_state(settings.store.url).up_to_date:
        return Verdict(
            name="reference values", verdict=WARNING, reason="no store", mend=_MENDS["store"]
        )
    shelf = ReferenceShelf(open_store(settings.store.url, with_outbox=False))
    found = shelf.current(SystemClock().now())
    if shelf.left_out:
        bad = shelf.left_out[0]
        return Verdict(
            name="reference values",
            verdict=FAILED,
            reason=f"{len(shelf.left_out)} not in use; {bad.kind} {bad.name}: {bad.reason}",
            mend="import the named ones again, or remove them",
        )
    if not found.sets:
        return Verdict(
            name="reference values",
            verdict=WARNING,
            reason="none: no device can be affirming",
            mend=_MENDS["reference values"],
        )
    return Verdict(
        name="reference values",
        verdict=OK,
        reason=f"{len(found.sets)} sets, {len(found.runtime)} runtime policies, "
        f"{len(found.aiboms)} AIBOMs",
    )


def _broker(settings: Settings) -> Verdict:
    mqtt = settings.mqtt
    if not mqtt.host:
        return Verdict(name="mqtt", verdict=OK, reason="off: mqtt.host is empty")
    try:
        with socket.create_connection((mqtt.host, mqtt.port), timeout=3):
            return Verdict(name="mqtt", verdict=OK, reason=f"{mqtt.host}:{mqtt.port} answers")
    except OSError as error:
        return Verdict(
            name="mqtt",
            verdict=WARNING,
            reason=f"{mqtt.host}:{mqtt.port}: {error}",
            mend=_MENDS["mqtt"],
        )


_MENDS = {
    "store": "verifier init",
    "keys": "verifier init",
    "authority": "verifier ca status",
    "tls": "verifier init --hostname NAME, or [server] tls_certificate and tls_key; then restart",
    "roots": "name the manufacturers' PEM files in [trust] manufacturer_roots",
    "result keys": "fetch /.well-known/jwks.json of that verifier, or correct [trust] result_keys",
    "appraisal policy": "correct [policy] appraisal",
    "enrolment policy": "correct [policy] enrolment; see: verifier enrolment-policy check",
    "decision policy": "correct [policy] rego",
    "reference values": "verifier reference-values learn --device ID --name NAME",
    "mqtt": "start the broker, or correct [mqtt]; results wait in the outbox",
}

_LOOKS: tuple[tuple[str, Look], ...] = (
    ("store", _store),
    ("keys", _keys),
    ("authority", _authority),
    ("tls", _tls),
    ("roots", _roots),
    ("result keys", _result_keys),
    ("appraisal policy", _appraisal),
    ("enrolment policy", _enrolment),
    ("decision policy", _decision),
    ("reference values", _references),
    ("mqtt", _broker),
)
