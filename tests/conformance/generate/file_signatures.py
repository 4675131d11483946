"""More cases of N37: signatures behind a file's content (CMS), and version 3 with fs-verity."""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.conformance.generate.device import private_key
from tests.conformance.generate.model import Json
from tests.conformance.generate.runtime import Kernel, one
from tests.simulators.soft_ima import tagged
from tests.simulators.soft_modsig import (
    attributes,
    file_id_signature,
    message,
    modsig,
    modsig_data,
    signer_info,
    verity_data,
)
from tests.simulators.soft_tpm_maker import tlv

_KEY: Final = private_key("file signer")
_STRANGER: Final = private_key("a stranger")
_PEM: Final = (
    _KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
)
_MODULE: Final = b"module"
_DIGEST: Final = hashlib.sha256(_MODULE).digest()
_REGULAR, _VERITY = 3, 6
_ACCEPTED: Final = ("accepted", None)
_WRONG: Final = ("refused", "ima-signature-invalid")
_UNKNOWN: Final = ("warning", "ima-signer-unknown")


def cases() -> list[Json]:
    """Every case of this file."""
    return [*_appended(), *_version_3(), _denied()]


def _appended() -> list[Json]:
    plain = modsig(_KEY, _MODULE)
    other = attributes(hashlib.sha256(b"other").digest())
    signed, for_other = (
        message(signer_info(_KEY, _DIGEST, signed=found)) for found in (attributes(_DIGEST), other)
    )
    twice = attributes(_DIGEST)
    told = {
        "appended": ("with an appended signature is known by its signer", plain, None, _ACCEPTED),
        "appended-attributes": (
            "whose signature is over attributes, which Linux then logs, is known by its signer",
            signed,
            tagged(tlv(0x31, *attributes(_DIGEST))),
            _ACCEPTED,
        ),
        "appended-other-content": (
            "whose appended signature is over other content is refused",
            modsig(_KEY, b"other"),
            None,
            _WRONG,
        ),
        "appended-stranger": (
            "whose appended signature brings its own certificate is signed by a stranger",
            message(signer_info(_STRANGER, _DIGEST), between=tlv(0xA0, tlv(0x30, b"certificate"))),
            None,
            _UNKNOWN,
        ),
        "appended-attributes-other-content": (
            "whose signed attributes name other content is refused",
            for_other,
            None,
            _WRONG,
        ),
        "appended-attribute-twice": (
            "whose signed attributes stand twice is refused",
            message(signer_info(_KEY, _DIGEST, signed=(*twice, twice[1]))),
            None,
            _WRONG,
        ),
        "appended-cut": ("whose appended signature is cut is refused", plain[:-1], None, _WRONG),
        "appended-two-signers": (
            "whose appended signature has two signers is refused",
            message(signer_info(_KEY, _DIGEST), signer_info(_STRANGER, _DIGEST)),
            None,
            _WRONG,
        ),
        "appended-other-hash": (
            "whose appended signature hashes with another algorithm than was measured is refused",
            modsig(_KEY, _MODULE, "sha384"),
            None,
            _WRONG,
        ),
    }
    made = []
    for name, (title, appended, covered, (verdict, code)) in told.items():
        data = modsig_data(b"/usr/lib/module.ko", _MODULE, appended, d_modsig=covered)
        made.append(_case(name, title, data, b"ima-modsig", verdict, code))
    return made


def _version_3() -> list[Json]:
    told = {
        "verity": (
            "with a signed fs-verity digest is known by its signer",
            b"verity:",
            file_id_signature(_KEY, _DIGEST, _VERITY),
            _ACCEPTED,
        ),
        "version-3": (
            "whose hash is signed with its kind (version 3) is known by its signer",
            b"ima:",
            file_id_signature(_KEY, _DIGEST, _REGULAR),
            _ACCEPTED,
        ),
        "verity-bare": (
            "whose fs-verity digest is signed without its kind is refused",
            b"verity:",
            file_id_signature(_KEY, _DIGEST, _VERITY, over=_DIGEST),
            _WRONG,
        ),
        "verity-for-a-hash": (
            "whose hash is that of an fs-verity signature is refused",
            b"ima:",
            file_id_signature(_KEY, _DIGEST, _VERITY),
            _WRONG,
        ),
        "verity-stranger": (
            "with an fs-verity digest that a stranger signed is told",
            b"verity:",
            file_id_signature(_STRANGER, _DIGEST, _VERITY),
            _UNKNOWN,
        ),
    }
    made = []
    for name, (title, kind, signature, (verdict, code)) in told.items():
        data = verity_data(b"/usr/bin/tool", _MODULE, signature, kind)
        made.append(_case(name, title, data, b"ima-sigv2", verdict, code))
    return made


def _denied() -> Json:
    """A denied module in another form of its signature: the file's digest is a new one."""
    appended = message(signer_info(_KEY, _DIGEST), between=tlv(0xA0, tlv(0x30, b"certificate")))
    kernel = Kernel()
    data = modsig_data(b"/usr/lib/module.ko", _MODULE, appended)
    kernel.ima.measure_data(data, template=b"ima-modsig")
    return one(
        "file-appended-denied",
        "N37",
        "A file whose content without its signature is denied is refused",
        "refused",
        "ima-file-denied",
        "Whoever appends another form of a valid signature changes the file's digest at will.",
        kernel.given(signers=[_PEM], denied=[_DIGEST.hex()]),
    )


def _case(
    name: str, title: str, data: bytes, template: bytes, verdict: str, code: str | None
) -> Json:
    kernel = Kernel()
    kernel.ima.measure_data(data, template=template)
    return one(
        f"file-{name}",
        "N37",
        f"A file {title}",
        verdict,
        code,
        "A signature counts for what it is over, of the kind it says, by a key that was given.",
        kernel.given(signers=[_PEM]),
    )
