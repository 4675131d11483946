"""Acts on the authority: a new root and issuing CA, rotation in one or three steps, ends.

Every act holds the key directory's lock and replaces the register whole: a crash leaves the state
before or after, and at worst a key that nothing names.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from attestation.refusals import RefusalCode
from verifier.errors import Conflict, NotFound, SettingsInvalid, Unavailable
from verifier.issuance.hierarchy import (
    issuing_certificate,
    issuing_request,
    judge_issuing,
    judge_root,
    key_id,
)
from verifier.issuance.profiles import SERIAL_ENTROPY_BYTES, Issuer, certificate_serial
from verifier.keys.ca_keys import PASSPHRASE_FILE, CaKeys, key_pem
from verifier.keys.files import make_directory, write_public, write_secret
from verifier.keys.offline_root import make_passphrase
from verifier.keys.register import (
    FOLDER,
    CaState,
    KeyKind,
    RegisterEntry,
    certified_key_id,
    load_certificate,
    load_register,
    pem,
    save_register,
)
from verifier.keys.sealed_key import is_sealed, open_sealed
from verifier.ports import Entropy
from verifier.settings import AuthoritySettings

DEFAULT_NAME: Final = "device-attestation"
_ROLES: Final = (" issuing CA ", " root CA ", " device CA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """A pending issuing CA.

    Attributes:
        entry: Its entry in the register.
        request: What the root is to sign.
    """

    entry: RegisterEntry
    request: x509.CertificateSigningRequest


class Ceremony:
    """Changes the authority of one key directory.

    Args:
        directory: The key directory.
        settings: The section [authority].
        keys: Makes and opens keys.
        entropy: For serial numbers, salts, ids.
    """

    def __init__(
        self, directory: Path, settings: AuthoritySettings, keys: CaKeys, entropy: Entropy
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._keys = keys
        self._entropy = entropy

    def prepare(self) -> bool:
        """Make a random passphrase file where the settings leave it to us; True if made."""
        chosen = self._settings
        path = self._directory / PASSPHRASE_FILE
        ours = not (chosen.passphrase_credential or chosen.passphrase_file or chosen.unencrypted)
        if chosen.backend != KeyKind.FILE or not ours or path.exists():
            return False
        make_directory(self._directory)
        make_passphrase(path, self._entropy)
        return True

    def request(self, name: str, at: datetime, existing: str = "") -> Requested:
        """Make the key of the next issuing CA and its request; asked again, the same request.

        Args:
            name: In the subject.
            at: Now.
            existing: Label of a key that the token has already; empty makes one.

        Raises:
            Unavailable: If the key cannot be made.
        """
        with self._locked():
            return self._request(name, at, existing)

    def accept(self, certificate: x509.Certificate, at: datetime) -> RegisterEntry:
        """Take the certificate that the root signed; it issues from now on.

        Raises:
            NotFound: ``ca-unknown`` if no request is pending.
            RequestRefused: ``ca-certificate-wrong`` or ``ca-expired``.
        """
        with self._locked():
            return self._accept(certificate, at)

    def rotate(self, root: Issuer, name: str, at: datetime, existing: str = "") -> RegisterEntry:
        """Make, sign and take a new issuing CA, where the root is at hand. A first root is trusted.

        Raises:
            RequestRefused: ``ca-certificate-wrong`` if the root is not one of ours.
            Unavailable: If the key cannot be made.
        """
        with self._locked():
            register = load_register(self._directory)
            if not register.entries:
                self._trust(root.certificate, at)
            requested = self._request(name, at, existing)
            serial = certificate_serial(self._entropy.take(SERIAL_ENTROPY_BYTES))
            signed = issuing_certificate(requested.request, root, serial=serial, at=at)
            return self._accept(signed, at)

    def trust(self, root: x509.Certificate, at: datetime) -> bool:
        """Add a root; False if it is one of ours already.

        Raises:
            RequestRefused: ``ca-certificate-wrong`` if it is none.
        """
        with self._locked():
            return self._trust(root, at)

    def distrust(self, wanted: str, at: datetime) -> RegisterEntry:
        """Believe nothing any more that a CA signed. Its certificates are the caller's to revoke.

        Raises:
            NotFound: ``ca-unknown``.
            Conflict: ``ca-in-use`` if it is pending.
        """
        with self._locked():
            register = load_register(self._directory)
            if register.entry(wanted).state is CaState.PENDING:
                raise Conflict(
                    RefusalCode.CA_IN_USE, f"{wanted} was never used; run: verifier ca remove"
                )
            moved = register.moved(wanted, CaState.DISTRUSTED, at)
            certificate = moved.entry(wanted).certificate  # of an earlier release: a root itself
            roots = tuple(name for name in moved.roots if name != certificate)
            moved = replace(moved, roots=roots)
            save_register(self._directory, moved)
            return moved.entry(wanted)

    def remove(self, wanted: str) -> RegisterEntry:
        """Destroy a CA's key and forget it.

        Whether certificates of it still run is the caller's to ask.

        Raises:
            NotFound: ``ca-unknown``.
            Conflict: ``ca-in-use`` if it issues.
        """
        with self._locked():
            register = load_register(self._directory)
            entry = register.entry(wanted)
            if entry.state is CaState.CURRENT:
                raise Conflict(
                    RefusalCode.CA_IN_USE, f"{wanted} issues; run first: verifier ca rotate"
                )
            kept = tuple(one for one in register.entries if one.id != wanted)
            roots = tuple(name for name in register.roots if name != entry.certificate)
            save_register(self._directory, replace(register, entries=kept, roots=roots))
            self._keys.remove(entry.key)
            return entry

    def encrypt(self, old: bytes | None) -> tuple[str, ...]:
        """Put every key file under the passphrase that the settings name; may be repeated.

        Args:
            old: The passphrase before; None if the keys have none.

        Returns:
            The ids of the CAs whose keys were written anew.
        """
        with self._locked():
            self.prepare()
            secret = self._keys.passphrase_source().read()
            done = []
            for entry in load_register(self._directory).entries:
                if entry.key.kind is KeyKind.FILE:
                    path = self._directory / entry.key.name
                    key = _opened(path, secret, old)
                    write_secret(path, key_pem(key, secret, self._entropy))
                    done.append(entry.id)
            return tuple(done)

    def name(self) -> str:
        """Return the authority's name, as the CA that issues now bears it."""
        for entry in load_register(self._directory).in_state(CaState.CURRENT):
            certificate = load_certificate(self._directory / entry.certificate)
            for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
                text = str(one.value)
                for role in _ROLES:
                    if role in text:
                        return text.split(role, maxsplit=1)[0]
        return DEFAULT_NAME

    def _request(self, name: str, at: datetime, existing: str) -> Requested:
        register = load_register(self._directory)
        pending = register.in_state(CaState.PENDING)
        if pending:
            entry, key = pending[0], self._keys.open(pending[0].key)
            return Requested(entry=entry, request=issuing_request(name, key))
        self.prepare()
        place, made = self._keys.make(self._entropy, existing)
        entry = RegisterEntry(
            id=key_id(made.public_key()),
            state=CaState.PENDING,
            since=at,
            certificate="",
            key=place,
        )
        save_register(self._directory, replace(register, entries=(entry, *register.entries)))
        return Requested(entry=entry, request=issuing_request(name, made))

    def _accept(self, certificate: x509.Certificate, at: datetime) -> RegisterEntry:
        register = load_register(self._directory)
        pending = register.in_state(CaState.PENDING)
        if not pending:
            raise NotFound(
                RefusalCode.CA_UNKNOWN, "no request is pending; run: verifier ca request"
            )
        entry = pending[0]
        key: ec.EllipticCurvePrivateKey = self._keys.open(entry.key)
        roots = [load_certificate(self._directory / one) for one in register.roots]
        judge_issuing(certificate, key.public_key(), roots, at)
        make_directory(self._directory / FOLDER)
        name = f"{FOLDER}/{entry.id}.cert.pem"
        write_public(self._directory / name, pem(certificate))
        activated = register.activated(entry.id, name, at)
        save_register(self._directory, activated)
        return activated.entry(entry.id)

    def _trust(self, root: x509.Certificate, at: datetime) -> bool:
        judge_root(root, at)
        register = load_register(self._directory)
        known = [load_certificate(self._directory / one) for one in register.roots]
        if root in known:
            return False
        make_directory(self._directory / FOLDER)
        name = f"{FOLDER}/{certified_key_id(root)}.root.pem"
        write_public(self._directory / name, pem(root))
        save_register(self._directory, replace(register, roots=(name, *register.roots)))
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_directory(self._directory)
        try:
            held = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SettingsInvalid(f"{self._directory}: {error.strerror}") from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield
        finally:
            os.close(held)


def _opened(path: Path, new: bytes, old: bytes | None) -> ec.EllipticCurvePrivateKey:
    """Open a key that an interrupted run may have put under the new passphrase already."""
    if not is_sealed(path):
        return open_sealed(path, None)
    try:
        return open_sealed(path, new)
    except Unavailable as error:
        if error.code is not RefusalCode.CA_PASSPHRASE_WRONG or old is None:
            raise
        return open_sealed(path, old)
