"""Making, persisting and reading the device's keys; raw signatures by them.

IDevID and IAK are primaries of the endorsement hierarchy: the same template gives the same key
again after a TPM2_Clear of the owner, and resetCount and firmwareVersion stand in clear in what
the IAK signs. The LDevID is an ordinary key under the storage root key: it dies with its owner.
"""

from __future__ import annotations

from typing import Final

from tpm2_pytss import ESYS_TR
from tpm2_pytss.constants import TPM2_ALG, TPM2_RH, TPM2_ST
from tpm2_pytss.types import (
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMT_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_TK_HASHCHECK,
)

from attestation.errors import AttestationError
from attestation.tpm import templates
from attestation.tpm.constants import KeyType, ObjectAttributes
from attestation.tpm.public import (
    TpmPublic,
    parse_public,
    require_attestation_key,
    require_device_key,
)
from device_agent.errors import TpmRefused
from device_agent.ports import KeyRole
from device_agent.tpm.connection import OpenTpm
from device_agent.tpm.layout import TpmLayout

_HASH_BY_SIZE: Final = {32: TPM2_ALG.SHA256, 48: TPM2_ALG.SHA384, 64: TPM2_ALG.SHA512}
_STORAGE: Final = ObjectAttributes.RESTRICTED | ObjectAttributes.DECRYPT


def read_public(tpm: OpenTpm, handle: int, name: str) -> bytes:
    """Return the TPMT_PUBLIC of the key at a persistent handle.

    Raises:
        TpmKeyMissing: If nothing is there.
    """
    public, _, _ = tpm.esapi.read_public(tpm.persistent(handle, name))
    return bytes(public.publicArea.marshal())


def parsed_public(tpm: OpenTpm, handle: int, role: KeyRole) -> TpmPublic:
    """Return the key's public area, read and parsed once per connection.

    Raises:
        TpmKeyMissing: If nothing is there.
        TpmRefused: If it is a kind of key that we do not take.
    """
    known = tpm.publics.get(handle)
    if known is None:
        try:
            known = parse_public(read_public(tpm, handle, role))
        except AttestationError as error:
            raise _unfit(role, handle, error) from error
        tpm.publics[handle] = known
    return known


def make_identity_key(tpm: OpenTpm, layout: TpmLayout, role: KeyRole) -> None:
    """Make IDEVID or IAK from its TCG template and persist it; keeps a fitting key that is there.

    Raises:
        TpmRefused: If something else sits at the handle.
    """
    handle = layout.handle(role)
    if tpm.exists(handle):
        _require_role(tpm, handle, role)
        return
    if role is KeyRole.IDEVID:
        template = templates.idevid_template(layout.template, layout.idevid_unique)
    else:
        template = templates.iak_template(layout.template, layout.iak_unique)
    _make_primary(tpm, template, ESYS_TR.ENDORSEMENT, handle)


def make_ldevid(tpm: OpenTpm, layout: TpmLayout, slot: KeyRole = KeyRole.LDEVID) -> None:
    """Make the LDevID under the storage root key and persist both; keeps what is there.

    Raises:
        TpmRefused: If something else sits at one of the handles.
    """
    handle = layout.handle(slot)
    if tpm.exists(handle):
        _require_role(tpm, handle, slot)
        return
    esapi = tpm.esapi
    parent = storage_root(tpm, layout.srk_handle)
    private, public, _, _, _ = esapi.create(
        parent, TPM2B_SENSITIVE_CREATE(), public_of(templates.ldevid_template())
    )
    with tpm.flushed(esapi.load(parent, private, public)) as key:
        esapi.evict_control(ESYS_TR.OWNER, key, handle)


def evict_ldevid(tpm: OpenTpm, layout: TpmLayout, slot: KeyRole) -> None:
    """Evict the key of an LDevID slot; does nothing if it is empty.

    Raises:
        TpmRefused: If what sits there is no LDevID key: then nothing is evicted.
        ValueError: For a key that is no LDevID.
    """
    if not slot.is_ldevid:
        raise ValueError(f"the {slot} key is not ours to evict")
    handle = layout.handle(slot)
    if not tpm.exists(handle):
        return
    _require_role(tpm, handle, slot)
    tpm.esapi.evict_control(ESYS_TR.OWNER, tpm.persistent(handle, slot), handle)
    tpm.evicted(handle)


