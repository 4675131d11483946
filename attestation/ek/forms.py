"""The forms in which a certificate comes: bare DER, PEM text, or the contents of an NV index.

TCG PC Client Specific Implementation for TPM 1.2, 7.3.2 (the stored certificate's header); TCG EK
Credential Profile for TPM 2.0 (2.5), 2.2.1.4 and 2.2.1.5 (EK certificate and chain indices in NV).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import replace
from typing import Final

from attestation import der
from attestation.der import DerReader
from attestation.ek.certificate import MakerCertificate, parse_maker_certificate
from attestation.ek.extensions import STRUCTURE, Quirk
from attestation.errors import LimitExceeded, MalformedInput
from attestation.limits import MAX_CERTIFICATE_BYTES, MAX_CHAIN_LENGTH, MAX_PEM_BYTES
from attestation.reader import Reader
from attestation.refusals import RefusalCode

_STORED: Final = b"\x10\x01\x00"
_FULL: Final = b"\x10\x02"
_PEM: Final = re.compile(
    rb"-----BEGIN (?:X509 )?CERTIFICATE-----([A-Za-z0-9+/=\s]*)"
    rb"-----END (?:X509 )?CERTIFICATE-----"
)


def read_certificate(raw: bytes, *, from_nv: bool = False) -> MakerCertificate:
    """Read an EK certificate in any form.

    Args:
        raw: PEM text with one certificate, or DER. DER may stand behind an NV header.
        from_nv: Whether ``raw`` is all that an NV index holds, so that padding (all 00 or all FF)
            after the certificate is expected. Padding is also taken behind an NV header.

    Raises:
        LimitExceeded: ``too-large``.
        MalformedInput: ``ek-certificate-malformed``; bytes after the certificate are refused
            unless they are such padding.
        Unsupported: ``ek-key-not-accepted``.
    """
    if raw.lstrip()[:5] == b"-----":
        found = split_pem(raw)
        if len(found) != 1:
            raise _malformed(f"the PEM text holds {len(found)} certificates, wanted one")
        return parse_maker_certificate(found[0])
    quirks: set[Quirk] = set()
    if raw[:3] == _STORED:
        reader = Reader(raw[3:], STRUCTURE)
        body = reader.sized("stored certificate", limit=MAX_CERTIFICATE_BYTES)
        padding = reader.rest()
        raw = body.removeprefix(_FULL)
        quirks.add(Quirk.NV_HEADER)
        if padding:
            _require_padding(padding)
            quirks.add(Quirk.NV_PADDING)
    if from_nv or quirks:
        exact = _first(raw)
        if len(exact) < len(raw):
            _require_padding(raw[len(exact) :])
            quirks.add(Quirk.NV_PADDING)
        raw = exact
    certificate = parse_maker_certificate(raw)
    return replace(certificate, quirks=certificate.quirks | quirks) if quirks else certificate


def split_chain(raw: bytes) -> tuple[bytes, ...]:
    """Cut what the NV chain indices hold into certificates, DER each; none is parsed.

    Args:
        raw: The contents of NV indices 0x01C00100 to 0x01C001FF in order, joined;
            padding may follow the last certificate.

    Raises:
        LimitExceeded: If there are more than ``MAX_CHAIN_LENGTH``.
        MalformedInput: If it is not DER after DER.
    """
    found: list[bytes] = []
    while raw and not _is_padding(raw):
        if len(found) == MAX_CHAIN_LENGTH:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"more than {MAX_CHAIN_LENGTH} certificates in the NV chain",
                structure=STRUCTURE,
            )
        found.append(_first(raw))
        raw = raw[len(found[-1]) :]
    return tuple(found)


def split_pem(text: bytes) -> tuple[bytes, ...]:
    """Return the DER of each certificate in a PEM text; comments around them are passed over.

    Raises:
        LimitExceeded: If it is larger than ``MAX_PEM_BYTES``.
        MalformedInput: If one is not base64.
    """
    if len(text) > MAX_PEM_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(text)} bytes of PEM, at most {MAX_PEM_BYTES} are accepted",
            structure=STRUCTURE,
        )
    try:
        return tuple(
            base64.b64decode(b"".join(match[1].split()), validate=True)
            for match in _PEM.finditer(text)
        )
    except binascii.Error as error:
        raise _malformed("a PEM block is not base64") from error


def _first(raw: bytes) -> bytes:
    """Return the first element of ``raw`` as it stands."""
    try:
        return DerReader(raw, STRUCTURE).next("Certificate", der.SEQUENCE).raw
    except MalformedInput as error:
        raise _malformed(error.reason) from error


def _require_padding(rest: bytes) -> None:
    if not _is_padding(rest):
        raise _malformed(
            f"{len(rest)} bytes follow the certificate that are not padding (all 00 or all FF)"
        )


def _is_padding(rest: bytes) -> bool:
    return rest.count(0x00) == len(rest) or rest.count(0xFF) == len(rest)


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.EK_CERTIFICATE_MALFORMED, reason, structure=STRUCTURE)
