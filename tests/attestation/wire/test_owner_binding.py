"""What an owner signs for an AI agent, and what is made of it."""

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import (
    AttestationError,
    IdentityMismatch,
    MalformedInput,
    NotFresh,
    SignatureInvalid,
)
from attestation.limits import MAX_OWNER_BINDING_CHARS, MAX_OWNER_CHARS, MAX_PEM_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.jwk import thumbprint
from attestation.wire.owner_binding import (
    TOKEN_TYPE,
    BindingRequest,
    OwnerBinding,
    binding_request_text,
    read_binding_request,
    read_owner,
    read_owner_key,
    require_owner_id,
    sign_binding,
    verify_binding,
)
from tests.attestation.wire.test_jwk import ED, P256, P384
from tests.simulators.soft_jose import b64, holds, jws, taken_apart

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
AGENT = ec.derive_private_key(11, ec.SECP256R1()).public_key()
BINDING = OwnerBinding(
    thumbprint=thumbprint(AGENT),
    owner="mailto:owner@fleet.example",
    scope=("calendar.read", "mail.send"),
    expires_at=AT + timedelta(days=30),
    nonce=b"challenge",
)
HEADER = {"alg": "ES256", "typ": TOKEN_TYPE}
OWNER_KEYS = [P256, P384, ED]


def claims(**changes: object) -> dict[str, object]:
    found = taken_apart(sign_binding(BINDING, P256))[1] | changes
    return {name: value for name, value in found.items() if value is not ...}


def verified(token: str, at: datetime = AT) -> OwnerBinding:
    return verify_binding(token, P256.public_key(), agent_thumbprint=BINDING.thumbprint, at=at)


@pytest.mark.parametrize("key", OWNER_KEYS, ids=["p256", "p384", "ed25519"])
def test_what_is_signed_is_read(key: ec.EllipticCurvePrivateKey) -> None:
    token = sign_binding(BINDING, key)

    found = verify_binding(token, key.public_key(), agent_thumbprint=BINDING.thumbprint, at=AT)

    assert found == BINDING
    assert read_owner(token) == BINDING.owner


def test_layout_is_as_documented() -> None:
    header, body, _ = taken_apart(sign_binding(BINDING, P256))

    assert header == {"alg": "ES256", "typ": TOKEN_TYPE, "kid": thumbprint(P256.public_key())}
    assert body == {
        "cnf": {"jkt": thumbprint(AGENT)},
        "owner": BINDING.owner,
        "scope": ["calendar.read", "mail.send"],
        "exp": int(BINDING.expires_at.timestamp()),
        "nonce": b64(b"challenge"),
    }


def test_others_verify_it() -> None:
    token = sign_binding(BINDING, P256)

    assert holds(token, P256.public_key())
    options: jwt.types.Options = {"verify_exp": False}
    assert jwt.decode(token, P256.public_key(), algorithms=["ES256"], options=options)["owner"]


@pytest.mark.parametrize(
    "changes",
    [
        {"cnf": {"jkt": thumbprint(P384.public_key())}},
        {"owner": "mailto:other@fleet.example"},
        {"scope": ["calendar.read", "mail.send", "mail.write"]},
        {"exp": int(BINDING.expires_at.timestamp()) + 1},
        {"nonce": b64(b"other")},
    ],
)
def test_edit_of_any_field_is_seen(changes: dict[str, object]) -> None:
    head, _, made = sign_binding(BINDING, P256).split(".")
    edited = b64(json.dumps(claims(**changes), separators=(",", ":"), sort_keys=True).encode())

    with pytest.raises(SignatureInvalid) as caught:
        verified(f"{head}.{edited}.{made}")

    assert caught.value.code is RefusalCode.OWNER_SIGNATURE_INVALID


def test_another_owners_signature_is_refused() -> None:
    for key in (P384, ED, ec.derive_private_key(8, ec.SECP256R1())):
        with pytest.raises(SignatureInvalid):
            verified(sign_binding(BINDING, key))


def test_binding_for_another_key_is_refused() -> None:
    token = sign_binding(replace(BINDING, thumbprint=thumbprint(P384.public_key())), P256)

    with pytest.raises(IdentityMismatch) as caught:
        verified(token)

    assert caught.value.code is RefusalCode.OWNER_BINDING_MISMATCH


def test_binding_ends_to_the_second() -> None:
    token = sign_binding(BINDING, P256)
    verified(token, BINDING.expires_at - timedelta(seconds=1))

    with pytest.raises(NotFresh) as caught:
        verified(token, BINDING.expires_at)

    assert caught.value.code is RefusalCode.OWNER_BINDING_EXPIRED


