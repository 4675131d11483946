"""A maker that presses PC Client base RIMs and has xmlsec1 sign them: not the library we read with.

Everything in the signature is a part of the template, so that a test can bend it.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
SHA1 = "http://www.w3.org/2000/09/xmldsig#sha1"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
SHA512 = "http://www.w3.org/2001/04/xmlenc#sha512"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
RIM_MODEL = (
    "https://trustedcomputinggroup.org/resource/"
    "tcg-reference-integrity-manifest-rim-information-model/"
)


def file(content: bytes, name: str = "box.rimel", more: str = "", **changed: str) -> str:
    """One File element; ``hash`` and ``size`` as they are unless given."""
    digest = changed.get("hash", hashlib.sha256(content).hexdigest())
    size = changed.get("size", str(len(content)))
    return f'<File xmlns:h="{SHA256}" h:hash="{digest}" name="{name}" size="{size}" {more}/>'


def reference(
    uri: str = "", *, digest: str = SHA256, transforms: tuple[str, ...] = (ENVELOPED,)
) -> str:
    steps = "".join(f'<Transform Algorithm="{one}"/>' for one in transforms)
    return (
        f'<Reference URI="{uri}">'
        + (f"<Transforms>{steps}</Transforms>" if steps else "")
        + f'<DigestMethod Algorithm="{digest}"/><DigestValue/></Reference>'
    )


def signature(
    *references: str, method: str = f"{MORE}ecdsa-sha256", c14n: str = C14N, more: str = ""
) -> str:
    """The template of a signature; ``more`` stands behind its value."""
    return (
        '<Signature xmlns="http://www.w3.org/2000/09/xmldsig#" Id="rim"><SignedInfo>'
        f'<CanonicalizationMethod Algorithm="{c14n}"/><SignatureMethod Algorithm="{method}"/>'
        f"{''.join(references or (reference(),))}</SignedInfo><SignatureValue/>{more}</Signature>"
    )


def tag(
    *files: str,
    sign: str | None = None,
    meta: Mapping[str, str] | None = None,
    payload: str = "",
    **attributes: str,
) -> str:
    """A base RIM with two prefixes for one namespace and a language, as common tools write it."""
    about = {
        "bindingSpec": "PC Client RIM",
        "platformManufacturerStr": "ACME",
        "platformModel": "RoadRunner",
        "platformVersion": "7",
        **(meta or {}),
    }
    named = {
        "name": "RoadRunner BIOS", "version": "1.4", "tagId": "acme-rr-1", "tagVersion": "2",
        "patch": "false", "supplemental": "false", "corpus": "false", "xml:lang": "en",
        **attributes,
    }  # fmt: skip
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"'
        ' xmlns:ns2="http://www.w3.org/2000/09/xmldsig#"'
        + "".join(f' {name}="{value}"' for name, value in named.items())
        + f'>\n<Entity name="ACME" role="tagCreator"/>\n<Meta xmlns:rim="{RIM_MODEL}"'
        + "".join(f' rim:{name}="{value}"' for name, value in about.items() if value)
        + f'/>\n<Payload xmlns:rim="{RIM_MODEL}">'
        + (payload or f'<Directory name="rim">{"".join(files)}</Directory>')
        + f"</Payload>\n{signature() if sign is None else sign}\n</SoftwareIdentity>\n"
    )


def press(key: PrivateKey, template: str) -> bytes:
    """Have xmlsec1 fill in a template's digests and sign it."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with tempfile.TemporaryDirectory() as folder:
        private, source, made = (Path(folder) / name for name in ("key.pem", "in.xml", "out.xml"))
        private.write_bytes(pem)
        source.write_text(template)
        subprocess.run(
            ["xmlsec1", "--sign", "--privkey-pem", private, "--id-attr:Id", "SignatureProperty",
             "--id-attr:tagId", "SoftwareIdentity", "--output", made, source],
            check=True, capture_output=True,
        )  # fmt: skip
        return made.read_bytes()
