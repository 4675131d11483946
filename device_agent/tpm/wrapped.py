"""AI agents' keys: made under the storage root key, kept wrapped, loaded for each use.

A TPM has room for a few persistent keys only, so an agent's key stays outside of it, encrypted by
the storage root key (TPM 2.0 Part 1, 22): useless without this TPM and gone with its owner. A use
loads it and flushes it again on every path.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from tpm2_pytss import ESYS_TR, TSS2_Exception
from tpm2_pytss.constants import TPM2_ALG, TPM2_RH, TPM2_ST
from tpm2_pytss.types import (
    TPM2B_PRIVATE,
    TPM2B_SENSITIVE_CREATE,
    TPMT_SIG_SCHEME,
    TPMT_TK_HASHCHECK,
)

from attestation.algorithms import HashAlgorithm
from attestation.evidence import Quote
from attestation.tpm import templates
from attestation.tpm.signature import parse_signature
from device_agent.errors import TpmRefused
from device_agent.ports import WrappedKey
from device_agent.tpm.certify import certify_loaded
from device_agent.tpm.connection import OpenTpm, asks_for_time
from device_agent.tpm.csr import request_by
from device_agent.tpm.keys import public_of, storage_root
from device_agent.tpm.layout import TpmLayout
from device_agent.tpm.quote import require_short

_SHA256_SIZE: Final = HashAlgorithm.SHA256.size


def create(tpm: OpenTpm, layout: TpmLayout) -> WrappedKey:
    """Make a P-256 signing key of the LDevID's template; persists only the storage root key.

    Raises:
        TpmRefused: If what sits at the storage root key's handle cannot be one.
    """
    parent = storage_root(tpm, layout.srk_handle)
    private, public, _, _, _ = tpm.esapi.create(
        parent, TPM2B_SENSITIVE_CREATE(), public_of(templates.ldevid_template())
    )
    return WrappedKey(public=bytes(public.publicArea.marshal()), private=bytes(private))


@contextlib.contextmanager
def loaded(tpm: OpenTpm, layout: TpmLayout, key: WrappedKey) -> Iterator[ESYS_TR]:
    """Load a key, and flush it when the context ends.

    Raises:
        TpmRefused: If the key is not of this TPM or of its present owner.
    """
    parent = storage_root(tpm, layout.srk_handle)
    try:
        handle = tpm.esapi.load(parent, TPM2B_PRIVATE(key.private), public_of(key.public))
    except IndexError as error:  # longer than any the TPM makes
        raise _unloadable(0) from error
    except TSS2_Exception as error:
        if asks_for_time(int(error.rc)):
            raise
        raise _unloadable(int(error.rc)) from error
    with tpm.flushed(handle):
        yield handle


def _unloadable(rc: int) -> TpmRefused:
    return TpmRefused(
        "a wrapped key cannot be loaded: it is of another TPM, or this TPM was cleared since, "
        "or its file was changed; remove the agent and add it again",
        rc=rc,
    )


def certify(tpm: OpenTpm, layout: TpmLayout, key: WrappedKey, qualifying: bytes) -> Quote:
    """TPM2_Certify of the key by the IAK.

    Raises:
        TpmKeyMissing: If there is no IAK.
        TpmRefused: As :func:`loaded`.
        ValueError: If ``qualifying`` is longer than 32 bytes.
    """
    require_short(qualifying)
    with loaded(tpm, layout, key) as handle:
        return certify_loaded(tpm, layout, handle, qualifying)


def sign(tpm: OpenTpm, layout: TpmLayout, key: WrappedKey, digest: bytes) -> bytes:
    """Sign a SHA-256 digest; returns a DER ECDSA signature.

    Raises:
        TpmRefused: As :func:`loaded`, or for a digest of another size.
    """
    if len(digest) != _SHA256_SIZE:
        raise TpmRefused(f"an agent's key signs SHA-256 digests, and was given {len(digest)} bytes")
    scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.ECDSA)
    scheme.details.any.hashAlg = TPM2_ALG.SHA256
    not_from_tpm = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
    with loaded(tpm, layout, key) as handle:
        signature = tpm.esapi.sign(handle, digest, scheme, not_from_tpm)
    return parse_signature(bytes(signature.marshal())).der


def request(
    tpm: OpenTpm, layout: TpmLayout, key: WrappedKey, common_name: str, uris: Sequence[str]
) -> bytes:
    """Return a PKCS#10 request by the key, DER.

    Raises:
        TpmRefused: As :func:`loaded`.
    """
    with loaded(tpm, layout, key) as handle:
        return request_by(tpm, handle, common_name, uris)
