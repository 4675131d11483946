"""Kinds ``cloud-statement`` and ``initial-trust``: what a cloud said, and what it is enough for."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attestation.identity import device_id
from tests.conformance.cases import octets
from tests.conformance.run.bench import DEVICE, moment
from tests.conformance.run.outcome import Outcome
from tests.simulators.stored import AT, a_certificate, a_device
from verifier.errors import Conflict
from verifier.issuance.cloud_aws import AwsKeys, judge_aws
from verifier.issuance.cloud_azure import AzureKeys, judge_azure
from verifier.issuance.initial_trust import parse_trust
from verifier.ports import DeviceIssuance, Store
from verifier.ports.credentials import IdentityClaim
from verifier.services.issue import issued_entry
from verifier.store.migrate import migrate
from verifier.store.sql_store import open_store


def run_expression(given: Mapping[str, Any]) -> Outcome:
    """Read what a class is to rest on; one that may not be is raised."""
    parse_trust(given["expression"])
    return Outcome(verdict="accepted")


def run(given: Mapping[str, Any]) -> Outcome:
    """Judge a cloud's word, and say whether the device may be what it names."""
    before = [
        (one["device"], _claim(given, one["statement"])) for one in given.get("shown_before", ())
    ]
    shown = _claim(given, given["statement"])
    return _claimed([*before, (DEVICE, shown)]) if before else Outcome(verdict="accepted")


def _claim(given: Mapping[str, Any], statement: str) -> IdentityClaim:
    trusted = given["trusted"]
    keys = {name: _key(octets(spki)) for name, spki in trusted["keys"].items()}
    if given["cloud"] == "aws-iid":
        aws = AwsKeys(
            keys={region: (key,) for region, key in keys.items()},
            accounts=frozenset(trusted["accounts"]),
        )
        return IdentityClaim(kind="aws-instance", value=judge_aws(statement.encode(), aws).digest)
    azure = AzureKeys(
        keys=keys,
        issuers=frozenset(trusted["issuers"]),
        audience=trusted["audience"],
        resources=tuple(trusted["resources"]),
    )
    found = judge_azure(statement, azure, moment(given["at"]))
    return IdentityClaim(kind="azure-resource", value=found.digest)


def _key(spki: bytes) -> rsa.RSAPublicKey:
    key = load_der_public_key(spki)
    assert isinstance(key, rsa.RSAPublicKey)
    return key


def _claimed(rows: list[tuple[str, IdentityClaim]]) -> Outcome:
    """Have each device enrolled with what it showed, in order; the store says who is first."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/store.db"
        migrate(url)
        store = open_store(url, with_outbox=False)
        try:
            done = [store.issue_all([_issuance(store, *row)])[0] for row in rows]
        finally:
            store.close()
    taken = done[-1]
    if not isinstance(taken, Conflict):
        return Outcome(verdict="accepted")
    code = frozenset({taken.code.value})
    return Outcome(verdict="refused", codes=code, told=code, detail=taken.reason)


def _issuance(store: Store, name: str, claim: IdentityClaim) -> DeviceIssuance:
    """An enrolment whose every other proof holds."""
    before = store.device(device_id(name))
    record = a_device(name, before.version if before else 0)
    certificate = a_certificate(record)
    return DeviceIssuance(
        record=record,
        claims=(claim,),
        certificate=certificate,
        entry=issued_entry(certificate),
        older_end=AT,
        judgement=None,
        at=AT,
    )
