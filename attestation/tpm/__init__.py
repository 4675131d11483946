"""TPM 2.0 structures (TCG TPM 2.0 Library, Part 2), parsed without a TPM and without libtss2."""
