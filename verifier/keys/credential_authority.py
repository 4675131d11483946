"""The credential authority of a running verifier: the CAs of the register, with their keys open.

``verifier ca`` changes the register beside the running service, which looks at its time stamp
whenever it is asked, so that a rotation needs no restart.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from attestation.refusals import RefusalCode
from verifier.errors import RequestRefused, ServiceError, SettingsInvalid, Unavailable
from verifier.issuance.hierarchy import require_ca
from verifier.issuance.profiles import Issuer
from verifier.keys.ca_keys import CaKeys
from verifier.keys.pkcs11_key import TokenKey
from verifier.keys.register import (
    REGISTER_NAMES,
    CaState,
    RegisterEntry,
    certified_key_id,
    load_certificate,
    load_register,
)
from verifier.ports import Clock

RETRY_S: Final = 1.0
"""How long a changed register that cannot be used is not tried again."""

Told = Callable[[Sequence[x509.Certificate]], None]
"""Called with every certificate of ours whenever the register has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    stamp: tuple[str, int, int]
    current: Issuer | None
    issuers: tuple[Issuer, ...]
    distrusted: frozenset[str]
    roots: tuple[x509.Certificate, ...]
    subjects: frozenset[bytes]
    unusable: tuple[tuple[x509.Certificate, ServiceError], ...]


