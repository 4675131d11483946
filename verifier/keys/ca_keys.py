"""The keys of our issuing CAs: made and opened where the settings say, a file or a token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from verifier.errors import SettingsInvalid
from verifier.issuance.hierarchy import key_id
from verifier.keys.files import make_directory, write_secret
from verifier.keys.pkcs11_key import Token
from verifier.keys.register import FOLDER, KeyKind, KeyPlace
from verifier.keys.sealed_key import is_sealed, open_sealed, seal
from verifier.keys.secret_source import (
    MIN_PIN_CHARS,
    SecretSource,
    secret_source,
)
from verifier.ports import Entropy
from verifier.settings import AuthoritySettings

PASSPHRASE_FILE: Final = "authority.passphrase"  # noqa: S105 - a file's name
_TOKEN_ID_BYTES: Final = 16


class CaKeys:
    """Makes and opens keys.

    Args:
        directory: The key directory.
        settings: The section [authority].
        environment: For systemd's ``CREDENTIALS_DIRECTORY``.
    """

    def __init__(
        self, directory: Path, settings: AuthoritySettings, environment: Mapping[str, str]
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._environment = environment
        self._token: Token | None = None

    def make(
        self, entropy: Entropy, existing: str = ""
    ) -> tuple[KeyPlace, ec.EllipticCurvePrivateKey]:
        """Make the P-256 key of a new issuing CA; its place is in nobody's register yet.

        Args:
            entropy: For salt, or the key's id in the token.
            existing: Label of a key that the token has already; empty makes one.

        Raises:
            Unavailable: If passphrase, PIN, token or directory cannot be used.
            SettingsInvalid: If [authority] does not say enough.
        """
        if existing and self._settings.backend != KeyKind.PKCS11:
            raise SettingsInvalid('a key of a token needs [authority] backend = "pkcs11"')
        if existing:
            adopted, identifier = self._opened_token().adopt(existing)
            place = KeyPlace(kind=KeyKind.PKCS11, name=existing, token_id=identifier.hex())
            return place, adopted
        if self._settings.backend == KeyKind.PKCS11:
            identifier = entropy.take(_TOKEN_ID_BYTES)
            label = f"issuing-ca-{identifier[:4].hex()}"
            key: ec.EllipticCurvePrivateKey = self._opened_token().generate(label, identifier)
            return KeyPlace(kind=KeyKind.PKCS11, name=label, token_id=identifier.hex()), key
        passphrase = None if self._settings.unencrypted else self.passphrase_source().read()
        key = ec.generate_private_key(ec.SECP256R1())
        make_directory(self._directory / FOLDER)
        name = f"{FOLDER}/{key_id(key.public_key())}.key.pem"
        write_secret(self._directory / name, key_pem(key, passphrase, entropy))
        return KeyPlace(kind=KeyKind.FILE, name=name), key

    def open(self, place: KeyPlace) -> ec.EllipticCurvePrivateKey:
        """Open a key.

        Raises:
            Unavailable: With the code of what is in the way.
            SettingsInvalid: If [authority] does not say where passphrase, token or PIN are.
        """
        if place.kind is KeyKind.PKCS11:
            return self._opened_token().key(place.name, bytes.fromhex(place.token_id))
        path = self._directory / place.name
        passphrase = self.passphrase_source().read() if is_sealed(path) else None
        return open_sealed(path, passphrase)

    def remove(self, place: KeyPlace) -> None:
        """Destroy a key.

        Raises:
            Unavailable: If a token's key cannot be reached.
        """
        if place.kind is KeyKind.PKCS11:
            self._opened_token().remove(place.name, bytes.fromhex(place.token_id))
        else:
            (self._directory / place.name).unlink(missing_ok=True)

    def passphrase_source(self) -> SecretSource:
        """Return where the passphrase of key files is.

        Raises:
            SettingsInvalid: If its name cannot be one.
            Unavailable: If it is a credential that systemd has not given.
        """
        named = self._settings.passphrase_file
        return secret_source(
            "passphrase",
            credential=self._settings.passphrase_credential,
            file=Path(named) if named else self._directory / PASSPHRASE_FILE,
            environment=self._environment,
        )

    def close(self) -> None:
        """Log out of the token."""
        if self._token is not None:
            self._token.close()

    def _opened_token(self) -> Token:
        if self._token is None:
            chosen = self._settings
            if not (chosen.pkcs11_module and chosen.pkcs11_token):
                raise SettingsInvalid(
                    "a key in a token needs [authority] pkcs11_module and pkcs11_token"
                )
            pin = secret_source(
                "PIN",
                credential=chosen.pin_credential,
                file=Path(chosen.pin_file) if chosen.pin_file else None,
                environment=self._environment,
                minimum=MIN_PIN_CHARS,
            )
            self._token = Token(chosen.pkcs11_module, chosen.pkcs11_token, pin)
        return self._token


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None, entropy: Entropy) -> bytes:
    """Return a key as PKCS#8 PEM, under the passphrase if there is one."""
    if passphrase is not None:
        return seal(key, passphrase, entropy)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
