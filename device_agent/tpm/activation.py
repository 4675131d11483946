"""TPM2_ActivateCredential: give back a secret that was wrapped to the EK and the IAK's Name.

TPM 2.0 Part 1, 24 and Part 3, 12.5. The proof that both keys live in this one TPM.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from tpm2_pytss import ESYS_TR
from tpm2_pytss.constants import TPM2_ALG, TPM2_CC, TPM2_SE
from tpm2_pytss.types import (
    TPM2B_DIGEST,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPML_DIGEST,
    TPMT_SYM_DEF,
)

from attestation.algorithms import HashAlgorithm
from attestation.errors import InputError
from attestation.limits import MAX_TPM_STRUCTURE_BYTES
from attestation.reader import Reader
from attestation.tpm.constants import ObjectAttributes
from attestation.tpm.ek_templates import EkTemplate, ek_branches
from attestation.tpm.templates import iak_branches
from device_agent.errors import TpmRefused
from device_agent.ports import KeyRole
from device_agent.tpm.connection import OpenTpm
from device_agent.tpm.endorsement import LoadedEk, loaded_ek
from device_agent.tpm.keys import parsed_public

if TYPE_CHECKING:
    from device_agent.tpm.adapter import EsapiTpm

DEFAULT_EK: Final = EkTemplate.P_256_LOW
"""The endorsement key of a TPM that came without a certificate."""

_CONTINUE_SESSION: Final = 1


def activate(tpm: EsapiTpm, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
    """Give back the secret of a credential made for this TPM's EK and IAK.

    Args:
        tpm: The device's TPM.
        credential_blob: TPM2B_ID_OBJECT, as ``verifier.issuance.credential_activation`` makes it.
        encrypted_secret: TPM2B_ENCRYPTED_SECRET.

    Raises:
        TpmRefused: If the credential was made for another EK or attestation key, was changed on
            its way, or is malformed.
        TpmError: As :class:`device_agent.ports.Tpm` says.
    """
    return tpm.activate_credential(credential_blob, encrypted_secret)


def activate_credential(
    tpm: OpenTpm, iak_handle: int, credential_blob: bytes, encrypted_secret: bytes
) -> bytes:
    """Carry out :func:`activate` on the open TPM.

    The IAK is used in the ADMIN role: PolicySecret(endorsement), PolicyCommandCode, PolicyOR over
    its template's branches. The EK is used in the USER role: PolicySecret(endorsement), and in the
    high range PolicyOR (TCG EK Credential Profile 2.5, B.6). Both sessions live for this once.

    Raises:
        TpmKeyMissing: If there is no IAK.
        TpmRefused: As :func:`activate`.
        SourceUnreadable: If the EK certificate in NV cannot be read.
    """
    blob = _unwrapped(credential_blob, "TPM2B_ID_OBJECT")
    secret = _unwrapped(encrypted_secret, "TPM2B_ENCRYPTED_SECRET")
    iak = parsed_public(tpm, iak_handle, KeyRole.IAK)
    with (
        loaded_ek(tpm, DEFAULT_EK) as ek,
        _policy_session(tpm, iak.name_alg) as for_iak,
        _policy_session(tpm, ek.public.name_alg) as for_ek,
    ):
        tpm.esapi.policy_secret(ESYS_TR.ENDORSEMENT, for_iak, b"", b"", b"", 0)
        tpm.esapi.policy_command_code(for_iak, TPM2_CC.ActivateCredential)
        tpm.esapi.policy_or(for_iak, _digests(iak_branches(iak.name_alg)))
        _satisfy_ek(tpm, for_ek, ek)
        answer = tpm.esapi.activate_credential(
            tpm.persistent(iak_handle, KeyRole.IAK),
            ek.handle,
            TPM2B_ID_OBJECT(credential=blob),
            TPM2B_ENCRYPTED_SECRET(secret=secret),
            session1=for_iak,
            session2=for_ek,
        )
        return bytes(answer)


def _satisfy_ek(tpm: OpenTpm, session: ESYS_TR, ek: LoadedEk) -> None:
    tpm.esapi.policy_secret(ESYS_TR.ENDORSEMENT, session, b"", b"", b"", 0)
    # Of the profile's templates, those that also take a password have PolicyB.
    if ek.public.attributes & ObjectAttributes.USER_WITH_AUTH:
        tpm.esapi.policy_or(session, _digests(ek_branches(ek.public.name_alg)))


@contextlib.contextmanager
def _policy_session(tpm: OpenTpm, algorithm: HashAlgorithm) -> Iterator[ESYS_TR]:
    """Start a policy session and flush it on every path."""
    no_symmetric = TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL)
    session = tpm.esapi.start_auth_session(
        ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, no_symmetric, TPM2_ALG(int(algorithm))
    )
    with tpm.flushed(session):
        tpm.esapi.trsess_set_attributes(session, _CONTINUE_SESSION)
        yield session


def _digests(branches: tuple[bytes, ...]) -> TPML_DIGEST:
    return TPML_DIGEST([TPM2B_DIGEST(branch) for branch in branches])


def _unwrapped(structure: bytes, name: str) -> bytes:
    """Return what a TPM2B holds."""
    try:
        reader = Reader(structure, name, limit=MAX_TPM_STRUCTURE_BYTES)
        content = reader.sized(name, limit=MAX_TPM_STRUCTURE_BYTES)
        reader.end()
    except InputError as error:
        raise TpmRefused(f"the credential cannot be read: {error.reason}") from error
    return content
