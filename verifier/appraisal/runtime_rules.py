"""``[ima]`` of an appraisal policy: what is asked of the running system, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from attestation.pcr import PCR_COUNT
from attestation.result import Claim
from verifier.appraisal.policy_table import Table, invalid

DEFAULT_PCR: Final = 10
"""The PCR that Linux extends unless an IMA rule says otherwise (CONFIG_IMA_MEASURE_PCR_IDX)."""

_OTHERS: Final = range(10, 16)
"""PCRs that an IMA rule may name (``pcr=``) and that only a boot clears: 0 to 9 are the firmware's
and the boot loader's, 16 to 23 can be reset (PC Client TPM Profile, 4.6)."""

_KNOWN: Final = 2
_DENIED: Final = 96
_UNKNOWN_OF: Final = {Claim.EXECUTABLES: 33, Claim.FILE_SYSTEM: 32}
_KEYS: Final = (
    "policy",
    "pcr",
    "other_pcrs",
    "claim",
    "list",
    "boot_aggregate",
    "known",
    "unknown",
    "violation",
    "denied",
)


class Demand(StrEnum):
    """What a policy asks of something."""

    REQUIRED = "required"
    REPORTED = "reported"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRules:
    """``[ima]`` of an appraisal policy.

    Attributes:
        policy: Name of the runtime policy that entries are held against.
        pcr: The PCR that lists extend.
        other_pcrs: PCRs that IMA rules with ``pcr=`` extend besides. Like ``pcr`` they begin at
            zeros, and nothing but entries of the list explains them.
        claim: The AR4SI claim that the list decides: executables or file-system.
        list: Whether a device without an IMA list is contradicted, or this is only told.
        boot_aggregate: Whether a list of another boot is contradicted, or this is only told.
        known: The claim's value when every entry is as the runtime policy says.
        unknown: Its value for files, signers and policies that are not known.
        violation: Its value for files that changed while they were measured.
        denied: Its value for denied files and wrong signatures.
    """

    policy: str
    pcr: int = DEFAULT_PCR
    other_pcrs: tuple[int, ...] = ()
    claim: Claim = Claim.EXECUTABLES
    list: Demand = Demand.REQUIRED
    boot_aggregate: Demand = Demand.REQUIRED
    known: int = _KNOWN
    unknown: int = 33
    violation: int = 33
    denied: int = _DENIED

    @property
    def pcrs(self) -> tuple[int, ...]:
        """Every PCR that the kernel's list answers for."""
        return (self.pcr, *self.other_pcrs)


def runtime_rules(table: Mapping[str, object]) -> RuntimeRules:
    """Read ``[ima]``.

    Raises:
        MalformedInput: ``policy-invalid`` naming the key.
    """
    section = Table("ima", table)
    section.only(_KEYS)
    claim = section.word("claim", Claim, Claim.EXECUTABLES)
    if claim not in _UNKNOWN_OF:
        raise invalid("ima.claim", "an IMA list speaks of executables or of the file-system")
    pcr = section.number("pcr", 0, PCR_COUNT - 1)
    unknown = section.bad("unknown", _UNKNOWN_OF[claim])
    main = DEFAULT_PCR if pcr is None else pcr
    return RuntimeRules(
        policy=section.text("policy"),
        pcr=main,
        other_pcrs=_other_pcrs(section, main),
        claim=claim,
        list=section.word("list", Demand, Demand.REQUIRED),
        boot_aggregate=section.word("boot_aggregate", Demand, Demand.REQUIRED),
        known=section.good("known") if "known" in table else _KNOWN,
        unknown=unknown,
        violation=section.bad("violation", unknown),
        denied=section.bad("denied", _DENIED),
    )


def _other_pcrs(section: Table, main: int) -> tuple[int, ...]:
    value = section.items.get("other_pcrs", ())
    where = section.where("other_pcrs")
    if "other_pcrs" in section.items and (not isinstance(value, list) or not value):
        raise invalid(where, "wanted a list of PCR numbers that is not empty")
    found: list[int] = []
    for index in value if isinstance(value, list) else ():
        if type(index) is not int or index not in _OTHERS:
            raise invalid(where, f"wanted PCRs from {_OTHERS.start} to {_OTHERS.stop - 1}")
        if index == main or index in found:
            raise invalid(where, f"PCR {index} is named twice (ima.pcr is {main})")
        found.append(index)
    return tuple(sorted(found))
