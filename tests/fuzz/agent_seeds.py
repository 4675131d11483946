"""First inputs about AI agents: requests, bindings, tokens, certificates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.agent_certificate import AgentClaims, agent_extensions
from attestation.evidence import Quote
from attestation.identity import agent_name
from attestation.wire.agent_codec import AgentRequest, encode_agent
from attestation.wire.jwk import public_jwk, thumbprint
from attestation.wire.owner_binding import BindingRequest, binding_request_text
from attestation.wire.wit import WorkloadIdentity, wit_claims
from tests.conformance.generate.device import NOW, private_key
from tests.simulators.soft_jose import jws


def of_agents(key: ec.EllipticCurvePrivateKey) -> Iterator[tuple[str, bytes]]:
    """Yield (target, input); ``key`` signs."""
    agent = private_key("an agent").public_key()
    request = AgentRequest(
        agent=agent_name("planner"),
        nonce=b"nonce",
        agent_public=b"public",
        csr=b"csr",
        certify=Quote(attest=b"attest", signature=b"signature"),
        owner_binding="a.b.c",
        capabilities=("calendar.read", "mail.send"),
        locator="https://agents.example/planner",
        validation_methods=("wpt",),
    )
    yield "agent_request", encode_agent(request)
    asked = BindingRequest(
        holder="spiffe://fleet.example/device/box/agent/planner",
        thumbprint=thumbprint(agent),
        scope=("mail.send",),
        nonce=b"nonce",
    )
    yield "owner_binding", binding_request_text(asked).encode()
    body = {
        "cnf": {"jkt": thumbprint(agent)},
        "owner": "mailto:owner@fleet.example",
        "scope": ["mail.send"],
        "exp": 1_800_000_000,
        "nonce": "bm9uY2U",
    }
    yield "owner_binding", jws({"alg": "ES256", "typ": "owner-binding+jwt"}, body, key).encode()
    claims = wit_claims(
        WorkloadIdentity(
            subject=asked.holder,
            key=agent,
            expires_at=NOW + timedelta(hours=1),
            capabilities=("mail.send",),
        )
    )
    header = {"alg": "ES256", "typ": "wit+jwt", "kid": "one"}
    yield "workload_token", jws(header, claims, key).encode()
    shown = {"alg": "ES256", "typ": "dpop+jwt", "jwk": public_jwk(agent)}
    asked_for = {
        "jti": "one",
        "htm": "POST",
        "htu": "https://verifier.example/enrol/v1/agents/planner/tokens",
        "iat": 1_767_225_600,
        "nonce": "bm9uY2U",
    }
    yield "token_proof", jws(shown, asked_for, private_key("an agent")).encode()
    yield "jwk", json.dumps(public_jwk(agent)).encode()
    told = AgentClaims(owner="x", capabilities=("mail.send",), locator="urn:x")
    yield "agent_certificate", _agent_certificate(key, told)


def _agent_certificate(key: ec.EllipticCurvePrivateKey, told: AgentClaims) -> bytes:
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    for extension in agent_extensions(told):
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return signed.public_bytes(Encoding.DER)
