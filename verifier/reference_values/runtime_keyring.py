"""Whose file signatures are believed: public keys by the names that signatures use for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import partial
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from attestation.certificates import UNREADABLE
from attestation.der import DerReader
from attestation.ek.names import read_name
from attestation.errors import AttestationError, MalformedInput
from attestation.logs.ima.modsig import (
    Appended,
    IssuerAndSerial,
    SubjectKeyId,
    appended_digest,
    parse_modsig,
)
from attestation.logs.ima.signature import (
    FileKey,
    is_file_signature,
    parse_file_signature,
    signed_digest,
    verifies,
)
from attestation.logs.ima.template import ImaFile, sized

MIN_RSA_BITS: Final = 2048
CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")

_MOST_REMEMBERED: Final = 65_536
_MARK: Final = "-----BEGIN "
_NAME_CHARS: Final = 60

KeyName = bytes | SubjectKeyId | IssuerAndSerial
"""How a signature names its key: key id (four bytes) of ``security.ima``, or a signer of CMS."""


class Signed(Enum):
    """What a file's signature is worth."""

    NOT = "not"
    """There is none that speaks of the file's content."""
    BY_KNOWN = "by-known"
    BY_UNKNOWN = "by-unknown"
    WRONGLY = "wrongly"


class Judged(NamedTuple):
    """What a file's signature is worth, and why, in words; empty if nothing speaks against it."""

    signed: Signed
    reason: str = ""


_UNSIGNED: Final = Judged(Signed.NOT)
_KNOWN: Final = Judged(Signed.BY_KNOWN)


class Keyring:
    """Public keys that may sign files, compiled once.

    What a signature was worth is remembered by the hash of signature and digest, bounded, so that
    a file that a thousand devices run is verified once. One keyring may serve several threads: a
    lost race costs a verification.

    Args:
        keys: (name, key); several keys may bear one name, and one key several.
    """

    __slots__ = ("_by_name", "_remembered")

    def __init__(self, keys: Iterable[tuple[KeyName, FileKey]] = ()) -> None:
        self._by_name: dict[KeyName, list[FileKey]] = {}
        for name, key in keys:
            self._by_name.setdefault(name, []).append(key)
        self._remembered: dict[bytes, Judged] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def names(self) -> frozenset[str]:
        """What its keys are called, for people: key ids and certificates."""
        return frozenset(
            name_text(name) for name in self._by_name if not isinstance(name, SubjectKeyId)
        )

    def judge(self, file: ImaFile, appended: Appended | None = None) -> Judged:
        """Verify a file's signatures over what was measured.

        The appended signature counts where ``security.ima`` has none, or one by a key that is not
        known; never where it has a wrong one (as Linux, ``ima_appraise_measurement``).

        Args:
            file: The file.
            appended: Its appended signature, from who has read it already.
        """
        signs = is_file_signature(file.signature)
        if not signs and not file.modsig:
            return _UNSIGNED
        of_file = _UNSIGNED
        if signs:
            verify = partial(self._of_file, file.signature)
            of_file = self._cached(b"of file", file.signature, file.digest, verify)
        if of_file.signed in (Signed.BY_KNOWN, Signed.WRONGLY) or not file.modsig:
            return of_file
        verify = partial(self._appended, appended or Appended(file.modsig))
        return self._cached(b"appended", file.modsig, file.modsig_digest, verify)

    def _cached(
        self, kind: bytes, signature: bytes, digest: bytes, verify: Callable[[bytes], Judged]
    ) -> Judged:
        key = hashlib.sha256(kind + sized(signature) + sized(digest)).digest()
        found = self._remembered.get(key)
        if found is None:
            try:
                found = verify(digest)
            except AttestationError as error:
                found = Judged(Signed.WRONGLY, error.reason)
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = found
        return found

    def _of_file(self, signature: bytes, digest: bytes) -> Judged:
        made = parse_file_signature(signature)
        keys = self._by_name.get(made.key_id)
        if not keys:
            return Judged(Signed.BY_UNKNOWN, name_text(made.key_id))
        value = signed_digest(made, ImaFile(digest, b""))
        if any(verifies(key, made.signature, value, made.algorithm) for key in keys):
            return _KNOWN
        return _not_made_by(made.key_id)

    def _appended(self, appended: Appended, digest: bytes) -> Judged:
        made = appended.read()
        keys = self._by_name.get(made.signer)
        if not keys:
            return Judged(Signed.BY_UNKNOWN, name_text(made.signer))
        value = appended_digest(made, ImaFile(b"", b"", modsig_digest=digest))
        if any(
            isinstance(key, rsa.RSAPublicKey) is made.is_rsa
            and verifies(key, made.signature, value, made.algorithm)
            for key in keys
        ):
            return _KNOWN
        return _not_made_by(made.signer)


