"""An AI agent's key and its owner, and the request that its device sends for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from attestation.evidence import certify_qualifying_data
from attestation.identity import AgentName, agent_name
from attestation.wire.agent_codec import AgentRequest
from device_agent.ports import KeyRole
from tests.simulators.soft_device import SoftKey, SoftTpm, soft_key
from tests.simulators.soft_jose import b64, jws

__all__ = ["SoftAgentKey", "SoftOwner", "thumbprint_of"]


def thumbprint_of(key: ec.EllipticCurvePublicKey) -> str:
    """RFC 7638, 3, of a P-256 key, by hand."""
    numbers = key.public_numbers()
    x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    digest = hashes.Hash(hashes.SHA256())
    digest.update(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'.encode())
    return b64(digest.finalize())


@dataclass
class SoftOwner:
    """Somebody in whose name an agent may act."""

    name: str = "mailto:owner@fleet.example"
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def pem(self) -> str:
        """The public key."""
        public = self.key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def bind(
        self,
        agent: SoftAgentKey,
        challenge: bytes,
        *,
        scope: tuple[str, ...] = ("calendar.read", "mail.send"),
        until: datetime | None = None,
        **changes: object,
    ) -> str:
        """Sign; ``changes`` replace claims."""
        ends = until or datetime.now(UTC) + timedelta(days=30)
        claims: dict[str, object] = {
            "cnf": {"jkt": agent.thumbprint},
            "owner": self.name,
            "scope": sorted(scope),
            "exp": int(ends.timestamp()),
            "nonce": b64(challenge),
        }
        return jws({"alg": "ES256", "typ": "owner-binding+jwt"}, claims | changes, self.key)


@dataclass
class SoftAgentKey:
    """An agent and its key, resident in its device's TPM as far as anybody can see."""

    name: AgentName = field(default_factory=lambda: agent_name("planner"))
    key: SoftKey = field(default_factory=lambda: soft_key("p256", KeyRole.LDEVID))

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        """The software key behind it."""
        assert isinstance(self.key.private, ec.EllipticCurvePrivateKey)
        return self.key.private

    @property
    def thumbprint(self) -> str:
        """RFC 7638."""
        return thumbprint_of(self.private.public_key())

    def csr(self) -> bytes:
        """PKCS#10; what it says beside the key counts for nothing."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "verifier")])
        builder = x509.CertificateSigningRequestBuilder(subject)
        return builder.sign(self.private, hashes.SHA256()).public_bytes(Encoding.DER)

    def request(self, tpm: SoftTpm, nonce: bytes, **changes: object) -> AgentRequest:
        """An honest request over a nonce; ``changes`` replace its fields."""
        qualifying = certify_qualifying_data(nonce, f"agent:{self.name}")
        honest = AgentRequest(
            agent=self.name,
            nonce=nonce,
            agent_public=self.key.public_area,
            csr=self.csr(),
            certify=tpm.certify_other(self.key, qualifying),
        )
        return replace(honest, **changes)  # type: ignore[arg-type]
