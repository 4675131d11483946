"""boot_aggregate: the entry with which a kernel says which boot its list belongs to.

Its digest is over the concatenated PCRs 0 to 7 of one bank; from Linux 5.8 on, in banks other than
SHA-1, over PCRs 0 to 9 (Linux ``ima_crypto.c``, ``ima_calc_boot_aggregate_tfm``). It is the first
entry; a kernel started by kexec that took the list over adds another.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.logs.ima.template import ImaFile
from attestation.pcr import PcrBanks

BOOT_AGGREGATE: Final = b"boot_aggregate"
"""The path of the entry; a file's path begins with a slash."""

_BOOT: Final = tuple(range(8))
_BOOT_AND_LOADER: Final = tuple(range(10))
_BY_LABEL: Final = {bank.label: bank for bank in HashAlgorithm}


class AggregateVerdict(Enum):
    """How a boot_aggregate stands against PCR values."""

    HOLDS = "holds"
    DIFFERS = "differs"
    NOT_QUOTED = "not-quoted"


def judge_aggregate(file: ImaFile, pcrs: PcrBanks) -> AggregateVerdict:
    """Recompute a boot_aggregate from proven PCR values.

    Args:
        file: The entry.
        pcrs: Proven values.

    Returns:
        ``NOT_QUOTED`` if the PCRs it needs are not among them; an aggregate of zeros (a kernel
        that found no TPM) always differs.
    """
    bank = _BY_LABEL.get(file.algorithm)
    if not any(file.value):
        return AggregateVerdict.DIFFERS
    values = pcrs.get(bank, {}) if bank is not None else {}
    if bank is None or any(index not in values for index in _BOOT):
        return AggregateVerdict.NOT_QUOTED
    forms = [_BOOT] if bank is HashAlgorithm.SHA1 else [_BOOT, _BOOT_AND_LOADER]
    for form in forms:
        if any(index not in values for index in form):
            return AggregateVerdict.NOT_QUOTED
        if bank.digest(b"".join(values[index] for index in form)) == file.value:
            return AggregateVerdict.HOLDS
    return AggregateVerdict.DIFFERS
