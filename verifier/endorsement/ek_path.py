"""From an EK certificate to a TPM maker's root: path building and RFC 5280 path validation.

Why our own: libraries judge by web rules and over their own re-encoding. What is taken from RFC
5280, 6.1: signatures over the original bytes, validity at one moment, name chaining (by 7.1), cA,
keyCertSign, path length, unprocessed critical extensions.
Not processed, and therefore refused where critical: name constraints, policy constraints,
inhibitAnyPolicy. Certificate policies are read by nobody: any policy will do.

Nothing is fetched: no AIA, no CRL distribution point, no URL that a certificate names. Key ids only
sort the candidates; a signature decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.ek import extensions
from attestation.ek.certificate import MakerCertificate
from attestation.ek.roca import has_roca_fingerprint
from attestation.errors import LimitExceeded, UntrustedEndorsement
from attestation.limits import MAX_CHAIN_LENGTH, MAX_PATH_SIGNATURES
from attestation.refusals import RefusalCode
from verifier.endorsement.vendor_roots import VendorRoots, authority_fault

_STRUCTURE: Final = "EK certificate chain"
_EK_USAGE: Final = "2.23.133.8.1"
_ANY_USAGE: Final = "2.5.29.37.0"
_NAME_CONSTRAINTS: Final = "2.5.29.30"

_PROCESSED: Final = frozenset(
    {
        extensions.AUTHORITY_KEY_ID,
        extensions.BASIC_CONSTRAINTS,
        extensions.CERTIFICATE_POLICIES,
        extensions.EXTENDED_KEY_USAGE,
        extensions.KEY_USAGE,
        extensions.SUBJECT_ALT_NAME,
        extensions.SUBJECT_DIRECTORY_ATTRIBUTES,
        extensions.SUBJECT_KEY_ID,
    }
)

Path = tuple[MakerCertificate, ...]
"""Leaf first, root last."""


@dataclass(slots=True, kw_only=True)
class _Search:
    """One search: what may be used, what is left to spend, what went wrong on the way."""

    roots: VendorRoots
    presented: tuple[MakerCertificate, ...]
    signatures: int = MAX_PATH_SIGNATURES
    weak_hash: str = ""

    def paths(self, path: Path) -> Iterator[Path]:
        """Yield every path from the last certificate of ``path`` upwards to a root."""
        last = path[-1]
        if last in self.roots:
            yield path
            return
        if len(path) == MAX_CHAIN_LENGTH:
            return
        for issuer in self._candidates(last):
            if issuer in path:
                continue
            if self.signatures == 0:
                raise LimitExceeded(
                    RefusalCode.TOO_MANY,
                    f"no path to a root within {MAX_PATH_SIGNATURES} signature checks",
                    structure=_STRUCTURE,
                )
            self.signatures -= 1
            if last.signed_by(issuer):
                yield from self.paths((*path, issuer))
            elif last.signature_algorithm.hash is HashAlgorithm.SHA1:
                self.weak_hash = last.display_name

    def _candidates(self, child: MakerCertificate) -> Sequence[MakerCertificate]:
        named = {one.sha256: one for one in self.roots.issuers_of(child)}
        for one in self.presented:
            if one.subject.key == child.issuer.key:
                named.setdefault(one.sha256, one)
        return sorted(
            named.values(),
            key=lambda one: (one.subject_key_id != child.authority_key_id, one not in self.roots),
        )


def find_path(
    leaf: MakerCertificate,
    presented: Sequence[MakerCertificate],
    roots: VendorRoots,
    at: datetime,
    *,
    accept_expired: bool,
) -> Path:
    """Find a path that holds; the first fault is told if none does.

    Args:
        leaf: The EK certificate.
        presented: Intermediates that came with it, e.g. from NV; in any order.
        roots: The makers believed, and their intermediates.
        at: The moment of judgement (aware).
        accept_expired: Whether the *leaf* may be past its end. Authorities never may.

    Raises:
        LimitExceeded: ``too-many``.
        UntrustedEndorsement: ``ek-certificate-untrusted`` if no path leads to a root,
            ``certificate-expired`` or ``certificate-not-yet-valid`` if only the time is wrong,
            ``ek-key-weak`` for an authority with a ROCA key, ``ek-certificate-profile-wrong`` for
            one that must not sign.
    """
    if len(presented) > MAX_CHAIN_LENGTH:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"{len(presented)} intermediates were presented, at most {MAX_CHAIN_LENGTH} are taken",
            structure=_STRUCTURE,
        )
    search = _Search(roots=roots, presented=tuple(presented))
    fault: UntrustedEndorsement | None = None
    for path in search.paths((leaf,)):
        try:
            check_path(path, at, accept_expired=accept_expired)
        except UntrustedEndorsement as error:
            fault = fault or error
        else:
            return path
    raise fault or _no_path(leaf, search.weak_hash)


def check_path(path: Path, at: datetime, *, accept_expired: bool) -> None:
    """Check everything but the signatures of a path, leaf first (RFC 5280, 6.1.3 and 6.1.4).

    Raises:
        UntrustedEndorsement: As :func:`find_path`.
    """
    below = 0  # intermediates under the authority at hand that count for its path length
    for position, one in enumerate(path):
        _check_extensions(one)
        if position:
            _check_authority(one, below)
            below += not one.is_self_issued
        _check_time(one, at, may_be_over=accept_expired and position == 0)


def _check_authority(one: MakerCertificate, below: int) -> None:
    fault = authority_fault(one)
    if fault is None and one.path_length is not None and below > one.path_length:
        fault = f"it allows {one.path_length} intermediates below it, there are {below}"
    usages = one.extended_usages
    if fault is None and usages is not None and not usages & {_EK_USAGE, _ANY_USAGE}:
        fault = f"its extended key usage does not cover {_EK_USAGE}"
    if fault is not None:
        raise _wrong(RefusalCode.EK_CERTIFICATE_PROFILE_WRONG, one, fault)
    modulus = one.public_key.modulus
    if modulus is not None and has_roca_fingerprint(modulus):
        raise _wrong(
            RefusalCode.EK_KEY_WEAK, one, "its RSA key has the ROCA fingerprint (CVE-2017-15361)"
        )


def _check_extensions(one: MakerCertificate) -> None:
    unknown = [
        oid
        for oid, extension in one.extensions.items()
        if (extension.critical and oid not in _PROCESSED) or oid == _NAME_CONSTRAINTS
    ]
    if unknown:
        raise _wrong(
            RefusalCode.EK_CERTIFICATE_PROFILE_WRONG,
            one,
            f"extension {unknown[0]} must be obeyed and is not known here",
        )


def _check_time(one: MakerCertificate, at: datetime, *, may_be_over: bool) -> None:
    if at < one.not_before:
        raise _wrong(
            RefusalCode.CERTIFICATE_NOT_YET_VALID,
            one,
            f"it begins on {one.not_before.isoformat()}; check the verifier's clock",
        )
    if at > one.not_after and not may_be_over:
        raise _wrong(
            RefusalCode.CERTIFICATE_EXPIRED, one, f"it ended on {one.not_after.isoformat()}"
        )


def _no_path(leaf: MakerCertificate, weak_hash: str) -> UntrustedEndorsement:
    if weak_hash:
        reason = f"{weak_hash!r} is signed over SHA-1, which is believed of no certificate"
    else:
        reason = (
            f"the certificate of issuer {leaf.issuer.text!r} leads to no TPM maker's root at hand; "
            "add the maker's root, and its intermediates, after checking them"
        )
    return UntrustedEndorsement(RefusalCode.EK_CERTIFICATE_UNTRUSTED, reason, structure=_STRUCTURE)


def _wrong(code: RefusalCode, one: MakerCertificate, reason: str) -> UntrustedEndorsement:
    return UntrustedEndorsement(
        code, f"certificate {one.display_name!r}: {reason}", structure=_STRUCTURE
    )
