"""The AI agent's canonical event log (CEL, TLV form), read and replayed."""

from __future__ import annotations

from attestation.algorithms import HashAlgorithm
from attestation.logs.cel import decode_cel, replay_cel, whole_records


def run(data: bytes) -> None:
    """Read hostile bytes."""
    whole_records(data)
    log = decode_cel(data)
    for bank in HashAlgorithm:
        replay_cel(log, bank)
