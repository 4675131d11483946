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
    POLICY_UNKNOWN = "policy-unknown"

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
    MANUFACTURE_REQUEST_INVALID = "manufacture-request-invalid"
    DEVICE_ID_INVALID = "device-id-invalid"
    DEVICE_ID_TAKEN = "device-id-taken"
    DEVICE_UNKNOWN = "device-unknown"
    DEVICE_REVOKED = "device-revoked"
    EVIDENCE_NOT_ACCEPTABLE = "evidence-not-acceptable"

    # --- results and decisions -------------------------------------------------------------
    RESULT_SIGNATURE_INVALID = "result-signature-invalid"
    RESULT_EXPIRED = "result-expired"
    RESULT_NOT_YET_VALID = "result-not-yet-valid"
    RESULT_ABSENT = "result-absent"

    # --- doors -----------------------------------------------------------------------------
    CLIENT_CERTIFICATE_REQUIRED = "client-certificate-required"
    CLIENT_CERTIFICATE_WRONG = "client-certificate-wrong"
    TOKEN_REQUIRED = "token-required"  # noqa: S105 - a code, not a secret
    TOKEN_WRONG = "token-wrong"  # noqa: S105
    ROLE_MISSING = "role-missing"
    RATE_LIMITED = "rate-limited"
    MEDIA_TYPE_WRONG = "media-type-wrong"
    REQUEST_INVALID = "request-invalid"
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
    SOURCE_UNREADABLE = "source-unreadable"
    VERIFIER_UNREACHABLE = "verifier-unreachable"
    VERIFIER_UNTRUSTED = "verifier-untrusted"
    ENROLMENT_REFUSED = "enrolment-refused"
    BROKER_UNREACHABLE = "broker-unreachable"
    STATE_UNWRITABLE = "state-unwritable"
    STATE_CORRUPT = "state-corrupt"
    SETTINGS_INVALID = "settings-invalid"
    TLS_SEAM_UNUSABLE = "tls-seam-unusable"
