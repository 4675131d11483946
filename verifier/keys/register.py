"""The register of certificate authorities: which roots, which issuing CAs, in which state.

``authority.json`` in the key directory names them; it is replaced whole. While it is absent, a
``device-ca.cert.pem`` of an earlier release is read as a root that issues.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attestation.refusals import RefusalCode
from verifier.errors import NotFound, SettingsInvalid
from verifier.issuance.hierarchy import key_id
from verifier.keys.authority import DEVICE_CA
from verifier.keys.files import read_file, write_public, write_secret

REGISTER_FILE: Final = "authority.json"
BUNDLE_FILE: Final = "device-authorities.pem"
"""Every certificate of ours that device and agent certificates chain to: for brokers, RADIUS …"""

FOLDER: Final = "authority"
"""Below the key directory: the certificates and key files that the register names."""

REGISTER_NAMES: Final = (REGISTER_FILE, f"{DEVICE_CA}.cert.pem")
"""What the register is read from: the first that is there."""

_VERSION: Final = 1


class CaState(StrEnum):
    """What an issuing CA is used for. The register keeps these words."""

    PENDING = "pending"
    """Its key is made, its certificate has not come back from the root."""
    CURRENT = "current"
    """It signs what is issued, and its own revocation list."""
    RETIRED = "retired"
    """It signs its own revocation list only."""
    DISTRUSTED = "distrusted"
    """Its key may be in other hands: nothing that it signed is believed."""


class KeyKind(StrEnum):
    """Where a key is."""

    FILE = "file"
    PKCS11 = "pkcs11"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlace:
    """Where the key of a CA is.

    Attributes:
        kind: A file, or a PKCS#11 token.
        name: The file's path below the key directory, or the key's label in the token.
        token_id: CKA_ID in hexadecimal; empty for a file.
    """

    kind: KeyKind
    name: str
    token_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterEntry:
    """One issuing CA.

    Attributes:
        id: :func:`verifier.issuance.hierarchy.key_id` of its key.
        state: What it is used for.
        since: When it came into that state.
        certificate: The PEM file below the key directory; empty while pending.
        key: Where its key is.
    """

    id: str
    state: CaState
    since: datetime
    certificate: str
    key: KeyPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """All of them.

    Attributes:
        roots: PEM files below the key directory; the newest first.
        entries: Issuing CAs, the newest first.
    """

    roots: tuple[str, ...] = ()
    entries: tuple[RegisterEntry, ...] = ()

    def entry(self, wanted: str) -> RegisterEntry:
        """Return the entry of an id.

        Raises:
            NotFound: ``ca-unknown``.
        """
        for entry in self.entries:
            if entry.id == wanted:
                return entry
        raise NotFound(
            RefusalCode.CA_UNKNOWN,
            f"no issuing CA has the id {wanted[:32]!r}; see: verifier ca status",
        )

    def in_state(self, state: CaState) -> tuple[RegisterEntry, ...]:
        """Return the entries of one state."""
        return tuple(entry for entry in self.entries if entry.state is state)

    def moved(self, wanted: str, state: CaState, at: datetime) -> Register:
        """Return the register with one entry in another state."""
        moved = replace(self.entry(wanted), state=state, since=at)
        return replace(
            self, entries=tuple(moved if one.id == wanted else one for one in self.entries)
        )

    def activated(self, wanted: str, certificate: str, at: datetime) -> Register:
        """Return the register with the pending entry current and the current one retired."""
        self.entry(wanted)
        entries = []
        for entry in self.entries:
            if entry.id == wanted:
                entries.append(
                    replace(entry, state=CaState.CURRENT, since=at, certificate=certificate)
                )
            elif entry.state is CaState.CURRENT:
                entries.append(replace(entry, state=CaState.RETIRED, since=at))
            else:
                entries.append(entry)
        return replace(self, entries=tuple(entries))


def register_path(directory: Path) -> Path | None:
    """Return the file that the register is read from; None if there is no authority."""
    for name in REGISTER_NAMES:
        if (directory / name).exists():
            return directory / name
    return None


def load_register(directory: Path) -> Register:
    """Read the register; an empty one if there is no authority yet.

    Raises:
        SettingsInvalid: If the file is damaged.
    """
    path = register_path(directory)
    if path is None:
        return Register()
    if path.name != REGISTER_FILE:
        return _earlier_release(directory)
    try:
        return _parsed(json.loads(read_file(path)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsInvalid(
            f"{path} is not a register of authorities; restore it from a backup"
        ) from error


def save_register(directory: Path, register: Register) -> None:
    """Write the register, and the bundle of certificates for relying parties beside it.

    Raises:
        Unavailable: If they cannot be written.
    """
    names = [*register.roots]
    names += [
        entry.certificate
        for entry in register.entries
        if entry.state in {CaState.CURRENT, CaState.RETIRED} and entry.certificate not in names
    ]
    write_public(directory / BUNDLE_FILE, b"".join(read_file(directory / name) for name in names))
    document = {
        "version": _VERSION,
        "roots": list(register.roots),
        "issuing": [
            {
                "id": entry.id,
                "state": entry.state.value,
                "since": entry.since.isoformat(),
                "certificate": entry.certificate,
                "key": {
                    "kind": entry.key.kind.value,
                    "name": entry.key.name,
                    "token_id": entry.key.token_id,
                },
            }
            for entry in register.entries
        ],
    }
    write_secret(directory / REGISTER_FILE, json.dumps(document, indent=1).encode())


def load_certificate(path: Path) -> x509.Certificate:
    """Read one PEM certificate.

    Raises:
        SettingsInvalid: If it is absent or none.
    """
    try:
        return x509.load_pem_x509_certificate(read_file(path))
    except ValueError as error:
        raise SettingsInvalid(f"{path} is not a PEM certificate") from error


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def certified_key_id(certificate: x509.Certificate) -> str:
    """Return the id of the CA that a certificate is of.

    Raises:
        SettingsInvalid: If its key is none that a CA of ours has.
    """
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise SettingsInvalid("a CA's key is on an elliptic curve, or RSA")
    return key_id(key)


def _earlier_release(directory: Path) -> Register:
    name = f"{DEVICE_CA}.cert.pem"
    certificate = load_certificate(directory / name)
    entry = RegisterEntry(
        id=certified_key_id(certificate),
        state=CaState.CURRENT,
        since=certificate.not_valid_before_utc,
        certificate=name,
        key=KeyPlace(kind=KeyKind.FILE, name=f"{DEVICE_CA}.key.pem"),
    )
    return Register(roots=(name,), entries=(entry,))


def _parsed(document: Mapping[str, Any]) -> Register:
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']!r}")
    entries = tuple(
        RegisterEntry(
            id=str(item["id"]),
            state=CaState(item["state"]),
            since=datetime.fromisoformat(item["since"]),
            certificate=_inside(item["certificate"]) if item["certificate"] else "",
            key=_place(item["key"]),
        )
        for item in document["issuing"]
    )
    return Register(roots=tuple(_inside(name) for name in document["roots"]), entries=entries)


def _place(item: Mapping[str, Any]) -> KeyPlace:
    kind = KeyKind(item["kind"])
    name = _inside(item["name"]) if kind is KeyKind.FILE else str(item["name"])
    return KeyPlace(kind=kind, name=name, token_id=str(item["token_id"]))


def _inside(name: str) -> str:
    """Return a path if it stays below the key directory."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r} leads out of the key directory")
    return name
