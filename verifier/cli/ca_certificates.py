"""What a CA issued, page by page from the store: still running, or to be revoked all together."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from attestation.refusals import RefusalCode
from verifier.cli import context
from verifier.errors import Conflict
from verifier.issuance.hierarchy import judge_root_list
from verifier.keys.authority import DEVICE_CA
from verifier.keys.register import RegisterEntry, load_certificate, load_register
from verifier.ports.credentials import PublishedList
from verifier.settings import Settings

if TYPE_CHECKING:
    from verifier.ports.credentials import CredentialReader, StoredCertificate

CA_COMPROMISE: Final = 2
"""cACompromise (RFC 5280, 5.3.1)."""

_PAGE: Final = 1000
_BATCH: Final = 500
"""Certificates revoked in one transaction: others write between two."""

_TOLD_EVERY_S: Final = 2.0


def count_running(settings: Settings, entry: RegisterEntry, at: datetime) -> int:
    """Return how many certificates of a CA have not ended.

    Raises:
        Unavailable: If the store cannot answer.
    """
    if not entry.certificate:
        return 0
    store = context.store(settings)
    try:
        found = _issued_by(store, settings, entry)
        return sum(1 for one in found if one.certificate.not_after > at)
    finally:
        store.close()


def revoke_all(settings: Settings, entry: RegisterEntry, reason: str, at: datetime) -> int:
    """Revoke every certificate of a CA that has not ended; may be repeated. Returns how many.

    Raises:
        Unavailable: If the store cannot answer.
    """
    store = context.store(settings)
    try:
        due = [
            one.certificate.sha256
            for one in _issued_by(store, settings, entry)
            if one.revoked_at is None and one.certificate.not_after > at
        ]
        done, told_at = 0, time.monotonic()
        for first in range(0, len(due), _BATCH):
            with store.work() as work:
                for sha256 in due[first : first + _BATCH]:
                    done += work.revoke_certificate(sha256, CA_COMPROMISE, reason, at)
            if time.monotonic() - told_at > _TOLD_EVERY_S:
                told_at = time.monotonic()
                print(f"revoked {done} of {len(due)} certificates …", file=sys.stderr)
        return done
    finally:
        store.close()


def publish_list(
    settings: Settings, found: x509.CertificateRevocationList, at: datetime
) -> tuple[x509.Certificate, int]:
    """Keep a root's revocation list; returns the root and the list's number.

    Raises:
        RequestRefused: If it is none of a root of ours, or not to be relied on now.
        Conflict: ``conflict`` if a list of this number or a newer one is kept already.
        Unavailable: If the store cannot answer.
    """
    directory = Path(settings.keys.directory)
    roots = [load_certificate(directory / name) for name in load_register(directory).roots]
    root, number = judge_root_list(found, roots, at)
    encoding = serialization.Encoding.DER
    published = PublishedList(
        issuer_sha256=hashlib.sha256(root.public_bytes(encoding)).digest(),
        number=number,
        der=found.public_bytes(encoding),
        this_update=found.last_update_utc,
        next_update=found.next_update_utc or at,
        revision=0,
    )
    store = context.store(settings)
    try:
        with store.work() as work:
            if not work.put_list(published):
                raise Conflict(
                    RefusalCode.CONFLICT,
                    f"list {number} or a newer one of this root is kept already",
                )
    finally:
        store.close()
    return root, number


def _issued_by(
    store: CredentialReader, settings: Settings, entry: RegisterEntry
) -> Iterator[StoredCertificate]:
    path = Path(settings.keys.directory) / entry.certificate
    der = load_certificate(path).public_bytes(serialization.Encoding.DER)
    issuers = {hashlib.sha256(der).digest()}
    if entry.certificate == f"{DEVICE_CA}.cert.pem":
        issuers.add(b"")  # Recorded by an earlier release, which had this one CA.
    after = 0
    while page := store.certificates(after=after, limit=_PAGE):
        yield from (one for one in page if one.certificate.issuer_sha256 in issuers)
        after = page[-1].number
