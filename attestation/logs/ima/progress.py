"""How far a device's IMA list has been proven in this boot: the verifier's running state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attestation.pcr import PcrBanks


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeProgress:
    """What the verifier keeps of an IMA list, so that a device sends only what is new.

    Belongs to one boot (``reset_count``) and to one runtime policy: with another of either, the
    list is asked for whole.

    Attributes:
        reset_count: The TPM's resetCount of that boot.
        entries: So many entries, from the first, are proven by a quote.
        aggregates: How many of them are boot_aggregates of this boot, and so no files.
        pcrs: Values of the PCRs that the list extends, after those entries.
        padded: Whether banks other than SHA-1 got the padded SHA-1 hash (kernels before 5.8);
            None while the list does not tell.
        policy: Id of the runtime policy that the entries were held against; empty for none.
        counts: How many entries were found under each code (``ima-file-unknown`` …).
        samples: The first few of each code, in words.
    """

    reset_count: int
    entries: int
    pcrs: PcrBanks
    padded: bool | None = None
    policy: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aggregates: int = 0

    @property
    def measures_nothing(self) -> bool:
        """Whether the kernel measured no file at all: an IMA policy never told it to."""
        return self.entries == self.aggregates
