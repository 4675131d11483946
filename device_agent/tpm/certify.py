"""TPM2_Certify: the IAK vouches that another key is in the same TPM."""

from __future__ import annotations

from tpm2_pytss import ESYS_TR
from tpm2_pytss.constants import TPM2_ALG, TPM2_CC, TPM2_SE
from tpm2_pytss.types import TPM2B_DIGEST, TPML_DIGEST, TPMT_SIG_SCHEME, TPMT_SYM_DEF

from attestation.algorithms import HashAlgorithm
from attestation.evidence import Quote
from attestation.tpm.constants import ObjectAttributes
from attestation.tpm.templates import iak_branches, idevid_branches
from device_agent.errors import TpmRefused
from device_agent.ports import KeyRole
from device_agent.tpm.connection import OpenTpm
from device_agent.tpm.keys import parsed_public
from device_agent.tpm.layout import TpmLayout
from device_agent.tpm.quote import require_short


def certify(tpm: OpenTpm, layout: TpmLayout, subject: KeyRole, qualifying: bytes) -> Quote:
    """Certify ``subject`` by the IAK.

    The certified key must be used in the ADMIN role (TPM 2.0 Part 3, 18.2). The TCG templates of
    IDevID and IAK allow that by policy alone: PolicySecret(endorsement), then
    PolicyCommandCode(Certify), then PolicyOR over the template's branches (TCG TPM 2.0 Keys for
    Device Identity and Attestation, 7.3). The LDevID allows it with its empty authorisation.

    Raises:
        TpmKeyMissing: If either key is absent.
        TpmRefused: If the key's policy is none of ours.
        ValueError: If ``qualifying`` is longer than 32 bytes.
    """
    require_short(qualifying)
    public = parsed_public(tpm, layout.handle(subject), subject)
    if not public.attributes & ObjectAttributes.ADMIN_WITH_POLICY:
        return certify_loaded(
            tpm, layout, tpm.persistent(layout.handle(subject), subject), qualifying
        )
    algorithm = public.name_alg
    no_symmetric = TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL)
    session = tpm.esapi.start_auth_session(
        ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, no_symmetric, TPM2_ALG(int(algorithm))
    )
    with tpm.flushed(session):
        tpm.esapi.trsess_set_attributes(session, 1)  # continueSession: we flush it ourselves
        _satisfy(tpm, session, algorithm, subject)
        key = tpm.persistent(layout.handle(subject), subject)
        return certify_loaded(tpm, layout, key, qualifying, session)


def _satisfy(tpm: OpenTpm, session: ESYS_TR, algorithm: HashAlgorithm, subject: KeyRole) -> None:
    """Fulfil the branch of the template's policy that allows TPM2_Certify."""
    if subject.is_ldevid:
        raise TpmRefused("the LDevID key has a policy that is not ours; evict it and enrol anew")
    branches = (idevid_branches if subject is KeyRole.IDEVID else iak_branches)(algorithm)
    esapi = tpm.esapi
    esapi.policy_secret(ESYS_TR.ENDORSEMENT, session, b"", b"", b"", 0)
    esapi.policy_command_code(session, TPM2_CC.Certify)
    esapi.policy_or(session, TPML_DIGEST([TPM2B_DIGEST(branch) for branch in branches]))


def certify_loaded(
    tpm: OpenTpm,
    layout: TpmLayout,
    key: ESYS_TR,
    qualifying: bytes,
    admin: ESYS_TR = ESYS_TR.PASSWORD,
) -> Quote:
    """Certify a loaded key by the IAK; ``admin`` authorises the key's use.

    Raises:
        TpmKeyMissing: If there is no IAK.
    """
    attest, signature = tpm.esapi.certify(
        key,
        tpm.persistent(layout.iak_handle, KeyRole.IAK),
        qualifying,
        TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL),
        session1=admin,
    )
    return Quote(attest=bytes(attest), signature=bytes(signature.marshal()))
