"""Kinds ``ek-certificate`` and ``activation``."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from attestation.algorithms import HashAlgorithm
from attestation.ek.certificate import parse_maker_certificate
from attestation.ek.forms import read_certificate
from attestation.errors import AttestationError
from attestation.identity import KeyName
from attestation.tpm.public import parse_public
from device_agent.ports import KeyRole
from tests.conformance.cases import octets
from tests.conformance.generate.device import FixedTpm, private_key, seed
from tests.conformance.run.bench import NOW, moment
from tests.conformance.run.outcome import Outcome, attempt
from tests.conformance.run.sequences import WrongStep
from tests.simulators.soft_endorsement import activate
from tests.simulators.soft_tpm_maker import spki
from verifier.endorsement.ek import judge_ek
from verifier.endorsement.firmware import version_from_quote
from verifier.endorsement.vendor_roots import VendorRoots
from verifier.issuance.activation import BEGIN_ENTROPY_BYTES, ActivationAuthority, Begun
from verifier.issuance.credential_activation import Credential
from verifier.services.activations import CredentialActivations
from verifier.sources import SystemEntropy
from verifier.store.migrate import migrate
from verifier.store.sql_store import open_store

_SHA256: Final = HashAlgorithm.SHA256
_COORDINATE: Final = 32
_KEYS: Final = (bytes(range(32)),)
_SUBJECT: Final = "the connection that was asked"


def run_certificate(given: Mapping[str, Any]) -> Outcome:
    """Judge one EK certificate; a refusal is raised."""
    certificate = read_certificate(
        octets(given["certificate"]), from_nv=given.get("from_nv", False)
    )
    version = given.get("firmware_version")
    endorsed = judge_ek(
        certificate,
        [parse_maker_certificate(octets(der)) for der in given["intermediates"]],
        VendorRoots(roots=tuple(parse_maker_certificate(octets(der)) for der in given["roots"])),
        moment(given["at"]),
        firmware=None if version is None else version_from_quote(int(version, 16)),
    )
    return Outcome(verdict="accepted", told=frozenset(str(one.code) for one in endorsed.findings))


def run_activation(given: Mapping[str, Any]) -> Outcome:
    """Begin one activation and answer it as each step says; the last step is the answer."""
    steps = given["steps"]
    name = _name(FixedTpm())
    begun = ActivationAuthority(keys=_KEYS).begin(
        private_key("ek").public_key(),
        ek_sha256=_digest("ek"),
        ak_name=name,
        subject=_SUBJECT,
        entropy=seed(f"activation {json.dumps(steps)}", BEGIN_ENTROPY_BYTES),
        at=NOW,
    )
    for number, step in enumerate(steps, start=1):
        said = attempt(lambda step=step: _redeem(begun, step["by"], step["after_s"], name))  # type: ignore[misc]
        wanted = step["expected"]
        if said.verdict != wanted["verdict"] or (
            wanted["code"] is not None and wanted["code"] not in said.codes
        ):
            raise WrongStep(f"step {number} ({step['by']}) is {said.verdict}: {said.detail}")
        if number == len(steps):
            return said
    raise WrongStep("no step")


def _redeem(begun: Begun, by: str, after_s: float, name: KeyName) -> Outcome:
    """Try an activation as a step says."""
    other_key = by == "the-tpm-for-another-attestation-key"
    other_ek = by == "the-tpm-for-another-endorsement-key"
    secret = activate(private_key("ek"), name, begun.credential)
    try:
        _activations().redeem(
            begun.activation,
            _answer(by, begun.credential, name),
            ek_sha256=_digest("another ek" if other_ek else "ek"),
            ak_name=_name(FixedTpm("BOX-0666")) if other_key else name,
            subject="another" if by == "the-tpm-over-another-connection" else _SUBJECT,
            at=NOW + timedelta(seconds=after_s),
        )
    except AttestationError as error:
        told = f"{error!r} {error} {error.__dict__}"
        if secret.hex() in told or repr(secret) in told:
            raise WrongStep("the refusal gives the secret away") from error
        raise
    return Outcome(verdict="accepted")


@cache
def _activations() -> CredentialActivations:
    """The service on a store of its own; what it needs to begin activations is not there."""
    folder = Path(tempfile.mkdtemp(prefix="conformance-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    url = f"sqlite:///{folder}/store.db"
    migrate(url)
    return CredentialActivations(
        store=open_store(url, with_outbox=False),
        keys=lambda: _KEYS,
        entropy=SystemEntropy(),
        challenges=None,  # type: ignore[arg-type] - only answers are judged here
        terms=None,  # type: ignore[arg-type]
    )


def _name(tpm: FixedTpm) -> KeyName:
    return parse_public(tpm.public_area(KeyRole.IAK)).name


def _digest(label: str) -> bytes:
    return hashlib.sha256(spki(private_key(label).public_key())).digest()


def _answer(by: str, credential: Credential, name: bytes) -> bytes:
    """What the TPM of a step gives back; bytes of its own where it cannot unwrap."""
    if by == "a-guess":
        return bytes(_COORDINATE)
    if by == "another-tpm":
        return activate(private_key("another ek"), name, credential)
    if by == "the-tpm-with-another-attestation-key":
        return activate(private_key("ek"), _name(FixedTpm("BOX-0666")), credential)
    return activate(private_key("ek"), name, credential)
