"""The facts of one boot while they are being gathered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attestation.algorithms import HashAlgorithm
from attestation.boot.facts import (
    Authority,
    BootEntry,
    Fact,
    Image,
    MeasuredFile,
    Proof,
    SignatureDatabase,
    Trouble,
)
from attestation.errors import InputError
from attestation.logs.contents import HASHERS, Hasher, how_measured
from attestation.logs.event_types import event_type_name
from attestation.logs.replay import MeasuredEvent
from attestation.refusals import RefusalCode


@dataclass(slots=True, kw_only=True)
class Draft:
    """What the events read so far have told; the fields of ``BootFacts``, growing.

    Attributes:
        bank: The bank whose digests count.
        contents: How the contents of events were measured, by event number, as far as that was
            asked before.
        hasher: Its hash.
        separated: PCRs whose separator has been read.
        seen: Contents of the variables read so far, by PCR-independent vendor and name.
        application_from: Event that called a boot option or separated PCR 4; None before.
        boot_services_left: Event of ``Exit Boot Services Returned with Success``; None before.
    """

    bank: HashAlgorithm
    contents: Mapping[int, str | None]
    hasher: Hasher = field(init=False)
    separated: set[int] = field(default_factory=set)
    seen: dict[tuple[bytes, str], bytes] = field(default_factory=dict)
    application_from: int | None = None
    boot_services_left: int | None = None
    secure_boot: Fact[bool] | None = None
    databases: dict[str, Fact[SignatureDatabase]] = field(default_factory=dict)
    modes: dict[str, Fact[bool]] = field(default_factory=dict)
    authorities: list[Fact[Authority]] = field(default_factory=list)
    images: list[Fact[Image]] = field(default_factory=list)
    boot_order: Fact[tuple[int, ...]] | None = None
    boot_entries: list[Fact[BootEntry]] = field(default_factory=list)
    partition_tables: list[Fact[str]] = field(default_factory=list)
    command_lines: list[Fact[str]] = field(default_factory=list)
    loader_lines: list[MeasuredEvent] = field(default_factory=list)
    loader_files: list[Fact[MeasuredFile]] = field(default_factory=list)
    firmware_version: Fact[str] | None = None
    exit_boot_services: Fact[bool] | None = None
    dma_protection_disabled: Fact[bool] | None = None
    firmware_actions: list[Fact[str]] = field(default_factory=list)
    not_covered: list[str] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    quirks: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hasher = HASHERS[self.bank]

    def proven(self, event: MeasuredEvent, digest: bytes) -> bool:
        """Tell whether the content is what was measured; if not, it is a trouble."""
        return self.measured(event, digest) is not None

    def measured(self, event: MeasuredEvent, digest: bytes) -> str | None:
        """Tell how the content was measured: empty for whole, a quirk's name, None for not at all.

        A quirk that had to be tolerated is noted; content that was not measured is a trouble.
        """
        number, _, kind, _, content = event
        if number in self.contents:
            how = self.contents[number]
        else:
            how = how_measured(kind, content, digest, self.hasher)
        if how is None:
            self.trouble(
                event,
                f"the content of this {event_type_name(event.type)} is not what was measured: "
                f"its {self.bank.label} is not the digest",
            )
        elif how:
            self.quirks[how] = None
        return how

    def trouble(self, event: MeasuredEvent, reason: str | InputError) -> None:
        """Record an event that must be read and cannot be, or that contradicts another."""
        if isinstance(reason, InputError):
            reason = f"{reason.structure}: {reason.reason}"
        self._record(RefusalCode.EVENT_UNDECODABLE, event, reason)

    def misplaced(self, event: MeasuredEvent) -> None:
        """Record an event whose type is unknown or does not belong into its PCR."""
        name = event_type_name(event.type)
        self._record(
            RefusalCode.EVENT_TYPE_UNKNOWN, event, f"{name} has no known meaning in PCR {event.pcr}"
        )

    def _record(self, code: RefusalCode, event: MeasuredEvent, reason: str) -> None:
        self.troubles.append(
            Trouble(code=str(code), proof=Proof(event.pcr, event.number), reason=reason)
        )
