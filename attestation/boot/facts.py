"""Boot facts as values: each with the events that prove it.

A fact is derived only from events of PCRs whose replay was held against a quote; whoever derives
says which PCRs those are. What no proven event tells is ``None`` or empty, and is named in
``BootFacts.not_covered``: silence is never a good fact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final, Generic, NamedTuple, TypeVar

from attestation.boot.places import image_place
from attestation.logs.replay import MeasuredEvent
from attestation.uefi.device_path import device_path_text
from attestation.uefi.loaders import command_text
from attestation.uefi.signatures import certificate_subject

T = TypeVar("T")


class Proof(NamedTuple):
    """The event that proves a fact: its PCR and its position in the log."""

    pcr: int
    event: int


class Fact(NamedTuple, Generic[T]):
    """One value with the events that prove it.

    A named tuple, because a log has a hundred facts and a frozen dataclass costs three times as
    much.
    """

    value: T
    proofs: tuple[Proof, ...]


_PROOF: Final[Callable[[tuple[int, int]], Proof]] = partial(tuple.__new__, Proof)
_FACT: Final[Callable[[tuple[Any, tuple[Proof]]], Fact[Any]]] = partial(tuple.__new__, Fact)
"""As ``_make``, for fields of the right number."""


def fact(value: T, event: MeasuredEvent) -> Fact[T]:
    """Return a fact with the event as its one proof."""
    return _FACT((value, (_PROOF((event[1], event[0])),)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureDatabase:
    """One Secure Boot variable (PK, KEK, db, dbx, dbt, dbr): UEFI 2.10, 32.4.1.

    Attributes:
        certificates: Each X.509 certificate's DER by its SHA-256.
        hashes: SHA-256 image hashes.
        others: Entries of other kinds (RSA keys, other hashes, certificate hashes).
        digest: SHA-256 of the variable's data.
    """

    certificates: Mapping[bytes, bytes]
    hashes: frozenset[bytes]
    others: int
    digest: bytes

    @property
    def subjects(self) -> Mapping[bytes, str]:
        """The certificates' subjects by SHA-256, for people: rules compare digests only."""
        return {digest: _subject(der) for digest, der in self.certificates.items()}

    @property
    def entries(self) -> int:
        """How many entries the database has."""
        return len(self.certificates) + len(self.hashes) + self.others


def _subject(der: bytes) -> str:
    subject = certificate_subject(der)
    return "not a certificate that can be read" if subject is None else subject


class Authority(NamedTuple):
    """What admitted one image under Secure Boot (EV_EFI_VARIABLE_AUTHORITY).

    Attributes:
        variable: Where it stands: ``db``, ``MokList``, ``Shim``, ``SbatLevel`` …
        digest: SHA-256 of the certificate's DER, or the image hash itself; SHA-256 of the data for
            variables that are neither.
        subject: The certificate's subject for people; empty for a hash.
        before_separator: Whether it admitted something before the firmware was done (option ROMs).
    """

    variable: str
    digest: bytes
    subject: str
    before_separator: bool


class ImageKind(StrEnum):
    """What kind of image was loaded."""

    FIRMWARE = "firmware"
    """Firmware volume or blob (EV_POST_CODE, EV_EFI_PLATFORM_FIRMWARE_BLOB and the like)."""
    DRIVER = "driver"
    """A driver from outside the firmware: option ROM or driver image (PCR 2)."""
    APPLICATION = "application"
    """A boot application: shim, boot loader, kernel (PCR 4)."""


class Image(NamedTuple):
    """One image that the firmware loaded.

    Attributes:
        kind: What kind.
        digest: What was measured, in the bank the facts were derived from (PE: Authenticode hash).
        before_separator: Whether it was loaded before the firmware was done.
        event_type: TCG_EVENTTYPE of its event.
        content: Its event's content as logged.
    """

    kind: ImageKind
    digest: bytes
    before_separator: bool
    event_type: int
    content: bytes

    @property
    def path(self) -> str:
        """Where it came from, in text: a hint, never proven, so told only when asked for."""
        return image_place(self.event_type, self.content)


class BootEntry(NamedTuple):
    """One Boot#### variable (EFI_LOAD_OPTION): UEFI 2.10, 3.1.3.

    Attributes:
        number: Its number.
        description: Its name in the boot menu.
        device_path: Where it leads, as bytes.
    """

    number: int
    description: str
    device_path: bytes

    @property
    def path(self) -> str:
        """Where it leads, in text; told only when asked for."""
        return device_path_text(self.device_path)


class MeasuredFile(NamedTuple):
    """A file that a boot loader measured: name as logged (a hint), digest in the facts' bank."""

    name: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An event that must be read and cannot be, or that contradicts another.

    Attributes:
        code: ``event-type-unknown`` or ``event-undecodable``.
        proof: Which event.
        reason: What was seen and what was wanted.
    """

    code: str
    proof: Proof
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFacts:
    """Everything that a replayed firmware log proves about one boot.

    Attributes:
        secure_boot: On or off; None if not covered.
        databases: ``PK``, ``KEK``, ``db``, ``dbx`` … as measured.
        modes: Other one-byte switches by name: ``SetupMode``, ``AuditMode``, ``DeployedMode``.
        authorities: What admitted images, in order.
        images: Firmware, drivers and boot applications, in order.
        boot_order: Numbers of the Boot#### entries in order; None if not measured.
        boot_entries: Those Boot#### entries that were measured.
        partition_tables: Disk GUIDs of the measured GPTs, in text.
        command_lines: Kernel command lines as boot loaders measured them, in order.
        loader_lines: Proven events that hold the boot loader's commands, in order.
        loader_files: Files that the boot loader measured.
        firmware_version: Text of EV_S_CRTM_VERSION, if measured.
        exit_boot_services: Whether the boot loader left the firmware; None if the log is silent.
        dma_protection_disabled: Whether the firmware said so; None if the log is silent.
        firmware_actions: Texts of the firmware's own actions (EV_EFI_ACTION), in order.
        covered: The PCRs these facts may rest on.
        not_covered: What cannot be told and why, one sentence each.
        troubles: Events that must be read and cannot be; any makes the facts of its PCR unsafe.
        quirks: Names of the known firmware quirks that were tolerated (attestation.logs.quirks).
    """

    secure_boot: Fact[bool] | None = None
    databases: Mapping[str, Fact[SignatureDatabase]] = field(default_factory=dict)
    modes: Mapping[str, Fact[bool]] = field(default_factory=dict)
    authorities: tuple[Fact[Authority], ...] = ()
    images: tuple[Fact[Image], ...] = ()
    boot_order: Fact[tuple[int, ...]] | None = None
    boot_entries: tuple[Fact[BootEntry], ...] = ()
    partition_tables: tuple[Fact[str], ...] = ()
    command_lines: tuple[Fact[str], ...] = ()
    loader_lines: tuple[MeasuredEvent, ...] = ()
    loader_files: tuple[Fact[MeasuredFile], ...] = ()
    firmware_version: Fact[str] | None = None
    exit_boot_services: Fact[bool] | None = None
    dma_protection_disabled: Fact[bool] | None = None
    firmware_actions: tuple[Fact[str], ...] = ()
    covered: frozenset[int] = frozenset()
    not_covered: tuple[str, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    quirks: tuple[str, ...] = ()

    @property
    def loader_commands(self) -> tuple[Fact[str], ...]:
        """Commands of the boot loader, in order; told when asked for, since no rule reads them."""
        return tuple(fact(command_text(event.event), event) for event in self.loader_lines)
