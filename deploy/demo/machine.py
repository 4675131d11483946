"""What a real machine's firmware would do to its TPM, and what an intruder would.

``boot`` plays a recorded firmware log into the PCRs of an emulated TPM, so that quotes match a
boot that really happened. ``intrude`` extends a PCR behind the log's back. ``forge_log`` writes
the lie that tries to explain it.
"""

from __future__ import annotations

import hashlib
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.logs.event_types import EventType
from attestation.logs.tcg import parse_firmware_log
from attestation.reader import pack
from deploy.demo.swtpm import SoftwareTpm

BANK: Final = HashAlgorithm.SHA256


def boot(tpm: SoftwareTpm, log: bytes) -> int:
    """Extend the TPM's SHA-256 PCRs with every measured event of ``log``.

    Returns:
        The number of events extended.

    Raises:
        ValueError: If the log was recorded at another startup locality than the emulator's.
    """
    parsed = parse_firmware_log(log)
    if parsed.startup_locality != 0:
        raise ValueError("this log starts at another locality than the emulator does")
    measured = [event for event in parsed.events if event.type != EventType.NO_ACTION]
    for event in measured:
        tpm.extend(event.pcr, {BANK: dict(event.digests)[BANK]})
    return len(measured)


def intrude(tpm: SoftwareTpm, pcr: int, what: bytes) -> bytes:
    """Extend one PCR with SHA-256 of ``what``, as code that no log mentions would.

    Returns:
        The digest extended.
    """
    digest = hashlib.sha256(what).digest()
    tpm.extend(pcr, {BANK: digest})
    return digest


def forge_log(log: bytes, pcr: int, digest: bytes) -> bytes:
    """Append an event that claims ``digest`` was an innocent firmware action.

    The forged log replays to the PCRs that the TPM quotes; only its contents give it away, since
    the digest is not that of the words beside it.
    """
    words = b"Exit Boot Services Returned with Success"
    banks = [HashAlgorithm(bank) for bank in parse_firmware_log(log).banks]
    digests = b"".join(
        pack("<H", bank) + (digest if bank == BANK else bytes(bank.size)) for bank in banks
    )
    header = pack("<III", pcr, EventType.EFI_ACTION, len(banks))
    return log + header + digests + pack("<I", len(words)) + words
