"""The stable codes of every refusal; HTTP, CLI, EAR, MQTT and logs all use the same word.

A code never changes its meaning. New faults get new codes. ``docs/refusals.md`` says for each
what was seen and what to do; a test holds the two together.
"""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class RefusalCode(StrEnum):
    """Why something was refused. Values are stable; names follow the values."""

    # --- bytes that are not what they claim ------------------------------------------------
    TRUNCATED = "truncated"
    TRAILING_BYTES = "trailing-bytes"
    VALUE_OUT_OF_RANGE = "value-out-of-range"
    TOO_LARGE = "too-large"
    TOO_MANY = "too-many"
    UNSUPPORTED_ALGORITHM = "unsupported-algorithm"
    UNSUPPORTED_VERSION = "unsupported-version"
    CBOR_MALFORMED = "cbor-malformed"
    CBOR_DUPLICATE_KEY = "cbor-duplicate-key"
    CBOR_TOO_DEEP = "cbor-too-deep"
    EVIDENCE_MALFORMED = "evidence-malformed"
    EVIDENCE_PART_MISSING = "evidence-part-missing"
    CERTIFICATE_MALFORMED = "certificate-malformed"
    CSR_MALFORMED = "csr-malformed"
    BASE64_MALFORMED = "base64-malformed"
    LOG_MALFORMED = "log-malformed"
    LOG_UNKNOWN = "log-unknown"
    KEY_MALFORMED = "key-malformed"
    CLAIMS_MALFORMED = "claims-malformed"
    RESULT_MALFORMED = "result-malformed"

    # --- the quote -------------------------------------------------------------------------
    QUOTE_MAGIC_WRONG = "quote-magic-wrong"
    QUOTE_TYPE_WRONG = "quote-type-wrong"
    QUOTE_SIGNATURE_INVALID = "quote-signature-invalid"
    SIGNATURE_SCHEME_MISMATCH = "signature-scheme-mismatch"
    AK_NOT_RESTRICTED = "ak-not-restricted"
    AK_ATTRIBUTES_WRONG = "ak-attributes-wrong"
    AK_UNKNOWN = "ak-unknown"
    PCR_SELECTION_WRONG = "pcr-selection-wrong"
    PCR_DIGEST_MISMATCH = "pcr-digest-mismatch"
    QUALIFYING_DATA_MISMATCH = "qualifying-data-mismatch"

    # --- freshness -------------------------------------------------------------------------
    NONCE_MALFORMED = "nonce-malformed"
    NONCE_FORGED = "nonce-forged"
    NONCE_EXPIRED = "nonce-expired"
    NONCE_REUSED = "nonce-reused"
    CLOCK_WENT_BACK = "clock-went-back"
    RESET_COUNT_WENT_BACK = "reset-count-went-back"
    EVIDENCE_REPLAYED = "evidence-replayed"

    # --- logs ------------------------------------------------------------------------------
    LOG_REPLAY_MISMATCH = "log-replay-mismatch"
    LOG_EVENT_CONTRADICTS = "log-event-contradicts"
    LOG_BANK_MISSING = "log-bank-missing"
    PCR_NOT_COVERED = "pcr-not-covered"

    # --- reference values and policy -------------------------------------------------------
    REFERENCE_MISMATCH = "reference-mismatch"
    REFERENCE_MISSING = "reference-missing"
    POLICY_INVALID = "policy-invalid"

    # --- endorsement and identity ----------------------------------------------------------
    CERTIFICATE_UNTRUSTED = "certificate-untrusted"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_YET_VALID = "certificate-not-yet-valid"
    CERTIFICATE_PROFILE_WRONG = "certificate-profile-wrong"
    CERTIFICATE_KEY_MISMATCH = "certificate-key-mismatch"
    KEY_TOO_WEAK = "key-too-weak"
    IDEVID_IAK_MISMATCH = "idevid-iak-mismatch"
    CERTIFY_MISMATCH = "certify-mismatch"
    CERTIFY_SIGNATURE_INVALID = "certify-signature-invalid"
    KEY_ATTRIBUTES_WRONG = "key-attributes-wrong"
    CSR_SIGNATURE_INVALID = "csr-signature-invalid"
    CSR_KEY_MISMATCH = "csr-key-mismatch"
    CSR_CHANNEL_BINDING_WRONG = "csr-channel-binding-wrong"
    CSR_SUBJECT_CHANGED = "csr-subject-changed"
    MANUFACTURE_REQUEST_INVALID = "manufacture-request-invalid"
    DEVICE_ID_INVALID = "device-id-invalid"
    DEVICE_ID_TAKEN = "device-id-taken"
    IDENTITY_TAKEN = "identity-taken"
    KEY_ALREADY_CERTIFIED = "key-already-certified"
    KEY_COMPROMISED = "key-compromised"
    SERIAL_TAKEN = "serial-taken"
    DEVICE_UNKNOWN = "device-unknown"
    DEVICE_REVOKED = "device-revoked"
    DEVICE_DECOMMISSIONED = "device-decommissioned"
    EVIDENCE_NOT_ACCEPTABLE = "evidence-not-acceptable"
    ENROLMENT_CLASS_UNKNOWN = "enrolment-class-unknown"
    ENROLMENT_DENIED = "enrolment-denied"
    INITIAL_TRUST_MISSING = "initial-trust-missing"
    PROOFS_MISSING = "proofs-missing"
    RESULT_NOT_ACCEPTABLE = "result-not-acceptable"
    EK_NOT_LISTED = "ek-not-listed"
    AK_NOT_RESIDENT = "ak-not-resident"
    AWS_DOCUMENT_MALFORMED = "aws-document-malformed"
    AWS_SIGNATURE_INVALID = "aws-signature-invalid"
    AWS_DOCUMENT_FOREIGN = "aws-document-foreign"
    AZURE_TOKEN_MALFORMED = "azure-token-malformed"  # noqa: S105 - a code, not a secret
    AZURE_SIGNATURE_INVALID = "azure-signature-invalid"
    AZURE_TOKEN_EXPIRED = "azure-token-expired"  # noqa: S105
    AZURE_TOKEN_FOREIGN = "azure-token-foreign"  # noqa: S105

    CERTIFICATE_UNKNOWN = "certificate-unknown"
    STATUS_LIST_UNKNOWN = "status-list-unknown"
    ALARM_UNKNOWN = "alarm-unknown"

    # --- AI agents, their owners and tokens ------------------------------------------------
    AGENT_NAME_INVALID = "agent-name-invalid"
    AGENT_UNKNOWN = "agent-unknown"
    AGENT_REVOKED = "agent-revoked"
    CAPABILITY_INVALID = "capability-invalid"
    SCOPE_EXCEEDED = "scope-exceeded"
    OWNER_UNKNOWN = "owner-unknown"
    OWNER_BINDING_MALFORMED = "owner-binding-malformed"
    OWNER_SIGNATURE_INVALID = "owner-signature-invalid"
    OWNER_BINDING_MISMATCH = "owner-binding-mismatch"
    OWNER_BINDING_EXPIRED = "owner-binding-expired"
    TOKEN_PROOF_MALFORMED = "token-proof-malformed"  # noqa: S105
    TOKEN_PROOF_INVALID = "token-proof-invalid"  # noqa: S105
    TOKEN_PROOF_EXPIRED = "token-proof-expired"  # noqa: S105
    WORKLOAD_ID_INVALID = "workload-id-invalid"
    WORKLOAD_TOKEN_MALFORMED = "workload-token-malformed"  # noqa: S105 - a code, not a secret
    WORKLOAD_TOKEN_INVALID = "workload-token-invalid"  # noqa: S105
    WORKLOAD_TOKEN_EXPIRED = "workload-token-expired"  # noqa: S105
    PROFILE_INVALID = "profile-invalid"

    # --- the keys of our own certificate authorities ----------------------------------------
    KEYS_UNUSABLE = "keys-unusable"
    CA_PASSPHRASE_WRONG = "ca-passphrase-wrong"  # noqa: S105 - a code, not a secret
    CA_KEY_EXPOSED = "ca-key-exposed"
    CA_TOKEN_ABSENT = "ca-token-absent"  # noqa: S105
    CA_PIN_REFUSED = "ca-pin-refused"
    CA_EXPIRED = "ca-expired"
    CA_CERTIFICATE_WRONG = "ca-certificate-wrong"
    CA_UNKNOWN = "ca-unknown"
    CA_IN_USE = "ca-in-use"
    CA_ROOT_ONLINE = "ca-root-online"
    CA_KEY_UNENCRYPTED = "ca-key-unencrypted"
    CA_PASSPHRASE_BESIDE_KEY = "ca-passphrase-beside-key"  # noqa: S105
    CA_EXPIRES_SOON = "ca-expires-soon"
    CA_ENDS_TOO_SOON = "ca-ends-too-soon"
    CA_BACKUP_UNREADABLE = "ca-backup-unreadable"

    # --- results and decisions -------------------------------------------------------------
    RESULT_SIGNATURE_INVALID = "result-signature-invalid"
    RESULT_EXPIRED = "result-expired"
    RESULT_NOT_YET_VALID = "result-not-yet-valid"
    RESULT_ABSENT = "result-absent"

    # --- boot facts --------------------------------------------------------------------------
    EVENT_TYPE_UNKNOWN = "event-type-unknown"
    EVENT_UNDECODABLE = "event-undecodable"
    BOOT_FACT_MISSING = "boot-fact-missing"
    SECURE_BOOT_OFF = "secure-boot-off"
    DBX_OUTDATED = "dbx-outdated"
    BOOT_AUTHORITY_UNKNOWN = "boot-authority-unknown"
    COMMAND_LINE_REFUSED = "command-line-refused"
    OPTION_ROM_UNKNOWN = "option-rom-unknown"
    BOOT_ORDER_CHANGED = "boot-order-changed"
    EXIT_BOOT_SERVICES_MISSING = "exit-boot-services-missing"
    PCR_BANKS_DISAGREE = "pcr-banks-disagree"
    SECURE_BOOT_KEYS_UNKNOWN = "secure-boot-keys-unknown"
    BOOT_IMAGE_REFUSED = "boot-image-refused"
    FIRMWARE_REFUSED = "firmware-refused"
    PLATFORM_MODE_REFUSED = "platform-mode-refused"
    DMA_PROTECTION_OFF = "dma-protection-off"

    # --- IMA: what the running system measured -----------------------------------------------
    IMA_OFFSET_UNKNOWN = "ima-offset-unknown"
    IMA_LIST_MISSING = "ima-list-missing"
    IMA_LIST_TOO_LONG = "ima-list-too-long"
    IMA_REPLAY_MISMATCH = "ima-replay-mismatch"
    IMA_TEMPLATE_MISMATCH = "ima-template-mismatch"
    IMA_VIOLATION = "ima-violation"
    IMA_FILE_UNKNOWN = "ima-file-unknown"
    IMA_FILE_DENIED = "ima-file-denied"
    IMA_SIGNATURE_INVALID = "ima-signature-invalid"
    IMA_SIGNER_UNKNOWN = "ima-signer-unknown"
    IMA_BOOT_AGGREGATE_MISMATCH = "ima-boot-aggregate-mismatch"
    RUNTIME_POLICY_INVALID = "runtime-policy-invalid"

    # --- the AI agent's own files ------------------------------------------------------------
    AGENT_LOG_MISSING = "agent-log-missing"
    AGENT_LOG_MALFORMED = "agent-log-malformed"
    AGENT_REPLAY_MISMATCH = "agent-replay-mismatch"
    AGENT_LOG_FULL = "agent-log-full"
    AIBOM_UNKNOWN = "aibom-unknown"
    AIBOM_MALFORMED = "aibom-malformed"
    AIBOM_INCOMPLETE = "aibom-incomplete"
    AGENT_FILE_CHANGED = "agent-file-changed"
    AGENT_FILE_MISSING = "agent-file-missing"
    AGENT_FILE_UNLISTED = "agent-file-unlisted"
    AGENT_COMPONENT_DENIED = "agent-component-denied"
    PROVIDER_ENDORSEMENT_MISSING = "provider-endorsement-missing"
    PROVIDER_ENDORSEMENT_MALFORMED = "provider-endorsement-malformed"
    PROVIDER_SIGNATURE_INVALID = "provider-signature-invalid"
    PROVIDER_UNKNOWN = "provider-unknown"
    PROVIDER_SUBJECT_MISMATCH = "provider-subject-mismatch"
    PROVIDER_ENDORSEMENT_EXPIRED = "provider-endorsement-expired"

    # --- reference values --------------------------------------------------------------------
    CORIM_MALFORMED = "corim-malformed"
    CORIM_SIGNATURE_INVALID = "corim-signature-invalid"
    CORIM_SIGNER_UNKNOWN = "corim-signer-unknown"
    RIM_MALFORMED = "rim-malformed"
    RIM_SIGNER_UNKNOWN = "rim-signer-unknown"
    RIM_SUPPORT_MISMATCH = "rim-support-mismatch"
    REFERENCE_NOT_IN_FORCE = "reference-not-in-force"
    REFERENCE_NOT_REVIEWED = "reference-not-reviewed"

    # --- the TPM's maker ---------------------------------------------------------------------
    EK_CERTIFICATE_MALFORMED = "ek-certificate-malformed"
    EK_CERTIFICATE_UNTRUSTED = "ek-certificate-untrusted"
    EK_CERTIFICATE_PROFILE_WRONG = "ek-certificate-profile-wrong"
    EK_KEY_WEAK = "ek-key-weak"
    EK_KEY_NOT_ACCEPTED = "ek-key-not-accepted"
    EK_MISMATCH = "ek-mismatch"
    TPM_FIRMWARE_DENIED = "tpm-firmware-denied"
    CERTIFICATE_REVOKED = "certificate-revoked"
    CREDENTIAL_ACTIVATION_FAILED = "credential-activation-failed"
    CREDENTIAL_ACTIVATION_SPENT = "credential-activation-spent"
    ACTIVATION_FILE_MALFORMED = "activation-file-malformed"
    ACTIVATION_MISSING = "activation-missing"
    ALREADY_MANUFACTURED = "already-manufactured"
    LINE_JOURNAL_BROKEN = "line-journal-broken"

    # --- doors -----------------------------------------------------------------------------
    CLIENT_CERTIFICATE_REQUIRED = "client-certificate-required"
    CLIENT_CERTIFICATE_WRONG = "client-certificate-wrong"
    TOKEN_REQUIRED = "token-required"  # noqa: S105 - a code, not a secret
    TOKEN_WRONG = "token-wrong"  # noqa: S105
    ROLE_MISSING = "role-missing"
    RATE_LIMITED = "rate-limited"
    MEDIA_TYPE_WRONG = "media-type-wrong"
    REQUEST_INVALID = "request-invalid"
    EST_LABEL_UNKNOWN = "est-label-unknown"
    EST_SERVERKEYGEN_REFUSED = "est-serverkeygen-refused"
    EST_FULLCMC_UNSUPPORTED = "est-fullcmc-unsupported"
    NONCE_LENGTH_UNSUPPORTED = "nonce-length-unsupported"
    CONFLICT = "conflict"
    OVERLOADED = "overloaded"
    STORE_UNAVAILABLE = "store-unavailable"
    INTERNAL_ERROR = "internal-error"

    # --- the device's own troubles ---------------------------------------------------------
    TPM_UNAVAILABLE = "tpm-unavailable"
    TPM_BUSY = "tpm-busy"
    TPM_LOCKED_OUT = "tpm-locked-out"
    TPM_REFUSED = "tpm-refused"
    TPM_KEY_MISSING = "tpm-key-missing"
    CLOCK_WRONG = "clock-wrong"
    SOURCE_UNREADABLE = "source-unreadable"
    VERIFIER_UNREACHABLE = "verifier-unreachable"
    VERIFIER_UNTRUSTED = "verifier-untrusted"
    BROKER_UNREACHABLE = "broker-unreachable"
    STATE_UNWRITABLE = "state-unwritable"
    STATE_CORRUPT = "state-corrupt"
    SETTINGS_INVALID = "settings-invalid"
    TLS_SEAM_UNUSABLE = "tls-seam-unusable"
