"""TLS identities whose keys stay in the TPM: the manufacturer's IDevID and the owner's LDevID."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.tpm.public import parse_public
from device_agent.enrolment import require_certificate
from device_agent.errors import TpmKeyMissing
from device_agent.lifecycle import Credential
from device_agent.ports import KeyRole, Tpm


class UseKey(Protocol):
    """Puts a certificate chain and a key that only signs digests into a TLS context."""

    def __call__(
        self,
        context: ssl.SSLContext,
        *,
        certificate_chain_pem: bytes,
        spki_der: bytes,
        sign_digest: Callable[[bytes], bytes],
    ) -> None:
        """Do so, or raise ``TlsSeamUnusable``."""
        ...


class TlsIdentities:
    """Dresses TLS contexts with the device's certificates and TPM keys.

    Args:
        tpm: Holds the keys.
        intermediates: The manufacturer's intermediate certificates, DER.
        use_key: Puts a TPM key into a TLS context (:mod:`device_agent.tpm.tls`).

    Attributes:
        credential: The LDevID certificate to show; None while not enrolled.
    """

    def __init__(self, tpm: Tpm, intermediates: tuple[bytes, ...], use_key: UseKey) -> None:
        self._tpm = tpm
        self._intermediates = intermediates
        self._use_key = use_key
        self.credential: Credential | None = None

    def dress(self, context: ssl.SSLContext, role: KeyRole) -> None:
        """Give a context the certificate chain and the TPM key of IDEVID or LDEVID.

        LDEVID is whatever slot the credential's key is in.

        Raises:
            TpmKeyMissing: If the key or its certificate is missing.
            TlsSeamUnusable: If this Python and OpenSSL cannot do TLS with a TPM key.
        """
        chain_pem = self._chain_pem(role)
        if role is KeyRole.LDEVID and self.credential is not None:
            role = self.credential.slot
        public = parse_public(self._tpm.public_area(role))
        self._use_key(
            context,
            certificate_chain_pem=chain_pem,
            spki_der=public.spki_der,
            sign_digest=lambda digest: self._tpm.sign_digest(role, digest),
        )

    def _chain_pem(self, role: KeyRole) -> bytes:
        if role is KeyRole.LDEVID:
            if self.credential is None:
                raise TpmKeyMissing("this device holds no LDevID certificate; enrol it first")
            return self.credential.certificate_chain_pem.encode()
        chain = (require_certificate(self._tpm, role), *self._intermediates)
        return b"".join(
            x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain
        )