class CredentialAuthority:
    """Implements :class:`verifier.ports.authority.CertificateAuthority`.

    Args:
        directory: The key directory.
        keys: Opens keys.
        clock: Now.
        changed: Told when other certificates are in force; None for nobody.

    Raises:
        Unavailable: If the key of the current CA cannot be used; the code says why.
        SettingsInvalid: If there is no authority, or the register is damaged.
    """

    def __init__(
        self, directory: Path, keys: CaKeys, clock: Clock, changed: Told | None = None
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._clock = clock
        self._lock = threading.Lock()
        self.changed = changed
        self._failure: ServiceError | None = None
        self._again_at = 0.0
        self._loaded = self._load()

    def issuer(self) -> Issuer:
        """Return the CA that signs now.

        Raises:
            Unavailable: ``ca-expired`` if its certificate is not valid now, ``keys-unusable`` if
                no CA issues, ``ca-pin-refused`` if its token has refused the PIN before; else as
                the class.
        """
        current = self._fresh().current
        if current is None:
            raise Unavailable(
                RefusalCode.KEYS_UNUSABLE,
                "no CA of the register issues; make one by: verifier ca rotate, or ca request",
            )
        _require_in_time(current, self._clock)
        if isinstance(current.key, TokenKey):
            current.key.require_pin()
        return current

    def issuers(self) -> Sequence[Issuer]:
        """Return the current CA and those whose certificates may still run, newest first.

        Nothing that a CA issued outlives the CA's own certificate. A distrusted one is here
        too: its list says that everything is revoked. One whose key cannot be opened is left
        out (:meth:`keyless` has it).
        """
        now = self._clock.now()
        return tuple(
            one for one in self._fresh().issuers if now < one.certificate.not_valid_after_utc
        )

    def keyless(self) -> Sequence[tuple[x509.Certificate, ServiceError]]:
        """Return the CAs whose certificates may still run and whose keys cannot be opened."""
        now = self._clock.now()
        return [one for one in self._fresh().unusable if now < one[0].not_valid_after_utc]

    def roots(self) -> Sequence[x509.Certificate]:
        """Return the certificates that relying parties anchor their trust in, newest first."""
        return self._fresh().roots

    def certificates(self) -> tuple[x509.Certificate, ...]:
        """Return roots and issuing CAs: what certificates that are believed chain to."""
        return _certificates(self._fresh())

    def subjects(self) -> frozenset[bytes]:
        """Return the DER of the subject of every CA of ours, distrusted ones included."""
        return self._fresh().subjects

    def described(self) -> Sequence[tuple[str, x509.Certificate]]:
        """Return (state, certificate) of every CA; a root's state is ``root``."""
        loaded = self._fresh()
        roots = [("root", one) for one in loaded.roots]
        states = [
            "current"
            if one is loaded.current
            else "distrusted"
            if certified_key_id(one.certificate) in loaded.distrusted
            else "retired"
            for one in loaded.issuers
        ]
        issuing = [one.certificate for one in loaded.issuers]
        return (*roots, *zip(states, issuing, strict=True))

    @property
    def unusable(self) -> Sequence[tuple[str, ServiceError]]:
        """The retired CAs whose keys cannot be opened: id and why."""
        return [(certified_key_id(one), why) for one, why in self._fresh().unusable]

    def close(self) -> None:
        """Log out of the token, if there is one."""
        self._keys.close()

    def _fresh(self) -> _Loaded:
        if _stamp(self._directory) == self._loaded.stamp:
            return self._loaded
        with self._lock:
            if _stamp(self._directory) != self._loaded.stamp:
                self._loaded = self._load_again()
                if self.changed is not None:
                    self.changed(_certificates(self._loaded))
            return self._loaded

    def _load_again(self) -> _Loaded:
        """Load what was changed; a failure is told again for a while, since trying costs."""
        if self._failure is not None and time.monotonic() < self._again_at:
            raise self._failure
        try:
            loaded = self._load()
        except ServiceError as error:
            self._failure, self._again_at = error, time.monotonic() + RETRY_S
            raise
        self._failure = None
        return loaded

    def _load(self) -> _Loaded:
        stamp = _stamp(self._directory)
        register = load_register(self._directory)
        roots = tuple(load_certificate(self._directory / name) for name in register.roots)
        certified = [
            load_certificate(self._directory / one.certificate)
            for one in register.entries
            if one.certificate
        ]
        current = [self._open(one) for one in register.in_state(CaState.CURRENT)]
        if len(current) > 1:
            raise SettingsInvalid("two CAs of the register issue; restore it from a backup")
        issuers, unusable = list(current), []
        for entry in (*register.in_state(CaState.RETIRED), *register.in_state(CaState.DISTRUSTED)):
            certificate = load_certificate(self._directory / entry.certificate)
            try:
                issuers.append(self._open(entry))
            except ServiceError as error:
                unusable.append((certificate, error))
        return _Loaded(
            stamp=stamp,
            current=current[0] if current else None,
            distrusted=frozenset(one.id for one in register.in_state(CaState.DISTRUSTED)),
            issuers=tuple(issuers),
            roots=roots,
            subjects=frozenset(one.subject.public_bytes() for one in (*roots, *certified)),
            unusable=tuple(unusable),
        )

    def _open(self, entry: RegisterEntry) -> Issuer:
        certificate = load_certificate(self._directory / entry.certificate)
        key = self._keys.open(entry.key)
        try:
            require_ca(certificate, key.public_key())
        except RequestRefused as error:
            raise Unavailable(error.code, f"issuing CA {entry.id}: {error.reason}") from error
        return Issuer(certificate=certificate, key=key)


def _require_in_time(issuer: Issuer, clock: Clock) -> None:
    start, end = issuer.certificate.not_valid_before_utc, issuer.certificate.not_valid_after_utc
    if not start <= clock.now() < end:
        raise Unavailable(
            RefusalCode.CA_EXPIRED,
            f"the issuing CA is valid from {start} to {end}, not now; run: verifier ca rotate",
        )


def _certificates(loaded: _Loaded) -> tuple[x509.Certificate, ...]:
    issuing = tuple(
        one.certificate
        for one in loaded.issuers
        if certified_key_id(one.certificate) not in loaded.distrusted
    )
    return tuple(dict.fromkeys((*loaded.roots, *issuing)))


def _stamp(directory: Path) -> tuple[str, int, int]:
    """Return what changes whenever the register is replaced. Asked for each issuance."""
    for name in REGISTER_NAMES:
        try:
            found = os.stat(f"{directory}/{name}")  # noqa: PTH116 - a Path costs more
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SettingsInvalid(f"{directory / name}: {error.strerror}") from error
        return name, found.st_mtime_ns, found.st_ino
    raise SettingsInvalid(f"there is no authority in {directory}; run: verifier init")
