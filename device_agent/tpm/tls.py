"""TLS with a key that stays in the TPM: the project's only seam between ``ssl`` and the TPM.

:func:`use_tpm_key` gives an ordinary ``ssl.SSLContext`` a certificate whose private key is a
function from digest to signature. TLS 1.2 and 1.3; peers are verified in software as always; no
OpenSSL provider, engine or configuration file. Why so, and how it fails: see
``docs/adr/0003-tls-with-a-tpm-key.md``.
"""

from __future__ import annotations

import datetime as dt
import functools
import ssl
import weakref
from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from attestation.limits import MAX_CHAIN_LENGTH
from attestation.refusals import RefusalCode
from device_agent.errors import CertificateUnusable, DeviceAgentError, TlsSeamUnusable
from device_agent.tpm import openssl

SignDigest = Callable[[bytes], bytes]
"""Digest to DER ECDSA signature; may raise DeviceAgentError; called from any thread."""

_keys: Final[weakref.WeakKeyDictionary[ssl.SSLContext, _KeyInUse]] = weakref.WeakKeyDictionary()


class _KeyInUse:
    """A TPM key as OpenSSL sees it: never raises, remembers why it failed."""

    __slots__ = ("_sign_digest", "failure")

    def __init__(self, sign_digest: SignDigest) -> None:
        self._sign_digest = sign_digest
        self.failure: DeviceAgentError | None = None

    def __call__(self, digest: bytes) -> bytes | None:
        try:
            signature = self._sign_digest(digest)
        except DeviceAgentError as error:
            self.failure = error
            return None
        except BaseException as error:  # noqa: BLE001 - nothing may unwind through OpenSSL
            self.failure = TlsSeamUnusable(f"signing for TLS failed with {type(error).__name__}")
            self.failure.__cause__ = error
            return None
        self.failure = None
        return signature


def use_tpm_key(
    context: ssl.SSLContext,
    *,
    certificate_chain_pem: str | bytes,
    spki_der: bytes,
    sign_digest: SignDigest,
) -> None:
    """Give ``context`` a certificate chain and the TPM key that goes with it.

    Call it before the context makes its first connection. The context keeps ``sign_digest`` (and
    what it closes over) alive, and calls it once per handshake, from the thread that shakes hands.
    When it raises, the handshake fails with ``ssl.SSLError``; :func:`signing_failure` tells why.

    Args:
        context: Client or server side.
        certificate_chain_pem: Leaf first, then its issuers, PEM.
        spki_der: SubjectPublicKeyInfo of the TPM's key: an elliptic curve key.
        sign_digest: Signs the digests that TLS asks for (SHA-256 unless the peer insists).

    Raises:
        CertificateUnusable: ``certificate-malformed``, or ``certificate-key-mismatch`` if the leaf
            is for another key.
        TlsSeamUnusable: If the key is not on an elliptic curve, or this Python and OpenSSL cannot
            do it.
    """
    chain = _chain(certificate_chain_pem)
    _require_pair(chain[0], spki_der)
    openssl_3 = openssl.opened()
    # Our own order of signature algorithms (SHA-256 first) is preferred over the peer's, also by a
    # client: an IDevID of template H-2 signs nothing but SHA-256.
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    key = _KeyInUse(sign_digest)
    chain_der = [certificate.public_bytes(Encoding.DER) for certificate in chain]
    number = openssl_3.install(context, chain_der, spki_der, key)
    _keys[context] = key
    # Runs before the context frees its SSL_CTX, so the number cannot belong to a newer key yet.
    weakref.finalize(context, openssl_3.forget, number).atexit = False


def signing_failure(context: ssl.SSLContext) -> DeviceAgentError | None:
    """Return why the latest signature for ``context`` failed; None if it did not.

    With ``context.wrap_socket(…)`` failing in ``ssl.SSLError``, this is the cause if there is one.
    """
    key = _keys.get(context)
    return None if key is None else key.failure


def self_test() -> None:
    """Prove that TLS with a foreign key works here: guards, then two handshakes in memory.

    Both sides use the seam with throw-away software keys and demand each other's certificate, so
    neither the TPM nor the network is touched. Takes some milliseconds.

    Raises:
        TlsSeamUnusable: If a guard or a handshake fails.
    """
    openssl.opened()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client_key, server_key = _throw_away("client"), _throw_away("server")
        client = _trial_context(ssl.PROTOCOL_TLS_CLIENT, client_key, server_key[1], version)
        server = _trial_context(ssl.PROTOCOL_TLS_SERVER, server_key, client_key[1], version)
        try:
            shown = _shake_hands(client, server)
        except ssl.SSLError as error:
            cause = signing_failure(client) or signing_failure(server) or error
            raise TlsSeamUnusable(f"a trial handshake with {version.name} failed") from cause
        if shown != client_key[1].public_bytes(Encoding.DER):
            raise TlsSeamUnusable(f"a trial handshake with {version.name} showed no certificate")


def _chain(pem: str | bytes) -> list[x509.Certificate]:
    try:
        chain = x509.load_pem_x509_certificates(pem.encode() if isinstance(pem, str) else pem)
    except ValueError as error:
        raise CertificateUnusable(
            RefusalCode.CERTIFICATE_MALFORMED, f"the certificate chain is not PEM X.509: {error}"
        ) from error
    if len(chain) > MAX_CHAIN_LENGTH:
        raise CertificateUnusable(
            RefusalCode.CERTIFICATE_MALFORMED,
            f"the chain holds {len(chain)} certificates, at most {MAX_CHAIN_LENGTH} are accepted",
        )
    return chain


def _require_pair(leaf: x509.Certificate, spki_der: bytes) -> None:
    try:
        key = load_der_public_key(spki_der)
    except ValueError as error:
        raise TlsSeamUnusable("the TPM's public key is not a SubjectPublicKeyInfo") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TlsSeamUnusable(
            "the TPM's key is not an elliptic curve key: with RSA, TLS 1.3 signs by RSASSA-PSS, "
            "whose padding OpenSSL makes itself and has encrypted raw, which a signing key of a "
            "TPM never does; manufacture this device by template H-2 or H-3"
        )
    try:
        shown = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateUnusable(
            RefusalCode.CERTIFICATE_MALFORMED, f"the certificate's key cannot be read: {error}"
        ) from error
    if shown != key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise CertificateUnusable(
            RefusalCode.CERTIFICATE_KEY_MISMATCH,
            "the certificate is for another key than the one in this TPM; enrol anew",
        )


_Throwaway = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def _throw_away(name: str) -> _Throwaway:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(9999, 12, 31, tzinfo=dt.UTC))
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _trial_context(
    protocol: int, own: _Throwaway, peer: x509.Certificate, version: ssl.TLSVersion
) -> ssl.SSLContext:
    key, certificate = own
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    context.load_verify_locations(cadata=peer.public_bytes(Encoding.DER))
    use_tpm_key(
        context,
        certificate_chain_pem=certificate.public_bytes(Encoding.PEM),
        spki_der=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        sign_digest=functools.partial(_sign_in_software, key),
    )
    return context


def _sign_in_software(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    algorithm = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}[len(digest)]
    return key.sign(digest, ec.ECDSA(Prehashed(algorithm)))


def _shake_hands(client_side: ssl.SSLContext, server_side: ssl.SSLContext) -> bytes | None:
    """Shake hands in memory; returns the certificate that the server saw, DER."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_side=False)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server, client, server, client]
    for side in waiting:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return server.getpeercert(binary_form=True)
