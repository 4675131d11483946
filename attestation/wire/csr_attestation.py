"""Attestation inside a PKCS#10 request (draft-ietf-lamps-csr-attestation-28).

A request carries one attribute ``id-aa-attestation`` with one bundle: statements, each of a type,
and the certificates that they lean on. Statements of two types are read here:

- ``tcg-attest-tpm-certify`` (2.23.133.20.1): a TPM2_Certify, with the certified key's public area;
- a conceptual message wrapper (``id-pe-cmw``, draft-ietf-rats-msg-wrap-23) in its CBOR form:
  evidence, a result, or other proofs.

Statements of other types are kept and believed by nobody. Drafts before -20 had a ``hint`` in each
statement; it is taken and ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from attestation import der
from attestation.der import DerReader
from attestation.errors import LimitExceeded, MalformedInput
from attestation.limits import (
    MAX_ATTESTED_CSR_BYTES,
    MAX_CERTIFICATE_BYTES,
    MAX_CHAIN_LENGTH,
    MAX_CSR_STATEMENTS,
)
from attestation.refusals import RefusalCode

CHALLENGE_PASSWORD: Final = "1.2.840.113549.1.9.7"  # noqa: S105 - an object identifier
"""Attribute challengePassword (RFC 2985, 5.4.1)."""

ATTESTATION_ATTRIBUTE: Final = "1.2.840.113549.1.9.16.2.59"
TPM_CERTIFY: Final = "2.23.133.20.1"
CMW: Final = "1.3.6.1.5.5.7.1.35"

_STRUCTURE: Final = "CertificationRequest"
_BUNDLE: Final = "AttestationBundle"
_ATTRIBUTES: Final = 0xA0
_OTHER_CERTIFICATE: Final = 0xA3
_IA5_STRING: Final = 0x16
_MAX_CERTIFICATES: Final = 2 * MAX_CHAIN_LENGTH
"""Of two chains: the identity's and the attestation key's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One AttestationStatement, believed by nobody yet.

    Attributes:
        type: Its OBJECT IDENTIFIER, dotted.
        content: DER of ``stmt``.
    """

    type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmCertify:
    """A TPM2_Certify as a statement.

    Attributes:
        attest: TPMS_ATTEST without size.
        signature: As the sender wrote it: TPMT_SIGNATURE, or the bare signature.
        public: TPMT_PUBLIC of the certified key; empty if it was left out.
    """

    attest: bytes
    signature: bytes
    public: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One AttestationBundle.

    Attributes:
        statements: In the request's order; at least one.
        certificates: DER certificates, in the request's order.
    """

    statements: tuple[Statement, ...]
    certificates: tuple[bytes, ...] = ()

    def of_type(self, type_: str) -> tuple[Statement, ...]:
        """Return the statements of one type."""
        return tuple(one for one in self.statements if one.type == type_)


def tpm_certify(value: TpmCertify) -> Statement:
    """Return a certification as a statement."""
    fields = [der.write(der.OCTET_STRING, value.attest)]
    fields.append(der.write(der.OCTET_STRING, value.signature))
    if value.public:
        fields.append(der.write(der.OCTET_STRING, value.public))
    return Statement(type=TPM_CERTIFY, content=der.write(der.SEQUENCE, *fields))


def read_tpm_certify(statement: Statement) -> TpmCertify:
    """Read a statement of type ``tcg-attest-tpm-certify``.

    Raises:
        MalformedInput: If it is not one.
    """
    fields = _sequence(statement.content, "tcg-attest-tpm-certify")
    attest = fields.next("tpmSAttest", der.OCTET_STRING).body
    signature = fields.next("signature", der.OCTET_STRING).body
    public = fields.optional("tpmTPublic", der.OCTET_STRING)
    fields.end()
    return TpmCertify(
        attest=attest, signature=signature, public=public.body if public is not None else b""
    )


def cmw(value: bytes) -> Statement:
    """Return a CMW in its CBOR form as a statement."""
    return Statement(type=CMW, content=der.write(der.OCTET_STRING, value))


def read_cmw(statement: Statement) -> bytes:
    """Return the CBOR of a CMW statement.

    Raises:
        MalformedInput: If it is not in its CBOR form.
    """
    reader = DerReader(statement.content, "CMW")
    value = reader.next("cbor", der.OCTET_STRING).body
    reader.end()
    return value


def encode_bundle(bundle: Bundle) -> bytes:
    """Return the DER of an AttestationBundle."""
    statements = [
        der.write(der.SEQUENCE, der.write_oid(one.type), one.content) for one in bundle.statements
    ]
    fields = [der.write(der.SEQUENCE, *statements)]
    if bundle.certificates:
        fields.append(der.write(der.SEQUENCE, *bundle.certificates))
    return der.write(der.SEQUENCE, *fields)


def build_request(
    subject: bytes,
    spki: bytes,
    bundle: Bundle | None,
    *,
    algorithm: bytes,
    sign: Callable[[bytes], bytes],
    attributes: Sequence[bytes] = (),
) -> bytes:
    """Build a PKCS#10 request (RFC 2986, 4) around a bundle.

    Args:
        subject: DER Name; the issuer decides on the real one.
        spki: DER SubjectPublicKeyInfo of the key.
        bundle: What to attest; None for a plain request.
        algorithm: DER AlgorithmIdentifier of the signature.
        sign: Returns the DER signature over the given bytes, made by that key.
        attributes: Further attributes, each DER of ``Attribute``.
    """
    chosen = list(attributes)
    if bundle is not None:
        value = der.write(der.SET, encode_bundle(bundle))
        chosen.append(der.write(der.SEQUENCE, der.write_oid(ATTESTATION_ATTRIBUTE), value))
    info = der.write(
        der.SEQUENCE,
        der.write_integer(0),
        subject,
        spki,
        der.write(_ATTRIBUTES, *sorted(chosen)),
    )
    signature = der.write(der.BIT_STRING, b"\0", sign(info))
    return der.write(der.SEQUENCE, info, algorithm, signature)


