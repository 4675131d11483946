"""The separator rule: PCR 0 to 7 each hold exactly one genuine EV_SEPARATOR.

Firmware ends its own measurements with a separator in every one of PCR 0 to 7 (TCG PFP 3.3.2.2).
A bank without them is one the firmware never wrote, open to whoever writes it later
(CVE-2021-42299, "TPM Carte Blanche"). The type of an event is not covered by its digest, so a
separator counts only when type *and* digest say so. PCR 7 is separated by four zero bytes only, the
others by those or four FF (PFP 3.3.2.2). One look-alike is honest: some firmware measures four zero
bytes as a part of its root of trust into PCR 0 (quirk ``crtm-contents-like-separator``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.logs.event_types import EventType
from attestation.logs.replay import ReplayedLog

SEPARATED_PCRS: Final = range(8)
_SEPARATOR: Final = int(EventType.SEPARATOR)
_ROOT_OF_TRUST: Final = (int(EventType.S_CRTM_CONTENTS), int(EventType.S_CRTM_VERSION))
_ZEROS: Final = b"\x00\x00\x00\x00"
_ONES: Final = b"\xff\xff\xff\xff"
_DIGESTS: Final = {
    bank: frozenset((bank.digest(_ZEROS), bank.digest(_ONES))) for bank in HashAlgorithm
}
_ONES_DIGEST: Final = {bank: bank.digest(_ONES) for bank in HashAlgorithm}
_SECURE_BOOT_PCR: Final = 7


def separator_faults(log: ReplayedLog, bank: HashAlgorithm) -> Mapping[int, str]:
    """Return what is wrong with the separators of PCR 0 to 7; empty for an honest log.

    Args:
        log: A replayed log.
        bank: The bank to look at.
    """
    genuine = _DIGESTS[bank]
    counts = dict.fromkeys(SEPARATED_PCRS, 0)
    faults: dict[int, str] = {}
    for event, digest in zip(log.events, log.column(bank), strict=True):
        by_digest = digest in genuine
        by_type = event[2] == _SEPARATOR
        if not (by_digest or by_type) or event.pcr not in counts:
            continue
        if by_digest and by_type:
            counts[event.pcr] += 1
            if event.pcr == _SECURE_BOOT_PCR and digest == _ONES_DIGEST[bank]:
                faults.setdefault(
                    event.pcr,
                    f"event {event.number} separates PCR 7 with FFFFFFFF, wanted 00000000",
                )
        elif by_type or (by_digest and not (event.pcr == 0 and event.type in _ROOT_OF_TRUST)):
            faults.setdefault(
                event.pcr,
                f"event {event.number} "
                + (
                    "has a separator's digest under another type"
                    if by_digest
                    else "is called a separator but measures something else"
                ),
            )
    for pcr, count in counts.items():
        if count != 1:
            faults.setdefault(pcr, f"the log has {count} separators for it, wanted exactly one")
    return faults
