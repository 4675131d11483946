"""Errors of the device daemon; each carries the stable code that CLI, logs and MQTT also show.

Tree::

    DeviceAgentError
    ├── TpmError
    │   ├── TpmUnavailable      no TPM answers: absent, switched off, no right to open it
    │   ├── TpmBusy             it answers, but asked to wait longer than we are willing to
    │   ├── TpmLockedOut        dictionary-attack lockout is in force
    │   ├── TpmKeyMissing       a key is not at its persistent handle
    │   └── TpmRefused          any other refusal, with the TPM's own response code
    ├── CertificateUnusable     a certificate that is malformed or speaks of another key
    ├── SourceUnreadable        a log or certificate on this machine cannot be read
    ├── VerifierError
    │   ├── VerifierUnreachable no connection
    │   ├── VerifierUntrusted   its certificate or its result does not verify
    │   └── VerifierRefused     it answered with a problem document
    ├── StateUnwritable         our own state folder
    ├── StateCorrupt            our own state file
    ├── AgentUnknown            no AI agent of that name on this device
    ├── AgentRefused            what the daemon noted of a request for an agent
    ├── ProofUnknown            the verifier wants a proof that we cannot give
    ├── SettingsInvalid         our own configuration
    ├── BrokerUnreachable       the MQTT broker
    └── TlsSeamUnusable         TLS with a TPM key cannot work with this Python or OpenSSL

No message ever holds a nonce, a key, a password or a secret.
"""

from __future__ import annotations

from collections.abc import Sequence

from attestation.refusals import RefusalCode


class DeviceAgentError(Exception):
    """Something on or around this device went wrong.

    Attributes:
        code: Stable machine-readable code. A :class:`RefusalCode` but in
            :class:`VerifierRefused`, where it is the word the verifier sent.
        reason: What was seen, what was wanted, what to do.
    """

    def __init__(self, code: RefusalCode | str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code}: {reason}")


class TpmError(DeviceAgentError):
    """Something about the TPM."""


class TpmUnavailable(TpmError):
    """No TPM answers at the configured TCTI."""

    def __init__(self, reason: str) -> None:
        super().__init__(RefusalCode.TPM_UNAVAILABLE, reason)


class TpmBusy(TpmError):
    """The TPM kept asking to be tried again; a later attempt may succeed."""

    def __init__(self, reason: str) -> None:
        super().__init__(RefusalCode.TPM_BUSY, reason)


class TpmLockedOut(TpmError):
    """Dictionary-attack lockout is in force; the TPM refuses every protected key.

    Attributes:
        recovery_s: Seconds of powered time until the TPM forgives one failure by itself, as the
            TPM says (TPM2_PT_LOCKOUT_INTERVAL); None if it could not be read.
    """

    def __init__(self, reason: str, *, recovery_s: int | None) -> None:
        self.recovery_s = recovery_s
        super().__init__(RefusalCode.TPM_LOCKED_OUT, reason)


class TpmKeyMissing(TpmError):
    """A key is not at its persistent handle."""

    def __init__(self, reason: str) -> None:
        super().__init__(RefusalCode.TPM_KEY_MISSING, reason)


class TpmRefused(TpmError):
    """The TPM, or our rules for it, refused the operation.

    Attributes:
        rc: The TPM or TSS response code; 0 where we refused before asking the TPM.
    """

    def __init__(self, reason: str, *, rc: int = 0) -> None:
        self.rc = rc
        super().__init__(RefusalCode.TPM_REFUSED, reason)


class CertificateUnusable(DeviceAgentError):
    """A certificate is malformed, or speaks of another key than the one it is to be used with.

    Codes: ``certificate-malformed``, ``certificate-key-mismatch``.
    """


class SourceUnreadable(DeviceAgentError):
    """A log, certificate or fact on this machine cannot be read or is out of bounds."""


class VerifierError(DeviceAgentError):
    """Something about the verifier."""


class VerifierUnreachable(VerifierError):
    """No connection to the verifier; a later attempt may succeed."""

    def __init__(self, reason: str) -> None:
        super().__init__(RefusalCode.VERIFIER_UNREACHABLE, reason)


class VerifierUntrusted(VerifierError):
    """The peer does not prove to be our verifier; nothing was sent to it."""

    def __init__(self, reason: str) -> None:
        super().__init__(RefusalCode.VERIFIER_UNTRUSTED, reason)


class VerifierRefused(VerifierError):
    """The verifier answered with a problem document (RFC 9457).

    Attributes:
        http_status: HTTP status of the answer.
    """

    def __init__(self, code: RefusalCode | str, reason: str, *, http_status: int) -> None:
        self.http_status = http_status
        super().__init__(code, reason)


class StateUnwritable(DeviceAgentError):
    """The state folder cannot be written."""

    def __init__(self, reason: str) -> None:
        super().__init__(RefusalCode.STATE_UNWRITABLE, reason)


class StateCorrupt(DeviceAgentError):
    """A state file does not hold what we wrote."""

    def __init__(self, reason: str) -> None:
        super().__init__(RefusalCode.STATE_CORRUPT, reason)


class AgentUnknown(DeviceAgentError):
    """No AI agent of that name is on this device."""

    def __init__(self, reason: str) -> None:
        super().__init__(RefusalCode.AGENT_UNKNOWN, reason)


class AgentRefused(DeviceAgentError):
    """The daemon could not get an agent's certificate; code and reason are those that it noted."""


class ProofUnknown(DeviceAgentError):
    """The verifier wants a proof that this program cannot give."""

    def __init__(self, proofs: Sequence[str]) -> None:
        named = ", ".join(proof[:40] for proof in proofs[:8])
        super().__init__(
            RefusalCode.PROOFS_MISSING,
            f"the agent's class wants {named}, which this device-agent does not know; update it, "
            "or change the enrolment policy",
        )


class SettingsInvalid(DeviceAgentError):
    """A setting is unknown, missing or out of range."""

    def __init__(self, reason: str) -> None:
        super().__init__(RefusalCode.SETTINGS_INVALID, reason)


class BrokerUnreachable(DeviceAgentError):
    """The MQTT broker cannot be reached or refuses us."""

    def __init__(self, reason: str) -> None:
        super().__init__(RefusalCode.BROKER_UNREACHABLE, reason)


class TlsSeamUnusable(DeviceAgentError):
    """TLS with a TPM key cannot work here; see docs/adr/0003-tls-with-a-tpm-key.md."""

    def __init__(self, reason: str) -> None:
        super().__init__(RefusalCode.TLS_SEAM_UNUSABLE, reason)
