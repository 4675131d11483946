"""Judge an endorsement key: is it a TPM's, whose, and is its key sound.

TCG EK Credential Profile for TPM Family 2.0, version 2.5. Decisions of ours: the usage
tcg-kp-EKCertificate must be there (early TPM 2.0 parts without it are refused; list their keys by
digest instead); the certificate must name the TPM's maker; a certificate past its end is refused
unless the rules say otherwise, and then it is a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from attestation.ek.certificate import MakerCertificate
from attestation.ek.extensions import KeyUsage
from attestation.ek.names import TpmMaker
from attestation.ek.roca import has_roca_fingerprint
from attestation.errors import UntrustedEndorsement
from attestation.refusals import RefusalCode
from verifier.endorsement.ek_path import Path, find_path
from verifier.endorsement.firmware import (
    KNOWN_DENIALS,
    FirmwareDenial,
    Version,
    dotted,
    find_denial,
    require_firmware,
)
from verifier.endorsement.vendor_roots import VendorRoots

EK_USAGE: Final = "2.23.133.8.1"
"""tcg-kp-EKCertificate."""

_STRUCTURE: Final = "EK certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class EkRules:
    """What the owner asks of endorsement keys.

    Attributes:
        accept_expired: Whether a certificate past its end is taken, with a finding. Firmware TPMs
            outlive theirs, and an EK cannot be renewed; the chain above must still be in time.
        denials: TPM firmware that is refused.
    """

    accept_expired: bool = False
    denials: tuple[FirmwareDenial, ...] = KNOWN_DENIALS


@dataclass(frozen=True, slots=True, kw_only=True)
class EkFinding:
    """Something to know about a key that is believed all the same."""

    code: RefusalCode
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EkEndorsement:
    """An endorsement key that a TPM maker vouched for, at one moment.

    Attributes:
        certificate: The EK certificate.
        maker: Which TPM it is.
        path: Leaf to root.
        not_before: When the youngest certificate of the path began.
        not_after: When the first certificate of the path ends.
        findings: What is not as it should be and yet no reason to refuse.
    """

    certificate: MakerCertificate
    maker: TpmMaker
    path: Path
    not_before: datetime
    not_after: datetime
    findings: tuple[EkFinding, ...]

    @property
    def anchor_sha256(self) -> bytes:
        """SHA-256 of the root's DER."""
        return self.path[-1].sha256


def judge_ek(
    certificate: MakerCertificate,
    presented: Sequence[MakerCertificate],
    roots: VendorRoots,
    at: datetime,
    *,
    rules: EkRules | None = None,
    firmware: Version | None = None,
) -> EkEndorsement:
    """Prove that an EK certificate is one, of a sound key, by a maker we believe.

    Args:
        certificate: From :func:`attestation.ek.forms.read_certificate`.
        presented: Intermediates that came with it; in any order, believed only by their path.
        roots: The makers believed.
        at: The moment of judgement (aware).
        rules: What the owner asks; the strictest by default.
        firmware: What the TPM runs now, from :func:`verifier.endorsement.firmware
            .version_from_quote`; None if nothing vouches for it yet.

    Raises:
        UntrustedEndorsement: ``ek-certificate-profile-wrong``, ``ek-key-weak``,
            ``ek-certificate-untrusted``, ``certificate-expired``, ``certificate-not-yet-valid``,
            ``tpm-firmware-denied``.
        LimitExceeded: If there are too many certificates or candidates.
    """
    rules = rules or EkRules()
    maker = _require_ek_profile(certificate)
    require_sound_key(certificate)
    path = find_path(certificate, presented, roots, at, accept_expired=rules.accept_expired)
    if firmware is not None:
        require_firmware(maker.manufacturer, firmware, rules.denials)
    return EkEndorsement(
        certificate=certificate,
        maker=maker,
        path=path,
        not_before=max(one.not_before for one in path),
        not_after=min(one.not_after for one in path),
        findings=_findings(certificate, maker, at, rules, firmware),
    )


def require_sound_key(certificate: MakerCertificate) -> None:
    """Check a key against the ROCA fingerprint. Raises UntrustedEndorsement (``ek-key-weak``)."""
    modulus = certificate.public_key.modulus
    if modulus is not None and has_roca_fingerprint(modulus):
        raise UntrustedEndorsement(
            RefusalCode.EK_KEY_WEAK,
            "the endorsement key has the ROCA fingerprint (CVE-2017-15361): its private half can "
            "be computed; update the TPM's firmware and make new keys, or replace the TPM",
            structure=_STRUCTURE,
        )


def _require_ek_profile(certificate: MakerCertificate) -> TpmMaker:
    """Check the marks of an EK certificate (profile, 3.2) and return its maker."""
    if certificate.is_authority:
        raise _profile_wrong("it is a CA certificate; a TPM's own was wanted")
    usages = certificate.extended_usages
    if usages is None or EK_USAGE not in usages:
        raise _profile_wrong(f"extended key usage {EK_USAGE} (tcg-kp-EKCertificate) is missing")
    wanted = (
        KeyUsage.KEY_AGREEMENT
        if certificate.public_key.modulus is None
        else KeyUsage.KEY_ENCIPHERMENT
    )
    if certificate.key_usages is not None and (
        wanted not in certificate.key_usages or KeyUsage.DIGITAL_SIGNATURE in certificate.key_usages
    ):
        seen = ", ".join(sorted(certificate.key_usages)) or "nothing"
        raise _profile_wrong(
            f"keyUsage is {seen}, wanted {wanted}: an EK decrypts; is this an attestation key's?"
        )
    if certificate.maker is None:
        raise _profile_wrong("the alternative name does not say whose TPM it is (2.23.133.2.1)")
    return certificate.maker


def _findings(
    certificate: MakerCertificate,
    maker: TpmMaker,
    at: datetime,
    rules: EkRules,
    firmware: Version | None,
) -> tuple[EkFinding, ...]:
    found = []
    if at > certificate.not_after:
        found.append(
            EkFinding(
                code=RefusalCode.CERTIFICATE_EXPIRED,
                reason=f"the EK certificate ended on {certificate.not_after.isoformat()}",
            )
        )
    made_with = maker.firmware
    denial = find_denial(maker.manufacturer, made_with, rules.denials) if made_with else None
    if denial is not None and made_with is not None and firmware is None:
        found.append(
            EkFinding(
                code=RefusalCode.TPM_FIRMWARE_DENIED,
                reason=f"the TPM left its maker with firmware {dotted(made_with)}, which falls to "
                f"{denial.advisory}; see that it runs {dotted(denial.fixed)} or newer",
            )
        )
    return tuple(found)


def _profile_wrong(reason: str) -> UntrustedEndorsement:
    return UntrustedEndorsement(
        RefusalCode.EK_CERTIFICATE_PROFILE_WRONG, reason, structure=_STRUCTURE
    )
