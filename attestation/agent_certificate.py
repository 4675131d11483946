"""What the certificate of an AI agent says beside name and key: four extensions of our own.

They stand below an arc made from a UUID (ITU-T X.667, 7; no registration), are never critical, and
are there only if there is something to say::

    id-agent              OBJECT IDENTIFIER ::= { 2 25 97902326604244196390911651353718885732 }
    id-agent-owner        OBJECT IDENTIFIER ::= { id-agent 1 }
    id-agent-capabilities OBJECT IDENTIFIER ::= { id-agent 2 }
    id-agent-locator      OBJECT IDENTIFIER ::= { id-agent 3 }
    id-agent-validation   OBJECT IDENTIFIER ::= { id-agent 4 }

    AgentOwner             ::= UTF8String (SIZE (1..256))          -- visible ASCII
    AgentCapabilities      ::= SEQUENCE SIZE (1..64) OF UTF8String -- canonical order
    AgentLocator           ::= IA5String (SIZE (1..2048))          -- absolute URI
    AgentValidationMethods ::= SEQUENCE SIZE (1..16) OF UTF8String -- canonical order

One content has one encoding (DER, :mod:`attestation.capabilities`). Whether the certificate is to
be believed is for whoever checks its chain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from attestation.capabilities import (
    CAPABILITIES,
    VALIDATION_METHODS,
    require_canonical,
    require_locator,
)
from attestation.der import SEQUENCE, DerReader, children, write
from attestation.errors import InputError, MalformedInput
from attestation.limits import MAX_CAPABILITIES, MAX_OWNER_CHARS, MAX_VALIDATION_METHODS
from attestation.refusals import RefusalCode

ARC: Final = "2.25.97902326604244196390911651353718885732"
"""UUID 49a74d5f-cff1-4ace-9245-1c0d42430d64."""

OWNER: Final = x509.ObjectIdentifier(f"{ARC}.1")
CAPABILITY_LIST: Final = x509.ObjectIdentifier(f"{ARC}.2")
LOCATOR: Final = x509.ObjectIdentifier(f"{ARC}.3")
VALIDATION: Final = x509.ObjectIdentifier(f"{ARC}.4")

_UTF8_STRING: Final = 0x0C
_IA5_STRING: Final = 0x16
_OWNER_ID: Final = re.compile(rf"[\x21-\x7E]{{1,{MAX_OWNER_CHARS}}}")
_STRUCTURE: Final = "agent certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentClaims:
    """What stands in an agent's certificate; what is empty is not there.

    Attributes:
        owner: Who is bound to the agent: visible ASCII.
        capabilities: What it may do, in canonical order.
        locator: Where it is reached: an absolute URI.
        validation_methods: How a registry may have it prove itself, in canonical order.
    """

    owner: str = ""
    capabilities: tuple[str, ...] = ()
    locator: str = ""
    validation_methods: tuple[str, ...] = ()


def agent_extensions(claims: AgentClaims) -> tuple[x509.UnrecognizedExtension, ...]:
    """Return the extensions that say this, in the order of their numbers.

    Raises:
        MalformedInput: ``capability-invalid`` for words or a locator out of form,
            ``certificate-malformed`` for such an owner.
        LimitExceeded: If there are too many words.
    """
    found: list[x509.UnrecognizedExtension] = []
    if claims.owner:
        owner = _require_owner(claims.owner).encode()
        found.append(x509.UnrecognizedExtension(OWNER, write(_UTF8_STRING, owner)))
    if claims.capabilities:
        words = require_canonical(claims.capabilities, kind=CAPABILITIES)
        found.append(x509.UnrecognizedExtension(CAPABILITY_LIST, _written(words)))
    if claims.locator:
        uri = require_locator(claims.locator).encode()
        found.append(x509.UnrecognizedExtension(LOCATOR, write(_IA5_STRING, uri)))
    if claims.validation_methods:
        words = require_canonical(claims.validation_methods, kind=VALIDATION_METHODS)
        found.append(x509.UnrecognizedExtension(VALIDATION, _written(words)))
    return tuple(found)


def read_agent_claims(certificate: x509.Certificate) -> AgentClaims:
    """Read what an agent's certificate says; of another certificate that is nothing.

    Raises:
        MalformedInput: ``certificate-malformed`` if an extension is critical or not as above.
    """
    found: dict[x509.ObjectIdentifier, bytes] = {}
    try:
        extensions = list(certificate.extensions)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise _malformed("its extensions cannot be read, or one is there twice") from error
    for one in extensions:
        if one.oid in _OURS and isinstance(one.value, x509.UnrecognizedExtension):
            if one.critical:
                raise _malformed(f"extension {one.oid.dotted_string} is critical")
            found[one.oid] = one.value.value
    try:
        return AgentClaims(
            owner=_require_owner(_text(found[OWNER], _UTF8_STRING)) if OWNER in found else "",
            capabilities=_words(found, CAPABILITY_LIST, CAPABILITIES),
            locator=require_locator(_text(found[LOCATOR], _IA5_STRING)) if LOCATOR in found else "",
            validation_methods=_words(found, VALIDATION, VALIDATION_METHODS),
        )
    except InputError as error:
        raise _malformed(error.reason) from error


_OURS: Final = frozenset({OWNER, CAPABILITY_LIST, LOCATOR, VALIDATION})


def _written(words: tuple[str, ...]) -> bytes:
    return write(SEQUENCE, *(write(_UTF8_STRING, word.encode()) for word in words))


def _words(
    found: dict[x509.ObjectIdentifier, bytes], oid: x509.ObjectIdentifier, kind: str
) -> tuple[str, ...]:
    if oid not in found:
        return ()
    reader = DerReader(found[oid], _STRUCTURE)
    outer = reader.next(kind, SEQUENCE)
    reader.end()
    words = [_text(one.raw, _UTF8_STRING) for one in children(outer, _STRUCTURE)]
    if not 0 < len(words) <= (MAX_CAPABILITIES if kind == CAPABILITIES else MAX_VALIDATION_METHODS):
        raise _malformed(f"{len(words)} {kind}: none, or too many")
    return require_canonical(words, kind=kind)


def _text(content: bytes, tag: int) -> str:
    reader = DerReader(content, _STRUCTURE)
    body = reader.next("text", tag).body
    reader.end()
    try:
        return body.decode("ascii")
    except UnicodeDecodeError as error:
        raise _malformed("a text is not ASCII") from error


def _require_owner(text: str) -> str:
    if not _OWNER_ID.fullmatch(text):
        raise _malformed(f"its owner is not 1 to {MAX_OWNER_CHARS} visible ASCII characters")
    return text


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.CERTIFICATE_MALFORMED, reason, structure=_STRUCTURE)
