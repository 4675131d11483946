"""What a device that is known to be good has run: the list to learn a runtime policy from."""

from __future__ import annotations

from attestation.identity import device_id
from attestation.refusals import RefusalCode
from attestation.wire.evidence_codec import decode_evidence
from verifier.errors import NotFound, RequestRefused
from verifier.ports import DeviceReader


def proven_list(store: DeviceReader, device: str) -> bytes:
    """Return the IMA list of a device's last evidence, if that was proven and whole.

    Raises:
        NotFound: If the device is not enrolled or has sent no evidence.
        RequestRefused: If its last evidence was not proven, or has not the whole list.
    """
    known = store.device(device_id(device))
    if known is None:
        raise NotFound(RefusalCode.DEVICE_UNKNOWN, f"no device {device!r} is enrolled here")
    newest, message = store.newest_result(known.device), store.last_evidence(known.device)
    if newest is None or not message:
        raise NotFound(RefusalCode.RESULT_ABSENT, f"device {device} has sent no evidence yet")
    for number, step, verdict, detail in newest.steps[:4]:
        if verdict != "passed":
            raise RequestRefused(
                RefusalCode.EVIDENCE_NOT_ACCEPTABLE,
                f"nothing can be learnt from the last evidence of {device}: "
                f"step {number} ({step}) {verdict}: {detail}",
            )
    part = decode_evidence(message).ima_list
    if part is None or part.offset or not part.content:
        raise RequestRefused(
            RefusalCode.IMA_LIST_MISSING,
            f"the last evidence of {device} has "
            + (f"only the entries from {part.offset} on" if part is not None else "no IMA list")
            + "; restart its device-agent, which then sends the list whole, or copy "
            "/sys/kernel/security/ima/binary_runtime_measurements from it",
        )
    return part.content