@pytest.mark.parametrize(
    "body",
    [
        claims(iat=5),
        claims(nonce=...),
        claims(cnf={"jkt": "short"}),
        claims(cnf={"jwk": {}}),
        claims(cnf={"jkt": BINDING.thumbprint, "x": 1}),
        claims(cnf="x"),
        claims(owner=""),
        claims(owner=5),
        claims(owner="two words"),
        claims(owner="ä"),
        claims(owner="x" * (MAX_OWNER_CHARS + 1)),
        claims(scope="calendar.read"),
        claims(scope=["b", "a"]),
        claims(scope=[5]),
        claims(scope=["a", "a"]),
        claims(exp=True),
        claims(exp=1.5),
        claims(exp="1"),
        claims(exp=0),
        claims(exp=10**12),
        claims(nonce=""),
        claims(nonce="!"),
        claims(nonce="x" * 129),
        claims(nonce=5),
    ],
)
def test_claims_out_of_form_are_refused(body: dict[str, object]) -> None:
    token = jws(HEADER, body, P256)
    for read in (verified, read_owner):
        with pytest.raises(MalformedInput) as caught:
            read(token)
        assert caught.value.code is RefusalCode.OWNER_BINDING_MALFORMED


@pytest.mark.parametrize("kind", ["JWT", "wit+jwt", "OWNER-BINDING+JWT"])
def test_token_of_another_kind_is_no_binding(kind: str) -> None:
    with pytest.raises(MalformedInput):
        verified(jws({**HEADER, "typ": kind}, claims(), P256))


def test_too_long_a_token_is_not_read() -> None:
    with pytest.raises(MalformedInput):
        read_owner("x" * (MAX_OWNER_BINDING_CHARS + 1))


def test_what_cannot_be_read_is_not_signed() -> None:
    with pytest.raises(MalformedInput):
        sign_binding(replace(BINDING, scope=("b", "a")), P256)
    with pytest.raises(ValueError, match="P-256"):
        sign_binding(BINDING, ec.derive_private_key(5, ec.SECP521R1()))


def test_owner_ids_are_visible_ascii() -> None:
    assert require_owner_id("x" * MAX_OWNER_CHARS)
    for wrong in ("", "a b", "\n", "x" * (MAX_OWNER_CHARS + 1)):
        with pytest.raises(MalformedInput):
            require_owner_id(wrong)


def pem(key: object) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()  # type: ignore[attr-defined]


def test_owner_keys_are_of_three_kinds() -> None:
    for key in OWNER_KEYS:
        assert read_owner_key(pem(key.public_key()), "x") == key.public_key()
    for weak in (
        rsa.generate_private_key(65537, 2048).public_key(),
        ec.derive_private_key(5, ec.SECP521R1()).public_key(),
        ec.derive_private_key(5, ec.SECP256K1()).public_key(),
    ):
        with pytest.raises(MalformedInput) as caught:
            read_owner_key(pem(weak), "x")
        assert caught.value.code is RefusalCode.KEY_TOO_WEAK
    for broken in ("", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(MalformedInput) as caught:
            read_owner_key(broken, "x")
        assert caught.value.code is RefusalCode.KEY_MALFORMED
    with pytest.raises(MalformedInput):
        read_owner_key(" " * MAX_PEM_BYTES + pem(P256.public_key()), "x")


REQUEST = BindingRequest(
    holder="spiffe://fleet.example/device/box/agent/planner",
    thumbprint=BINDING.thumbprint,
    scope=BINDING.scope,
    nonce=b"challenge",
)


def test_binding_request_is_read_as_written() -> None:
    assert read_binding_request(binding_request_text(REQUEST).encode()) == REQUEST


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "other"},
        {"holder": 5},
        {"holder": ...},
        {"extra": 1},
        {"jkt": "x"},
        {"scope": ["b", "a"]},
        {"nonce": "!"},
    ],
)
def test_other_binding_requests_are_refused(changes: dict[str, object]) -> None:
    document = json.loads(binding_request_text(REQUEST)) | changes
    text = json.dumps({name: value for name, value in document.items() if value is not ...})
    with pytest.raises(MalformedInput) as caught:
        read_binding_request(text.encode())
    assert caught.value.code is RefusalCode.OWNER_BINDING_MALFORMED


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"{}", b"\xff", b" " * 20_000])
def test_what_is_no_binding_request_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedInput):
        read_binding_request(text)


BINDINGS = st.builds(
    OwnerBinding,
    thumbprint=st.binary(min_size=32, max_size=32).map(b64),
    owner=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    scope=st.sets(st.text("abc.:", min_size=1, max_size=8), max_size=6).map(
        lambda words: tuple(sorted(words))
    ),
    expires_at=st.integers(1, 253_402_300_799).map(lambda one: datetime.fromtimestamp(one, UTC)),
    nonce=st.binary(min_size=1, max_size=64),
)


@given(BINDINGS)
@settings(max_examples=40)
def test_any_binding_is_read_as_signed(binding: OwnerBinding) -> None:
    found = verify_binding(
        sign_binding(binding, P256),
        P256.public_key(),
        agent_thumbprint=binding.thumbprint,
        at=binding.expires_at - timedelta(seconds=1),
    )
    assert found == binding


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["cnf", "owner", "scope", "exp", "nonce", "jkt"]), inner
            )
        ),
        max_leaves=8,
    )
)
@settings(max_examples=100)
def test_hostile_claims_are_refused_in_words(body: object) -> None:
    with contextlib.suppress(AttestationError):
        verified(jws(HEADER, body, P256))
