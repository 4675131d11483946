"""A Linux kernel as far as IMA goes: it measures files into a software TPM and keeps the list."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from attestation.algorithms import HashAlgorithm
from tests.simulators.soft_device import SoftTpm

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def field(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content


def tagged(content: bytes, algorithm: str = "sha256") -> bytes:
    """A digest as d-ng has it."""
    return f"{algorithm}:\0".encode() + hashlib.new(algorithm, content).digest()


def ng(path: bytes, content: bytes, algorithm: str = "sha256") -> bytes:
    return field(tagged(content, algorithm)) + field(path + b"\0")


def entry(
    data: bytes,
    *,
    pcr: int = 10,
    template: bytes = b"ima-ng",
    column: str = "sha1",
    digest: bytes | None = None,
) -> bytes:
    """One entry of a binary list."""
    column_digest = hashlib.new(column, data).digest() if digest is None else digest
    body = data[:20] + field(data[20:].rstrip(b"\0")) if template == b"ima" else field(data)
    return pcr.to_bytes(4, "little") + column_digest + field(template) + body


def ascii_line(data_text: str, data: bytes, *, template: str = "ima-ng", pcr: int = 10) -> str:
    """One line of an ascii list."""
    column = HashAlgorithm.SHA1.digest(data).hex()
    return f"{pcr} {column} {template} {data_text}\n"


def file_signature(key: PrivateKey, content: bytes, *, key_id: bytes | None = None) -> bytes:
    """The ``security.ima`` attribute over a file's SHA-256 digest."""
    public = key.public_key()
    wanted = x509.SubjectKeyIdentifier.from_public_key(public).digest[-4:]
    hashed, value = Prehashed(hashes.SHA256()), hashlib.sha256(content).digest()
    if isinstance(key, rsa.RSAPrivateKey):
        made = key.sign(value, padding.PKCS1v15(), hashed)
    else:
        made = key.sign(value, ec.ECDSA(hashed))
    head = bytes([3, 2, 4]) + (wanted if key_id is None else key_id)
    return head + len(made).to_bytes(2, "big") + made


class SoftIma:
    """The kernel of one machine.

    Args:
        tpm: Where it extends; its PCRs 0 to 9 hold the boot.
        padded: Whether it is older than 5.8.
        aggregate: Algorithm of its boot_aggregate.
        banks: The TPM's banks.
    """

    def __init__(
        self,
        tpm: SoftTpm,
        *,
        padded: bool = False,
        aggregate: str = "sha256",
        banks: Sequence[HashAlgorithm] = (HashAlgorithm.SHA1, HashAlgorithm.SHA256),
    ) -> None:
        self.tpm, self.padded, self.banks = tpm, padded, tuple(banks)
        self.pieces: list[bytes] = []
        self.begin(aggregate)

    def begin(self, aggregate: str) -> None:
        (bank,) = [bank for bank in self.banks if bank.label == aggregate]
        last = 8 if bank is HashAlgorithm.SHA1 else 10
        boot = b"".join(self.tpm._pcrs[bank][index] for index in range(last))
        self.measure_data(field(tagged(boot, aggregate)) + field(b"boot_aggregate\0"))

    def measure(self, path: bytes, content: bytes, *, pcr: int = 10) -> None:
        self.measure_data(ng(path, content), pcr=pcr)

    def measure_signed(self, path: bytes, content: bytes, signature: bytes) -> None:
        self.measure_data(ng(path, content) + field(signature), template=b"ima-sig")

    def measure_data(self, data: bytes, *, pcr: int = 10, template: bytes = b"ima-ng") -> None:
        for bank in self.banks:
            digest = hashlib.new(bank.label, data).digest()
            if self.padded and bank is not HashAlgorithm.SHA1:
                digest = hashlib.sha1(data).digest().ljust(bank.size, b"\0")  # noqa: S324
            self.tpm.extend(bank, pcr, digest)
        self.pieces.append(entry(data, pcr=pcr, template=template))

    def violate(self, path: bytes) -> None:
        """A file is written while it is measured."""
        for bank in self.banks:
            self.tpm.extend(bank, 10, b"\xff" * bank.size)
        self.pieces.append(entry(field(bytes(20)) + field(path + b"\0"), digest=bytes(20)))

    def list(self, first: int = 0) -> bytes:
        """The binary list from one entry on."""
        return b"".join(self.pieces[first:])
