"""Boots as firmware logs, event by event, good and bad."""

from __future__ import annotations

from attestation.algorithms import HashAlgorithm
from attestation.boot.derive import derive_boot_facts
from attestation.boot.facts import BootFacts
from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from attestation.uefi.guid import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE
from tests.simulators.firmware_log import SEPARATOR, SHA1, SHA256, agile_event, header
from tests.simulators.uefi import file_path, hash_list, image_load, variable

ACTION, CONFIG, AUTHORITY = 0x80000007, 0x80000001, 0x800000E0
APPLICATION, DRIVER, VARIABLE_BOOT = 0x80000003, 0x80000004, 0x80000002
GPT, IPL, TAG, VERSION = 0x80000006, 0xD, 6, 8

CALLING = b"Calling EFI Application from Boot Option"
LEFT = b"Exit Boot Services Returned with Success"


def event(pcr: int, kind: int, content: bytes, measured: bytes | None = None) -> bytes:
    """One event in two banks whose digests are those of ``measured``, else of the content."""
    hashed = content if measured is None else measured
    return agile_event(pcr, kind, content, {4: SHA1.digest(hashed), 11: SHA256.digest(hashed)})


def config(name: str, data: bytes, vendor: bytes = GLOBAL_VARIABLE, pcr: int = 7) -> bytes:
    """A variable as firmware measures it into PCR 7."""
    return event(pcr, CONFIG, variable(name, data, vendor))


def separator(pcr: int, content: bytes = bytes(4)) -> bytes:
    """A separator."""
    return event(pcr, SEPARATOR, content)


def application(name: str, code: bytes = b"code") -> bytes:
    """A boot application; its digest is that of its code."""
    return event(4, APPLICATION, image_load(file_path(name)), code)


KEYS = (
    config("SecureBoot", b"\1")
    + config("PK", hash_list(b"p" * 32))
    + config("KEK", hash_list(b"k" * 32))
    + config("db", hash_list(b"a" * 32), IMAGE_SECURITY_DATABASE)
    + config("dbx", hash_list(b"x" * 32, b"y" * 32), IMAGE_SECURITY_DATABASE)
)
ENDS = b"".join(separator(pcr) for pcr in range(7))


def boot(
    *, keys: bytes = KEYS, before: bytes = b"", after: bytes = b"", left: bool = True
) -> bytes:
    """A whole boot: keys, firmware, one boot application, the end of boot services."""
    return (
        keys
        + separator(7)
        + before
        + event(4, ACTION, CALLING)
        + ENDS
        + application("\\EFI\\BOOT\\BOOTX64.EFI")
        + after
        + (event(5, ACTION, LEFT) if left else b"")
    )


def facts_of(
    events: bytes, bank: HashAlgorithm = SHA256, proven: frozenset[int] = frozenset(range(24))
) -> BootFacts:
    """Return the facts of these events as if a quote had confirmed ``proven``."""
    return derive_boot_facts(replay(parse_firmware_log(header() + events)), bank, proven)
