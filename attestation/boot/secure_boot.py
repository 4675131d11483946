"""PCR 7: Secure Boot's state, its keys, and what admitted images (PFP 1.06, 3.3.4)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.boot.draft import Draft
from attestation.boot.facts import Authority, SignatureDatabase, fact
from attestation.errors import InputError
from attestation.logs.contents import SHIM_SURPLUS_BYTES
from attestation.logs.event_types import EventType, event_type_name
from attestation.logs.quirks import QuirkName
from attestation.logs.replay import MeasuredEvent
from attestation.uefi.guid import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE
from attestation.uefi.signatures import parse_admission, parse_signature_lists
from attestation.uefi.variables import UefiVariable, parse_variable, switch_value

_DRIVER_CONFIG: Final = int(EventType.EFI_VARIABLE_DRIVER_CONFIG)
_SPDM: Final = (
    int(EventType.EFI_SPDM_DEVICE_POLICY),
    int(EventType.EFI_SPDM_DEVICE_AUTHORITY),
)
_AUTHORITY: Final = int(EventType.EFI_VARIABLE_AUTHORITY)
_SECURE_BOOT: Final = (GLOBAL_VARIABLE, "SecureBoot")
_DATABASES: Final = frozenset(
    [(GLOBAL_VARIABLE, "PK"), (GLOBAL_VARIABLE, "KEK")]
    + [(IMAGE_SECURITY_DATABASE, name) for name in ("db", "dbx", "dbt", "dbr")]
)
_MODES: Final = frozenset(
    (GLOBAL_VARIABLE, name) for name in ("SetupMode", "AuditMode", "DeployedMode")
)
SECURE_BOOT_PCR: Final = 7

_MOST_KEPT: Final = 64
_LONGEST_KEPT: Final = 64 * 1024
"""Databases that are remembered: real ones reach 25 kB; their objects take three times that."""

_LONGEST_AUTHORITY_KEPT: Final = 4 * 1024
"""Authorities that are remembered by content: the same few admit the loaders of all machines."""

_DATABASES_KEPT: Final[dict[bytes, SignatureDatabase]] = {}


def read_secure_boot_event(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    """Read one event of PCR 7 that is neither separator nor action.

    Only variables whose whole content was measured count. Every variable comes once, and before
    the separator; after it only authorities may come. All else is a trouble, because an event of
    another type could hide a variable.
    """
    if event.type == _AUTHORITY:
        _read_authority(draft, event, digest)
    elif event.type == _DRIVER_CONFIG:
        read_config_variable(draft, event, digest)
    elif event.type in _SPDM:
        if draft.proven(event, digest):
            draft.not_covered.append(
                f"{event_type_name(event.type)} (event {event.number}) is not interpreted"
            )
    else:
        draft.misplaced(event)


def read_config_variable(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    """Read one EV_EFI_VARIABLE_DRIVER_CONFIG; PCR 1 has modes and settings of the maker."""
    if not draft.proven(event, digest):
        return
    try:
        variable = parse_variable(event.event)
    except InputError as error:
        draft.trouble(event, error)
        return
    key = (variable.vendor, variable.name)
    if event.pcr == SECURE_BOOT_PCR and SECURE_BOOT_PCR in draft.separated:
        draft.trouble(event, f"variable {variable.name} is measured after the separator")
        return
    before = draft.seen.get(key)
    if before is not None:
        if event.pcr == SECURE_BOOT_PCR or before != variable.data:
            draft.trouble(event, f"variable {variable.name} is measured a second time")
        return
    draft.seen[key] = variable.data
    try:
        _believe(draft, event, variable, digest)
    except InputError as error:
        draft.trouble(event, error)


def _believe(draft: Draft, event: MeasuredEvent, variable: UefiVariable, digest: bytes) -> None:
    key = (variable.vendor, variable.name)
    if key in _MODES:
        value = switch_value(variable)
        if value is not None:
            draft.modes[variable.name] = fact(value, event)
    elif event.pcr != SECURE_BOOT_PCR:
        return
    elif key == _SECURE_BOOT:
        value = switch_value(variable)
        if value is None:
            draft.quirks[QuirkName.SECURE_BOOT_EMPTY] = None
        draft.secure_boot = fact(bool(value), event)
    elif key in _DATABASES:
        known_by = None if draft.bank is HashAlgorithm.SHA1 else digest
        draft.databases[variable.name] = fact(signature_database(variable.data, known_by), event)


def signature_database(data: bytes, known_by: bytes | None = None) -> SignatureDatabase:
    """Return a Secure Boot variable's data as a database.

    Remembered: a maker's keys and a revocation list of a date stand in the logs of very many
    machines.

    Args:
        data: The variable's data.
        known_by: A digest that was proven to be of this data and its name, by a hash for which
            nobody finds another data with it (so not SHA-1); None to take the data's own.

    Raises:
        InputError: If the data is not signature lists.
    """
    key = known_by if known_by is not None else hashlib.sha256(data).digest()
    found = _DATABASES_KEPT.get(key)
    if found is None:
        found = _read_database(data)
        if len(data) <= _LONGEST_KEPT:
            if len(_DATABASES_KEPT) >= _MOST_KEPT:
                _DATABASES_KEPT.clear()
            _DATABASES_KEPT[key] = found
    return found


def _read_database(data: bytes) -> SignatureDatabase:
    lists = parse_signature_lists(data)
    certificates = {hashlib.sha256(der).digest(): der for der in lists.certificates}
    return SignatureDatabase(
        certificates=MappingProxyType(certificates),
        hashes=lists.hashes,
        others=lists.others,
        digest=hashlib.sha256(data).digest(),
    )


def _read_authority(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    how = draft.measured(event, digest)
    if how is None:
        return
    surplus = SHIM_SURPLUS_BYTES if how == QuirkName.SHIM_SURPLUS else 0
    try:
        read = _kept_authority if len(event.event) <= _LONGEST_AUTHORITY_KEPT else _authority
        vendor, authority = read(event.event, surplus)
    except InputError as error:
        draft.trouble(event, error)
        return
    if vendor == GLOBAL_VARIABLE:
        draft.trouble(event, f"variable {authority.variable} admits no image: it is no authority")
        return
    if SECURE_BOOT_PCR not in draft.separated:
        authority = authority._replace(before_separator=True)
    draft.authorities.append(fact(authority, event))


def _authority(content: bytes, surplus: int) -> tuple[bytes, Authority]:
    """Return vendor and content of a variable that admitted an image, after the separator."""
    variable = parse_variable(content, surplus=surplus)
    admission = parse_admission(variable.vendor, variable.data)
    return variable.vendor, Authority(
        variable=variable.name,
        digest=admission.value,
        subject=admission.subject,
        before_separator=False,
    )


_kept_authority: Final = lru_cache(maxsize=256)(_authority)