def sign(tpm: OpenTpm, layout: TpmLayout, role: KeyRole, digest: bytes) -> bytes:
    """Sign a digest with IDEVID or LDEVID.

    Args:
        tpm: The open TPM.
        layout: Where the key is.
        role: Not IAK, which is restricted to what the TPM itself has made.
        digest: 32, 48 or 64 bytes: the size names the hash.

    Returns:
        TPMT_SIGNATURE.

    Raises:
        TpmRefused: If the key may not sign this.
    """
    if role is KeyRole.IAK:
        raise TpmRefused("the IAK is restricted: it signs quotes and certifications only")
    handle = layout.handle(role)
    public = parsed_public(tpm, handle, role)
    own_hash = public.scheme[1]
    if len(digest) not in _HASH_BY_SIZE or (own_hash is not None and own_hash.size != len(digest)):
        wanted = "a SHA-256, SHA-384 or SHA-512" if own_hash is None else f"a {own_hash.label}"
        raise TpmRefused(
            f"the {role} key signs {wanted} digest only, and was given {len(digest)} bytes; "
            "let the peer offer the matching signature algorithm"
        )
    # An RSA IDevID (H-1) has no scheme of its own; it signs at manufacture only.
    kind = TPM2_ALG.ECDSA if public.type is KeyType.ECC else TPM2_ALG.RSASSA
    scheme = TPMT_SIG_SCHEME(scheme=kind)
    scheme.details.any.hashAlg = _HASH_BY_SIZE[len(digest)]
    not_from_tpm = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
    key = tpm.persistent(handle, role)
    return bytes(tpm.esapi.sign(key, digest, scheme, not_from_tpm).marshal())


def _make_primary(tpm: OpenTpm, template: bytes, hierarchy: ESYS_TR, handle: int) -> None:
    esapi = tpm.esapi
    primary, _, _, _, _ = esapi.create_primary(
        TPM2B_SENSITIVE_CREATE(), public_of(template), primary_handle=hierarchy
    )
    with tpm.flushed(primary):
        esapi.evict_control(ESYS_TR.OWNER, primary, handle)


def storage_root(tpm: OpenTpm, handle: int) -> ESYS_TR:
    """Return the storage root key, made if absent.

    Raises:
        TpmRefused: If what sits at its handle cannot be one.
    """
    if not tpm.exists(handle):
        _make_primary(tpm, templates.srk_template(), ESYS_TR.OWNER, handle)
    root = tpm.persistent(handle, "storage root")
    public, _, _ = tpm.esapi.read_public(root)  # may be RSA of any size: not parsed further
    attributes = ObjectAttributes(int(public.publicArea.objectAttributes))
    if attributes & _STORAGE != _STORAGE:
        raise TpmRefused(
            f"the object at 0x{handle:08x} is not a storage key; configure the handle of a storage "
            "root key, or a free handle"
        )
    return root


def _require_role(tpm: OpenTpm, handle: int, role: KeyRole) -> None:
    public = parsed_public(tpm, handle, role)
    try:
        if role is KeyRole.IAK:
            require_attestation_key(public)
        else:
            require_device_key(public)
    except AttestationError as error:
        raise _unfit(role, handle, error) from error


def _unfit(role: KeyRole, handle: int, error: AttestationError) -> TpmRefused:
    return TpmRefused(
        f"the object at 0x{handle:08x} cannot be the {role} key ({error}); evict it, or configure "
        "another handle"
    )


def public_of(template: bytes) -> TPM2B_PUBLIC:
    """Return a TPMT_PUBLIC as the TPM's commands take it."""
    area, _ = TPMT_PUBLIC.unmarshal(template)
    return TPM2B_PUBLIC(publicArea=area)
