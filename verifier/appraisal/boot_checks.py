"""Rules of ``[boot]`` about what ran: images, command line, boot order, the firmware's end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attestation.boot.facts import BootFacts, ImageKind
from attestation.refusals import RefusalCode
from verifier.appraisal.boot_seen import BOOT_AS_REQUIRED, Seen, Worth, proved, unproven
from verifier.appraisal.kernel_words import UnreadableLine, WordPattern, kernel_words


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesRule:
    """``option_roms``, ``boot_applications``: which images may run before the kernel."""

    key: str
    worth: Worth
    kind: ImageKind
    allowed: frozenset[bytes] | None = None
    forbidden: frozenset[bytes] = frozenset()

    @property
    def home(self) -> int:
        """The PCR into which such images are measured (PFP 3.3.4)."""
        return 2 if self.kind is ImageKind.DRIVER else 4

    @property
    def pcrs(self) -> frozenset[int]:
        """See :class:`BootRule`."""
        return frozenset({self.home})

    def look(self, facts: BootFacts) -> Seen:
        """See :class:`BootRule`."""
        ran = [fact for fact in facts.images if fact.value.kind is self.kind]
        driver = self.kind is ImageKind.DRIVER
        if self.home not in facts.covered or (not ran and not driver):
            what = "which drivers ran" if driver else "which boot applications ran"
            return unproven(what, self.home)
        for fact in ran:
            listed = self.allowed is None or fact.value.digest in self.allowed
            if listed and fact.value.digest not in self.forbidden:
                continue
            wrong = "which the policy forbids" if listed else "which the policy does not list"
            what = "a driver from outside the firmware" if driver else "a boot application"
            mend = (
                "Remove the card, or add the driver's digest to the policy"
                if driver
                else "Update or re-install it, or add its digest to the policy"
            )
            path = f", said to be {fact.value.path[:80]}" if fact.value.path else ""
            return Seen(
                RefusalCode.OPTION_ROM_UNKNOWN if driver else RefusalCode.BOOT_IMAGE_REFUSED,
                f"{what} ran, {wrong}: {fact.value.digest.hex()}{path} ({proved(fact)}). {mend}",
                self.home,
            )
        noun = "drivers from outside the firmware" if driver else "boot applications"
        return Seen(BOOT_AS_REQUIRED, f"{len(ran)} {noun} ran, none refused", self.home)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareRule:
    """``firmware``: code and versions of firmware that are known to be bad."""

    key: str
    worth: Worth
    forbidden: frozenset[bytes] = frozenset()
    forbidden_versions: frozenset[str] = frozenset()

    @property
    def pcrs(self) -> frozenset[int]:
        """See :class:`BootRule`."""
        return frozenset({0})

    def look(self, facts: BootFacts) -> Seen:
        """See :class:`BootRule`."""
        ran = [fact for fact in facts.images if fact.value.kind is ImageKind.FIRMWARE]
        version = facts.firmware_version
        if 0 not in facts.covered or (self.forbidden and not ran):
            return unproven("what firmware ran", 0)
        mend = "Update the firmware as its maker says and boot again"
        for fact in ran:
            if fact.value.digest in self.forbidden:
                reason = f"firmware ran that the policy forbids: {fact.value.digest.hex()}"
                return Seen(RefusalCode.FIRMWARE_REFUSED, f"{reason} ({proved(fact)}). {mend}", 0)
        if self.forbidden_versions and version is None:
            return unproven("which version the firmware is", 0)
        if version is not None and version.value in self.forbidden_versions:
            reason = f"the firmware is {version.value[:80]!a}, which the policy forbids"
            return Seen(RefusalCode.FIRMWARE_REFUSED, f"{reason} ({proved(version)}). {mend}", 0)
        return Seen(BOOT_AS_REQUIRED, "no firmware ran that the policy forbids", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLineRule:
    """``command_line``: words that must, may and must not stand in every kernel command line."""

    pcrs: ClassVar[frozenset[int]] = frozenset({8, 9, 11, 12})
    key: str
    worth: Worth

    required: tuple[WordPattern, ...] = ()
    forbidden: tuple[WordPattern, ...] = ()
    allowed: tuple[WordPattern, ...] = ()

    def look(self, facts: BootFacts) -> Seen:
        """See :class:`BootRule`."""
        if not facts.command_lines:
            return unproven("the kernel command line", None)
        for fact in facts.command_lines:
            try:
                wrong = self._wrong(*kernel_words(fact.value))
            except UnreadableLine as error:
                wrong = str(error)
            if wrong is not None:
                return Seen(
                    RefusalCode.COMMAND_LINE_REFUSED,
                    f"kernel command line ({proved(fact)}): {wrong}. Boot with the intended "
                    "command line, or change the policy",
                    fact.proofs[0].pcr if fact.proofs else None,
                )
        return Seen(BOOT_AS_REQUIRED, "the kernel command line is as the policy wants it")

    def _wrong(self, words: tuple[str, ...], read: int) -> str | None:
        """Say what is wrong with one line; None if nothing is."""
        whole = frozenset(pattern.word for pattern in self.forbidden if not pattern.prefix)
        begun = tuple(pattern.word for pattern in self.forbidden if pattern.prefix)
        for word in words:
            if word in whole or word.startswith(begun):
                pattern = next(one for one in self.forbidden if one.matches(word))
                return f"{word[:80]!r} is forbidden ({pattern.text})"
            if self.allowed and not any(
                pattern.matches(word) for pattern in (*self.allowed, *self.required)
            ):
                return f"{word[:80]!r} is not among the words allowed"
        for pattern in self.required:
            alike = [word for word in words[:read] if word.partition("=")[0] == pattern.name]
            if not any(pattern.matches(word) for word in words[:read]):
                return f"{pattern.text!r} is required and not there"
            if alike and not pattern.matches(alike[-1]):
                return f"{alike[-1][:80]!r} comes after the required {pattern.text!r} and undoes it"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class BootOrderRule:
    """``boot_order``: one of these orders."""

    pcrs: ClassVar[frozenset[int]] = frozenset({1})
    key: str
    worth: Worth

    allowed: frozenset[tuple[int, ...]]

    def look(self, facts: BootFacts) -> Seen:
        """See :class:`BootRule`."""
        fact = facts.boot_order
        if fact is None:
            return unproven("the boot order", 1)
        order = ", ".join(f"{number:04X}" for number in fact.value[:16]) or "empty"
        if fact.value in self.allowed:
            return Seen(BOOT_AS_REQUIRED, f"boot order {order} ({proved(fact)})", 1)
        return Seen(
            RefusalCode.BOOT_ORDER_CHANGED,
            f"the boot order is {order} ({proved(fact)}), which the policy does not list. Restore "
            "it in the firmware's set-up, or add it to the policy",
            1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitBootServicesRule:
    """``exit_boot_services``: the boot loader left the firmware, and the log shows it."""

    pcrs: ClassVar[frozenset[int]] = frozenset({4, 5})
    key: str
    worth: Worth

    def look(self, facts: BootFacts) -> Seen:
        """See :class:`BootRule`."""
        fact = facts.exit_boot_services
        if fact is None:
            return unproven("that the boot loader left the firmware", 5)
        if not fact.value:
            return Seen(
                RefusalCode.EXIT_BOOT_SERVICES_MISSING,
                "the log does not show that the boot loader left the firmware: what was measured "
                "after it could pass for the boot loader. Send the whole log",
                5,
            )
        return Seen(BOOT_AS_REQUIRED, f"the boot loader left the firmware ({proved(fact)})", 5)
