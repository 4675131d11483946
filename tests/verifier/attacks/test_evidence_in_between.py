"""Evidence that comes between an operator's two looks is not taken for the one that was proven."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.stored import a_device, a_judgement, put_enrolment
from verifier.appraisal.policy_file import load_policy
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.errors import RequestRefused
from verifier.ports import Judgement
from verifier.reference_values.model import ReferenceLibrary
from verifier.services.dry_run import Change, DryRun, Terms
from verifier.services.last_evidence import proven_evidence
from verifier.store.engine import make_engine
from verifier.store.migrate import migrate
from verifier.store.sql_store import SqlStore

DEVICE = DeviceId("sn-0001")
STEPS = tuple((number, "a step", "passed", "fine") for number in range(1, 8))


def proven(seq: int) -> Judgement:
    made = a_judgement(seq=seq, based_on=seq)
    digest = hashlib.sha256(made.evidence).digest()
    return replace(made, result=replace(made.result, steps=STEPS, evidence_sha256=digest))


class BusyStore(SqlStore):
    """A store into which the device writes again just before its last evidence is read."""

    def last_evidence(self, device: DeviceId) -> bytes | None:
        self.record([a_judgement(seq=2, based_on=2)])
        return super().last_evidence(device)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BusyStore]:
    url = f"sqlite:///{tmp_path}/store.db"
    migrate(url)
    opened = BusyStore(make_engine(url), with_outbox=False)
    record = a_device(version=0)
    with opened.work() as work:
        put_enrolment(work, record)
    found = opened.device(DEVICE)
    assert found is not None
    assert opened.record([replace(proven(1), based_on=found.version)]) == [True]
    yield opened
    opened.close()


def test_nothing_is_learnt_from_evidence_that_came_after_the_verdict(store: BusyStore) -> None:
    with pytest.raises(RequestRefused, match="meanwhile") as caught:
        proven_evidence(store, DEVICE)
    assert caught.value.code is RefusalCode.CONFLICT


def test_dry_run_judges_no_evidence_by_the_verdict_of_another(store: BusyStore) -> None:
    text = (resources.files("verifier.policies") / "development.toml").read_text()
    terms = Terms(policy=load_policy(text, "development"), reference=ReferenceLibrary())

    anchors = TrustAnchors(certificates=(SoftManufacturer().root,))

    (row,) = DryRun(store, anchors, terms, terms).rows()

    assert row.change is Change.NOT_JUDGED
    assert "meanwhile" in row.reason
