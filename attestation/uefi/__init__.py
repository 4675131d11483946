"""UEFI structures as firmware logs carry them: bytes in, values out, nothing believed."""
