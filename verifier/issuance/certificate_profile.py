"""Certificate profiles as values: what a class's certificates may be used for, and for how long.

An enrolment policy names a profile; a file says what it is (:mod:`verifier.issuance.profile_file`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from attestation.errors import MalformedInput
from attestation.refusals import RefusalCode
from verifier.issuance.enrolment_policy import EnrolmentPolicy


class HolderForm(StrEnum):
    """Whose certificate it is: the form of subject and URI (SPIFFE-ID, 2)."""

    DEVICE = "device"
    """CN and serialNumber; ``spiffe://TRUST/device/ID``."""
    AGENT = "agent"
    """OU and name, no CN; ``spiffe://TRUST/device/ID/agent/NAME``."""


class Usage(StrEnum):
    """Bits of the key usage that an end entity may have (RFC 5280, 4.2.1.3)."""

    DIGITAL_SIGNATURE = "digital-signature"
    CONTENT_COMMITMENT = "content-commitment"
    KEY_AGREEMENT = "key-agreement"


class ExtendedUsage(StrEnum):
    """Extended key usages that a profile may name (RFC 5280, 4.2.1.12; RFC 4334)."""

    CLIENT_AUTH = "client-auth"
    SERVER_AUTH = "server-auth"
    EAP_OVER_LAN = "eap-over-lan"


class Told(StrEnum):
    """What a certificate may say of an agent (:mod:`attestation.agent_certificate`)."""

    OWNER = "owner"
    CAPABILITIES = "capabilities"
    LOCATOR = "locator"
    VALIDATION_METHODS = "validation-methods"


_PURPOSES: Final[Mapping[ExtendedUsage, x509.ObjectIdentifier]] = {
    ExtendedUsage.CLIENT_AUTH: ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedUsage.SERVER_AUTH: ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedUsage.EAP_OVER_LAN: x509.ObjectIdentifier("1.3.6.1.5.5.7.3.14"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateProfile:
    """What stands in the certificates of a class.

    Attributes:
        name: What an enrolment policy calls it.
        holder: Whose certificates they are.
        usages: Key usage bits; the extension is critical.
        purposes: Extended key usages, in the file's order.
        extensions: What is told of an agent; empty for devices.
        shortest: Below this no certificate is issued, also where the CA's own end cuts it.
        longest: Above this none is.
        backdate: How far a certificate begins before it is made, for clocks that are behind.
    """

    name: str
    holder: HolderForm
    usages: frozenset[Usage] = frozenset({Usage.DIGITAL_SIGNATURE})
    purposes: tuple[ExtendedUsage, ...] = (ExtendedUsage.CLIENT_AUTH,)
    extensions: frozenset[Told] = frozenset()
    shortest: timedelta = timedelta(hours=1)
    longest: timedelta = timedelta(days=3660)
    backdate: timedelta = timedelta(minutes=5)

    @property
    def key_usage(self) -> x509.KeyUsage:
        """The extension's value."""
        return x509.KeyUsage(
            digital_signature=Usage.DIGITAL_SIGNATURE in self.usages,
            content_commitment=Usage.CONTENT_COMMITMENT in self.usages,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=Usage.KEY_AGREEMENT in self.usages,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )

    @property
    def extended_key_usage(self) -> x509.ExtendedKeyUsage:
        """The extension's value."""
        return x509.ExtendedKeyUsage([_PURPOSES[one] for one in self.purposes])

    def require_lifetime(self, lifetime: timedelta, whose: str) -> None:
        """Check that certificates may last so long.

        Raises:
            MalformedInput: ``profile-invalid``.
        """
        if not self.shortest <= lifetime <= self.longest:
            raise _invalid(
                f"{whose} asks for certificates of {_told(lifetime)}; profile {self.name} takes "
                f"{_told(self.shortest)} to {_told(self.longest)}"
            )


LDEVID: Final = CertificateProfile(name="ldevid", holder=HolderForm.DEVICE)
AGENT: Final = CertificateProfile(name="agent", holder=HolderForm.AGENT, extensions=frozenset(Told))

Profiles = Mapping[str, CertificateProfile]
"""By name."""

DEFAULT_PROFILES: Final[Profiles] = {one.name: one for one in (LDEVID, AGENT)}
"""What the packaged file says."""


def require_profiles(policy: EnrolmentPolicy, profiles: Profiles, usual: timedelta) -> None:
    """Check that every class has its profile, of the right kind, and may ask for its lifetime.

    Args:
        policy: The classes.
        profiles: By name.
        usual: Lifetime of classes that do not say.

    Raises:
        MalformedInput: ``profile-invalid``, naming class and profile.
    """
    for device in policy.devices:
        whose = f"class {device.name}"
        chosen = _named(profiles, device.profile, HolderForm.DEVICE, whose)
        chosen.require_lifetime(device.lifetime or usual, whose)
    for agent in policy.agents:
        whose = f"agent class {agent.name}"
        chosen = _named(profiles, agent.profile, HolderForm.AGENT, whose)
        chosen.require_lifetime(agent.lifetime or usual, whose)


def _named(profiles: Profiles, name: str, holder: HolderForm, whose: str) -> CertificateProfile:
    found = profiles.get(name)
    if found is None:
        raise _invalid(f"{whose} names profile {name}, known are {_list(profiles)}")
    if found.holder is not holder:
        raise _invalid(f"{whose} names profile {name}, which is for holders {found.holder.value}")
    return found


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _told(span: timedelta) -> str:
    days, rest = divmod(span, timedelta(days=1))
    return f"{days} days" if days and not rest else f"{span.total_seconds() / 3600:g} hours"


def _invalid(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.PROFILE_INVALID, reason, structure="certificate profile")
