"""Where the verifier takes moments, randomness, policies and roots from.

The clock and the kernel's randomness are read here and nowhere else; the rooms behind get them as
arguments. Light to import: the operator's commands start from here too.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import AttestationError
from verifier.appraisal.policy_file import load_names, load_policy
from verifier.appraisal.policy_lines import KeyLines
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.appraisal.policy_table import NamedDigests
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.endorsement.vendor_roots import PemFile, VendorRoots
from verifier.errors import SettingsInvalid
from verifier.issuance.certificate_profile import Profiles, require_profiles
from verifier.issuance.enrolment_policy import EnrolmentPolicy, TokenProof
from verifier.issuance.enrolment_policy_file import load_enrolment_policy
from verifier.issuance.initial_trust import TrustName
from verifier.issuance.profile_file import load_profiles
from verifier.issuance.result_keys import read_result_keys
from verifier.issuance.revocation_policy import RevocationPolicy
from verifier.issuance.revocation_policy_file import load_revocation_policy
from verifier.issuance.trust_sources import (
    FileUnreadable,
    SourceUnusable,
    TrustSources,
    trust_sources,
)
from verifier.keys.files import read_file
from verifier.settings import Settings

DISTRIBUTION: Final = "device-attestation"

_REVOCATION: Final = "revocation-"
"""How the packaged revocation policies begin."""

_KNOWN: Final = "known-"
"""Beside the packaged policies, and not one of them."""

_ENROLMENT: Final = "enrolment-"
_PROFILES: Final = "profiles-"
"""How the packaged certificate profiles begin."""

_OTHER_POLICIES: Final = (_ENROLMENT, _PROFILES, _REVOCATION)
"""How the packaged policies begin that are no appraisal policies."""

_CERTIFICATE_SUFFIXES: Final = frozenset({".pem", ".crt", ".cer", ".der"})


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present moment, aware, UTC."""
        return datetime.now(UTC)


class SystemEntropy:
    """The kernel's randomness."""

    def take(self, size: int) -> bytes:
        """Return ``size`` fresh random bytes."""
        return secrets.token_bytes(size)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key that is in memory only."""
    return ec.generate_private_key(ec.SECP256R1())


def version() -> str:
    """Return the installed version of this distribution."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0+unknown"


def load_appraisal_policy(settings: Settings) -> AppraisalPolicy:
    """Load the appraisal policy that the settings name.

    Raises:
        SettingsInvalid: If it is neither a packaged policy nor a readable, correct file.
    """
    return policy_named(settings.policy.appraisal, "policy.appraisal ")


