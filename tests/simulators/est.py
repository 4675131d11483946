"""EST clients for tests: a software device's attested request, and ``curl`` with ``openssl``."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.base64url import base64url_text
from attestation.tpm.public import parse_public
from attestation.wire.attested_csr import Names, build_attested_csr, names_of
from attestation.wire.enrolment_codec import EnrolmentRequest
from attestation.wire.est import (
    PATH,
    decode_body,
    decode_nonce_response,
    encode_body,
    read_certs_only,
)
from attestation.wire.media_types import PKCS10
from device_agent.ports import KeyRole
from tests.simulators.verifier_site import Answer, Client, SiteDevice, VerifierSite, pem

Change = Callable[[EnrolmentRequest], EnrolmentRequest]

ANYBODY = Names(subject=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")]))
"""Names in a first request: the issuer decides."""


def challenge_of(client: Client, label: str = "") -> dict[str, Any]:
    """Ask for a nonce as the freshness draft says; returned as our own door gives it."""
    answer = client.get(f"{PATH}{label and '/' + label}/nonce")
    assert answer.status == 200, answer.body
    given = decode_nonce_response(answer.body)
    return {"nonce": base64url_text(given.nonce), "pcr_selection": given.pcr_selection}


def csr_of(
    device: SiteDevice,
    request: EnrolmentRequest,
    names: Names = ANYBODY,
    *,
    role: KeyRole = KeyRole.LDEVID,
) -> bytes:
    """Put a request into a CSR of the device's key."""
    return build_attested_csr(
        request,
        names,
        spki=parse_public(device.tpm.public_area(role)).spki_der,
        sign=lambda data: device.tpm.sign_digest(role, hashlib.sha256(data).digest()),
    )


def current_names(device: SiteDevice) -> Names:
    """What a request to renew must ask for."""
    return names_of(x509.load_pem_x509_certificates(device.chain_pem)[0])


def enrol(
    device: SiteDevice,
    change: Change = lambda request: request,
    *,
    client: Client | None = None,
    operation: str = "simpleenroll",
    names: Names = ANYBODY,
    label: str = "",
) -> Answer:
    """Enrol by EST; ``change`` has the last word on what is sent."""
    client = client or device.idevid_client()
    request = change(device.enrolment_request(challenge_of(client, label)))
    body = encode_body(csr_of(device, request, names))
    return client.post(f"{PATH}{label and '/' + label}/{operation}", body, PKCS10)


def as_passport(result: str, nonce: bytes) -> Change:
    """Show a result in place of evidence."""
    return lambda request: replace(request, evidence=b"", result=result, nonce=nonce)


@dataclass
class Curl:
    """``curl`` as one TLS client, and ``openssl`` for what comes back."""

    site: VerifierSite
    folder: Path
    certificate: str = ""

    def identify(self, chain_pem: bytes, key: object) -> Curl:
        """Return the same with a client certificate."""
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        path = self.folder / f"client-{hashlib.sha256(chain_pem).hexdigest()[:12]}.pem"
        path.write_bytes(
            chain_pem
            + key.private_bytes(
                Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return replace(self, certificate=str(path))

    def as_idevid(self, device: SiteDevice) -> Curl:
        """Return the same as the device's maker knows it."""
        der = device.tpm.certificate(KeyRole.IDEVID)
        assert der is not None
        return self.identify(pem(der), device.tpm.keys[KeyRole.IDEVID].private)

    def run(self, path: str, *options: str) -> tuple[int, str, bytes]:
        """Fetch something; returns status, content type, body."""
        out = self.folder / "curl.out"
        out.unlink(missing_ok=True)
        identity = ("--cert", self.certificate) if self.certificate else ()
        done = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--cacert", str(self.site.service_ca)),
                *("--max-time", "30", *identity, "--output", str(out)),
                *("--write-out", "%{http_code} %{content_type}", *options),
                f"https://localhost:{self.site.port}{path}",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        status, _, content_type = done.stdout.partition(" ")
        return int(status), content_type, out.read_bytes() if out.exists() else b""

    def send(self, path: str, body: bytes, content_type: str = PKCS10) -> tuple[int, str, bytes]:
        """Post a file."""
        sent = self.folder / "curl.in"
        sent.write_bytes(body)
        return self.run(
            path, "--header", f"Content-Type: {content_type}", "--data-binary", f"@{sent}"
        )

    def openssl(self, *arguments: str, given: bytes = b"") -> str:
        """Run ``openssl``; it must succeed."""
        done = subprocess.run(
            ["openssl", *arguments], input=given, capture_output=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def certificates(self, body: bytes) -> str:
        """Return the PEM certificates of an EST answer, by ``openssl`` alone."""
        der = subprocess.run(
            ["openssl", "base64", "-d", "-A"],
            input=body,
            capture_output=True,
            timeout=30,
            check=True,
        ).stdout
        return self.openssl("pkcs7", "-inform", "DER", "-print_certs", given=der)


def issued(answer: Answer) -> x509.Certificate:
    """Return the one certificate of an EST answer."""
    assert answer.status == 200, answer.body
    (certificate,) = read_certs_only(decode_body(answer.body))
    return certificate


def authorities(curl: Curl) -> tuple[Path, Path]:
    """Fetch the CA certificates; return files of the root and of those between."""
    status, content_type, body = curl.run(f"{PATH}/cacerts")
    assert (status, content_type) == (200, "application/pkcs7-mime; smime-type=certs-only")
    found = x509.load_pem_x509_certificates(curl.certificates(body).encode())
    root, between = curl.folder / "root.pem", curl.folder / "between.pem"
    for path, is_root in ((root, True), (between, False)):
        path.write_bytes(
            b"".join(
                one.public_bytes(Encoding.PEM)
                for one in found
                if (one.subject == one.issuer) is is_root
            )
        )
    return root, between


def verified_by_openssl(curl: Curl, leaf_pem: str) -> None:
    """Check the chain of a client certificate, by ``openssl`` alone."""
    root, between = authorities(curl)
    leaf = curl.folder / "leaf.pem"
    leaf.write_text(leaf_pem)
    seen = curl.openssl(
        *("verify", "-x509_strict", "-purpose", "sslclient"),
        *("-CAfile", str(root), "-untrusted", str(between), str(leaf)),
    )
    assert seen.strip() == f"{leaf}: OK"
