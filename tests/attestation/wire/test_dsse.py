from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from attestation.errors import InputError
from attestation.wire.dsse import pae, read_envelope, read_statement, require_usable
from tests.simulators.soft_provider import SoftProvider

PROVIDER = SoftProvider()


def test_encoding_is_that_of_the_specification() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@pytest.mark.parametrize("pss", [True, False])
def test_both_paddings_of_rsa_are_taken(pss: bool) -> None:  # noqa: FBT001
    provider = SoftProvider(rsa.generate_private_key(65537, 2048))
    envelope = read_envelope(provider.endorse(b"a"))
    signature = provider.sign(envelope.payload, pss=pss)
    signed = type(envelope)(
        payload_type=envelope.payload_type, payload=envelope.payload, signatures=(signature,)
    )

    assert signed.signed_by(provider.key.public_key())
    assert not signed.signed_by(rsa.generate_private_key(65537, 2048).public_key())


def test_url_safe_base64_without_padding_is_taken() -> None:
    document = PROVIDER.endorse(b"a")
    document["payload"] = document["payload"].replace("+", "-").replace("/", "_").rstrip("=")

    assert read_envelope(document).signed_by(require_usable(PROVIDER.key.public_key()))


@pytest.mark.parametrize(
    "changes",
    [
        {"payloadType": "application/json"},
        {"payloadType": None},
        {"payload": "€"},
        {"payload": None},
        {"signatures": []},
        {"signatures": {}},
        {"signatures": [{}] * 17},
        {"signatures": ["x"]},
        {"signatures": [{"sig": 1}]},
    ],
)
def test_malformed_envelope_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        read_envelope(PROVIDER.endorse(b"a") | changes)
    assert caught.value.code == "provider-endorsement-malformed"


@pytest.mark.parametrize(
    "changes",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"subject": []},
        {"subject": [{}]},
        {"subject": [{"digest": {"sha512": "00" * 64}}]},
        {"subject": [{"digest": {"sha256": "00"}}]},
        {"subject": [{"digest": {"sha256": " " * 64}}]},
        {"predicateType": None},
        {"predicate": [1]},
        {"predicate": {"validUntil": "tomorrow"}},
        {"predicate": {"validUntil": "2026-01-01T00:00:00"}},
        {"predicate": {"validUntil": 7}},
        {"predicate": {"validFrom": "0001-01-01T00:00:00+14:00"}},
    ],
)
def test_malformed_statement_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        read_statement(read_envelope(PROVIDER.endorse(b"a", **changes)).payload)
    assert caught.value.code == "provider-endorsement-malformed"


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP521R1()).public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        rsa.generate_private_key(65537, 1024).public_key(),  # noqa: S505 - on purpose
        ed25519.Ed25519PrivateKey.generate(),
    ],
)
def test_other_keys_are_refused(key: object) -> None:
    with pytest.raises(InputError) as caught:
        require_usable(key)
    assert caught.value.code == "key-too-weak"
