"""Whose signatures make a file known: ``security.ima`` version 3, and what openssl appends."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import sys
from pathlib import Path
from types import FrameType

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from attestation.logs.ima.modsig import IssuerAndSerial, parse_modsig
from attestation.logs.ima.template import ImaFile, read_template
from tests.simulators.soft_ima import PrivateKey, entry, file_signature, tagged
from tests.simulators.soft_modsig import (
    ECDSA_OIDS,
    attributes,
    file_id_signature,
    issuer,
    message,
    modsig,
    modsig_data,
    signer_info,
    verity_data,
)
from tests.simulators.soft_tpm_maker import integer, oid, sequence, tlv
from verifier.reference_values.runtime_keyring import Keyring, Signed, read_keys
from verifier.reference_values.runtime_learn import (
    compare_runtime_policies,
    learn_runtime_policy,
)
from verifier.reference_values.runtime_policy_file import load_runtime_policy

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
CONTENT = b"a kernel module"
DIGEST = hashlib.sha256(CONTENT).digest()
REGULAR, VERITY = 3, 6


def pem(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def ring(*texts: str) -> Keyring:
    return Keyring(named for text in texts for named in read_keys(text))


def appended(made: bytes, d_modsig: bytes | None = None, xattr: bytes = b"") -> ImaFile:
    data = modsig_data(b"/lib/modules/x.ko", CONTENT, made, d_modsig=d_modsig, xattr=xattr)
    return read_template(b"ima-modsig", data, 1)


def sigv2(signature: bytes, kind: bytes = b"verity:") -> ImaFile:
    return read_template(b"ima-sigv2", verity_data(b"/usr/bin/x", CONTENT, signature, kind), 1)


class Openssl:
    """A signing key with its certificate, as a build has it, and the openssl command."""

    def __init__(self, folder: Path, kind: list[str], name: str = "Build time key") -> None:
        self.folder = folder
        self.key, self.certificate = folder / f"{name}.key", folder / f"{name}.pem"
        files = ["-keyout", str(self.key), "-out", str(self.certificate)]
        subject = ["-subj", f"/O=Example/CN={name}", "-days", "30"]
        self.run("req", "-x509", "-newkey", *kind, "-nodes", *files, *subject)
        self.pem = self.certificate.read_text()

    def run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)

    def sign(self, *options: str, content: bytes = CONTENT, digest: str = "sha256") -> bytes:
        """Sign a file as ``scripts/sign-file`` does."""
        given, made = self.folder / "module.ko", self.folder / "module.p7s"
        given.write_bytes(content)
        self.run("cms", "-sign", "-binary", "-outform", "DER", "-md", digest, "-signer",
                 str(self.certificate), "-inkey", str(self.key), "-in", str(given), "-out",
                 str(made), *options)  # fmt: skip
        return made.read_bytes()


RSA = ["rsa:2048"]
EC = ["ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"]


@pytest.mark.parametrize("kind", [RSA, EC], ids=["rsa", "ecdsa"])
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_module_signed_with_openssl_is_known_by_its_certificate(
    tmp_path: Path, kind: list[str], digest: str
) -> None:
    build = Openssl(tmp_path, kind)
    made = build.sign("-nocerts", "-noattr", digest=digest)

    assert ring(build.pem).judge(appended(made, tagged(CONTENT, digest))).signed is Signed.BY_KNOWN
    refused = ring(build.pem).judge(appended(made, tagged(b"changed", digest)))
    assert refused.signed is Signed.WRONGLY
    assert "did not sign what was measured" in refused.reason


def test_module_that_names_its_key_by_identifier_is_known_by_the_bare_key(tmp_path: Path) -> None:
    build = Openssl(tmp_path, RSA)
    key = load_pem_private_key(build.key.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)

    judged = ring(pem(key)).judge(appended(build.sign("-nocerts", "-noattr", "-keyid")))

    assert judged.signed is Signed.BY_KNOWN


def test_module_that_names_a_certificate_needs_it_in_the_keyring(tmp_path: Path) -> None:
    build = Openssl(tmp_path, RSA)
    key = load_pem_private_key(build.key.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)

    judged = ring(pem(key)).judge(appended(build.sign("-nocerts", "-noattr")))

    assert judged.signed is Signed.BY_UNKNOWN
    assert judged.reason.endswith("of O=Example, CN=Build time key")


def test_certificate_inside_the_message_makes_nothing_known(tmp_path: Path) -> None:
    attacker, build = Openssl(tmp_path, EC, "attacker"), Openssl(tmp_path, EC)
    made = attacker.sign("-noattr", "-certfile", str(build.certificate))

    assert ring(build.pem).judge(appended(made)).signed is Signed.BY_UNKNOWN
    assert ring(attacker.pem).judge(appended(made)).signed is Signed.BY_KNOWN


def test_other_key_under_the_name_of_a_known_certificate_is_a_wrong_signature(
    tmp_path: Path,
) -> None:
    build = Openssl(tmp_path, EC)
    name = parse_modsig(build.sign("-nocerts", "-noattr")).signer
    assert isinstance(name, IssuerAndSerial)
    forged = message(
        signer_info(OTHER, DIGEST, sid=sequence(name.issuer, integer(name.serial))), version=1
    )

    judged = ring(build.pem).judge(appended(forged))

    assert judged.signed is Signed.WRONGLY
    assert "did not sign what was measured" in judged.reason


@pytest.mark.parametrize("options", [[], ["-cades"]], ids=["usual", "cades"])
def test_signed_attributes_of_openssl_count_for_their_content(
    tmp_path: Path, options: list[str]
) -> None:
    build = Openssl(tmp_path, RSA)
    made = build.sign("-nocerts", *options)
    logged = tagged(parse_modsig(made).attributes)

    assert ring(build.pem).judge(appended(made, logged)).signed is Signed.BY_KNOWN
    assert ring(build.pem).judge(appended(made)).signed is Signed.BY_KNOWN
    judged = ring(build.pem).judge(appended(made, tagged(b"changed")))
    assert judged.signed is Signed.WRONGLY
    assert "another content" in judged.reason


def test_attributes_that_were_changed_after_signing_are_refused(tmp_path: Path) -> None:
    build = Openssl(tmp_path, RSA)
    evil = hashlib.sha256(b"evil").digest()
    made = build.sign("-nocerts").replace(DIGEST, evil)

    for logged in (tagged(b"evil"), tagged(parse_modsig(made).attributes)):
        assert ring(build.pem).judge(appended(made, logged)).signed is Signed.WRONGLY


def test_content_inside_the_message_is_refused(tmp_path: Path) -> None:
    build = Openssl(tmp_path, RSA)

    judged = ring(build.pem).judge(appended(build.sign("-nocerts", "-noattr", "-nodetach")))

    assert judged.signed is Signed.WRONGLY


def test_sha1_is_refused_by_name(tmp_path: Path) -> None:
    build = Openssl(tmp_path, RSA)
    made = build.sign("-nocerts", "-noattr", digest="sha1")

    judged = ring(build.pem).judge(appended(made, tagged(CONTENT, "sha1")))

    assert judged.signed is Signed.WRONGLY
    assert "SHA-1" in judged.reason


def test_signature_of_another_kind_than_the_message_says_does_not_count() -> None:
    key = rsa.generate_private_key(65537, 2048)
    made = modsig(key, CONTENT)
    as_ecdsa = message(signer_info(key, DIGEST, made_with=ECDSA_OIDS["sha256"]))
    keys = ring(pem(key))

    assert keys.judge(appended(made)).signed is Signed.BY_KNOWN
    assert keys.judge(appended(as_ecdsa)).signed is Signed.WRONGLY


def test_second_signature_counts_only_where_the_first_is_not_wrong() -> None:
    keys = ring(pem(KEY))
    good = modsig(KEY, CONTENT)
    whole = CONTENT + good
    for xattr, signed in (
        (b"", Signed.BY_KNOWN),
        (b"\x04\x04" + b"d" * 32, Signed.BY_KNOWN),
        (file_signature(OTHER, whole), Signed.BY_KNOWN),
        (file_signature(KEY, whole), Signed.BY_KNOWN),
        (file_signature(KEY, b"other"), Signed.WRONGLY),
    ):
        assert keys.judge(appended(good, xattr=xattr)).signed is signed
    stranger = modsig(OTHER, CONTENT)
    assert keys.judge(appended(stranger)).signed is Signed.BY_UNKNOWN
    both = appended(stranger, xattr=file_signature(OTHER, CONTENT + stranger))
    assert keys.judge(both).signed is Signed.BY_UNKNOWN
    assert keys.judge(appended(b"")).signed is Signed.NOT


# --- version 3 ------------------------------------------------------------------------------------
def test_verity_and_regular_digests_are_known_by_signatures_of_their_kind() -> None:
    keys = ring(pem(KEY))

    assert keys.judge(sigv2(file_id_signature(KEY, DIGEST, VERITY))).signed is Signed.BY_KNOWN
    regular = sigv2(file_id_signature(KEY, DIGEST, REGULAR), b"ima:")
    assert keys.judge(regular).signed is Signed.BY_KNOWN
    unknown = keys.judge(sigv2(file_id_signature(OTHER, DIGEST, VERITY)))
    assert unknown.signed is Signed.BY_UNKNOWN
    assert unknown.reason.startswith("key id ")


WRONG = {
    "verity signature on a file's hash": (file_id_signature(KEY, DIGEST, VERITY), b"ima:"),
    "file's signature on a verity digest": (file_id_signature(KEY, DIGEST, REGULAR), b"verity:"),
    "verity signature said to be a file's": (
        b"\x03" + file_id_signature(KEY, DIGEST, VERITY)[1:],
        b"ima:",
    ),
    "file's signature said to be verity's": (
        b"\x06" + file_id_signature(KEY, DIGEST, REGULAR)[1:],
        b"verity:",
    ),
    "over the bare verity digest": (
        file_id_signature(KEY, DIGEST, VERITY, over=DIGEST),
        b"verity:",
    ),
    "version 2 on a verity digest": (file_signature(KEY, CONTENT), b"verity:"),
    "verity in version 2": (
        file_id_signature(KEY, DIGEST, VERITY, over=DIGEST, version=2),
        b"verity:",
    ),
    "version 2 said to be version 3": (
        b"\x03\x03" + file_signature(KEY, CONTENT)[2:],
        b"ima:",
    ),
    "of other content": (file_id_signature(KEY, hashlib.sha256(b"y").digest(), VERITY), b"verity:"),
    "another algorithm in the header": (
        b"\x06\x03\x05" + file_id_signature(KEY, DIGEST, VERITY)[3:],
        b"verity:",
    ),
    "SHA-1 in the header": (
        b"\x06\x03\x02" + file_id_signature(KEY, DIGEST, VERITY)[3:],
        b"verity:",
    ),
    "version 4": (file_id_signature(KEY, DIGEST, VERITY, version=4), b"verity:"),
    "cut": (file_id_signature(KEY, DIGEST, VERITY)[:-1], b"verity:"),
}


@pytest.mark.parametrize("name", WRONG)
def test_version_3_signature_counts_for_nothing_else(name: str) -> None:
    signature, kind = WRONG[name]

    judged = ring(pem(KEY)).judge(sigv2(signature, kind))

    assert judged.signed is Signed.WRONGLY
    assert judged.reason


def test_what_was_remembered_of_one_file_is_never_anothers_answer() -> None:
    keys = ring(pem(KEY))
    good = file_id_signature(KEY, DIGEST, VERITY)

    assert keys.judge(sigv2(good)).signed is Signed.BY_KNOWN
    joined = ImaFile(tagged(CONTENT), b"/x", good + b"verity:")
    assert keys.judge(joined).signed is Signed.WRONGLY
    as_appended = ImaFile(b"sha256:\0", b"/x", b"", modsig_digest=b"verity:" + tagged(CONTENT))
    assert keys.judge(as_appended._replace(modsig=good)).signed is Signed.WRONGLY


def test_certificate_with_an_extension_twice_is_refused_in_words(tmp_path: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert(Openssl(tmp_path, EC).pem)
    twice = der.replace(oid("2.5.29.35"), oid("2.5.29.14"))
    assert twice != der

    with pytest.raises(ValueError, match="no public key or certificate: Duplicate"):
        read_keys(ssl.DER_cert_to_PEM_cert(twice))


# --- the policy -----------------------------------------------------------------------------------
def test_denied_content_stays_denied_under_another_form_of_its_signature() -> None:
    made = modsig(KEY, CONTENT)
    between = tlv(0xA0, tlv(0x30, b"junk"))
    other_form = message(signer_info(KEY, DIGEST), between=between)
    denied = f"denied = 'sha256:{DIGEST.hex()}  hole'\n"
    text = f"name = 'box'\n{{}}[[signers]]\npem = '''{pem(KEY)}'''"
    allowing = load_runtime_policy(text.format(""), "test")
    denying = load_runtime_policy(text.format(denied), "test")

    for form in (made, other_form):
        assert allowing.against(appended(form)) is None
        against = denying.against(appended(form))
        assert against is not None
        assert (against.code, against.reason) == ("ima-file-denied", "hole")


def test_denied_content_stays_denied_where_the_kernel_measured_signed_attributes() -> None:
    made = message(signer_info(KEY, DIGEST, signed=attributes(DIGEST)))
    measured = tagged(parse_modsig(made).attributes)
    text = f"name = 'box'\n{{}}[[signers]]\npem = '''{pem(KEY)}'''"
    allowing = load_runtime_policy(text.format(""), "test")
    denying = load_runtime_policy(text.format(f"denied = 'sha256:{DIGEST.hex()}  hole'\n"), "test")

    for logged in (measured, tagged(CONTENT)):
        assert allowing.against(appended(made, logged)) is None
        against = denying.against(appended(made, logged))
        assert against is not None
        assert (against.code, against.reason) == ("ima-file-denied", "hole")
    other = message(signer_info(KEY, DIGEST[::-1], signed=attributes(DIGEST[::-1])))
    assert denying.against(appended(other, tagged(parse_modsig(other).attributes))) is None
    unread = denying.against(appended(b"\x30", tagged(b"else")))
    assert unread is not None
    assert unread.code == "ima-signature-invalid"


def test_learnt_policy_names_who_signed(tmp_path: Path) -> None:
    build = Openssl(tmp_path, RSA)
    content = b"".join(
        entry(data, template=template)
        for template, data in (
            (b"ima-sigv2", verity_data(b"/a", b"a", file_id_signature(KEY, DIGEST, VERITY))),
            (b"ima-sigv2", verity_data(b"/b", b"b", file_id_signature(KEY, DIGEST, VERITY))),
            (b"ima-modsig", modsig_data(b"/c", b"c", build.sign("-nocerts", "-noattr"))),
            (b"ima-modsig", modsig_data(b"/d", b"d", b"\x30\x00")),
        )
    )

    text = learn_runtime_policy("box", [("good", content)])

    key_id = file_id_signature(KEY, DIGEST, VERITY)[3:7].hex()
    assert f"#   2 by key id {key_id}\n" in text
    assert "of O=Example, CN=Build time key\n" in text
    assert "#   1 by nobody: the appended signature" in text
    assert load_runtime_policy(text, "learnt").name == "box"


def test_hostile_issuer_cannot_break_out_of_the_learnt_text() -> None:
    sid = sequence(issuer("x\n'''\nexclude=1"), integer(7))
    made = message(signer_info(KEY, DIGEST, sid=sid))
    content = entry(modsig_data(b"/c", b"c", made), template=b"ima-modsig")

    text = learn_runtime_policy("box", [("good", content)])

    assert "1 by certificate 7 of CN=x?" in text
    assert load_runtime_policy(text, "learnt").exclude.texts == ()


def test_certificate_in_place_of_a_key_is_told_as_a_difference(tmp_path: Path) -> None:
    build = Openssl(tmp_path, RSA)
    text = "name = 'box'\n[[signers]]\npem = '''{}'''"
    key = load_pem_private_key(build.key.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    first, second = (load_runtime_policy(text.format(one), "t") for one in (pem(key), build.pem))

    (line,) = compare_runtime_policies(first, second).sentences()

    assert line.startswith("signer, new: certificate ")


@pytest.mark.parametrize("readable", [True, False])
def test_appended_signature_is_read_once_where_something_is_denied(*, readable: bool) -> None:
    file = appended(modsig(KEY, CONTENT) if readable else b"\x30")
    text = f"name = 'box'\ndenied = 'sha1:{'0' * 40}'\n[[signers]]\npem = '''{pem(KEY)}'''"
    policy = load_runtime_policy(text, "test")
    read: list[str] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is parse_modsig.__code__:
            read.append(event)

    sys.setprofile(watch)
    against = policy.against(file)
    sys.setprofile(None)

    assert (against is None, read) == (readable, ["call"])