def read_bundle(request: bytes) -> Bundle | None:
    """Return the attestation bundle of a request, None if it has none.

    Args:
        request: DER of a PKCS#10 request. Its signature is not looked at here.

    Raises:
        MalformedInput: ``csr-malformed`` if it is no request, or carries the attribute twice or
            with more than one value.
        LimitExceeded: If it is larger than ``MAX_ATTESTED_CSR_BYTES`` or holds too much.
    """
    if len(request) > MAX_ATTESTED_CSR_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(request)} bytes, at most {MAX_ATTESTED_CSR_BYTES} are accepted",
            structure=_STRUCTURE,
        )
    try:
        values = list(_attestation_values(request))
        if len(values) > 1:
            raise _malformed("attestation is carried more than once")
        return _bundle(values[0]) if values else None
    except MalformedInput as error:
        if error.code is RefusalCode.CSR_MALFORMED:
            raise
        raise _malformed(f"{error.structure}: {error.reason}") from error


def attribute_types(request: bytes) -> frozenset[str]:
    """Return the types of a request's attributes, dotted.

    Raises:
        MalformedInput: If it is no PKCS#10 request in strict DER.
    """
    return frozenset(type_ for type_, _ in _attributes(request))


def challenge_passwords(request: bytes) -> tuple[bytes, ...]:
    """Return the content of every ``challengePassword`` of a request (RFC 2985, 5.4.1).

    Args:
        request: PKCS#10, DER. The strings are DirectoryStrings; all kinds that hold ASCII as bytes
            of ASCII are alike here.

    Raises:
        MalformedInput: If it is no PKCS#10 request in strict DER.
    """
    found: list[bytes] = []
    for type_, values in _attributes(request):
        if type_ == CHALLENGE_PASSWORD:
            found += [one.body for one in der.children(values, _STRUCTURE)]
    return tuple(found)


def _attestation_values(request: bytes) -> list[bytes]:
    """Return the values of every attribute ``id-aa-attestation``."""
    found: list[bytes] = []
    for type_, values in _attributes(request):
        if type_ == ATTESTATION_ATTRIBUTE:
            inside = [one.raw for one in der.children(values, _STRUCTURE)]
            if len(inside) != 1:
                raise _malformed(f"the attestation attribute has {len(inside)} values, wanted one")
            found += inside
    return found


def _attributes(request: bytes) -> list[tuple[str, der.Element]]:
    """Return type and SET of values of each attribute."""
    outer = DerReader(_sequence(request, _STRUCTURE).next("info", der.SEQUENCE).body, _STRUCTURE)
    outer.next("version", der.INTEGER)
    outer.next("subject", der.SEQUENCE)
    outer.next("subjectPKInfo", der.SEQUENCE)
    attributes = outer.optional("attributes", _ATTRIBUTES)
    outer.end()
    if attributes is None:
        return []
    found: list[tuple[str, der.Element]] = []
    reader = DerReader(attributes.body, _STRUCTURE)
    while reader.more:
        fields = DerReader(reader.next("attribute", der.SEQUENCE).body, _STRUCTURE)
        found.append((der.oid(fields.next("type", der.OID)), fields.next("values", der.SET)))
        fields.end()
    return found


def _bundle(raw: bytes) -> Bundle:
    fields = _sequence(raw, _BUNDLE)
    statements = DerReader(fields.next("attestations", der.SEQUENCE).body, _BUNDLE)
    found: list[Statement] = []
    while statements.more:
        if len(found) == MAX_CSR_STATEMENTS:
            raise _too_many("statements", MAX_CSR_STATEMENTS)
        inner = DerReader(statements.next("statement", der.SEQUENCE).body, _BUNDLE)
        type_ = der.oid(inner.next("type", der.OID))
        found.append(Statement(type=type_, content=inner.next("stmt").raw))
        inner.optional("hint", _IA5_STRING)
        inner.end()
    if not found:
        raise _malformed("the attestation bundle holds no statement")
    certificates = fields.optional("certs", der.SEQUENCE)
    fields.end()
    return Bundle(
        statements=tuple(found),
        certificates=() if certificates is None else _certificates(certificates.body),
    )


def _certificates(body: bytes) -> tuple[bytes, ...]:
    reader = DerReader(body, _BUNDLE)
    found: list[bytes] = []
    while reader.more:
        element = reader.next("certificate")
        if element.tag == _OTHER_CERTIFICATE:
            continue  # a format that nobody here reads
        if element.tag != der.SEQUENCE or len(element.raw) > MAX_CERTIFICATE_BYTES:
            raise _malformed("the attestation bundle holds something that is no certificate")
        found.append(element.raw)
        if len(found) > _MAX_CERTIFICATES:
            raise _too_many("certificates", _MAX_CERTIFICATES)
    return tuple(found)


def _sequence(raw: bytes, structure: str) -> DerReader:
    """Return a reader of the contents of the one SEQUENCE that ``raw`` is."""
    reader = DerReader(raw, structure)
    element = reader.next(structure, der.SEQUENCE)
    reader.end()
    return DerReader(element.body, structure)


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.CSR_MALFORMED, reason, structure=_STRUCTURE)


def _too_many(what: str, most: int) -> LimitExceeded:
    return LimitExceeded(
        RefusalCode.TOO_MANY,
        f"the attestation bundle holds more than {most} {what}",
        structure=_STRUCTURE,
    )
