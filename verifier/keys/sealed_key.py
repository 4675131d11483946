"""Private keys in files under a passphrase: PKCS#8 with PBES2, scrypt and AES-256-CBC.

cryptography's own ``BestAvailableEncryption`` derives PKCS#8 keys by 2 048 rounds of PBKDF2, which
a graphics card tries by the million. scrypt (RFC 7914) takes memory too. ``openssl pkey`` reads
what is written here.
"""

from __future__ import annotations

import base64
import os
import stat
import textwrap
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from attestation import der
from attestation.refusals import RefusalCode
from verifier.errors import Unavailable
from verifier.ports import Entropy

SCRYPT_N: Final = 2**14
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
"""16 MiB for each try, the most that OpenSSL takes of a PKCS#8 file without being asked.
Passphrases have 16 characters at least, and 256 random bits where ``verifier init`` makes them.
"""

_SALT_BYTES: Final = 16
_IV_BYTES: Final = 16
_KEY_BYTES: Final = 32
_BLOCK_BITS: Final = 128
_PBES2: Final = "1.2.840.113549.1.5.13"
_SCRYPT: Final = "1.3.6.1.4.1.11591.4.11"
_AES_256_CBC: Final = "2.16.840.1.101.3.4.1.42"
_MAX_FILE_BYTES: Final = 16_384
_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


def seal(key: ec.EllipticCurvePrivateKey, passphrase: bytes, entropy: Entropy) -> bytes:
    """Return a key as encrypted PKCS#8 PEM (RFC 5958; RFC 8018, 6.2; RFC 7914, 7)."""
    plain = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    salt, vector = entropy.take(_SALT_BYTES), entropy.take(_IV_BYTES)
    derived = Scrypt(salt=salt, length=_KEY_BYTES, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    padder = padding.PKCS7(_BLOCK_BITS).padder()
    padded = padder.update(plain) + padder.finalize()
    cipher = Cipher(algorithms.AES256(derived.derive(passphrase)), modes.CBC(vector)).encryptor()
    encrypted = cipher.update(padded) + cipher.finalize()
    parameters = der.write(
        der.SEQUENCE,
        der.write(der.OCTET_STRING, salt),
        *map(der.write_integer, (SCRYPT_N, SCRYPT_R, SCRYPT_P, _KEY_BYTES)),
    )
    scheme = der.write(
        der.SEQUENCE,
        der.write(der.SEQUENCE, der.write_oid(_SCRYPT), parameters),
        der.write(der.SEQUENCE, der.write_oid(_AES_256_CBC), der.write(der.OCTET_STRING, vector)),
    )
    whole = der.write(
        der.SEQUENCE,
        der.write(der.SEQUENCE, der.write_oid(_PBES2), scheme),
        der.write(der.OCTET_STRING, encrypted),
    )
    text = "\n".join(textwrap.wrap(base64.b64encode(whole).decode(), 64))
    return (
        f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{text}\n-----END ENCRYPTED PRIVATE KEY-----\n"
    ).encode()


def is_sealed(path: Path) -> bool:
    """Return whether the file's key is under a passphrase.

    Raises:
        Unavailable: ``keys-unusable`` or ``ca-key-exposed``.
    """
    return _read(path).lstrip().startswith(_ENCRYPTED)


def open_sealed(path: Path, passphrase: bytes | None) -> ec.EllipticCurvePrivateKey:
    """Read a key file of mode 0600.

    Args:
        path: PEM, PKCS#8.
        passphrase: None for a key without one.

    Raises:
        Unavailable: ``ca-key-exposed`` if others may read it, ``ca-passphrase-wrong``,
            ``keys-unusable`` if it is absent or no elliptic curve key.
    """
    content = _read(path)
    sealed = content.lstrip().startswith(_ENCRYPTED)
    try:
        key = serialization.load_pem_private_key(content, passphrase if sealed else None)
    except TypeError as error:
        raise Unavailable(
            RefusalCode.CA_PASSPHRASE_WRONG, f"{path} is encrypted, and no passphrase is named"
        ) from error
    except ValueError as error:
        if sealed:
            raise Unavailable(
                RefusalCode.CA_PASSPHRASE_WRONG,
                f"{path} does not open with the passphrase that [authority] names",
            ) from error
        raise Unavailable(
            RefusalCode.KEYS_UNUSABLE, f"{path} is not a PEM private key; restore it from a backup"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Unavailable(RefusalCode.KEYS_UNUSABLE, f"{path} is not an elliptic curve key")
    return key


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            content = os.read(descriptor, _MAX_FILE_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Unavailable(
            RefusalCode.KEYS_UNUSABLE, f"the key file {path}: {error.strerror}"
        ) from error
    if mode & 0o077:
        raise Unavailable(
            RefusalCode.CA_KEY_EXPOSED,
            f"the key file {path} is open to others (mode {mode:04o}); run: chmod 600 {path}, "
            "and make a new issuing CA if others did read it",
        )
    return content
