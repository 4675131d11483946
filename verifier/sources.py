"""Where the verifier takes moments, randomness, policies and roots from.

The clock and the kernel's randomness are read here and nowhere else; the rooms behind get them as
arguments. Light to import: the operator's commands start from here too.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from importlib import metadata, resources
from pathlib import Path
from typing import Final

from attestation.errors import AttestationError
from verifier.appraisal.policy_file import load_policy
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.errors import SettingsInvalid
from verifier.keys.files import read_file
from verifier.settings import Settings

DISTRIBUTION: Final = "device-attestation"


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
    named = settings.policy.appraisal
    packaged = resources.files("verifier.policies") / f"{named}.toml"
    try:
        if "/" not in named and packaged.is_file():
            return load_policy(packaged.read_text(), f"packaged policy {named}")
        return load_policy(Path(named).read_text(), named)
    except OSError as error:
        raise SettingsInvalid(
            f"policy.appraisal {named!r} is neither a packaged policy (linux-server, development) "
            f"nor a readable file: {error.strerror}"
        ) from error
    except AttestationError as error:
        raise SettingsInvalid(f"policy.appraisal {named}: {error.describe()}") from error


def load_anchors(settings: Settings) -> TrustAnchors:
    """Load the manufacturers' roots.

    Raises:
        SettingsInvalid: If there is none, or a file cannot be used.
    """
    try:
        return TrustAnchors.from_pem(
            *(read_file(Path(name)) for name in settings.trust.manufacturer_roots)
        )
    except AttestationError as error:
        raise SettingsInvalid(f"trust.manufacturer_roots: {error.reason}") from error


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
