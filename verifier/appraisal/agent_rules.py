"""``[agent]`` of an appraisal policy: what the AI agent's files must be, and what else is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from attestation.errors import MalformedInput
from attestation.refusals import RefusalCode
from verifier.appraisal.policy_table import Table

DEFAULT_PCR: Final = 13

_ALLOWED: Final = (8, 9, 11, 12, 13, 14, 15)
"""PCRs that an operating system may extend and nothing but a reset clears (PC Client TPM Profile,
4.6): 0 to 7 are the firmware's, 10 is the kernel's, 16 to 23 can be reset."""

_VALUES: Final = {
    "changed": 96,
    "missing": 96,
    "unlisted": 32,
    "earlier": 32,
    "unknown": 96,
    "denied": 96,
    "unendorsed": 96,
    "incomplete": 36,
}
_LISTS: Final = ("aiboms", "providers", "deny", "exclude")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRules:
    """``[agent]`` of an appraisal policy.

    Attributes:
        pcr: The PCR that the device agent extends with the AI agent's files.
        aiboms: Names (with version) or SHA-256 of the AIBOMs that are admitted; empty for all that
            the verifier holds.
        providers: Names of the providers whose endorsement counts; empty for all trusted ones.
        require_endorsement: Whether an AIBOM must be endorsed.
        deny: Components that must not be in it: bom-ref, package URL with or without version, or
            ``sha256:`` and 64 hex digits.
        exclude: Patterns that a device may leave unmeasured.
        changed: Claim value when a listed file has another content, or cannot be measured.
        missing: When a listed file is not there.
        unlisted: When a file is there that is not listed, or may be, unmeasured.
        earlier: When all is well now, and earlier in this boot a listed file was something else, an
            unlisted one was there, or an AIBOM was measured that we do not hold.
        unknown: When the AIBOM is not one that we hold and admit.
        denied: When it has a denied component.
        unendorsed: When its endorsement is required and does not hold.
        incomplete: When it lacks one of the five parts.
    """

    pcr: int = DEFAULT_PCR
    aiboms: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    require_endorsement: bool = True
    deny: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    changed: int = _VALUES["changed"]
    missing: int = _VALUES["missing"]
    unlisted: int = _VALUES["unlisted"]
    earlier: int = _VALUES["earlier"]
    unknown: int = _VALUES["unknown"]
    denied: int = _VALUES["denied"]
    unendorsed: int = _VALUES["unendorsed"]
    incomplete: int = _VALUES["incomplete"]


def agent_rules(items: Mapping[str, object]) -> AgentRules:
    """Read ``[agent]``.

    Raises:
        MalformedInput: ``policy-invalid`` naming the key.
    """
    table = Table("agent", items)
    table.only(("pcr", "require_endorsement", *_LISTS, *_VALUES))
    pcr = table.number("pcr", 0, 23)
    if pcr is None:
        pcr = DEFAULT_PCR
    if pcr not in _ALLOWED:
        raise MalformedInput(
            RefusalCode.POLICY_INVALID,
            f"agent.pcr: {pcr} belongs to firmware or kernel, or can be reset; wanted one of "
            + ", ".join(str(index) for index in _ALLOWED),
            structure="AppraisalPolicy",
        )
    return AgentRules(
        pcr=pcr,
        require_endorsement=table.flag("require_endorsement", default=True),
        aiboms=table.texts("aiboms"),
        providers=table.texts("providers"),
        deny=table.texts("deny"),
        exclude=table.texts("exclude"),
        **{key: table.bad(key, default) for key, default in _VALUES.items()},
    )
