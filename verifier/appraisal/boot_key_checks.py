"""Rules of ``[boot]`` about PCR 7: Secure Boot's switches, keys, revocations and authorities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from attestation.algorithms import short_digest
from attestation.boot.facts import BootFacts, SignatureDatabase
from attestation.refusals import RefusalCode
from verifier.appraisal.boot_seen import (
    BOOT_AS_REQUIRED,
    Seen,
    Worth,
    more,
    proved,
    unproven,
)

_POLICY: Final = 7
"""The PCR of the Secure Boot policy (PFP 3.3.4)."""

_SWITCHES_OF_SHIM: Final = frozenset({"SbatLevel", "MokListTrusted"})
"""Variables that shim measures as authorities although they admit no image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureBootRule:
    """``secure_boot``: Secure Boot must have been on."""

    pcrs: ClassVar[frozenset[int]] = frozenset({_POLICY})
    key: str
    worth: Worth

    def look(self, facts: BootFacts) -> Seen:
        """See :class:`BootRule`."""
        fact = facts.secure_boot
        if fact is None:
            return unproven("whether Secure Boot was on", _POLICY)
        if not fact.value:
            return Seen(
                RefusalCode.SECURE_BOOT_OFF,
                f"Secure Boot was off ({proved(fact)}). Switch it on in the firmware's set-up and "
                "boot again",
                _POLICY,
            )
        return Seen(BOOT_AS_REQUIRED, f"Secure Boot was on ({proved(fact)})", _POLICY)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeRule:
    """``setup_mode``, ``audit_mode``, ``deployed_mode``: a switch that must stand so."""

    pcrs: ClassVar[frozenset[int]] = frozenset({_POLICY})
    key: str
    worth: Worth

    variable: str
    wanted: bool

    def look(self, facts: BootFacts) -> Seen:
        """See :class:`BootRule`."""
        fact = facts.modes.get(self.variable)
        if fact is None:
            return unproven(f"how {self.variable} stood", _POLICY)
        state = "on" if fact.value else "off"
        if fact.value is not self.wanted:
            return Seen(
                RefusalCode.PLATFORM_MODE_REFUSED,
                f"{self.variable} was {state} ({proved(fact)}), wanted "
                f"{'on' if self.wanted else 'off'}. Set it so in the firmware's set-up",
                _POLICY,
            )
        return Seen(BOOT_AS_REQUIRED, f"{self.variable} was {state} ({proved(fact)})", _POLICY)


@dataclass(frozen=True, slots=True, kw_only=True)
class DbxRule:
    """``dbx``: so many entries at least, and these hashes or certificates among them."""

    pcrs: ClassVar[frozenset[int]] = frozenset({_POLICY})
    key: str
    worth: Worth

    entries: int = 0
    at_least: frozenset[bytes] = frozenset()

    def look(self, facts: BootFacts) -> Seen:
        """See :class:`BootRule`."""
        fact = facts.databases.get("dbx")
        if fact is None:
            return unproven("what dbx holds", _POLICY)
        held = fact.value
        lacking = self.at_least - held.hashes - held.certificates.keys()
        if lacking or held.entries < self.entries:
            why = (
                f"lacks {len(lacking)} of the {len(self.at_least)} revocations wanted, e.g. "
                f"{short_digest(min(lacking))}"
                if lacking
                else f"has {held.entries} entries, wanted {self.entries} or more"
            )
            return Seen(
                RefusalCode.DBX_OUTDATED,
                f"dbx {why} ({proved(fact)}). Update it (fwupdmgr update, or the maker's firmware) "
                "and boot again",
                _POLICY,
            )
        return Seen(
            BOOT_AS_REQUIRED, f"dbx has {held.entries} entries, all wanted ones among them", _POLICY
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysRule:
    """``PK``, ``KEK``, ``db``: the variable is one of these, or holds nothing but these."""

    pcrs: ClassVar[frozenset[int]] = frozenset({_POLICY})
    key: str
    worth: Worth

    digests: frozenset[bytes]
    entries: frozenset[bytes]

    def look(self, facts: BootFacts) -> Seen:
        """See :class:`BootRule`."""
        fact = facts.databases.get(self.key)
        if fact is None:
            return unproven(f"what {self.key} holds", _POLICY)
        stranger = self._stranger(fact.value)
        if stranger is None:
            return Seen(BOOT_AS_REQUIRED, f"{self.key} holds only what the policy lists", _POLICY)
        return Seen(
            RefusalCode.SECURE_BOOT_KEYS_UNKNOWN,
            f"{self.key} {stranger} ({proved(fact)}). If this was meant, add it to the policy; if "
            "not, restore the factory keys in the firmware's set-up",
            _POLICY,
        )

    def _stranger(self, held: SignatureDatabase) -> str | None:
        """Say what the policy does not know of the variable; None if it knows all."""
        if held.digest in self.digests:
            return None
        if not self.entries:
            return f"is {short_digest(held.digest)}, which the policy does not list"
        certificate = next((one for one in held.certificates if one not in self.entries), None)
        if certificate is not None:
            return (
                f"holds a certificate that the policy does not list: "
                f"{held.subjects[certificate]} (SHA-256 {certificate.hex()})"
            )
        strange = held.hashes - self.entries
        if strange:
            return f"holds an image hash that the policy does not list: {min(strange).hex()}"
        if held.others or not held.entries:
            return f"holds {held.others or 'no'} entries, none that can be compared"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthoritiesRule:
    """``authorities``: every image was admitted by one of these certificates or hashes."""

    pcrs: ClassVar[frozenset[int]] = frozenset({_POLICY})
    key: str
    worth: Worth

    allowed: frozenset[bytes]

    def look(self, facts: BootFacts) -> Seen:
        """See :class:`BootRule`."""
        admitting = [
            fact for fact in facts.authorities if fact.value.variable not in _SWITCHES_OF_SHIM
        ]
        if not admitting:
            return unproven("what admitted the boot loader", _POLICY)
        strange = [fact for fact in admitting if fact.value.digest not in self.allowed]
        if not strange:
            return Seen(
                BOOT_AS_REQUIRED,
                f"all {len(admitting)} authorities are of the policy's list",
                _POLICY,
            )
        first = strange[0]
        who = first.value.subject or "an image hash"
        return Seen(
            RefusalCode.BOOT_AUTHORITY_UNKNOWN,
            f"an image was admitted by {who} of {first.value.variable} (SHA-256 "
            f"{first.value.digest.hex()}, {proved(first)}){more(strange)}, which the policy "
            "does not list. If the boot loader was changed on purpose, add it; if not, restore it",
            _POLICY,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DmaProtectionRule:
    """``dma_protection``: the firmware did not say that protection against DMA was off."""

    pcrs: ClassVar[frozenset[int]] = frozenset({_POLICY})
    key: str
    worth: Worth

    def look(self, facts: BootFacts) -> Seen:
        """See :class:`BootRule`."""
        fact = facts.dma_protection_disabled
        if fact is not None and fact.value:
            return Seen(
                RefusalCode.DMA_PROTECTION_OFF,
                f"the firmware said that DMA protection was off ({proved(fact)}). Switch on the "
                "IOMMU's boot protection in the firmware's set-up",
                _POLICY,
            )
        if _POLICY not in facts.covered:
            return unproven("anything of DMA protection", _POLICY)
        return Seen(
            BOOT_AS_REQUIRED, "the firmware did not say that DMA protection was off", _POLICY
        )
