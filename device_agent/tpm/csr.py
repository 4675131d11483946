"""PKCS#10 requests signed inside the TPM."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tpm2_pytss import ESYS_TR
from tpm2_pytss.cryptography import tpm_ecc_private_key

from device_agent.errors import TpmRefused
from device_agent.ports import KeyRole
from device_agent.tpm.connection import OpenTpm


def make_csr(
    tpm: OpenTpm, handle: int, role: KeyRole, common_name: str, uris: Sequence[str]
) -> bytes:
    """Return a DER request: subject CN, URI names, EKU clientAuth (RFC 2986, RFC 5280 4.2.1.12).

    Raises:
        TpmKeyMissing: If the key is absent.
        TpmRefused: For the IAK, which may not sign foreign bytes.
        ValueError: If the name or a URI cannot stand in a certificate.
    """
    if role is KeyRole.IAK:
        raise TpmRefused("the IAK is restricted: it cannot sign a certificate request")
    return request_by(tpm, tpm.persistent(handle, role), common_name, uris)


def request_by(tpm: OpenTpm, loaded: ESYS_TR, common_name: str, uris: Sequence[str]) -> bytes:
    """Return a DER request like :func:`make_csr`, signed by a loaded key.

    Raises:
        ValueError: If the name or a URI cannot stand in a certificate.
    """
    key = tpm_ecc_private_key(tpm.esapi, loaded)
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    )
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
    )
    return builder.sign(key, key.get_digest_algorithm()()).public_bytes(Encoding.DER)
