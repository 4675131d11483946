"""Appended file signatures (CMS): read, verified, and their signers named."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.logs.ima.modsig import SubjectKeyId
from attestation.logs.ima.template import ImaFile
from verifier.reference_values.runtime_keyring import Keyring, signer_names

CONTENT = b"module"
NUMBER = 7
"""The signer's private key, which is no secret; the first inputs are signed with it."""

_KEY = ec.derive_private_key(NUMBER, ec.SECP256R1()).public_key()
_KEYS = Keyring([(SubjectKeyId(x509.SubjectKeyIdentifier.from_public_key(_KEY).digest), _KEY)])
_DIGEST = b"sha256:\0" + hashlib.sha256(CONTENT).digest()


def run(data: bytes) -> None:
    """Read hostile bytes."""
    file = ImaFile(_DIGEST, b"/x", modsig_digest=_DIGEST, modsig=data)
    _KEYS.judge(file)
    for name in signer_names(file):
        if not name.isprintable():
            raise ValueError(name)
