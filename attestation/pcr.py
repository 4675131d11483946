"""PCR indices, selections and banks: the arithmetic of TPM 2.0 Part 1, section 17."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from attestation.algorithms import HashAlgorithm, hash_by_label
from attestation.errors import MalformedInput
from attestation.refusals import RefusalCode

PCR_COUNT: Final = 24
"""PCRs of a PC Client TPM (TCG PC Client Platform TPM Profile, 4.6)."""

PcrBanks = Mapping[HashAlgorithm, Mapping[int, bytes]]
"""PCR values by bank and index, e.g. ``{SHA256: {0: b'…'}}``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PcrSelection:
    """One bank and its selected PCRs, ascending (TPMS_PCR_SELECTION)."""

    bank: HashAlgorithm
    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        if list(self.indices) != sorted(set(self.indices)) or any(
            not 0 <= index < PCR_COUNT for index in self.indices
        ):
            raise MalformedInput(
                RefusalCode.VALUE_OUT_OF_RANGE,
                f"PCR indices must ascend without repeats within 0..{PCR_COUNT - 1}",
                structure="PcrSelection",
            )

    def describe(self) -> str:
        """Return ``sha256:0,1,2`` (the form that tpm2-tools uses)."""
        return f"{self.bank.label}:{','.join(str(index) for index in self.indices)}"


def parse_selection(text: str) -> tuple[PcrSelection, ...]:
    """Parse ``sha256:0,1,7+sha1:0`` into selections, in the order given.

    Raises:
        MalformedInput: If the text is not of that form.
        Unsupported: If a bank is unknown.
    """
    selections = []
    for bank_text in text.split("+"):
        label, _, list_text = bank_text.partition(":")
        try:
            indices = tuple(sorted({int(item) for item in list_text.split(",")}))
        except ValueError as error:
            raise MalformedInput(
                RefusalCode.VALUE_OUT_OF_RANGE,
                f"{text[:80]!r} is not of the form sha256:0,1,7",
                structure="PcrSelection",
            ) from error
        selections.append(PcrSelection(bank=hash_by_label(label.strip()), indices=indices))
    return tuple(selections)


def extend(bank: HashAlgorithm, value: bytes, digest: bytes) -> bytes:
    """Return the PCR value after one extend: H(value || digest) (Part 1, 17.2)."""
    return hashlib.new(bank.label, value + digest).digest()


def composite_digest(
    scheme: HashAlgorithm, selections: Iterable[PcrSelection], values: PcrBanks
) -> bytes:
    """Return the pcrDigest of a quote: H over the selected values in selection order.

    The hash is that of the *signing scheme*, not of the bank (TPM 2.0 Part 3, 18.4).

    Raises:
        KeyError: If a selected value is absent; callers check coverage first.
    """
    hasher = hashlib.new(scheme.label)
    for selection in selections:
        bank = values[selection.bank]
        for index in selection.indices:
            hasher.update(bank[index])
    return hasher.digest()
