"""The TPM's endorsement key: its certificate in NV, and the key itself for as long as it is needed.

A persistent key that fits is used as it is; else one is made from the maker's template in NV or
the TCG's, used once, and flushed. Nothing is made persistent: the seed gives the same key again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tpm2_pytss import ESYS_TR
from tpm2_pytss.constants import TPM2_CAP
from tpm2_pytss.types import TPM2B_SENSITIVE_CREATE

from attestation.ek.forms import read_certificate, split_chain
from attestation.errors import AttestationError
from attestation.limits import MAX_CHAIN_LENGTH
from attestation.refusals import RefusalCode
from attestation.tpm.constants import ObjectAttributes
from attestation.tpm.ek_templates import (
    EK_CHAIN_INDICES,
    EK_HANDLES,
    EkTemplate,
    ek_template,
    with_nonce,
)
from attestation.tpm.public import TpmPublic, parse_public
from device_agent.errors import SourceUnreadable, TpmRefused
from device_agent.ports import Endorsement
from device_agent.tpm import nv
from device_agent.tpm.connection import OpenTpm
from device_agent.tpm.keys import public_of

_STORAGE: Final = int(
    ObjectAttributes.FIXED_TPM | ObjectAttributes.RESTRICTED | ObjectAttributes.DECRYPT
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedEk:
    """An endorsement key that can be used now.

    Attributes:
        handle: Valid inside :func:`loaded_ek`.
        public: Its public area.
        endorsement: What is told of it.
    """

    handle: ESYS_TR
    public: TpmPublic
    endorsement: Endorsement


def ek_certificate(tpm: OpenTpm) -> tuple[EkTemplate, bytes] | None:
    """Return the first EK certificate in NV, elliptic curves first; None without one.

    Raises:
        SourceUnreadable: If the index holds something else.
    """
    for template in EkTemplate:
        found = nv.read_certificate(tpm, template.certificate_nv)
        if found is not None:
            return template, found
    return None


def ek_chain(tpm: OpenTpm) -> tuple[bytes, ...]:
    """Return the certificates above the EK certificates that the TPM holds, DER (2.2.1.5).

    Raises:
        SourceUnreadable: If the indices hold something else.
    """
    content = b""
    for index in EK_CHAIN_INDICES:
        block = nv.read_content(tpm, index)
        if block is None:
            break
        content += block
    try:
        return split_chain(content)
    except AttestationError as error:
        raise SourceUnreadable(
            RefusalCode.CERTIFICATE_MALFORMED,
            f"the EK certificate chain in NV cannot be read ({error.reason}); at most "
            f"{MAX_CHAIN_LENGTH} certificates, DER after DER, are taken",
        ) from error


@contextlib.contextmanager
def loaded_ek(tpm: OpenTpm, without_certificate: EkTemplate) -> Iterator[LoadedEk]:
    """Hold the endorsement key: the one in the EK certificate, if the TPM has one.

    Args:
        tpm: The open TPM.
        without_certificate: The template to take if it has none.

    Raises:
        SourceUnreadable: If the certificate cannot be read.
        TpmRefused: If this TPM makes another key than the one in its certificate.
    """
    found = ek_certificate(tpm)
    template, certificate = (without_certificate, None) if found is None else found
    wanted = None if certificate is None else _certified_spki(template, certificate)
    chain = () if certificate is None else ek_chain(tpm)

    def loaded(handle: ESYS_TR, public: TpmPublic) -> LoadedEk:
        told = Endorsement(
            template=template, public=public.raw, certificate=certificate, chain=chain
        )
        return LoadedEk(handle=handle, public=public, endorsement=told)

    persistent = _persistent(tpm, template, wanted)
    if persistent is not None:
        yield loaded(*persistent)
        return
    for area in _areas(tpm, template):
        made, public, _, _, _ = tpm.esapi.create_primary(
            TPM2B_SENSITIVE_CREATE(), public_of(area), primary_handle=ESYS_TR.ENDORSEMENT
        )
        with tpm.flushed(made):
            parsed = parse_public(bytes(public.publicArea.marshal()))
            if wanted is None or parsed.spki_der == wanted:
                yield loaded(made, parsed)
                return
    raise TpmRefused(
        f"the EK certificate at NV index 0x{template.certificate_nv:08x} is for another key than "
        f"this TPM makes by template {template}: the endorsement seed was changed, or its maker "
        "used a template that is not in NV"
    )


def _certified_spki(template: EkTemplate, certificate: bytes) -> bytes:
    try:
        return read_certificate(certificate).public_key.spki_der
    except AttestationError as error:
        raise SourceUnreadable(
            RefusalCode.CERTIFICATE_MALFORMED,
            f"the EK certificate at NV index 0x{template.certificate_nv:08x} cannot be used: "
            f"{error.reason}",
        ) from error


def _persistent(
    tpm: OpenTpm, template: EkTemplate, wanted: bytes | None
) -> tuple[ESYS_TR, TpmPublic] | None:
    """Look for the key among the persistent ones in the range of endorsement keys."""
    _, capability = tpm.esapi.get_capability(TPM2_CAP.HANDLES, EK_HANDLES.start, len(EK_HANDLES))
    # ``capability`` owns the memory of what hangs below it: it must outlive the loop.
    for number in [int(one) for one in capability.data.handles]:
        if number not in EK_HANDLES:
            continue
        handle = tpm.persistent(number, "endorsement")
        area, _, _ = tpm.esapi.read_public(handle)
        try:
            public = parse_public(bytes(area.publicArea.marshal()))
        except AttestationError:  # a kind of key that we do not take
            continue
        is_ek = int(public.attributes) & _STORAGE == _STORAGE
        if wanted is None:
            same = public.auth_policy == template.policy and _kind(public.raw) == _kind(
                ek_template(template)
            )
        else:
            same = public.spki_der == wanted
        if is_ek and same:
            return handle, public
    return None


def _kind(area: bytes) -> bytes:
    """Type, nameAlg and attributes of a TPMT_PUBLIC: together with the policy, its template."""
    return area[:8]


def _areas(tpm: OpenTpm, template: EkTemplate) -> tuple[bytes, ...]:
    """Return the public areas that the maker may have used, the likeliest first."""
    stored = nv.read_content(tpm, template.template_nv)
    nonce = b"" if template.nonce_nv is None else nv.read_content(tpm, template.nonce_nv) or b""
    try:
        if stored is not None:
            return (with_nonce(stored, template, nonce) if nonce else stored,)
        if template.is_low:
            return (ek_template(template, nonce=nonce),)
        return (ek_template(template), ek_template(template, zeros=True))
    except ValueError as error:
        raise TpmRefused(f"the EK template or nonce in NV cannot be used: {error}") from error
