"""What follows from a firmware log: replay, contents, separators, boot facts, words."""

from __future__ import annotations

from attestation.algorithms import HashAlgorithm
from attestation.boot.derive import derive_boot_facts
from attestation.boot.describe import describe_event
from verifier.appraisal.replay_cache import judge_log

_BANKS = (HashAlgorithm.SHA1, HashAlgorithm.SHA256)


def run(data: bytes) -> None:
    """Read hostile bytes."""
    judged = judge_log(data, _BANKS)
    for bank in judged.replayed.pcrs:
        derive_boot_facts(judged.replayed, bank, range(24))
    for event in judged.replayed.events:
        describe_event(event)
