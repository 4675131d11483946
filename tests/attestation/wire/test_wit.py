"""Workload identity tokens: what we make is a WIT, and what is none is refused."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import AttestationError, MalformedInput, NotFresh, SignatureInvalid
from attestation.limits import MAX_WORKLOAD_TOKEN_CHARS
from attestation.refusals import RefusalCode
from attestation.wire.jwk import PublicKey, public_jwk, thumbprint
from attestation.wire.wit import (
    CAPABILITIES_CLAIM,
    LOCATOR_CLAIM,
    OWNER_CLAIM,
    TOKEN_TYPE,
    VALIDATION_METHODS_CLAIM,
    StatusEntry,
    WorkloadIdentity,
    require_workload_id,
    verify_wit,
    wit_claims,
)
from tests.attestation.wire.test_jwk import ED, P256, P384, RSA
from tests.simulators.soft_jose import jws

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
WORKLOAD = ec.derive_private_key(11, ec.SECP256R1())
KID = thumbprint(P256.public_key())
HEADER = {"alg": "ES256", "typ": TOKEN_TYPE, "kid": KID}
JWKS = {"keys": [{**public_jwk(P256.public_key()), "kid": KID, "use": "sig", "alg": "ES256"}]}
IDENTITY = WorkloadIdentity(
    subject="spiffe://fleet.example/device/box/agent/planner",
    key=WORKLOAD.public_key(),
    expires_at=AT + timedelta(hours=1),
    issued_at=AT,
    issuer="spiffe://fleet.example",
    token_id="Zm9v",  # noqa: S106 - a name, not a secret
    status=StatusEntry(index=7, uri="https://pki.example/status/0"),
    owner="mailto:owner@fleet.example",
    capabilities=("calendar.read", "mail.send"),
    locator="https://agents.example/planner",
    validation_methods=("tls-alpn",),
)
BARE = WorkloadIdentity(
    subject=IDENTITY.subject, key=WORKLOAD.public_key(), expires_at=IDENTITY.expires_at
)


def claims(**changes: object) -> dict[str, object]:
    found = wit_claims(IDENTITY) | changes
    return {name: value for name, value in found.items() if value is not ...}


def verified(
    token: str, *, at: datetime = AT, leeway: timedelta = timedelta(0), jwks: object = JWKS
) -> WorkloadIdentity:
    assert isinstance(jwks, Mapping)
    return verify_wit(token, jwks, trust_domain="fleet.example", at=at, leeway=leeway)


def signed(body: object) -> str:
    return jws(HEADER, body, P256)


@pytest.mark.parametrize("identity", [IDENTITY, BARE])
def test_what_is_written_is_read(identity: WorkloadIdentity) -> None:
    assert verified(signed(wit_claims(identity))) == identity


@pytest.mark.parametrize("key", [P256, P384, ED, RSA], ids=["p256", "p384", "ed25519", "rsa"])
def test_any_key_that_we_certify_can_be_named(key: PublicKey) -> None:
    identity = replace(IDENTITY, key=key.public_key())  # type: ignore[union-attr]

    assert verified(signed(wit_claims(identity))).key == key.public_key()  # type: ignore[union-attr]


def test_token_is_what_the_drafts_ask_for() -> None:
    """draft-ietf-wimse-workload-creds, 3.1, and WIT-SVID: checked by PyJWT, not by our reader."""
    token = signed(wit_claims(IDENTITY))

    header = jwt.get_unverified_header(token)
    body = jwt.decode(
        token,
        jwt.PyJWK(JWKS["keys"][0]),
        algorithms=["ES256"],
        options={"require": ["sub", "exp", "iat", "iss", "jti"], "verify_exp": False},
    )
    assert (header["typ"], header["kid"]) == ("wit+jwt", KID)
    assert "aud" not in body
    assert body["cnf"]["jwk"]["alg"] == "ES256"
    assert jwt.PyJWK(body["cnf"]["jwk"]).key == WORKLOAD.public_key()
    assert not {"d", "p", "q"} & body["cnf"]["jwk"].keys()
    assert body["status"] == {"status_list": {"idx": 7, "uri": "https://pki.example/status/0"}}
    assert body[OWNER_CLAIM] == "mailto:owner@fleet.example"
    assert body[CAPABILITIES_CLAIM] == ["calendar.read", "mail.send"]
    assert body[LOCATOR_CLAIM] == "https://agents.example/planner"
    assert body[VALIDATION_METHODS_CLAIM] == ["tls-alpn"]


def test_what_is_empty_is_not_told() -> None:
    assert wit_claims(BARE).keys() == {"sub", "exp", "cnf"}


@pytest.mark.parametrize(
    "body",
    [
        claims(sub=...),
        claims(sub=""),
        claims(sub=5),
        claims(sub="https://fleet.example/x"),
        claims(exp=...),
        claims(exp="1"),
        claims(exp=True),
        claims(exp=0),
        claims(exp=10**12),
        claims(iat="x"),
        claims(nbf="x"),
        claims(aud="https://api.example"),
        claims(aud=[]),
        claims(cnf=...),
        claims(cnf={}),
        claims(cnf={"jwk": "x"}),
        claims(cnf={"jkt": thumbprint(WORKLOAD.public_key())}),
        claims(cnf={"jwk": public_jwk(WORKLOAD.public_key())}),
        claims(cnf={"jwk": {**public_jwk(WORKLOAD.public_key()), "alg": "ES384"}}),
        claims(cnf={"jwk": {**public_jwk(WORKLOAD.public_key()), "alg": "ES256", "d": "AQ"}}),
        claims(cnf={"jwk": {"kty": "oct", "k": "AQ", "alg": "HS256"}}),
        claims(cnf={"jwk": {**public_jwk(WORKLOAD.public_key()), "alg": "ES256"}, "jku": "x"}),
        claims(iss=5),
        claims(jti=5),
        claims(scope="mail.send"),
        claims(status={}),
        claims(status={"status_list": {"idx": -1, "uri": "x"}}),
        claims(status={"status_list": {"idx": True, "uri": "x"}}),
        claims(status={"status_list": {"idx": 1, "uri": ""}}),
        claims(**{CAPABILITIES_CLAIM: ["b", "a"]}),
        claims(**{CAPABILITIES_CLAIM: "mail.send"}),
        claims(**{OWNER_CLAIM: "two words"}),
        claims(**{LOCATOR_CLAIM: "nowhere"}),
        claims(**{VALIDATION_METHODS_CLAIM: [5]}),
    ],
)
def test_claims_out_of_form_are_refused(body: dict[str, object]) -> None:
    with pytest.raises(MalformedInput):
        verified(signed(body))


def test_claims_of_others_with_names_of_their_own_are_passed_over() -> None:
    assert verified(signed(claims(**{"https://x.example/y": 5}))) == IDENTITY


@pytest.mark.parametrize("kind", ["JWT", "wpt+jwt", "owner-binding+jwt", "WIT+JWT", None])
def test_token_of_another_kind_is_no_wit(kind: str | None) -> None:
    header = {**HEADER, "typ": kind} if kind else {"alg": "ES256", "kid": KID}
    with pytest.raises(MalformedInput) as caught:
        verified(jws(header, claims(), P256))
    assert caught.value.code is RefusalCode.WORKLOAD_TOKEN_MALFORMED


@pytest.mark.parametrize(
    ("token", "jwks"),
    [
        (jws(HEADER, claims(), WORKLOAD), JWKS),
        (jws({**HEADER, "kid": "other"}, claims(), P256), JWKS),
        (jws({"alg": "ES256", "typ": TOKEN_TYPE}, claims(), P256), JWKS),
        (jws({**HEADER, "alg": "ES384"}, claims(), P384), JWKS),
        (jws({**HEADER, "alg": "none"}, claims(), P256), JWKS),
        (signed(claims()), {}),
        (signed(claims()), {"keys": []}),
        (signed(claims()), {"keys": JWKS["keys"] * 2}),
        (signed(claims()), {"keys": [{"kid": KID, "kty": "oct", "k": "AQ"}]}),
        (signed(claims(sub="spiffe://other.example/device/box")), JWKS),
        (signed(claims(sub="spiffe://fleet.example.evil/device/box")), JWKS),
    ],
)
def test_nobody_elses_signature_counts(token: str, jwks: dict[str, object]) -> None:
    with pytest.raises(SignatureInvalid) as caught:
        verified(token, jwks=jwks)
    assert caught.value.code is RefusalCode.WORKLOAD_TOKEN_INVALID


def test_token_has_its_time() -> None:
    token = signed(claims(nbf=int(AT.timestamp())))
    verified(token, at=IDENTITY.expires_at - timedelta(seconds=1))
    verified(token, at=AT - timedelta(seconds=3), leeway=timedelta(seconds=5))

    for at in (IDENTITY.expires_at, AT - timedelta(seconds=1)):
        with pytest.raises(NotFresh) as caught:
            verified(token, at=at)
        assert caught.value.code is RefusalCode.WORKLOAD_TOKEN_EXPIRED
    with pytest.raises(NotFresh):
        verified(token, at=IDENTITY.expires_at, leeway=timedelta(hours=1))


def test_too_long_a_token_is_not_read() -> None:
    with pytest.raises(MalformedInput):
        verified("x" * (MAX_WORKLOAD_TOKEN_CHARS + 1))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("spiffe://fleet.example/device/box", ("fleet.example", "/device/box")),
        ("wimse://td_1/a", ("td_1", "/a")),
        ("spiffe://td/" + "a" * 2036, ("td", "/" + "a" * 2036)),
    ],
)
def test_workload_ids_are_taken(text: str, parts: tuple[str, str]) -> None:
    assert require_workload_id(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://td",
        "spiffe://td/",
        "spiffe://td/a/",
        "spiffe://td//a",
        "spiffe://td/a/../b",
        "spiffe://td/.",
        "spiffe://td/%61",
        "spiffe://td/a?b",
        "spiffe://td/a#b",
        "spiffe://u@td/a",
        "spiffe://td:1/a",
        "spiffe://TD/a",
        "SPIFFE://td/a",
        "http://td/a",
        "spiffe:///a",
        "spiffe://td/a b",
        "spiffe://td/ä",
        "spiffe://td/a\n",
        "spiffe://" + "t" * 256 + "/a",
        "spiffe://td/" + "a" * 2037,
    ],
)
def test_other_ids_are_refused(text: str) -> None:
    with pytest.raises(MalformedInput) as caught:
        require_workload_id(text)
    assert caught.value.code is RefusalCode.WORKLOAD_ID_INVALID
    with pytest.raises(MalformedInput):
        wit_claims(replace(IDENTITY, subject=text))


NAMES = st.sampled_from(["sub", "exp", "cnf", "jwk", "aud", "status", "iat", OWNER_CLAIM, "kty"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
        max_leaves=8,
    )
)
@settings(max_examples=100)
def test_hostile_claims_are_refused_in_words(body: object) -> None:
    with contextlib.suppress(AttestationError):
        verified(signed(body))
