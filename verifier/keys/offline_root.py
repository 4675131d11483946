"""The root's folder: key under a passphrase, certificate. Made to be carried away.

``root.key.pem`` (0600), ``root.cert.pem``, and ``root.passphrase`` if nobody named another place
for the passphrase: key and passphrase belong on different media.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.base64url import base64url
from verifier.errors import SettingsInvalid
from verifier.issuance.hierarchy import judge_signed, require_ca, root_certificate, root_list
from verifier.issuance.profiles import SERIAL_ENTROPY_BYTES, Issuer, certificate_serial
from verifier.keys.files import make_directory, read_file, write_public, write_secret
from verifier.keys.register import load_certificate, pem
from verifier.keys.sealed_key import open_sealed, seal
from verifier.keys.secret_source import SecretSource, passphrase_file
from verifier.ports import Entropy

OFFLINE_ROOT: Final = "offline-root"
"""Below the key directory, if nobody named another folder."""

ROOT_KEY: Final = "root.key.pem"
ROOT_CERTIFICATE: Final = "root.cert.pem"
ROOT_REVOKED: Final = "root.revoked.json"
ROOT_PASSPHRASE: Final = "root.passphrase"  # noqa: S105 - a file's name
_PASSPHRASE_BYTES: Final = 32


def make_passphrase(path: Path, entropy: Entropy) -> SecretSource:
    """Write a random passphrase (0600) and return its source."""
    write_secret(path, base64url(entropy.take(_PASSPHRASE_BYTES)) + b"\n")
    return passphrase_file(path)


def make_root(
    folder: Path, name: str, passphrase: Path | None, *, at: datetime, entropy: Entropy
) -> Issuer:
    """Make a P-384 root.

    Args:
        folder: Where it goes; made with mode 0700.
        name: The authority's name.
        passphrase: File with the passphrase of the key; None makes a random one in the folder.
        at: Now.
        entropy: For serial number, salt and passphrase.

    Raises:
        SettingsInvalid: If a root is there already.
        Unavailable: If the folder cannot be written or the passphrase cannot be read.
    """
    if (folder / ROOT_KEY).exists() or (folder / ROOT_CERTIFICATE).exists():
        raise SettingsInvalid(f"there is a root in {folder} already; name another folder")
    make_directory(folder)
    source = passphrase_file(passphrase) if passphrase else _own_passphrase(folder, entropy)
    secret = source.read()
    key = ec.generate_private_key(ec.SECP384R1())
    serial = certificate_serial(entropy.take(SERIAL_ENTROPY_BYTES))
    certificate = root_certificate(name, key, serial=serial, at=at)
    write_secret(folder / ROOT_KEY, seal(key, secret, entropy))
    write_public(folder / ROOT_CERTIFICATE, pem(certificate))
    return Issuer(certificate=certificate, key=key)


def open_root(folder: Path, passphrase: Path | None) -> Issuer:
    """Open a root.

    Args:
        folder: The root's.
        passphrase: File with the passphrase; None for the one in the folder.

    Raises:
        Unavailable: ``ca-passphrase-wrong``, ``ca-key-exposed``, ``keys-unusable``.
        RequestRefused: ``ca-certificate-wrong`` if the certificate is not this key's.
    """
    secret = passphrase_file(passphrase or folder / ROOT_PASSPHRASE).read()
    certificate = root_of(folder)
    key = open_sealed(folder / ROOT_KEY, secret)
    require_ca(certificate, key.public_key())
    return Issuer(certificate=certificate, key=key)


def revoke_issuing(
    folder: Path,
    root: Issuer,
    certificate: x509.Certificate | None,
    *,
    at: datetime,
    until: datetime,
) -> x509.CertificateRevocationList:
    """Sign the root's list, with an issuing CA revoked; what was revoked before stays on it.

    Args:
        folder: The root's: it remembers number and serials.
        root: The root, opened.
        certificate: The issuing CA's; None to revoke nobody else.
        at: Now.
        until: The list's nextUpdate.

    Raises:
        RequestRefused: ``ca-certificate-wrong`` if the root did not sign it.
        SettingsInvalid: If what the folder remembers is damaged.
    """
    if certificate is not None:
        judge_signed(certificate, root.certificate)
    path = folder / ROOT_REVOKED
    number, revoked = _remembered(path)
    if certificate is not None:
        revoked.setdefault(certificate.serial_number, at.replace(microsecond=0))
    document = {
        "number": number + 1,
        "revoked": {str(serial): moment.isoformat() for serial, moment in revoked.items()},
    }
    write_secret(path, json.dumps(document, indent=1).encode())  # before a list bears the number
    return root_list(root, tuple(revoked.items()), number=number + 1, at=at, next_update=until)


def _remembered(path: Path) -> tuple[int, dict[int, datetime]]:
    if not path.exists():
        return 0, {}
    try:
        document = json.loads(read_file(path))
        moments = document["revoked"].items()
        return int(document["number"]), {
            int(serial): datetime.fromisoformat(moment) for serial, moment in moments
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsInvalid(
            f"{path} does not say what the root revoked; restore it from a copy of the folder"
        ) from error


def root_of(folder: Path) -> x509.Certificate:
    """Return the root's certificate.

    Raises:
        SettingsInvalid: If it is not there.
    """
    return load_certificate(folder / ROOT_CERTIFICATE)


def _own_passphrase(folder: Path, entropy: Entropy) -> SecretSource:
    return make_passphrase(folder / ROOT_PASSPHRASE, entropy)
