"""Puts one evidence message together: read, bind, quote, check, encode. Pure but for its ports.

The PCR values travel beside the quote, so they must be the values that were quoted. If a PCR
moved between reading and quoting (a measurement arrived), everything is read again.

The order is what makes the logs fit the quote: measuring the agent extends a PCR, so it is done
before the PCRs are read; the kernel adds to its list before it extends, so the list is read after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from attestation.errors import AttestationError
from attestation.evidence import Quote, qualifying_data
from attestation.pcr import PcrBanks, PcrSelection, composite_digest
from attestation.tpm.attest import parse_attest
from attestation.tpm.signature import parse_signature
from attestation.wire.enrolment_codec import CloudStatement
from attestation.wire.evidence_codec import encode_evidence, encode_parts
from device_agent.errors import TpmRefused
from device_agent.ports import AgentLog, HostClaims, ImaList, MeasurementLog, Tpm

MOST_TRIES: Final = 5
"""Reads of the PCRs before we say that they do not hold still."""

IMA_PCR: Final = 10
"""What the kernel extends (CONFIG_IMA_MEASURE_PCR_IDX). A verifier that does not ask for the PCR
of a log could prove nothing of it, so it is spared that log: this list, and the AI agent's."""


class CloudWords(Protocol):
    """What the cloud says of the instance that this device is."""

    def read(self) -> CloudStatement:
        """Return it as it is now; empty where nothing is configured.

        Raises:
            SourceUnreadable: If what is configured cannot be read or is too large.
        """
        ...


class ResultWords(Protocol):
    """What another verifier said of this device."""

    def read(self) -> str:
        """Return its newest result (EAR, JWT).

        Raises:
            SourceUnreadable: If there is none, or it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialTrust:
    """What a device shows of itself before the verifier knows it.

    Attributes:
        idevid: The manufacturer's IDevID and IAK certificates.
        tpm_ek: The TPM's endorsement key.
        cloud: The cloud's word; None for none.
    """

    idevid: bool = True
    tpm_ek: bool = False
    cloud: CloudWords | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where evidence comes from, None for what this device does not measure; and initial trust.

    Attributes:
        result: The result that an enrolment shows in place of evidence (passport model, RFC 9334,
            5.1); None for evidence.
    """

    tpm: Tpm
    firmware_log: MeasurementLog
    host: HostClaims
    ima_list: ImaList | None = None
    agent_log: AgentLog | None = None
    trust: InitialTrust = field(default_factory=InitialTrust)
    result: ResultWords | None = None


def collect(
    sources: Sources,
    *,
    nonce: bytes,
    selections: Sequence[PcrSelection],
    whole_log: bool,
    ima_from: int = 0,
) -> bytes:
    """Collect evidence for one challenge.

    Args:
        sources: TPM, logs and host facts.
        nonce: The challenge to answer.
        selections: The PCRs that the verifier asked for.
        whole_log: Send the firmware log itself; False to send only its digest.
        ima_from: The first IMA entry that the verifier does not have.

    Returns:
        An evidence message (``application/cmw+cbor``).

    Raises:
        TpmError: If the TPM fails, or its PCRs do not hold still.
        SourceUnreadable: If a log is there but cannot be read.
    """
    claims = sources.host.read()
    asked = {index for selection in selections for index in selection.indices}
    agent = sources.agent_log
    agent_log = agent.read() if agent is not None and agent.pcr in asked else None
    ima_list = sources.ima_list if IMA_PCR in asked else None
    for _ in range(MOST_TRIES):
        values = sources.tpm.read_pcrs(selections)
        # Logs are read after the PCRs and again on each try, so that an event that moved a PCR
        # is in them.
        parts = encode_parts(
            values,
            sources.firmware_log.read(),
            not whole_log,
            claims,
            ima_list=ima_list.read_from(ima_from) if ima_list is not None else None,
            agent_log=agent_log,
        )
        quote = sources.tpm.quote(selections, qualifying_data(nonce, parts.digests))
        if _quotes(quote, selections, values):
            return encode_evidence(nonce, quote, parts)
    raise TpmRefused(
        f"the PCRs changed during each of {MOST_TRIES} quotes; something measures without end"
    )


def _quotes(quote: Quote, selections: Sequence[PcrSelection], values: PcrBanks) -> bool:
    """Say whether the quote is over exactly these values (TPM 2.0 Part 3, 18.4).

    Raises:
        TpmRefused: If the TPM's answer is not a quote at all.
    """
    try:
        quoted = parse_attest(quote.attest).quote
        scheme = parse_signature(quote.signature).hash
    except AttestationError as error:
        raise TpmRefused(f"the TPM's quote cannot be read: {error.describe()}") from error
    return quoted is not None and quoted.pcr_digest == composite_digest(scheme, selections, values)
