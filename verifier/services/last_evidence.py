"""The last evidence of a device that is known to be good: what reference values are learnt from."""

from __future__ import annotations

import hashlib
from typing import Final

from attestation.evidence import Evidence
from attestation.identity import device_id
from attestation.refusals import RefusalCode
from attestation.wire.evidence_codec import decode_evidence
from verifier.errors import NotFound, RequestRefused
from verifier.ports import DeviceReader

_PROOF_STEPS: Final = 4
"""Signature, binding, freshness and measured state: these prove what the evidence says."""


def proven_evidence(store: DeviceReader, device: str) -> Evidence:
    """Return the last evidence of a device, if steps 1 to 4 accepted it.

    Raises:
        MalformedInput: If the text is no device id.
        NotFound: If the device is not enrolled or has sent no evidence.
        RequestRefused: If its last evidence was not proven, or another one came meanwhile.
        Unavailable: If the store cannot be read.
    """
    known = store.device(device_id(device))
    if known is None:
        raise NotFound(RefusalCode.DEVICE_UNKNOWN, f"no device {device!r} is enrolled here")
    newest, message = store.newest_result(known.device), store.last_evidence(known.device)
    if newest is None or not message:
        raise NotFound(RefusalCode.RESULT_ABSENT, f"device {device} has sent no evidence yet")
    for number, step, verdict, detail in newest.steps[:_PROOF_STEPS]:
        if verdict != "passed":
            raise RequestRefused(
                RefusalCode.EVIDENCE_NOT_ACCEPTABLE,
                f"nothing can be learnt from the last evidence of {device}: "
                f"step {number} ({step}) {verdict}: {detail}",
            )
    if hashlib.sha256(message).digest() != newest.evidence_sha256:
        raise RequestRefused(
            RefusalCode.CONFLICT, f"device {device} has sent other evidence meanwhile; try again"
        )
    return decode_evidence(message)