def policy_named(named: str, origin: str = "") -> AppraisalPolicy:
    """Load a packaged appraisal policy by its name, or one from a file.

    Args:
        named: The name or path.
        origin: Who named it, for errors.

    Raises:
        SettingsInvalid: If it is neither a packaged policy nor a readable, correct file.
    """
    try:
        if named in packaged_policies():
            return packaged_policy(named)
        return load_policy(Path(named).read_text(encoding="utf-8"), named, known_digests())
    except OSError as error:
        raise SettingsInvalid(
            f"{origin}{named!r} is neither a packaged policy "
            f"({', '.join(packaged_policies())}) nor a readable file: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsInvalid(f"{origin}{named!r} is not UTF-8 text") from error
    except AttestationError as error:
        raise SettingsInvalid(f"{origin}{named}: {error.describe()}") from error


def packaged_policies() -> tuple[str, ...]:
    """Return the names of the appraisal policies that come with the verifier."""
    files = (entry.name for entry in resources.files("verifier.policies").iterdir())
    return tuple(
        sorted(
            name.removesuffix(".toml")
            for name in files
            if name.endswith(".toml") and not name.startswith((_KNOWN, *_OTHER_POLICIES))
        )
    )


def packaged_revocation_policies() -> tuple[str, ...]:
    """Return the names of the revocation policies that come with the verifier."""
    files = (entry.name for entry in resources.files("verifier.policies").iterdir())
    return tuple(sorted(n.removesuffix(".toml") for n in files if n.startswith(_REVOCATION)))


def revocation_policy_named(named: str, origin: str = "") -> RevocationPolicy:
    """Load a packaged revocation policy by its name, or one from a file.

    Raises:
        SettingsInvalid: If it is neither a packaged policy nor a readable, correct file.
    """
    try:
        if named in packaged_revocation_policies():
            text = (resources.files("verifier.policies") / f"{named}.toml").read_text()
            return load_revocation_policy(text, f"packaged policy {named}")
        return load_revocation_policy(Path(named).read_text(encoding="utf-8"), named)
    except OSError as error:
        raise SettingsInvalid(
            f"{origin}{named!r} is neither a packaged revocation policy "
            f"({', '.join(packaged_revocation_policies())}) nor a readable file: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsInvalid(f"{origin}{named!r} is not UTF-8 text") from error
    except AttestationError as error:
        raise SettingsInvalid(f"{origin}{error.reason}") from error


def packaged_policy(name: str) -> AppraisalPolicy:
    """Load one of the appraisal policies that come with the verifier."""
    text = (resources.files("verifier.policies") / f"{name}.toml").read_text()
    return load_policy(text, f"packaged policy {name}", known_digests())


def known_digests() -> NamedDigests:
    """Return the digests of well-known keys and revocations that policies may call by name."""
    names: dict[str, frozenset[bytes]] = {}
    for file in resources.files("verifier.policies").iterdir():
        if file.name.startswith(_KNOWN):
            names.update(load_names(file.read_text(), f"packaged {file.name}"))
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRules:
    """Who may enrol, and what that is judged by.

    Attributes:
        policy: The enrolment policy.
        sources: What its expressions rest on.
    """

    policy: EnrolmentPolicy
    sources: TrustSources


def load_enrolment_rules(settings: Settings) -> EnrolmentRules:
    """Load the enrolment policy that the settings name, and every file that it names.

    Raises:
        SettingsInvalid: If one of them is not there or not correct; names file and line. Also if a
            class wants proof of a token's key and the settings do not say what is to be signed.
    """
    rules = enrolment_rules_named(settings.policy.enrolment, "policy.enrolment ")
    for one in rules.policy.agents:
        if one.token_proof is not TokenProof.NONE and not settings.server.public_url:
            raise SettingsInvalid(
                f"policy.enrolment {settings.policy.enrolment}: class {one.name} says token_proof, "
                "which is made for our URL: set server.public_url to where devices reach us"
            )
    return rules


def enrolment_rules_named(named: str, origin: str = "") -> EnrolmentRules:
    """Load a packaged enrolment policy by its name, or one from a file, with what it names.

    Args:
        named: The name or path. Files that the policy names are looked for beside it.
        origin: Who named it, for errors.

    Raises:
        SettingsInvalid: If one of them is not there or not correct; names file and line.
    """
    folder, place = Path(named).parent, f"{origin}{named}"
    try:
        if named in packaged_enrolment_policies():
            text = (resources.files("verifier.policies") / f"{named}.toml").read_text()
        else:
            text = Path(named).read_text(encoding="utf-8")
        policy = load_enrolment_policy(text, named)
    except OSError as error:
        raise SettingsInvalid(
            f"{origin}{named!r} is neither a packaged enrolment policy "
            f"({', '.join(packaged_enrolment_policies())}) nor a readable file: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsInvalid(f"{place} is not UTF-8 text") from error
    except AttestationError as error:
        raise SettingsInvalid(f"{origin}{error.reason}") from error
    try:
        bundle = packaged_vendor_roots if policy.packaged_roots else None
        return EnrolmentRules(
            policy=policy,
            sources=trust_sources(policy, lambda name: _read(folder / name), bundle),
        )
    except SourceUnusable as error:
        line = KeyLines(text).find(error.key)
        where = place if line is None else f"{place}, line {line}"
        raise SettingsInvalid(f"{where}: {error.key}: {error.reason}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error


def packaged_enrolment_policies() -> tuple[str, ...]:
    """Return the names of the enrolment policies that come with the verifier."""
    files = (entry.name for entry in resources.files("verifier.policies").iterdir())
    return tuple(
        sorted(
            name.removesuffix(".toml")
            for name in files
            if name.startswith(_ENROLMENT) and name.endswith(".toml")
        )
    )


def load_certificate_profiles(settings: Settings, rules: EnrolmentRules | None = None) -> Profiles:
    """Load the certificate profiles that the settings name; every class must have its own.

    Without ``rules`` no class is looked at.

    Raises:
        SettingsInvalid: If they are neither packaged nor a readable, correct file, or a class of
            the enrolment policy names one that is not there, or a lifetime that it forbids.
    """
    named, packaged = settings.policy.profiles, resources.files("verifier.policies")
    try:
        if named.startswith(_PROFILES) and (packaged / f"{named}.toml").is_file():
            text = (packaged / f"{named}.toml").read_text()
        else:
            text = Path(named).read_text(encoding="utf-8")
        profiles = load_profiles(text, named)
        if rules is not None:
            usual = timedelta(days=settings.trust.certificate_days)
            require_profiles(rules.policy, profiles, usual)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(
            f"policy.profiles {named!r} is neither packaged ({_PROFILES}default) nor a readable "
            f"file: {error}"
        ) from error
    except AttestationError as error:
        raise SettingsInvalid(f"policy.profiles {named}: {error.reason}") from error
    return profiles


def key_lifetime(settings: Settings, policy: AppraisalPolicy) -> timedelta:
    """Return how long a retired key stays published: until what it signed last has ended."""
    tokens = timedelta(minutes=settings.trust.token_minutes)
    return max(result_lifetime(settings, policy), tokens)


def load_anchors(settings: Settings, rules: EnrolmentRules | None = None) -> TrustAnchors:
    """Load whoever may have endorsed a device: manufacturers, revocation lists, TPM makers.

    Args:
        settings: The configuration.
        rules: From :func:`load_enrolment_rules`, if they are loaded already.

    Raises:
        SettingsInvalid: If a file cannot be used, or there is no manufacturer's root although a
            class of devices rests on one.
    """
    trust, rules = settings.trust, rules or load_enrolment_rules(settings)
    if not trust.manufacturer_roots and TrustName.IDEVID in rules.policy.trust_names:
        raise SettingsInvalid(
            "trust.manufacturer_roots: no trust anchor is configured, and the enrolment policy "
            f"{rules.policy.id} rests on idevid; give at least one manufacturer's root certificate"
        )
    try:
        anchors = TrustAnchors.from_pem(
            *(read_file(Path(name)) for name in trust.manufacturer_roots),
            endorsers=rules.sources.endorsers,
        )
    except AttestationError as error:
        raise SettingsInvalid(f"trust.manufacturer_roots: {error.reason}") from error
    try:
        return anchors.with_revocations([read_file(Path(name)) for name in trust.manufacturer_crls])
    except AttestationError as error:
        raise SettingsInvalid(f"trust.manufacturer_crls: {error.reason}") from error


def load_result_keys(settings: Settings) -> Mapping[str, Mapping[str, object]]:
    """Load the keys of other verifiers whose results are believed, by ``kid``.

    Raises:
        SettingsInvalid: If a file cannot be read or used.
    """
    try:
        files = [(name, _read(Path(name))) for name in settings.trust.result_keys]
        return read_result_keys(files)
    except FileUnreadable as error:
        raise SettingsInvalid(f"trust.result_keys: {error}") from error
    except AttestationError as error:
        raise SettingsInvalid(f"trust.result_keys: {error.reason}") from error


def load_vendor_roots(directory: Path | None = None, *, only: bool = False) -> VendorRoots:
    """Load the TPM makers' roots: the packaged bundle, an operator's folder, or both.

    Args:
        directory: Folder of PEM and DER files (``.pem``, ``.crt``, ``.cer``, ``.der``).
        only: Whether to believe nothing but the folder.

    Raises:
        SettingsInvalid: If the folder cannot be read, or no root remains.
    """
    bundle = None if only else packaged_vendor_roots()
    if directory is None:
        if bundle is None:
            raise SettingsInvalid("without the packaged roots, name a folder of roots")
        return bundle
    try:
        paths = sorted(one for one in directory.iterdir() if one.suffix in _CERTIFICATE_SUFFIXES)
        files = [PemFile(origin=path.name, content=path.read_bytes()) for path in paths]
        return VendorRoots.from_operator(files, beside=bundle)
    except OSError as error:
        raise SettingsInvalid(f"roots in {directory}: {error.strerror}") from error
    except AttestationError as error:
        raise SettingsInvalid(f"roots in {directory}: {error.reason}") from error


@cache
def packaged_vendor_roots() -> VendorRoots:
    """Read the packaged bundle of TPM makers' certificates, once."""
    folder = resources.files("verifier.endorsement") / "vendors"
    roots, intermediates = (
        PemFile(origin=f"packaged {name}", content=(folder / name).read_bytes())
        for name in ("roots.pem", "intermediates.pem")
    )
    return VendorRoots.from_pem([roots], [intermediates])


def result_lifetime(settings: Settings, policy: AppraisalPolicy) -> timedelta:
    """Return how long a result is believed."""
    if settings.results.lifetime_s > 0:
        return timedelta(seconds=settings.results.lifetime_s)
    return policy.result_lifetime


def nonce_ttl(settings: Settings, policy: AppraisalPolicy) -> timedelta:
    """Return how long a challenge lives."""
    if settings.policy.nonce_ttl_s > 0:
        return timedelta(seconds=settings.policy.nonce_ttl_s)
    return policy.nonce_ttl
