"""The key ring: keys that sign results and keys that make nonces, with rotation.

Result keys have three states. *current* signs; *next* is already published, so that a relying
party that caches the key set knows it before it is used; *retired* ones stay published as long as
a result they signed may still be believed. ``keyring.json`` names them; the running service looks
at its time stamp ten times a second while it signs, so ``verifier keys rotate`` needs no restart.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from attestation.base64url import base64url
from attestation.wire.ear import TOKEN_TYPE as RESULT_TYPE
from verifier.errors import SettingsInvalid
from verifier.keys.files import read_file, write_secret
from verifier.keys.jwk import public_jwk, thumbprint

RING_FILE: Final = "keyring.json"
MIN_NONCE_KEYS: Final = 1
KEPT_NONCE_KEYS: Final = 2
"""The newest issues, the one before is still accepted."""

NONCE_KEY_BYTES: Final = 32

_ECDSA: Final = ec.ECDSA(hashes.SHA256())
_COORDINATE_BYTES: Final = 32
_LOOK_EVERY_S: Final = 0.1
"""How long a signature goes on with the keys that were read, without a look at the file."""


class KeyState(StrEnum):
    """What a result key is used for."""

    CURRENT = "current"
    NEXT = "next"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class RingEntry:
    """One result key.

    Attributes:
        kid: RFC 7638 thumbprint of its public key.
        state: What it is used for.
        since: When it came into that state.
    """

    kid: str
    state: KeyState
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    stamp: tuple[int, int]
    entries: tuple[RingEntry, ...]
    private: Mapping[str, ec.EllipticCurvePrivateKey]
    public: Mapping[str, Mapping[str, str]]
    """As JWKs."""
    nonce_keys: tuple[bytes, ...]
    signing_kid: str
    header: bytes
    """The JWT's first part with its dot."""


