"""CoRIM: what is read, what is named and skipped, what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.algorithms import HashAlgorithm
from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.limits import MAX_CORIM_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.comid import Comid
from attestation.wire.corim import Corim, SignedCorim, is_corim, open_corim, read_payload
from attestation.wire.strict_cbor import CborKey, CborValue, Tagged, encode
from tests.simulators.corim_press import (
    CLASS,
    UUID,
    A,
    B,
    C,
    comid,
    corim,
    protected_header,
    registers,
    signed,
    triple,
)

SHA256, SHA384 = HashAlgorithm.SHA256, HashAlgorithm.SHA384
KEY = ec.generate_private_key(ec.SECP256R1())


def unsigned(raw: bytes) -> Corim:
    found = open_corim(raw)
    assert isinstance(found, Corim)
    return found


def only(*triples: CborValue) -> Comid:
    (found,) = unsigned(corim(comid(*triples))).comids
    return found


def test_integrity_registers_are_pcrs() -> None:
    found = unsigned(corim())

    (one,) = found.comids
    assert (found.id, found.profile, one.id, one.version) == (
        "acme-2026-03",
        "",
        "roadrunner-fw",
        3,
    )
    (values,) = one.values
    assert values.environment == "ACME RoadRunner"
    assert values.pcrs == {SHA256: {0: {A}, 4: {B}}}
    assert found.notices == ()


def test_digests_of_an_element_with_a_pcr_number_are_that_pcr() -> None:
    one = only(triple({0: 7, 1: {2: [["sha-384", A + A[:16]], [1, B]]}}))

    assert one.values[0].pcrs == {SHA256: {7: {B}}, SHA384: {7: {A + A[:16]}}}


def test_values_of_one_environment_are_put_together() -> None:
    one = only(triple(registers({0: A})), triple(registers({0: B}), registers({7: C})))

    (values,) = one.values
    assert values.pcrs == {SHA256: {0: {A, B}, 7: {C}}}


def test_single_measurement_of_older_drafts_is_read() -> None:
    one = only([{0: CLASS}, registers({0: A})])

    assert one.values[0].pcrs == {SHA256: {0: {A}}}


def test_environments_stay_apart() -> None:
    other: dict[CborKey, CborValue] = {1: "ACME", 2: "Coyote", 3: 1, 4: 2}
    one = only(triple(registers({0: A})), triple(registers({0: B}), environment={0: other}))

    assert [values.environment for values in one.values] == [
        "ACME RoadRunner",
        "ACME Coyote layer 1 index 2",
    ]


def test_class_id_names_what_has_no_words() -> None:
    one = only(triple(registers({0: A}), environment={0: {0: UUID}}))

    assert one.values[0].environment == bytes(range(16)).hex()


@pytest.mark.parametrize(
    ("one", "named"),
    [
        (triple(registers({0: A}), environment={0: CLASS, 1: Tagged(550, b"x")}), "instance"),
        (triple(registers({0: A}), environment={0: CLASS, 2: UUID}), "group"),
        (triple({0: "bios", 1: {2: [[1, A]]}}), "not a PCR"),
        (triple({1: {2: [[1, A]]}}), "not a PCR"),
        (triple({0: 24, 1: {2: [[1, A]]}}), "not a PCR"),
        (triple(registers({"rtmr0": A})), "not a PCR"),
        (triple(registers({0: b"x"}, "my-hash")), "my-hash"),
        (triple(registers({0: b"x"}, 2)), "algorithm 2"),
        (triple({0: 0, 1: {1: Tagged(552, 3)}}), "security version"),
        (triple({0: 0, 1: {2: [[1, A]]}, 2: [Tagged(560, b"k")]}), "authorise"),
    ],
)
def test_what_is_not_a_pcr_of_all_devices_is_named_and_left_out(one: CborValue, named: str) -> None:
    found = unsigned(corim(comid(one)))

    assert found.comids[0].values == ()
    assert any(named in notice for notice in found.notices)


def test_parts_beside_reference_values_are_named() -> None:
    body = comid(other_triples={1: [], 3: [], 10: []}, more={3: [{0: "x", 1: 1}], 2: []})
    found = unsigned(
        corim(body, Tagged(505, b"swid"), Tagged(508, b"list"), more={2: [{0: "x"}], 5: []})
    )

    assert len(found.comids) == 1
    told = " / ".join(found.notices)
    for what in ("CoSWID", "CoTL", "dependent", "endorsed", "attestation keys", "links"):
        assert what in told


def test_validity_and_profile_are_read() -> None:
    begin, end = 1_772_323_200, 1_803_859_200
    found = unsigned(
        corim(
            more={3: Tagged(32, "http://x.example/p"), 4: {0: Tagged(1, begin), 1: Tagged(1, end)}}
        )
    )

    assert found.profile == "http://x.example/p"
    assert found.validity.not_before == datetime.fromtimestamp(begin, UTC)
    assert found.validity.not_after == datetime.fromtimestamp(end, UTC)
    assert unsigned(corim(more={3: [Tagged(111, b"\x2b\x06")]})).profile == "2b06"


@pytest.mark.parametrize(
    "more",
    [
        {4: {1: Tagged(1, 1_696_439_952_000)}},
        {4: {1: 5}},
        {4: {1: Tagged(1, -1)}},
        {4: {0: Tagged(1, 9)}},
        {4: {0: Tagged(1, 9), 1: Tagged(1, 9)}},
        {4: {1: Tagged(1, 9), 2: 1}},
        {3: ["a", "b"]},
        {3: True},
        {6: 1},
        {-1: 1},
        {"x": 1},
    ],
)
def test_what_might_change_the_meaning_is_refused(more: dict[CborKey, CborValue]) -> None:
    with pytest.raises(InputError):
        open_corim(corim(more=more))


@pytest.mark.parametrize(
    "tag",
    [
        comid([{0: CLASS}]),
        comid([{0: CLASS}, [], []]),
        comid(triple()),
        comid(triple(registers({0: A[:-1]}))),
        comid(triple({0: 0, 1: {2: [[1, A], [1, B]]}})),
        comid(triple({0: 0, 1: {2: [[1, "hex"]]}})),
        comid(triple({0: 0, 1: {2: [[1]]}})),
        comid(triple({0: 0, 1: {2: []}})),
        comid(triple({0: 0, 1: {14: [1]}})),
        comid(triple({0: 0, 1: {99: 1}})),
        comid(triple({0: 0})),
        comid(triple(registers({0: A}), environment={})),
        comid(triple(registers({0: A}), environment={0: {}})),
        comid(triple(registers({0: A}), environment={0: {9: 1}})),
        comid(triple(registers({0: A}), environment={0: {1: "a\nb"}})),
        comid(triple(registers({0: A}), environment={0: {1: ""}})),
        comid(other_triples={7: []}),
        comid(more={9: 1}),
        Tagged(506, b"\x00"),
        Tagged(506, [1]),
        Tagged(501, b"x"),
        Tagged(550, b"x"),
        b"x",
    ],
)
def test_malformed_comid_is_refused(tag: CborValue) -> None:
    with pytest.raises(InputError):
        open_corim(corim(tag))


def test_two_digests_of_one_bank_are_no_choice() -> None:
    with pytest.raises(MalformedInput, match="two sha256") as caught:
        open_corim(corim(comid(triple({1: {14: {0: [[1, A], [1, B]]}}}))))
    assert caught.value.code is RefusalCode.CORIM_MALFORMED


def test_signed_corim_is_read_in_two_steps() -> None:
    raw = signed(KEY)

    found = open_corim(raw)

    assert isinstance(found, SignedCorim)
    assert found.signer == "ACME Ltd."
    assert read_payload(found.message) == unsigned(corim())
    assert is_corim(raw)
    assert is_corim(corim())
    assert not is_corim(b'name = "x"')


def test_signer_by_cwt_claims_is_read() -> None:
    claims: dict[CborKey, CborValue] = {1: "ACME Ltd.", 4: 1_803_859_200, 5: Tagged(1, 5)}
    raw = signed(KEY, protected=protected_header(label_8=None, label_15=claims))

    found = open_corim(raw)

    assert isinstance(found, SignedCorim)
    assert found.signer == "ACME Ltd."
    assert found.validity.not_after == datetime.fromtimestamp(1_803_859_200, UTC)


@pytest.mark.parametrize(
    "header",
    [
        protected_header(label_3="application/json"),
        protected_header(label_3=None),
        protected_header(label_3=60),
        protected_header(label_8=None),
        protected_header(label_8={0: {0: "ACME"}}),
        protected_header(label_8=encode({0: {0: ""}})),
        protected_header(label_8=encode({0: {0: "ACME"}, 9: 1})),
        protected_header(label_8=None, label_15={4: 5}),
    ],
)
def test_signed_header_without_type_or_signer_is_refused(header: dict[CborKey, CborValue]) -> None:
    with pytest.raises(InputError):
        open_corim(signed(KEY, protected=header))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xd2",
        corim()[:-1],
        corim() + b"\x00",
        encode({0: "x"}),
        encode(Tagged(550, {0: "x"})),
        encode(Tagged(501, [1])),
        encode(Tagged(501, {0: "x", 1: []})),
        encode(Tagged(501, {0: "", 1: [comid()]})),
        encode(Tagged(501, {1: [comid()]})),
        b"\xd9\x01\xf5\xa2\x00\x61x\x00\x61y",
        b"\xd9\x01\xf4" + corim(),
        b"\xd9\x01\xf5" + b"\x81" * 20 + b"\x00",
        b"\xd2" * 400 + b"\x00",
    ],
)
def test_what_is_no_corim_is_refused(raw: bytes) -> None:
    with pytest.raises(InputError):
        open_corim(raw)


def test_payload_of_a_signed_corim_must_be_one() -> None:
    found = open_corim(signed(KEY, encode({0: "x"})))

    assert isinstance(found, SignedCorim)
    with pytest.raises(MalformedInput):
        read_payload(found.message)


def test_corim_is_bounded() -> None:
    with pytest.raises(LimitExceeded):
        open_corim(bytes(MAX_CORIM_BYTES + 1))
    with pytest.raises(LimitExceeded):
        open_corim(corim(*[comid()] * 257))
