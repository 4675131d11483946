"""Derives boot facts from replayed events."""

from __future__ import annotations

from collections.abc import Collection

from attestation.algorithms import HashAlgorithm
from attestation.boot.facts import BootFacts
from attestation.logs.replay import ReplayedLog


def derive_boot_facts(
    log: ReplayedLog,
    bank: HashAlgorithm,
    proven: Collection[int],  # noqa: ARG001 - soon
) -> BootFacts:
    """Tell what a boot was.

    Args:
        log: A replayed log.
        bank: The bank whose digests count.
        proven: The PCRs whose replayed values a quote has confirmed; nothing else is interpreted.

    Returns:
        The facts, each with its proof.
    """
    return BootFacts(covered=log.covered.get(bank, frozenset()))
