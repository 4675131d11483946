"""An AI agent's request on the wire."""

import contextlib
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import AttestationError, InputError, LimitExceeded, MalformedInput
from attestation.evidence import Quote
from attestation.identity import AgentName, agent_name
from attestation.limits import MAX_AGENT_REQUEST_BYTES
from attestation.refusals import RefusalCode
from attestation.wire import strict_cbor
from attestation.wire.agent_codec import (
    AgentRequest,
    certify_purpose,
    decode_agent,
    encode_agent,
)

LEAST = AgentRequest(agent=AgentName("planner"), nonce=b"nonce", agent_public=b"public")
FULL = AgentRequest(
    agent=AgentName("planner"),
    nonce=b"nonce",
    agent_public=b"public",
    csr=b"csr",
    certify=Quote(attest=b"attest", signature=b"signature"),
    evidence=b"evidence",
    agent_class="assistant",
    aibom=bytes(32),
    aibom_document=b"{}",
    provider_endorsement=b"{}",
    owner_binding="a.b.c",
    capabilities=("calendar.read", "mail.send"),
    locator="https://agents.example/planner",
    validation_methods=("tls-alpn",),
)
KEYS = {
    "agent", "class", "nonce", "agent-public", "csr", "agent-certify", "evidence", "aibom",
    "aibom-document", "provider-endorsement", "owner-binding", "capabilities", "locator",
    "validation-methods",
}  # fmt: skip


def written(request: AgentRequest = FULL) -> dict[object, object]:
    value = strict_cbor.decode(encode_agent(request), limit_bytes=4096, structure="test")
    assert isinstance(value, dict)
    return dict(value)


def changed(**changes: object) -> bytes:
    value = written()
    for key, item in changes.items():
        value[key.replace("_", "-")] = item
    return strict_cbor.encode(
        {key: item for key, item in value.items() if item is not None}  # type: ignore[misc]
    )


@pytest.mark.parametrize("request_", [LEAST, FULL])
def test_what_is_written_is_read(request_: AgentRequest) -> None:
    assert decode_agent(encode_agent(request_)) == request_


def test_keys_are_those_of_the_layout() -> None:
    assert set(written()) == KEYS
    assert len(KEYS) == len(fields(AgentRequest))
    assert set(written(LEAST)) == {"agent", "nonce", "agent-public"}


@pytest.mark.parametrize("key", ["agent", "nonce", "agent_public"])
def test_nothing_that_must_be_there_may_be_missing(key: str) -> None:
    with pytest.raises(InputError):
        decode_agent(changed(**{key: None}))


def test_unknown_key_is_refused() -> None:
    with pytest.raises(MalformedInput) as caught:
        decode_agent(changed(extra=1))
    assert caught.value.code is RefusalCode.REQUEST_INVALID


@pytest.mark.parametrize("key", sorted(KEYS))
def test_wrong_type_is_refused(key: str) -> None:
    for wrong in (5, {"a": 1}, [1]):
        with pytest.raises(InputError):
            decode_agent(changed(**{key: wrong}))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"agent": "A"}, RefusalCode.AGENT_NAME_INVALID),
        ({"agent": "-a"}, RefusalCode.AGENT_NAME_INVALID),
        ({"agent": "a/b"}, RefusalCode.AGENT_NAME_INVALID),
        ({"agent": "a..b"}, RefusalCode.AGENT_NAME_INVALID),
        ({"agent": "a" * 64}, RefusalCode.AGENT_NAME_INVALID),
        ({"aibom": bytes(31)}, RefusalCode.REQUEST_INVALID),
        ({"capabilities": ["b", "a"]}, RefusalCode.CAPABILITY_INVALID),
        ({"capabilities": ["a", "a"]}, RefusalCode.CAPABILITY_INVALID),
        ({"capabilities": ["a b"]}, RefusalCode.CAPABILITY_INVALID),
        ({"capabilities": [""]}, RefusalCode.REQUEST_INVALID),
        ({"validation_methods": ["b", "a"]}, RefusalCode.CAPABILITY_INVALID),
        ({"locator": "nowhere"}, RefusalCode.CAPABILITY_INVALID),
        ({"agent_certify": {"attest": b"a"}}, RefusalCode.REQUEST_INVALID),
        (
            {"agent_certify": {"attest": b"a", "signature": b"s", "x": 1}},
            RefusalCode.REQUEST_INVALID,
        ),
    ],
)
def test_values_out_of_form_are_refused(changes: dict[str, object], code: RefusalCode) -> None:
    with pytest.raises(InputError) as caught:
        decode_agent(changed(**changes))
    assert caught.value.code is code


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": bytes(65)},
        {"agent_public": bytes(4097)},
        {"csr": bytes(16 * 1024 + 1)},
        {"aibom": bytes(33)},
        {"capabilities": [f"c{number:03}" for number in range(65)]},
        {"validation_methods": [f"c{number:03}" for number in range(17)]},
        {"locator": "x:" + "y" * 2047},
        {"owner_binding": "x" * 16385},
    ],
)
def test_every_field_has_its_cap(changes: dict[str, object]) -> None:
    with pytest.raises(LimitExceeded):
        decode_agent(changed(**changes))


def test_request_has_a_cap() -> None:
    with pytest.raises(LimitExceeded):
        decode_agent(bytes(MAX_AGENT_REQUEST_BYTES + 1))


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(InputError):
        decode_agent(encode_agent(FULL) + b"\x00")


def test_certification_of_one_agent_is_of_no_other_use() -> None:
    """No name of a device's key begins like that, and no agent's name has a colon."""
    purposes = {certify_purpose(agent_name(name)) for name in ("a", "b", "ldevid", "idevid")}

    assert len(purposes) == 4
    assert purposes.isdisjoint({"ldevid", "idevid"})


@given(st.binary(max_size=80) | st.binary(max_size=20).map(lambda tail: encode_agent(LEAST) + tail))
def test_hostile_bytes_are_refused_in_words(raw: bytes) -> None:
    with contextlib.suppress(AttestationError):
        assert decode_agent(raw) == LEAST


def test_nonce_is_shown_nowhere() -> None:
    assert "nonce" not in repr(replace(FULL, nonce=b"very secret"))
