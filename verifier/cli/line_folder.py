"""A folder of manufacture requests, and what a line puts beside each.

``NAME.csr`` from the device; ``NAME.challenge`` to it; ``NAME.answer`` from it; ``NAME.idevid.pem``
and ``NAME.iak.pem`` to it. What the line remembers is in its journal: this folder may be lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import AttestationError
from attestation.refusals import RefusalCode
from attestation.wire.manufacture_codec import encode_challenge
from verifier.cli.reference_values import read_bounded
from verifier.errors import Conflict, RequestRefused
from verifier.keys.files import write_public
from verifier.services.manufacture import ManufacturingLine

MAX_REQUEST_BYTES: Final = 256 * 1024
_MAX_ANSWER_BYTES: Final = 64 * 1024
_LOOKED_EVERY_S: Final = 0.5
_ASKS_FOR_CHALLENGE: Final = (
    RefusalCode.ACTIVATION_MISSING,
    RefusalCode.CREDENTIAL_ACTIVATION_SPENT,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one request is.

    Attributes:
        name: Of its file, without ``.csr``.
        serial: Once certificates are made.
        state: ``made``, ``made before``, ``waits for its answer`` or ``refused``.
        reason: Of a refusal: code and words.
    """

    name: str
    serial: str
    state: str
    reason: str = ""

    def document(self) -> dict[str, str]:
        """Return it for JSON."""
        return asdict(self)


class LineFolder:
    """The folder at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told: dict[str, Standing] = {}

    def changes(self, *, forever: bool) -> Iterator[None]:
        """Yield once; with ``forever`` again whenever a file from a device came or changed."""
        seen = self._incoming()
        yield
        while forever:
            time.sleep(_LOOKED_EVERY_S)
            now = self._incoming()
            if now != seen:
                seen = now
                yield

    def process(self, line: ManufacturingLine) -> list[Standing]:
        """Take every request as far as it goes; one that is refused stops no other.

        Raises:
            Unavailable: If the journal or this folder cannot be written: then the rest waits.
        """
        return [self._process_one(line, path) for path in sorted(self._path.glob("*.csr"))]

    def news(self, rows: list[Standing]) -> list[Standing]:
        """Return what was not told before."""
        fresh = [row for row in rows if self._told.get(row.name) != row]
        self._told = {row.name: row for row in rows}
        return fresh

    def _process_one(self, line: ManufacturingLine, path: Path) -> Standing:
        try:
            request = read_bounded(path, MAX_REQUEST_BYTES)
            answer = path.with_suffix(".answer")
            given = read_bounded(answer, _MAX_ANSWER_BYTES) if answer.exists() else None
            outcome = line.issue(request, answer=given)
        except (AttestationError, Conflict, RequestRefused) as error:
            return self._refused(line, path, error)
        for role, der in (("idevid", outcome.made.idevid), ("iak", outcome.made.iak)):
            certificate = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
            _write_if_other(path.with_suffix(f".{role}.pem"), certificate)
        for spent in (".challenge", ".answer"):
            _remove(path.with_suffix(spent))
        state = "made before" if outcome.again else "made"
        return Standing(path.stem, outcome.made.serial, state)

    def _refused(
        self,
        line: ManufacturingLine,
        path: Path,
        error: AttestationError | Conflict | RequestRefused,
    ) -> Standing:
        challenge, answer = path.with_suffix(".challenge"), path.with_suffix(".answer")
        if error.code is RefusalCode.CREDENTIAL_ACTIVATION_FAILED:
            _remove(challenge)
            _remove(answer)
        if error.code not in _ASKS_FOR_CHALLENGE:
            return Standing(path.stem, "", "refused", f"{error.code}: {error.reason}")
        try:
            request = read_bounded(path, MAX_REQUEST_BYTES)
            _remove(answer)
            if not (challenge.exists() and line.waits(request)):
                write_public(challenge, encode_challenge(line.challenge(request)))
        except (AttestationError, RequestRefused) as refusal:
            return Standing(path.stem, "", "refused", f"{refusal.code}: {refusal.reason}")
        return Standing(path.stem, "", "waits for its answer")

    def _incoming(self) -> frozenset[tuple[str, int]]:
        found = set()
        for pattern in ("*.csr", "*.answer"):
            for path in self._path.glob(pattern):
                with suppress(FileNotFoundError):
                    found.add((path.name, path.stat().st_mtime_ns))
        return frozenset(found)


def _write_if_other(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        write_public(path, content)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
