"""CoRIMs by a signer whom we trust for something else, from yesterday, or saying two things."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from importlib import resources
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError
from attestation.refusals import RefusalCode
from attestation.wire.corim import SignedCorim, open_corim
from attestation.wire.strict_cbor import CborKey, CborValue, Tagged, encode
from tests.simulators.corim_press import (
    UUID,
    A,
    B,
    comid,
    corim,
    protected_header,
    public_pem,
    registers,
    signed,
    triple,
)
from tests.simulators.stored import AT
from verifier.appraisal.policy_file import load_policy
from verifier.reference_values.model import ReferenceSet
from verifier.services.corim_import import CorimImport, CorimTerms
from verifier.services.reference_values import ReferenceValues
from verifier.store.migrate import migrate
from verifier.store.sql_store import open_store

ACME = ec.generate_private_key(ec.SECP256R1())
POLICY = load_policy(
    (resources.files("verifier.policies") / "development.toml").read_text(), "development"
)
DAY = timedelta(days=1)


class Desk:
    """An operator who trusts makers."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder}/store.db"
        migrate(url)
        self.store = open_store(url, with_outbox=False)
        self.values = ReferenceValues(self.store, POLICY)
        self.corims = CorimImport(self.store, self.values)
        self.corims.trust("acme", public_pem(ACME), AT)

    def take(self, raw: bytes) -> tuple[ReferenceSet, ...]:
        found = self.corims.read(raw, CorimTerms(), AT).sets
        self.values.put(*found)
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def test_two_classes_with_the_same_words_are_not_one_machine(desk: Desk) -> None:
    other = Tagged(37, bytes(reversed(range(16))))
    one, two = (
        triple(registers(values), environment={0: {0: uuid, 1: "ACME", 2: "RoadRunner"}})
        for uuid, values in ((UUID, {0: A, 4: A}), (other, {0: B, 4: B}))
    )

    taken = desk.take(signed(ACME, corim(comid(one, two))))

    assert {one.name: one.pcrs for one in taken} == {
        f"ACME RoadRunner {uuid.hex()}": {HashAlgorithm.SHA256: {0: {value}, 4: {value}}}
        for uuid, value in ((bytes(range(16)), A), (bytes(reversed(range(16))), B))
    }


@pytest.mark.parametrize(
    "classes",
    [
        ({1: "ACME Road", 2: "Runner"}, {1: "ACME", 2: "Road Runner"}),
        ({1: "ACME layer 1"}, {1: "ACME", 3: 1}),
        ({0: Tagged(37, b"x" * 16), 1: "ACME"}, {0: Tagged(560, b"x" * 16), 1: "ACME"}),
    ],
)
def test_words_that_run_together_make_no_common_set(
    desk: Desk, classes: tuple[dict[CborKey, CborValue], ...]
) -> None:
    triples = [
        triple(registers({0: value}), environment={0: one})
        for one, value in zip(classes, (A, B), strict=True)
    ]

    taken = desk.take(signed(ACME, corim(comid(*triples))))

    assert [one.pcrs[HashAlgorithm.SHA256][0] for one in taken] == [{A}, {B}]


ENDED, LATER = int((AT - DAY).timestamp()), int((AT + DAY).timestamp())


@pytest.mark.parametrize(
    ("meta", "claims"),
    [
        ({0: {0: "ACME"}}, {1: "ACME", 4: ENDED}),
        ({0: {0: "ACME"}, 1: {1: Tagged(1, LATER)}}, {1: "ACME", 4: ENDED}),
        ({0: {0: "ACME"}, 1: {1: Tagged(1, LATER)}}, {1: "Coyote", 4: LATER}),
        ({0: {0: "ACME"}}, {1: "ACME", 3: "another verifier"}),
    ],
)
def test_meta_map_hides_nothing_that_cwt_claims_say(
    meta: CborValue, claims: dict[CborKey, CborValue]
) -> None:
    header = protected_header(label_8=encode(meta), label_15=claims)

    with pytest.raises(AttestationError) as caught:
        open_corim(signed(ACME, protected=header))
    assert caught.value.code is RefusalCode.CORIM_MALFORMED


def test_meta_map_and_cwt_claims_that_agree_are_taken() -> None:
    meta = encode({0: {0: "ACME"}, 1: {1: Tagged(1, LATER)}})
    claims: dict[CborKey, CborValue] = {1: "ACME", 2: "acme-2026-03", 4: LATER}
    header = protected_header(label_8=meta, label_15=claims)

    found = open_corim(signed(ACME, protected=header))

    assert isinstance(found, SignedCorim)
    assert found.signer == "ACME"
