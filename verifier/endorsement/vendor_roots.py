"""The TPM makers' roots and intermediates, as a value that finds an issuer by name or key id.

Parsed with our own reader (:mod:`attestation.ek`), because strict readers refuse some of them. The
packaged bundle is read by :func:`verifier.sources.load_vendor_roots`; its origin stands in
``vendors/README.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from attestation.ek.certificate import MakerCertificate, parse_maker_certificate
from attestation.ek.extensions import KeyUsage
from attestation.ek.forms import split_pem
from attestation.errors import AttestationError, LimitExceeded, MalformedInput
from attestation.refusals import RefusalCode

MAX_VENDOR_CERTIFICATES: Final = 4096
"""The packaged bundle has 169; every authority ever published by the makers is below 2000."""

_STRUCTURE: Final = "TPM vendor roots"

NameKey = tuple[tuple[tuple[str, str], ...], ...]
"""See :attr:`attestation.ek.names.Name.key`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PemFile:
    """A PEM text and where it is from, for errors."""

    origin: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedAuthority:
    """A certificate of a bundle that is not used, and why."""

    origin: str
    sha256: bytes
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorRoots:
    """Whose word about endorsement keys is believed.

    Attributes:
        roots: Believed because they are here, whatever their own signature is worth.
        intermediates: Believed only as far as a root signed them.
        refused: What the files held besides.
    """

    roots: tuple[MakerCertificate, ...]
    intermediates: tuple[MakerCertificate, ...] = ()
    refused: tuple[RefusedAuthority, ...] = ()
    _fingerprints: frozenset[bytes] = field(init=False, repr=False, compare=False)
    _by_subject: Mapping[NameKey, tuple[MakerCertificate, ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.roots:
            raise MalformedInput(
                RefusalCode.EK_CERTIFICATE_MALFORMED,
                "there is no TPM maker's root; without one no endorsement key can be believed",
                structure=_STRUCTURE,
            )
        if len(self.roots) + len(self.intermediates) > MAX_VENDOR_CERTIFICATES:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"more than {MAX_VENDOR_CERTIFICATES} TPM makers' certificates",
                structure=_STRUCTURE,
            )
        prints = frozenset(root.sha256 for root in self.roots)
        object.__setattr__(self, "_fingerprints", prints)
        object.__setattr__(self, "_by_subject", _index((*self.roots, *self.intermediates)))

    def __contains__(self, certificate: object) -> bool:
        """Whether a certificate is one of the roots."""
        return isinstance(certificate, MakerCertificate) and (
            certificate.sha256 in self._fingerprints
        )

    def issuers_of(self, certificate: MakerCertificate) -> tuple[MakerCertificate, ...]:
        """Return who may have signed a certificate, by its issuer's name."""
        return self._by_subject.get(certificate.issuer.key, ())

    def by_key_id(self, key_id: bytes) -> tuple[MakerCertificate, ...]:
        """Return the authorities with this subjectKeyIdentifier."""
        return tuple(
            one for one in (*self.roots, *self.intermediates) if one.subject_key_id == key_id
        )

    @classmethod
    def from_pem(
        cls, roots: Sequence[PemFile], intermediates: Sequence[PemFile] = ()
    ) -> VendorRoots:
        """Read bundles; a certificate that cannot be used is listed in ``refused``, not fatal.

        Raises:
            MalformedInput: If a text is not PEM, or no root remains.
            LimitExceeded: If a text or the number of certificates is too large.
        """
        refused: list[RefusedAuthority] = []
        believed = _read(roots, refused)
        between = _read(intermediates, refused)
        return cls(
            roots=tuple(believed.values()),
            intermediates=tuple(one for key, one in between.items() if key not in believed),
            refused=tuple(refused),
        )

    @classmethod
    def from_operator(
        cls, files: Sequence[PemFile], *, beside: VendorRoots | None = None
    ) -> VendorRoots:
        """Read an operator's own files: self-issued certificates are roots, others intermediates.

        Args:
            files: PEM or DER.
            beside: What is believed besides; None for nothing but the files.

        Raises:
            MalformedInput: As :meth:`from_pem`.
            LimitExceeded: As :meth:`from_pem`.
        """
        refused = list(beside.refused) if beside else []
        found = _read(files, refused)
        roots = {one.sha256: one for one in beside.roots} if beside else {}
        between = {one.sha256: one for one in beside.intermediates} if beside else {}
        roots.update((key, one) for key, one in found.items() if one.is_self_issued)
        between.update(found)
        return cls(
            roots=tuple(roots.values()),
            intermediates=tuple(one for key, one in between.items() if key not in roots),
            refused=tuple(refused),
        )


def authority_fault(certificate: MakerCertificate) -> str | None:
    """Return why a certificate cannot be an authority (RFC 5280, 6.1.4 k to n), or None."""
    if not certificate.is_authority:
        return "it is not a CA certificate (basicConstraints)"
    usages = certificate.key_usages
    if usages is not None and KeyUsage.KEY_CERT_SIGN not in usages:
        return "its keyUsage does not allow it to sign certificates"
    return None


def require_authorities(file: PemFile) -> None:
    """Check that everything in an operator's file can be used as an authority.

    Raises:
        MalformedInput: If it holds no certificate, or one that cannot be used; says which.
        LimitExceeded: If it is too large.
    """
    refused: list[RefusedAuthority] = []
    found = _read([file], refused)
    if refused or not found:
        reason = refused[0].reason if refused else "it holds no certificate"
        raise MalformedInput(RefusalCode.EK_CERTIFICATE_MALFORMED, reason, structure=_STRUCTURE)


def _read(
    files: Iterable[PemFile], refused: list[RefusedAuthority]
) -> dict[bytes, MakerCertificate]:
    found: dict[bytes, MakerCertificate] = {}
    for file in files:
        ders = split_pem(file.content) if b"-----BEGIN" in file.content else (file.content,)
        for der in ders:
            digest = hashlib.sha256(der).digest()
            try:
                certificate = parse_maker_certificate(der)
                reason = authority_fault(certificate)
            except AttestationError as error:
                refused.append(
                    RefusedAuthority(origin=file.origin, sha256=digest, reason=error.reason)
                )
                continue
            if reason is None:
                found[digest] = certificate
            else:
                refused.append(RefusedAuthority(origin=file.origin, sha256=digest, reason=reason))
    return found


def _index(
    certificates: Iterable[MakerCertificate],
) -> Mapping[NameKey, tuple[MakerCertificate, ...]]:
    found: dict[NameKey, tuple[MakerCertificate, ...]] = {}
    for one in certificates:
        found[one.subject.key] = (*found.get(one.subject.key, ()), one)
    return MappingProxyType(found)
