"""The single steps that daemon and commands share: enrol once, attest once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attestation.wire.enrolment_codec import CloudStatement
from device_agent.collector import Sources, collect
from device_agent.enrolment import Shown, answer_activation, build_activation, build_enrolment
from device_agent.ports import (
    ChallengeReply,
    Enroller,
    EnrolmentReply,
    EvidenceReply,
    KeyRole,
    VerifierClient,
)


def enrol_once(
    sources: Sources,
    verifier: Enroller,
    intermediates: Sequence[bytes],
    pulse: Callable[[], None] = lambda: None,
    *,
    slot: KeyRole = KeyRole.LDEVID,
    fresh: bool = False,
) -> EnrolmentReply:
    """Enrol: challenge, request, answer.

    Args:
        sources: TPM, firmware log and host facts.
        verifier: The verifier's door to enrol by.
        intermediates: DER certificates of the manufacturer between leaf and root.
        pulse: Called between the parts, so that a watchdog sees progress.
        slot: Where the LDevID key is.
        fresh: Evict what is in that slot first, and make a new key.

    Raises:
        DeviceAgentError: If any part fails.
    """
    challenge, shown = _challenged(sources, verifier, pulse)
    pulse()
    if fresh:
        sources.tpm.evict_ldevid(slot)
    message = build_enrolment(
        sources, challenge, intermediates=intermediates, slot=slot, shown=shown
    )
    pulse()
    return verifier.enrol(message)


def _challenged(
    sources: Sources, verifier: Enroller, pulse: Callable[[], None]
) -> tuple[ChallengeReply, Shown]:
    """Ask for a challenge; say what is to be shown of the device's identity with the answer."""
    trust = sources.trust
    if verifier.enrols_as() is KeyRole.LDEVID:  # the verifier knows us by this certificate
        return verifier.enrolment_challenge(), Shown(idevid=False)
    cloud = trust.cloud.read() if trust.cloud is not None else CloudStatement()
    if not trust.tpm_ek:
        return verifier.enrolment_challenge(), Shown(idevid=trust.idevid, cloud=cloud)
    begun = verifier.begin_activation(build_activation(sources.tpm))
    pulse()
    ek = answer_activation(sources.tpm, begun)
    return begun.challenge, Shown(idevid=trust.idevid, ek=ek, cloud=cloud)


def attest_once(
    sources: Sources,
    verifier: VerifierClient,
    challenge: ChallengeReply,
    *,
    whole_log: bool,
    ima_from: int = 0,
    pulse: Callable[[], None] = lambda: None,
) -> EvidenceReply:
    """Answer one challenge with evidence.

    Args:
        sources: TPM, logs and host facts.
        verifier: The verifier.
        challenge: What to answer.
        whole_log: Send the firmware log itself, not its digest.
        ima_from: The first IMA entry that the verifier does not have.
        pulse: Called between the parts, so that a watchdog sees progress.

    Raises:
        DeviceAgentError: If any part fails.
    """
    evidence = collect(
        sources,
        nonce=challenge.nonce,
        selections=challenge.selections,
        whole_log=whole_log,
        ima_from=ima_from,
    )
    pulse()
    return verifier.submit(evidence)
