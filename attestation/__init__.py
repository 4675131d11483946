"""The shared vocabulary of attester and verifier: TPM structures, logs, wire formats, result words.

Pure: nothing here reads a clock, a file, a socket or randomness, and nothing here logs.
Import the module you need (``from attestation.tpm.attest import parse_attest``).
"""
