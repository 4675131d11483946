"""A kernel that measures: it writes the binary list that Linux writes, and extends as Linux does.

``security/integrity/ima``: the entry is added to the list first, then each bank is extended with
its own hash of the template data (from Linux 5.8 on; ``padded`` for the SHA-1 hash with zeros).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attestation.algorithms import HashAlgorithm

PCR = 10
Extend = Callable[[int, Mapping[HashAlgorithm, bytes]], None]


def ng_data(name: bytes, digest: bytes) -> bytes:
    """Template data of ``ima-ng``: ``d-ng`` and ``n-ng``, each with its length before it."""
    fields = (b"sha256:\0" + digest, name + b"\0")
    return b"".join(struct.pack("<I", len(field)) + field for field in fields)


def ng_entry(
    name: bytes, digest: bytes, *, template_hash: HashAlgorithm = HashAlgorithm.SHA1
) -> bytes:
    """One ``ima-ng`` entry of the binary list, or of the list of another bank."""
    data = ng_data(name, digest)
    head = struct.pack("<I", PCR) + template_hash.digest(data) + struct.pack("<I", 6) + b"ima-ng"
    return head + struct.pack("<I", len(data)) + data


def legacy_entry(name: bytes, digest: bytes) -> bytes:
    """One ``ima`` entry of the binary list: a bare SHA-1 digest, then the name."""
    data = digest + name.ljust(256, b"\0")
    head = struct.pack("<I", PCR) + hashlib.sha1(data, usedforsecurity=False).digest()
    return head + struct.pack("<I", 3) + b"ima" + digest + struct.pack("<I", len(name)) + name


def split_entries(content: bytes) -> list[bytes]:
    """Cut a list of ``ima-ng`` entries into its entries."""
    entries = []
    while content:
        size = 34 + 4 + struct.unpack_from("<I", content, 34)[0]
        entries.append(content[:size])
        content = content[size:]
    return entries


class ImaKernel:
    """The running kernel of one machine.

    Args:
        folder: Where ``binary_runtime_measurements`` and its count appear.
        extend: Extends the machine's TPM.
        banks: The TPM's active banks.
    """

    def __init__(self, folder: Path, extend: Extend, banks: Sequence[HashAlgorithm]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "binary_runtime_measurements"
        self._count_file = folder / "runtime_measurements_count"
        self._extend = extend
        self._banks = tuple(banks)
        self.entries: list[bytes] = []

    def boot(self, boot_aggregate: bytes) -> None:
        """Begin a new list with the aggregate of the firmware's PCRs."""
        self.entries = []
        self.measure(b"boot_aggregate", boot_aggregate)

    def measure(self, name: bytes, digest: bytes) -> None:
        """Measure a file: list first, PCR second."""
        self.list_only(name, digest)
        self.extend_only(name, digest)

    def extend_only(self, name: bytes, digest: bytes) -> None:
        """Extend what is listed already."""
        data = ng_data(name, digest)
        self._extend(PCR, {bank: bank.digest(data) for bank in self._banks})

    def list_only(self, name: bytes, digest: bytes) -> None:
        """Add to the list what the PCR does not hold yet."""
        self.entries.append(ng_entry(name, digest))
        self.write()

    def write(self) -> None:
        """Write the list as it stands."""
        self.path.write_bytes(b"".join(self.entries))
        self._count_file.write_text(f"{len(self.entries)}\n")
