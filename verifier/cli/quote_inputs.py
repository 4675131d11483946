"""What ``verifier quote`` is given beside TPM structures: the AK, PCR values, a nonce."""

from __future__ import annotations

import json
import re
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from attestation.algorithms import hash_by_label
from attestation.errors import MalformedInput, Unsupported
from attestation.pcr import PCR_COUNT, PcrBanks
from attestation.reader import Reader
from attestation.refusals import RefusalCode
from attestation.tpm.constants import KeyType
from attestation.tpm.public import TpmPublic, parse_public_any

_KEY_TYPES: Final = frozenset(int(kind) for kind in KeyType)
_PEM: Final = b"-----BEGIN "
_INDEX: Final = re.compile(r"0|[1-9][0-9]?")
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})*")


def load_ak(raw: bytes) -> TpmPublic | ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """Read an attestation key: PEM (SubjectPublicKeyInfo), TPM2B_PUBLIC or TPMT_PUBLIC.

    Raises:
        InputError: If it is none of these, or a key of another kind.
    """
    if not raw.startswith(_PEM):
        reader = Reader(raw, "TPM2B_PUBLIC or TPMT_PUBLIC")
        first = reader.u16("size or type")
        if first != reader.remaining and first not in _KEY_TYPES:
            raise MalformedInput(
                RefusalCode.KEY_MALFORMED,
                f"the AK starts with 0x{first:04x}, which is neither the size of what follows nor "
                "the type of a signing key; wanted PEM, TPM2B_PUBLIC or TPMT_PUBLIC, whole",
                structure=reader.structure,
            )
        return parse_public_any(raw)
    try:
        key = load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedInput(
            RefusalCode.KEY_MALFORMED,
            "the AK is not a PEM public key (BEGIN PUBLIC KEY)",
            structure="SubjectPublicKeyInfo",
        ) from error
    if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return key
    raise Unsupported(
        RefusalCode.UNSUPPORTED_ALGORITHM,
        "the AK is neither an elliptic-curve nor an RSA key",
        structure="SubjectPublicKeyInfo",
    )


def parse_pcr_values(raw: bytes) -> PcrBanks:
    """Read PCR values from JSON: ``{"sha256": {"0": "hex", …}, …}``.

    Raises:
        MalformedInput: If it is not of that form: another nesting, a repeated name, an index
            outside 0..23, a value of another length than the bank's.
        Unsupported: If a bank is unknown.
    """
    try:
        document = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _pcrs_malformed("is not JSON in which each name stands once") from error
    if not isinstance(document, dict):
        raise _pcrs_malformed("is not an object of banks")
    return {hash_by_label(label): _parse_bank(label, bank) for label, bank in document.items()}


def _parse_bank(label: str, bank: object) -> dict[int, bytes]:
    if not isinstance(bank, dict):
        raise _pcrs_malformed(f"has a bank {label} that is not an object of PCR values")
    size = hash_by_label(label).size
    values = {}
    for index, value in bank.items():
        if not _INDEX.fullmatch(index) or int(index) >= PCR_COUNT:
            raise _pcrs_malformed(f"names PCR {index[:16]!r}, wanted 0 to {PCR_COUNT - 1}")
        if not isinstance(value, str) or len(value) != 2 * size or not _HEX.fullmatch(value):
            raise _pcrs_malformed(f"has no {2 * size} hexadecimal digits for {label}:{index}")
        values[int(index)] = bytes.fromhex(value)
    return values


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name is repeated")
    return values


def _pcrs_malformed(fault: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.VALUE_OUT_OF_RANGE,
        f'the file {fault}; wanted {{"sha256": {{"0": "hex"}}}}',
        structure="PCR values",
    )


def parse_nonce(text: str) -> bytes:
    """Read qualifying data given in hexadecimal.

    Raises:
        MalformedInput: If it is not hexadecimal; the message does not repeat it.
    """
    if not _HEX.fullmatch(text):
        raise MalformedInput(
            RefusalCode.NONCE_MALFORMED, "the nonce is not an even number of hexadecimal digits"
        )
    return bytes.fromhex(text)
