"""IMA lists as values, for the commands that read a list without a quote."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.errors import MalformedInput
from attestation.logs.ima.framing import ImaEntry, check_size, hash_size, walk
from attestation.logs.ima.template import STRUCTURE, read_template
from attestation.logs.ima.text import is_text, template_hash, to_binary
from attestation.pcr import PcrBanks
from attestation.refusals import RefusalCode

CONSTRUCTORS: Final[Mapping[HashAlgorithm, Callable[[bytes], hashlib._Hash]]] = {
    HashAlgorithm.SHA1: hashlib.sha1,
    HashAlgorithm.SHA256: hashlib.sha256,
    HashAlgorithm.SHA384: hashlib.sha384,
    HashAlgorithm.SHA512: hashlib.sha512,
}
"""hashlib's own constructors: half the cost of looking them up by name for each entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaList:
    """A list whose template hashes are those of its template data.

    Attributes:
        content: The list in binary form.
        count: How many entries it has.
        violations: How many of them are violations.
        pcrs: The PCRs that it extends.
    """

    content: bytes
    count: int
    violations: int
    pcrs: frozenset[int]

    def __iter__(self) -> Iterator[ImaEntry]:
        """Make the entries one by one."""
        return walk(self.content)

    @property
    def entries(self) -> tuple[ImaEntry, ...]:
        """All entries, made for this call."""
        return tuple(walk(self.content))


def binary_list(raw: bytes) -> bytes:
    """Return a list in binary form, whichever form it has.

    Raises:
        InputError: If it is too large, or is ascii and cannot be read.
    """
    check_size(raw)
    return to_binary(raw) if is_text(raw) else raw


def parse_ima_list(raw: bytes) -> ImaList:
    """Read an ascii or binary runtime measurement list.

    Raises:
        LimitExceeded: If it is larger or longer than we accept.
        MalformedInput: If it is neither form or cut, a field breaks its form, a template hash is
            not that of its data (``ima-template-mismatch``), or it is empty (``ima-list-missing``:
            the kernel writes boot_aggregate before all else, Linux ``ima_init.c``).
        Unsupported: If an entry has another template.
    """
    content = binary_list(raw)
    size = hash_size(content)
    pcrs: set[int] = set()
    count = violations = 0
    for entry in walk(content):
        pcrs.add(entry.pcr)
        if entry.is_violation:
            violations += 1
        elif template_hash(size, entry.data) != entry.digest:
            raise MalformedInput(
                RefusalCode.IMA_TEMPLATE_MISMATCH,
                f"entry {count}: its template hash is not that of its template data",
                structure=STRUCTURE,
            )
        else:
            read_template(entry.template, entry.data, count)
        count += 1
    if not count:
        raise MalformedInput(
            RefusalCode.IMA_LIST_MISSING,
            "the list holds no entry; that of a running kernel begins with boot_aggregate",
            structure=STRUCTURE,
        )
    return ImaList(content=content, count=count, violations=violations, pcrs=frozenset(pcrs))


def replay_ima(
    measured: ImaList,
    banks: Sequence[HashAlgorithm],
    *,
    start: PcrBanks,
    padded: bool,
) -> Mapping[HashAlgorithm, Mapping[int, bytes]]:
    """Return the PCR values that the whole list leads to, for the PCRs that it extends.

    Args:
        measured: The list.
        banks: Which banks to compute.
        start: Values that a firmware log left; other PCRs start at zero.
        padded: Whether banks other than SHA-1 got the padded SHA-1 hash (kernels before 5.8).
    """
    values = {
        bank: {pcr: start.get(bank, {}).get(pcr) or bytes(bank.size) for pcr in measured.pcrs}
        for bank in banks
    }
    for entry in measured:
        violation = entry.is_violation
        for bank in banks:
            digest = b"\xff" * bank.size if violation else extended(bank, entry.data, padded=padded)
            values[bank][entry.pcr] = CONSTRUCTORS[bank](values[bank][entry.pcr] + digest).digest()
    return values


def extended(bank: HashAlgorithm, data: bytes, *, padded: bool) -> bytes:
    """Return what the kernel extends into one bank for template data.

    From 5.8 on that is the bank's own hash; before, the SHA-1 hash with zeros behind it (Linux
    ``ima_crypto.c``, ``ima_calc_field_array_hash``).
    """
    if padded and bank is not HashAlgorithm.SHA1:
        return hashlib.sha1(data).digest().ljust(bank.size, b"\0")  # noqa: S324 - the kernel's
    return CONSTRUCTORS[bank](data).digest()
