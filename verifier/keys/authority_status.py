"""What ``verifier ca status`` and ``verifier check`` say: each CA of ours, and each finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.refusals import RefusalCode
from verifier.errors import ServiceError
from verifier.issuance.certificate_profile import Profiles
from verifier.issuance.hierarchy import require_ca
from verifier.keys.ca_keys import PASSPHRASE_FILE, CaKeys
from verifier.keys.register import (
    CaState,
    KeyKind,
    Register,
    RegisterEntry,
    certified_key_id,
    load_certificate,
    load_register,
)
from verifier.keys.sealed_key import is_sealed
from verifier.settings import Settings

MIN_WARNING: Final = timedelta(days=90)
"""From when on before its end an issuing CA warns, and at least two lifetimes of what it issues."""

ROOT_WARNING: Final = timedelta(days=730)
"""A new root must have reached every relying party before the old one ends."""

_ROOT: Final = "root"
_ROTATE: Final = "verifier ca rotate, or verifier ca request, sign and import"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaStatus:
    """One CA.

    Attributes:
        id: Its id.
        subject: RFC 4514; empty while pending.
        state: ``root``, or the register's word.
        backend: ``file``, ``file, unencrypted``, ``pkcs11``; ``offline`` for a root.
        key: Where the key is: file or label; empty for a root.
        algorithm: ``P-256`` …; empty while pending.
        not_after: When its certificate ends; None while pending.
        days_left: Whole days until then.
        problem: Why its key cannot be used; empty if it can, or is not here.
        code: The code of that.
    """

    id: str
    subject: str
    state: str
    backend: str
    key: str
    algorithm: str
    not_after: datetime | None
    days_left: int | None
    problem: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to do.

    Attributes:
        code: A stable code.
        reason: What was seen.
        mend: What to do.
        failed: Whether nothing can be issued because of it.
    """

    code: RefusalCode
    reason: str
    mend: str
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityStatus:
    """Everything.

    Attributes:
        authorities: Roots, then issuing CAs, newest first.
        findings: What to do, the worst first.
    """

    authorities: tuple[CaStatus, ...]
    findings: tuple[Finding, ...]


def authority_status(
    settings: Settings, environment: Mapping[str, str], at: datetime, profiles: Profiles
) -> AuthorityStatus:
    """Look at every CA, its certificate and whether its key can be used.

    Args:
        settings: The configuration.
        environment: Where systemd says that credentials are.
        at: Now (aware).
        profiles: What certificates last at least.

    Raises:
        SettingsInvalid: If the register or a certificate is damaged.
    """
    directory = Path(settings.keys.directory)
    register = load_register(directory)
    keys = CaKeys(directory, settings.authority, environment)
    findings: list[Finding] = []
    rows = [_root(load_certificate(directory / name), at) for name in register.roots]
    try:
        rows += [_issuing(directory, entry, keys, at) for entry in register.entries]
    finally:
        keys.close()
    findings += _troubles(rows)
    usual = timedelta(days=settings.trust.certificate_days)
    findings += _endings(rows, usual, max(one.shortest for one in profiles.values()), at)
    findings += _exposures(directory, register, settings)
    return AuthorityStatus(
        authorities=tuple(rows),
        findings=tuple(sorted(findings, key=lambda one: not one.failed)),
    )


def _root(certificate: x509.Certificate, at: datetime) -> CaStatus:
    return CaStatus(
        id=certified_key_id(certificate),
        subject=certificate.subject.rfc4514_string(),
        state=_ROOT,
        backend="offline",
        key="",
        algorithm=_algorithm(certificate),
        not_after=certificate.not_valid_after_utc,
        days_left=(certificate.not_valid_after_utc - at).days,
    )


def _issuing(directory: Path, entry: RegisterEntry, keys: CaKeys, at: datetime) -> CaStatus:
    problem, code, backend = "", "", entry.key.kind.value
    certificate = load_certificate(directory / entry.certificate) if entry.certificate else None
    try:
        if entry.key.kind is KeyKind.FILE and not is_sealed(directory / entry.key.name):
            backend += ", unencrypted"
        key = keys.open(entry.key).public_key()
        if certificate is not None:
            require_ca(certificate, key)
    except ServiceError as error:
        problem, code = error.reason, error.code.value
    return CaStatus(
        id=entry.id,
        subject=certificate.subject.rfc4514_string() if certificate else "",
        state=entry.state.value,
        backend=backend,
        key=entry.key.name,
        algorithm=_algorithm(certificate) if certificate else "",
        not_after=certificate.not_valid_after_utc if certificate else None,
        days_left=(certificate.not_valid_after_utc - at).days if certificate else None,
        problem=problem,
        code=code,
    )


