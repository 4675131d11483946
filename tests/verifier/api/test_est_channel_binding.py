"""A request by EST that names the connection it was made for (RFC 7030, 3.5)."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID

from attestation.wire.est import PATH, encode_body
from attestation.wire.media_types import PKCS10
from device_agent.ports import KeyRole
from tests.simulators.verifier_site import Client, SiteDevice, VerifierSite, pem

MISSING = (403, "proofs-missing")
"""What a request without attestation is told when nothing is wrong with it."""
WRONG = (403, "csr-channel-binding-wrong")


Connect = Callable[[ssl.TLSVersion], Client]


@pytest.fixture
def over(site: VerifierSite, device: SiteDevice) -> Iterator[Connect]:
    leaf = device.tpm.certificate(KeyRole.IDEVID)
    assert leaf is not None
    with ExitStack() as closed:

        def connect(version: ssl.TLSVersion) -> Client:
            context = site.context(pem(leaf), device.tpm.keys[KeyRole.IDEVID].private)
            context.minimum_version = context.maximum_version = version
            client = Client("127.0.0.1", site.port, context)
            closed.callback(client.close)
            client.connection.connect()
            return client

        yield connect


def unique(client: Client) -> bytes:
    binding = client.connection.sock.get_channel_binding("tls-unique")
    assert binding
    return base64.b64encode(binding)


def told(client: Client, *passwords: bytes) -> tuple[int, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for one in passwords:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, one)
    csr = builder.sign(key, SHA256()).public_bytes(Encoding.DER)
    answer = client.post(f"{PATH}/simpleenroll", encode_body(csr), PKCS10)
    return answer.status, answer.json["code"]


def test_request_made_for_this_connection_or_for_none_is_taken(over: Connect) -> None:
    client = over(ssl.TLSVersion.TLSv1_2)

    assert told(client, unique(client)) == MISSING
    assert told(client) == MISSING


@pytest.mark.parametrize("password", [b"", b"secret", base64.b64encode(bytes(12))])
def test_request_made_for_another_connection_is_refused(over: Connect, password: bytes) -> None:
    client = over(ssl.TLSVersion.TLSv1_2)

    assert told(client, password) == WRONG


def test_request_carried_to_another_connection_is_refused(over: Connect) -> None:
    first = over(ssl.TLSVersion.TLSv1_2)
    second = over(ssl.TLSVersion.TLSv1_2)

    assert told(second, unique(first)) == WRONG


def test_tls_1_3_has_nothing_to_hold_it_against(over: Connect) -> None:
    client = over(ssl.TLSVersion.TLSv1_3)

    assert told(client, b"whatever") == MISSING