class KeyRing:
    """Reads, uses and rotates the ring of one directory.

    Args:
        directory: The key directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ring = directory / RING_FILE
        self._ring_path = str(self._ring)
        self._loaded = self._load()
        self._look_at = time.monotonic() + _LOOK_EVERY_S

    @classmethod
    def create(cls, directory: Path, at: datetime, entropy: bytes) -> KeyRing:
        """Make a ring with a current and a next result key and one nonce key.

        Args:
            directory: Exists, mode 0700.
            at: Now.
            entropy: 32 fresh random bytes for the nonce key.
        """
        entries = tuple(
            RingEntry(kid=_new_key(directory), state=state, since=at)
            for state in (KeyState.CURRENT, KeyState.NEXT)
        )
        _save(directory, entries, (_new_nonce_key(directory, at, entropy),))
        return cls(directory)

    @property
    def entries(self) -> tuple[RingEntry, ...]:
        """The result keys, newest state first."""
        return self._fresh().entries

    @property
    def nonce_keys(self) -> tuple[bytes, ...]:
        """The nonce keys, newest first. The tuple is a new object only after a rotation."""
        return self._fresh().nonce_keys

    def sign_claims(self, claims: Mapping[str, object]) -> str:
        """Return ``claims`` as a JWT signed by the current key (ES256, RFC 7515, 7.1).

        The compact form is put together here, since the header is the same until a rotation. The
        signature is r || s, each in 32 bytes (RFC 7518, 3.4).
        """
        loaded = self._recent()
        return _signed(loaded, loaded.header, claims)

    def sign_token(self, claims: Mapping[str, object], token_type: str) -> str:
        """Return ``claims`` as a JWT of another type (``typ``), signed by the current key."""
        loaded = self._recent()
        return _signed(loaded, _header(loaded.signing_kid, token_type), claims)

    def key_set(self, at: datetime, lifetime: timedelta) -> dict[str, Any]:
        """Return the JWKS (RFC 7517) of every key that a believable result may bear.

        Args:
            at: Now.
            lifetime: How long a result is believed; retired keys stay for that long.
        """
        loaded = self._fresh()
        keys = [
            dict(loaded.public[entry.kid])
            for entry in loaded.entries
            if entry.state is not KeyState.RETIRED or at < entry.since + lifetime
        ]
        return {"keys": keys}

    def rotate(self, at: datetime, lifetime: timedelta, entropy: bytes) -> tuple[RingEntry, ...]:
        """Make *next* current, retire *current*, make a new *next* and a new nonce key.

        Args:
            at: Now.
            lifetime: Retired keys older than this are deleted.
            entropy: 32 fresh random bytes for the nonce key.
        """
        loaded = self._fresh()
        entries = [RingEntry(kid=_new_key(self._directory), state=KeyState.NEXT, since=at)]
        gone: list[str] = []
        for entry in loaded.entries:
            if entry.state is KeyState.NEXT:
                entries.append(replace(entry, state=KeyState.CURRENT, since=at))
            elif entry.state is KeyState.CURRENT:
                entries.append(replace(entry, state=KeyState.RETIRED, since=at))
            elif at < entry.since + lifetime:
                entries.append(entry)
            else:
                gone.append(entry.kid)
        names = self._document()["nonce"]
        kept = (_new_nonce_key(self._directory, at, entropy), *names)[:KEPT_NONCE_KEYS]
        _save(self._directory, tuple(entries), kept)
        for name in [f"ear-{kid}.key.pem" for kid in gone] + [n for n in names if n not in kept]:
            (self._directory / name).unlink(missing_ok=True)
        return self.entries

    def _recent(self) -> _Loaded:
        """Return the keys as they were ``_LOOK_EVERY_S`` ago at most; a look is a system call."""
        now = time.monotonic()
        if now < self._look_at:
            return self._loaded
        self._look_at = now + _LOOK_EVERY_S
        return self._fresh()

    def _fresh(self) -> _Loaded:
        if self._stamp() != self._loaded.stamp:
            self._loaded = self._load()
        return self._loaded

    def _stamp(self) -> tuple[int, int]:
        try:
            found = os.stat(self._ring_path)  # noqa: PTH116 - for each signature: a Path costs more
        except OSError as error:
            raise SettingsInvalid(f"{self._ring}: {error.strerror}; run: verifier init") from error
        return found.st_mtime_ns, found.st_ino

    def _document(self) -> dict[str, Any]:
        try:
            document = json.loads(read_file(self._ring))
        except ValueError as error:
            raise SettingsInvalid(f"{self._ring} is not JSON: restore it from a backup") from error
        if not isinstance(document, dict):
            raise SettingsInvalid(f"{self._ring} is not a key ring: restore it from a backup")
        return document

    def _load(self) -> _Loaded:
        stamp = self._stamp()
        document = self._document()
        try:
            entries = tuple(
                RingEntry(
                    kid=item["kid"],
                    state=KeyState(item["state"]),
                    since=datetime.fromisoformat(item["since"]),
                )
                for item in document["ear"]
            )
            nonce_names = tuple(document["nonce"])
            signing = next(item.kid for item in entries if item.state is KeyState.CURRENT)
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise SettingsInvalid(
                f"{self._ring} is not a key ring: restore it from a backup"
            ) from error
        private = {
            item.kid: load_private_key(_key_path(self._directory, item.kid)) for item in entries
        }
        nonce_keys = tuple(read_file(self._directory / name) for name in nonce_names)
        if len(nonce_keys) < MIN_NONCE_KEYS or any(len(k) != NONCE_KEY_BYTES for k in nonce_keys):
            raise SettingsInvalid(f"{self._ring} names no usable nonce key")
        return _Loaded(
            stamp=stamp,
            entries=entries,
            private=private,
            public={
                kid: {**public_jwk(key.public_key()), "use": "sig", "alg": "ES256"}
                for kid, key in private.items()
            },
            nonce_keys=nonce_keys,
            signing_kid=signing,
            header=_header(signing, RESULT_TYPE),
        )


def _signed(loaded: _Loaded, header: bytes, claims: Mapping[str, object]) -> str:
    signed = header + base64url(orjson.dumps(claims))
    r, s = decode_dss_signature(loaded.private[loaded.signing_kid].sign(signed, _ECDSA))
    signature = r.to_bytes(_COORDINATE_BYTES) + s.to_bytes(_COORDINATE_BYTES)
    return (signed + b"." + base64url(signature)).decode("ascii")


def _header(kid: str, token_type: str) -> bytes:
    return base64url(orjson.dumps({"alg": "ES256", "kid": kid, "typ": token_type})) + b"."


def load_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Load a P-256 private key from PEM.

    Raises:
        SettingsInvalid: If the file is absent or holds something else.
    """
    try:
        key = serialization.load_pem_private_key(read_file(path), password=None)
    except (ValueError, TypeError) as error:
        raise SettingsInvalid(f"{path} is not an unencrypted PEM private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SettingsInvalid(f"{path} is not an elliptic curve key")
    return key


def store_private_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a private key as PKCS#8 PEM, mode 0600."""
    write_secret(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _key_path(directory: Path, kid: str) -> Path:
    return directory / f"ear-{kid}.key.pem"


def _new_key(directory: Path) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    kid = thumbprint(key.public_key())
    store_private_key(_key_path(directory, kid), key)
    return kid


def _new_nonce_key(directory: Path, at: datetime, entropy: bytes) -> str:
    if len(entropy) != NONCE_KEY_BYTES:
        raise ValueError(f"a nonce key takes {NONCE_KEY_BYTES} random bytes")
    tag = hashlib.sha256(b"nonce key file name\0" + entropy).hexdigest()[:8]
    name = f"nonce-{at.strftime('%Y%m%dT%H%M%S')}-{tag}.key"
    write_secret(directory / name, entropy)
    return name


def _save(directory: Path, entries: tuple[RingEntry, ...], nonce_names: tuple[str, ...]) -> None:
    document = {
        "ear": [
            {"kid": item.kid, "state": item.state.value, "since": item.since.isoformat()}
            for item in entries
        ],
        "nonce": list(nonce_names),
    }
    write_secret(directory / RING_FILE, json.dumps(document, indent=1).encode())
