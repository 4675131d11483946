"""TPM2_Quote and TPM2_PCR_Read."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

from tpm2_pytss.types import TPML_PCR_SELECTION

from attestation.algorithms import HashAlgorithm
from attestation.evidence import Quote
from attestation.pcr import PcrBanks, PcrSelection
from device_agent.errors import TpmBusy, TpmRefused
from device_agent.tpm.connection import OpenTpm

MAX_QUALIFYING_BYTES: Final = 32
"""Every TPM takes as much extraData as a SHA-256 digest has (TPM 2.0 Part 2, 10.4.3)."""

_READ_ATTEMPTS: Final = 16


def quote(
    tpm: OpenTpm, iak_handle: int, selections: Sequence[PcrSelection], qualifying: bytes
) -> Quote:
    """TPM2_Quote over the selected PCRs by the IAK.

    Raises:
        TpmKeyMissing: If there is no IAK.
        ValueError: If ``qualifying`` is longer than 32 bytes.
    """
    require_short(qualifying)
    key = tpm.persistent(iak_handle, "iak")
    attest, signature = tpm.esapi.quote(key, _pcr_list(tuple(selections)), qualifying)
    return Quote(attest=bytes(attest), signature=bytes(signature.marshal()))


def read_pcrs(tpm: OpenTpm, selections: Sequence[PcrSelection]) -> PcrBanks:
    """Read all selected PCRs as they stood together at one moment.

    TPM2_PCR_Read answers at most eight digests, so it takes several; its update counter tells
    whether any PCR was extended between them, and then the reading starts over.

    Raises:
        TpmRefused: If a selected bank is not allocated in this TPM.
        TpmBusy: If PCRs are extended faster than they can be read.
    """
    for _ in range(_READ_ATTEMPTS):
        banks = _read_once(tpm, selections)
        if banks is not None:
            return banks
    raise TpmBusy(
        f"read PCRs: they were extended during each of {_READ_ATTEMPTS} readings; try again when "
        "the machine is quieter"
    )


def _read_once(tpm: OpenTpm, selections: Sequence[PcrSelection]) -> PcrBanks | None:
    """Read everything once; None if the PCRs moved meanwhile."""
    banks: dict[HashAlgorithm, dict[int, bytes]] = {}
    counters: set[int] = set()
    for selection in selections:
        values = banks.setdefault(selection.bank, {})
        left = tuple(index for index in selection.indices if index not in values)
        while left:
            wanted = PcrSelection(bank=selection.bank, indices=left)
            counter, answered, digests = tpm.esapi.pcr_read(_pcr_list((wanted,)))
            counters.add(int(counter))
            indices = _indices(bytes(answered[0].pcrSelect)) if len(answered) else ()
            if not indices or len(digests) != len(indices):
                raise TpmRefused(
                    f"read PCRs: this TPM has no {selection.bank.label} bank with PCR {left[0]}; "
                    "allocate the bank in the firmware setup, or let the verifier ask for another"
                )
            values.update(
                (index, bytes(digest)) for index, digest in zip(indices, digests, strict=True)
            )
            left = tuple(index for index in left if index not in values)
    return banks if len(counters) <= 1 else None


def require_short(qualifying: bytes) -> None:
    """Refuse qualifying data that some TPM would not take.

    Raises:
        ValueError: If it is longer than 32 bytes.
    """
    if len(qualifying) > MAX_QUALIFYING_BYTES:
        raise ValueError(
            f"qualifying data is {len(qualifying)} bytes, at most {MAX_QUALIFYING_BYTES}: hash it"
        )


@functools.lru_cache(maxsize=64)
def _pcr_list(selections: tuple[PcrSelection, ...]) -> TPML_PCR_SELECTION:
    return TPML_PCR_SELECTION.parse("+".join(selection.describe() for selection in selections))


def _indices(bitmap: bytes) -> tuple[int, ...]:
    return tuple(index for index in range(8 * len(bitmap)) if bitmap[index // 8] >> (index % 8) & 1)
