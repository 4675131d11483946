"""CoRIMs by a signer whom we trust for something else, from yesterday, or saying two things."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
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
from tests.simulators.stored import AT, a_reference_set
from verifier.appraisal.policy_file import load_policy
from verifier.errors import RequestRefused
from verifier.reference_values.model import ReferenceSet
from verifier.reference_values.toml_file import dump_reference_set, load_reference_set
from verifier.services.corim_import import CorimImport, CorimTerms
from verifier.services.reference_values import ReferenceValues
from verifier.store.migrate import migrate
from verifier.store.sql_store import open_store

ACME, ROGUE = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
POLICY = load_policy(
    (resources.files("verifier.policies") / "development.toml").read_text(), "development"
)
TERMS = CorimTerms()
DAY = timedelta(days=1)


class Desk:
    """An operator who trusts two makers."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder}/store.db"
        migrate(url)
        self.store = open_store(url, with_outbox=False)
        self.values = ReferenceValues(self.store, POLICY)
        self.corims = CorimImport(self.store, self.values)
        self.corims.trust("acme", public_pem(ACME), AT)
        self.corims.trust("rogue", public_pem(ROGUE), AT)

    def take(
        self, raw: bytes, terms: CorimTerms = TERMS, keep: datetime | None = None
    ) -> tuple[ReferenceSet, ...]:
        found = self.corims.read(raw, terms, AT).sets
        self.values.put(*found, keep_older_until=keep)
        return found

    def refused(self, raw: bytes, terms: CorimTerms = TERMS) -> RequestRefused:
        before = self.values.names()
        with pytest.raises(RequestRefused) as caught:
            self.take(raw, terms)
        assert self.values.names() == before
        return caught.value


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def maker_corim(key: ec.EllipticCurvePrivateKey, value: bytes, version: int = 3) -> bytes:
    return signed(key, corim(comid(triple(registers({0: value})), version=version)))


def test_signer_cannot_speak_for_a_set_of_another_signer(desk: Desk) -> None:
    desk.take(maker_corim(ACME, A))

    error = desk.refused(maker_corim(ROGUE, B))

    assert error.code is RefusalCode.CONFLICT
    assert "'ACME RoadRunner/1' is of signer 'acme', this one of 'rogue'" in error.reason


def test_signer_cannot_take_the_name_of_a_set_that_an_operator_made(desk: Desk) -> None:
    desk.values.put(a_reference_set())
    golden = triple(registers({0: B}), environment={0: {1: "golden"}})
    raw = signed(ROGUE, corim(comid(golden)))

    assert desk.refused(raw).code is RefusalCode.CONFLICT
    unsigned = CorimTerms(unsigned=True)
    assert desk.refused(corim(comid(golden)), unsigned).code is RefusalCode.CONFLICT


def test_operator_may_give_a_name_to_another_signer(desk: Desk) -> None:
    desk.take(maker_corim(ACME, A))

    (taken,) = desk.take(maker_corim(ROGUE, B), CorimTerms(name="ACME RoadRunner"))

    assert taken.version == 2
    assert taken.manifest is not None
    assert taken.manifest.signer == "rogue"


@pytest.mark.parametrize("terms", [TERMS, CorimTerms(name="ACME RoadRunner")])
def test_older_version_of_a_tag_does_not_come_back(desk: Desk, terms: CorimTerms) -> None:
    desk.take(maker_corim(ACME, A, version=3))
    desk.take(maker_corim(ACME, B, version=4))

    error = desk.refused(maker_corim(ACME, A, version=3), terms)

    assert error.code is RefusalCode.CONFLICT
    assert "version 3 of tag 'roadrunner-fw'" in error.reason
    desk.take(maker_corim(ACME, B, version=4))
    desk.values.remove("ACME RoadRunner")
    desk.take(maker_corim(ACME, A, version=3), terms)


def test_older_version_of_a_tag_does_not_come_back_behind_another_tag(desk: Desk) -> None:
    other = Tagged(506, encode({1: {0: "other-tag"}, 4: {0: [triple(registers({0: B}))]}}))
    desk.take(maker_corim(ACME, A, version=4))
    desk.take(signed(ACME, corim(other)), keep=AT + DAY)

    assert desk.refused(maker_corim(ACME, A, version=3)).code is RefusalCode.CONFLICT


def test_who_signed_a_set_outlives_review_and_file(desk: Desk) -> None:
    (taken,) = desk.take(maker_corim(ACME, A))
    assert taken.manifest is not None
    assert (taken.manifest.signer, taken.manifest.tag, taken.manifest.version) == (
        "acme",
        "roadrunner-fw",
        3,
    )
    assert load_reference_set(dump_reference_set(taken), "file") == taken
    nobody = replace(taken, manifest=replace(taken.manifest, signer=""))
    assert load_reference_set(dump_reference_set(nobody), "file") == nobody

    assert desk.values.review(taken.name, "somebody", AT).manifest == taken.manifest


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ('signer = 1\ntag = "t"\nversion = 0', 7),
        ('signer = "s"\ntag = ""\nversion = 0', 8),
        ('signer = "s"\ntag = "t"\nversion = -1', 9),
        ('signer = "s"\ntag = "t"\nversion = true', 9),
        ('signer = "s"\ntag = "t"\nversion = 0\nmore = 1', 10),
    ],
)
def test_mistake_in_the_manifest_table_is_named_with_its_line(written: str, line: int) -> None:
    head = 'name = "a"\nversion = 1\ncreated = 2026-03-01T12:00:00Z\n[pcrs.sha256]\n'
    text = f'{head}0 = ["{A.hex()}"]\n[manifest]\n{written}\n'

    with pytest.raises(AttestationError, match=f"line {line}"):
        load_reference_set(text, "file")


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