def _algorithm(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name
    return type(key).__name__


def _troubles(rows: Sequence[CaStatus]) -> list[Finding]:
    found = [
        Finding(
            code=RefusalCode(row.code),
            reason=f"issuing CA {row.id} ({row.state}): {row.problem}",
            mend="docs/refusals.md says what to do for this code",
            failed=row.state == CaState.CURRENT,
        )
        for row in rows
        if row.code
    ]
    if not any(row.state == CaState.CURRENT for row in rows):
        found.append(
            Finding(
                code=RefusalCode.KEYS_UNUSABLE,
                reason="no CA issues",
                mend="verifier ca rotate, or ca request, sign, import; without a root: ca init",
                failed=True,
            )
        )
    return found


def _endings(
    rows: Sequence[CaStatus], lifetime: timedelta, shortest: timedelta, at: datetime
) -> list[Finding]:
    found = []
    for row in rows:
        if row.not_after is None or row.state not in {_ROOT, CaState.CURRENT}:
            continue
        root = row.state == _ROOT
        before = ROOT_WARNING if root else max(MIN_WARNING, 2 * lifetime)
        mend = "two roots in overlap (docs/certificate-authority.md)" if root else _ROTATE
        if row.not_after <= at:
            found.append(
                Finding(
                    code=RefusalCode.CA_EXPIRED,
                    reason=f"{row.subject} ended at {row.not_after}",
                    mend=mend,
                    failed=not root,
                )
            )
        elif not root and row.not_after < at + shortest:
            found.append(
                Finding(
                    code=RefusalCode.CA_ENDS_TOO_SOON,
                    reason=f"{row.subject} ends at {row.not_after}, before a certificate may that "
                    f"lasts {shortest} at least; what needs one is not issued",
                    mend=mend,
                    failed=True,
                )
            )
        elif row.not_after < at + before:
            found.append(
                Finding(
                    code=RefusalCode.CA_EXPIRES_SOON,
                    reason=f"{row.subject} ends in {row.days_left} days; what it signs, no later",
                    mend=mend,
                )
            )
    return found


def _exposures(directory: Path, register: Register, settings: Settings) -> list[Finding]:
    found = []
    own = {entry.key.name for entry in register.entries}
    online = [path for path in _root_keys(directory, register) if path not in own]
    if online:
        found.append(
            Finding(
                code=RefusalCode.CA_ROOT_ONLINE,
                reason=f"the root's key is on this host: {directory / online[0]}",
                mend=f"carry {(directory / online[0]).parent} away, then delete it here",
            )
        )
    current = register.in_state(CaState.CURRENT)
    if current and current[0].certificate in register.roots:
        found.append(
            Finding(
                code=RefusalCode.CA_ROOT_ONLINE,
                reason="a root issues by itself (a device CA of an earlier release)",
                mend="verifier ca init: a root and an issuing CA; the old one signs its list on",
            )
        )
    files = [one for one in register.entries if one.key.kind is KeyKind.FILE]
    sealed = {one.id: _sealed(directory / one.key.name) for one in files}
    bare = [name for name, under in sealed.items() if under is False]
    if bare:
        found.append(
            Finding(
                code=RefusalCode.CA_KEY_UNENCRYPTED,
                reason=f"no passphrase on the key of {', '.join(bare)}",
                mend="verifier ca encrypt",
            )
        )
    if any(sealed.values()) and not settings.authority.passphrase_credential:
        path = settings.authority.passphrase_file or str(directory / PASSPHRASE_FILE)
        found.append(
            Finding(
                code=RefusalCode.CA_PASSPHRASE_BESIDE_KEY,
                reason=f"the keys' passphrase is in {path}, on this host's disk",
                mend="[authority] passphrase_credential (docs/certificate-authority.md)",
            )
        )
    return found


def _root_keys(directory: Path, register: Register) -> Iterator[str]:
    """Return key files that stand beside a root's certificate: a sealed key names no owner."""
    roots = [load_certificate(directory / name) for name in register.roots]
    for path in sorted(directory.rglob("*.key.pem")):
        beside = path.with_name(path.name.replace(".key.pem", ".cert.pem"))
        if beside.exists() and load_certificate(beside) in roots:
            yield str(path.relative_to(directory))


def _sealed(path: Path) -> bool | None:
    try:
        return is_sealed(path)
    except ServiceError:
        return None
