"""Clouds made at test time: signing keys, instance identity documents, managed identity tokens."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)
from cryptography.x509.oid import NameOID

REGION = "eu-central-1"
ACCOUNT = "123456789012"
INSTANCE = "i-0123456789abcdef0"
ISSUER = "https://sts.windows.net/0b1c/"
AUDIENCE = "api://enrolment"
RESOURCE = (
    "/subscriptions/5f2e/resourcegroups/fleet/providers/Microsoft.Compute/virtualMachines/vm-1"
)


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


class SoftAws:
    """One region's signing key and its certificate."""

    def __init__(self, number: int = 0, bits: int = 2048) -> None:
        self.key = rsa_key(number, bits)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Region")])
        self.certificate = (
            x509.CertificateBuilder(
                issuer_name=name, subject_name=name, public_key=self.key.public_key()
            )
            .serial_number(1 + number)
            .not_valid_before(datetime(2024, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2199, 1, 1, tzinfo=UTC))
            .sign(self.key, hashes.SHA256())
        )

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def content(self, **changes: object) -> bytes:
        claims = {
            "accountId": ACCOUNT,
            "architecture": "x86_64",
            "instanceId": INSTANCE,
            "pendingTime": "2026-01-01T00:00:00Z",
            "region": REGION,
            "version": "2017-09-30",
            **changes,
        }
        return json.dumps({k: v for k, v in claims.items() if v is not None}, indent=2).encode()

    def document(
        self,
        content: bytes | None = None,
        *,
        options: tuple[pkcs7.PKCS7Options, ...] = (pkcs7.PKCS7Options.NoCerts,),
        digest: hashes.SHA256 | hashes.SHA384 | None = None,
    ) -> bytes:
        """A document as the metadata service gives it, in definite lengths: base64 lines."""
        der = (
            pkcs7.PKCS7SignatureBuilder()
            .set_data(self.content() if content is None else content)
            .add_signer(self.certificate, self.key, digest or hashes.SHA256())
            .sign(Encoding.DER, [pkcs7.PKCS7Options.Binary, *options])
        )
        return base64.encodebytes(der)

    def streamed(self, folder: Path, content: bytes) -> bytes:
        """The same as AWS writes it: BER of indefinite lengths, made by openssl."""
        (folder / "content").write_bytes(content)
        (folder / "signer.pem").write_bytes(self.certificate_pem)
        (folder / "key.pem").write_bytes(
            self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        command = [
            *("openssl", "cms", "-sign", "-binary", "-nodetach", "-stream", "-indef", "-nocerts"),
            *("-md", "sha256", "-outform", "DER", "-in", "content", "-signer", "signer.pem"),
            *("-inkey", "key.pem", "-out", "signed"),
        ]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return (folder / "signed").read_bytes()


class SoftAzure:
    """A tenant's token service."""

    def __init__(self, number: int = 0) -> None:
        self.key = rsa_key(number)
        self.kid = f"key-{number}"

    @property
    def jwks(self) -> dict[str, Any]:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": self.kid, "use": "sig", "x5t": self.kid}]}

    def token(
        self,
        at: datetime,
        *,
        header: Mapping[str, object] | None = None,
        **changes: object,
    ) -> str:
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": int((at - timedelta(minutes=5)).timestamp()),
            "nbf": int((at - timedelta(minutes=5)).timestamp()),
            "exp": int((at + timedelta(hours=1)).timestamp()),
            "xms_mirid": RESOURCE,
            **changes,
        }
        return jwt.encode(
            {name: value for name, value in claims.items() if value is not None},
            self.key,
            algorithm="RS256",
            headers={"kid": self.kid, "x5t": self.kid, **(header or {})},
        )
