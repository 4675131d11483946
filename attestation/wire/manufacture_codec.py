"""The two files of a credential activation at manufacture: challenge to the device, answer back.

Both are one JSON object of texts; digests are hexadecimal, other bytes base64url without padding.
They may travel by anything: a memory stick, a shared folder, a serial line.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import Final

from attestation.base64url import base64url_text
from attestation.errors import LimitExceeded, MalformedInput
from attestation.limits import MAX_ACTIVATION_FILE_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.strict_json import parse_json

_VERSION: Final = "1"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationChallengeFile:
    """What the line gives the device.

    Attributes:
        request_sha256: SHA-256 of the TCG-CSR-IDEVID that it is about.
        serial: The serial in it, for people.
        credential_blob: TPM2B_ID_OBJECT.
        encrypted_secret: TPM2B_ENCRYPTED_SECRET.
    """

    request_sha256: bytes
    serial: str
    credential_blob: bytes = field(repr=False)
    encrypted_secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationAnswerFile:
    """What the device gives back.

    Attributes:
        request_sha256: As in the challenge.
        secret: What the TPM unwrapped; worth nothing after its one use.
    """

    request_sha256: bytes
    secret: bytes = field(repr=False)


def encode_challenge(challenge: ActivationChallengeFile) -> bytes:
    """Return the challenge as a file."""
    return _encode(
        {
            "version": _VERSION,
            "request": challenge.request_sha256.hex(),
            "serial": challenge.serial,
            "credential": base64url_text(challenge.credential_blob),
            "secret": base64url_text(challenge.encrypted_secret),
        }
    )


def decode_challenge(raw: bytes) -> ActivationChallengeFile:
    """Read a challenge.

    Raises:
        LimitExceeded: ``too-large``.
        MalformedInput: ``activation-file-malformed`` if it is not such a file.
    """
    texts = _decode(raw, "activation challenge", ("request", "serial", "credential", "secret"))
    return ActivationChallengeFile(
        request_sha256=_digest(texts["request"]),
        serial=texts["serial"],
        credential_blob=_bytes(texts["credential"]),
        encrypted_secret=_bytes(texts["secret"]),
    )


def encode_answer(answer: ActivationAnswerFile) -> bytes:
    """Return the answer as a file."""
    return _encode(
        {
            "version": _VERSION,
            "request": answer.request_sha256.hex(),
            "answer": base64url_text(answer.secret),
        }
    )


def decode_answer(raw: bytes) -> ActivationAnswerFile:
    """Read an answer.

    Raises:
        LimitExceeded: ``too-large``.
        MalformedInput: ``activation-file-malformed`` if it is not such a file.
    """
    texts = _decode(raw, "activation answer", ("request", "answer"))
    return ActivationAnswerFile(
        request_sha256=_digest(texts["request"]), secret=_bytes(texts["answer"])
    )


def _encode(texts: dict[str, str]) -> bytes:
    return json.dumps(texts, indent=1).encode() + b"\n"


def _decode(raw: bytes, structure: str, names: tuple[str, ...]) -> dict[str, str]:
    if len(raw) > MAX_ACTIVATION_FILE_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(raw)} bytes, at most {MAX_ACTIVATION_FILE_BYTES} are accepted",
            structure=structure,
        )
    try:
        document = parse_json(raw)
    except ValueError as error:
        raise _malformed("it is not JSON with one reading", structure) from error
    wanted = {"version", *names}
    if not isinstance(document, dict) or set(document) != wanted:
        raise _malformed(f"wanted one object of {', '.join(sorted(wanted))}", structure)
    if not all(isinstance(value, str) for value in document.values()):
        raise _malformed("a value is no text", structure)
    if document["version"] != _VERSION:
        raise _malformed(f"wanted version {_VERSION}", structure)
    return document


def _digest(text: str) -> bytes:
    if not _DIGEST.fullmatch(text):
        raise _malformed("request is no SHA-256 in hexadecimal", "activation file")
    return bytes.fromhex(text)


def _bytes(text: str) -> bytes:
    if not _BASE64URL.fullmatch(text):
        raise _malformed("a value is no base64url", "activation file")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise _malformed("a value is no base64url", "activation file") from error


def _malformed(reason: str, structure: str) -> MalformedInput:
    return MalformedInput(RefusalCode.ACTIVATION_FILE_MALFORMED, reason, structure=structure)