def name_text(name: KeyName) -> str:
    """Return a key's name for people; hostile names are cut and made printable."""
    if isinstance(name, bytes):
        return f"key id {name.hex()}"
    if isinstance(name, SubjectKeyId):
        return f"key id {name.value[-20:].hex()}"
    try:
        issuer = read_name(DerReader(name.issuer, "issuer").next("issuer")).text
    except MalformedInput:
        issuer = "a name that cannot be read"
    serial = f"{name.serial:x}"
    return f"certificate {serial[:_NAME_CHARS]} of {issuer[:_NAME_CHARS]}"


def signer_names(file: ImaFile) -> Iterator[str]:
    """Yield who a file says that it is signed by, for people; nothing is verified."""
    try:
        if is_file_signature(file.signature):
            yield name_text(parse_file_signature(file.signature).key_id)
        if file.modsig:
            yield name_text(parse_modsig(file.modsig).signer)
    except MalformedInput as error:
        yield f"nobody: {error.reason[:_NAME_CHARS]}"


def _not_made_by(name: KeyName) -> Judged:
    return Judged(Signed.WRONGLY, f"{name_text(name)} did not sign what was measured")


def read_keys(pem: str) -> list[tuple[KeyName, FileKey]]:
    """Read public keys and certificates, each with the names that signatures may use for it.

    A key is named by its subject key identifier, which is the one of its certificate, or the SHA-1
    of its public key bits (RFC 5280, 4.2.1.2, method 1; signing tools use it for a bare key);
    ``security.ima`` has the last four bytes of it. Issuer and serial number only a certificate has.

    Args:
        pem: One or more ``PUBLIC KEY`` or ``CERTIFICATE`` blocks.

    Raises:
        ValueError: If a block is neither, or its key too weak.
    """
    blocks = [_MARK + block for block in pem.split(_MARK)[1:]]
    if not blocks:
        raise ValueError("no PEM block; wanted PUBLIC KEY or CERTIFICATE")
    return [named for block in blocks for named in _read(block)]


def _read(block: str) -> Iterator[tuple[KeyName, FileKey]]:
    identifiers: set[bytes] = set()
    names: list[KeyName] = []
    try:
        if block.startswith(f"{_MARK}CERTIFICATE"):
            certificate = x509.load_pem_x509_certificate(block.encode())
            key = certificate.public_key()
            identifiers |= _stated(certificate)
            issuer = certificate.issuer.public_bytes()
            names.append(IssuerAndSerial(issuer, certificate.serial_number))
        else:
            key = load_pem_public_key(block.encode())  # type: ignore[assignment]
    except UNREADABLE as error:
        raise ValueError(f"a PEM block is no public key or certificate: {error}") from error
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key has {key.key_size} bits, wanted {MIN_RSA_BITS} or more")
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise ValueError("a key is neither RSA nor ECDSA on P-256, P-384 or P-521")
    identifiers.add(x509.SubjectKeyIdentifier.from_public_key(key).digest)
    names += sorted({one[-4:] for one in identifiers})
    names += [SubjectKeyId(one) for one in sorted(identifiers)]
    yield from ((name, key) for name in names)


def _stated(certificate: x509.Certificate) -> set[bytes]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return set()
    return {extension.value.digest}
