"""``[boot]`` of an appraisal policy: what a boot must have been, judged on proven facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attestation.boot.facts import BootFacts
from attestation.result import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRules:
    """``[boot]`` of an appraisal policy."""


def boot_rules(table: Mapping[str, object]) -> BootRules:  # noqa: ARG001 - soon
    """Read ``[boot]``; raises MalformedInput ``policy-invalid`` naming the key."""
    return BootRules()


def judge_boot(
    facts: BootFacts | None,  # noqa: ARG001 - soon
    rules: BootRules,  # noqa: ARG001
) -> tuple[Finding, ...]:
    """Say what the boot is worth; ``None`` facts mean that no log proved anything."""
    return ()
