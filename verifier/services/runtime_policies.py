"""What a device that is known to be good has run: the list to learn a runtime policy from."""

from __future__ import annotations

from attestation.refusals import RefusalCode
from verifier.errors import RequestRefused
from verifier.ports import DeviceReader
from verifier.services.last_evidence import proven_evidence


def proven_list(store: DeviceReader, device: str) -> bytes:
    """Return the IMA list of a device's last evidence, if that was proven and whole.

    Raises:
        NotFound: If the device is not enrolled or has sent no evidence.
        RequestRefused: If its last evidence was not proven, or has not the whole list.
    """
    part = proven_evidence(store, device).ima_list
    if part is None or part.offset or not part.content:
        raise RequestRefused(
            RefusalCode.IMA_LIST_MISSING,
            f"the last evidence of {device} has "
            + (f"only the entries from {part.offset} on" if part is not None else "no IMA list")
            + "; restart its device-agent, which then sends the list whole, or copy "
            "/sys/kernel/security/ima/binary_runtime_measurements from it",
        )
    return part.content
