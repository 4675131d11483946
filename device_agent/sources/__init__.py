"""Where evidence comes from, besides the TPM: the firmware log and host facts."""
