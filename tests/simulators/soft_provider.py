"""An agent provider that endorses AIBOMs: its key, and DSSE envelopes packed by hand."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
PAYLOAD_TYPE = "application/vnd.in-toto+json"


class SoftProvider:
    """One provider with one key."""

    def __init__(self, key: PrivateKey | None = None) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())

    @property
    def pem(self) -> str:
        form = PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(Encoding.PEM, form).decode()

    @property
    def keyid(self) -> str:
        form = PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(self.key.public_key().public_bytes(Encoding.DER, form)).hexdigest()

    def certificate(self, since: datetime, until: datetime) -> str:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "provider")])
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(7)
            .not_valid_before(since)
            .not_valid_after(until)
            .sign(
                self.key,
                None if isinstance(self.key, ed25519.Ed25519PrivateKey) else hashes.SHA256(),
            )
        )
        return made.public_bytes(Encoding.PEM).decode()

    def sign(self, payload: bytes, *, kind: str = PAYLOAD_TYPE, pss: bool = True) -> bytes:
        head = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode()
        message = head + payload
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(message)
        if isinstance(self.key, rsa.RSAPrivateKey):
            pad: padding.AsymmetricPadding = (
                padding.PSS(padding.MGF1(hashes.SHA256()), 32) if pss else padding.PKCS1v15()
            )
            return self.key.sign(message, pad, hashes.SHA256())
        strong = self.key.curve.name == "secp384r1"
        chosen = hashes.SHA384() if strong else hashes.SHA256()
        return self.key.sign(message, ec.ECDSA(chosen, deterministic_signing=True))

    def endorse(
        self,
        *subjects: bytes,
        predicate: dict[str, Any] | None = None,
        predicate_type: str = "https://cyclonedx.org/bom",
        keyid: str | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        """A DSSE envelope over a statement about documents; ``changes`` replace statement keys."""
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [
                {"name": f"a{number}", "digest": {"sha256": hashlib.sha256(one).hexdigest()}}
                for number, one in enumerate(subjects)
            ],
            "predicateType": predicate_type,
            "predicate": predicate or {},
        } | changes
        return self.envelope(json.dumps(statement).encode(), keyid=keyid)

    def envelope(self, payload: bytes, *, keyid: str | None = None) -> dict[str, Any]:
        signature = {"keyid": self.keyid if keyid is None else keyid}
        signature["sig"] = base64.b64encode(self.sign(payload)).decode()
        return {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [signature],
        }


def moment(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)
