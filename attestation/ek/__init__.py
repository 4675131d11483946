"""Endorsement keys as TPM makers certify them: the certificates' bytes, forms and known faults."""
