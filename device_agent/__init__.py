"""The device daemon: TPM keys and quotes, enrolment by IDevID, continuous attestation."""
